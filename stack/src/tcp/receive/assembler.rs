//! Payload on its way into the queue: in order at once, out of order kept sorted until the gap
//! before it is filled; overlaps trimmed; small pieces joined so that they cannot exhaust the
//! pool.

use super::Receiver;
use super::report::Report;
use crate::packet::Buffer;
use crate::tcp::loans::Loans;
use crate::tcp::queue::{Chunk, Marks, NONE, Pool, TRUESIZE};
use crate::tcp::segment::SackBlock;
use crate::tcp::seq::SeqNumber;

/// A piece up to this size is copied behind the piece before it if there is room.
const SMALL: usize = 512;

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assembled {
    /// RCV.NXT moved on.
    InOrder,
    /// Kept until the gap is filled.
    OutOfOrder,
    /// All of it was there already.
    Duplicate,
    /// The receive buffer is full.
    NoRoom,
    /// The segment table is full.
    NoMemory,
}

/// What [`Receiver::assemble`] did besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Joined {
    /// The payload was copied behind another.
    pub coalesced: bool,
}

impl Receiver {
    /// Takes the payload `buffer[offset..offset + len]`, which starts at `seq` and ends within
    /// the window.
    #[allow(clippy::too_many_arguments)]
    pub fn assemble<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        reports: &mut Loans<Report>,
        buffer: B,
        mut seq: SeqNumber,
        mut offset: u32,
        mut len: u32,
        scarce: bool,
        joined: &mut Joined,
    ) -> Assembled {
        if (seq + len).at_or_before(self.nxt) {
            self.report_duplicate(reports, SackBlock { start: seq, end: seq + len });
            return Assembled::Duplicate;
        }
        if seq.before(self.nxt) {
            let old = self.nxt.since(seq);
            self.report_duplicate(reports, SackBlock { start: seq, end: self.nxt });
            (seq, offset, len) = (seq + old, offset + old, len - old);
        }
        let mut chunk = Chunk::new(Some(buffer), seq, len, Marks::empty());
        chunk.offset = offset;
        trim_tail(&mut chunk);
        if seq == self.nxt {
            self.take_in_order(pool, reports, chunk, scarce, joined)
        } else {
            self.keep_out_of_order(pool, reports, chunk, scarce, joined)
        }
    }

    fn take_in_order<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        reports: &mut Loans<Report>,
        chunk: Chunk<B>,
        scarce: bool,
        joined: &mut Joined,
    ) -> Assembled {
        let end = chunk.end();
        // Sparse buffers take more memory than the window foresaw: fill them up.
        let tight = scarce || self.charged > self.limit / 2;
        if join(pool, self.queue.tail, &chunk, tight) {
            joined.coalesced = true;
        } else {
            if scarce && self.charged > TRUESIZE {
                return Assembled::NoMemory;
            }
            if self.charged + TRUESIZE > self.limit {
                // What waits for a gap can come again; what is in order must not stall.
                self.clear_ooo(pool, reports);
            }
            // Up to here the window is a promise that is kept.
            if self.charged > 0 && self.charged + TRUESIZE > self.limit.saturating_mul(2) {
                return Assembled::NoRoom;
            }
            if pool.is_full() {
                self.clear_ooo(pool, reports);
            }
            if self.queue.push_back(pool, chunk).is_err() {
                return Assembled::NoMemory;
            }
            self.charged += TRUESIZE;
        }
        self.nxt = end;
        self.drain_ooo(pool, reports);
        Assembled::InOrder
    }

    /// Moves what is now in order over.
    fn drain_ooo<B: Buffer>(&mut self, pool: &mut Pool<B>, reports: &mut Loans<Report>) {
        while let Some(chunk) = pool.at(self.ooo.head) {
            if chunk.seq.after(self.nxt) {
                break;
            }
            let Some(mut chunk) = self.ooo.pop_front(pool) else { break };
            self.ooo_octets = self.ooo_octets.saturating_sub(chunk.len);
            let end = chunk.end();
            let old = self.nxt.since(chunk.seq);
            if end.at_or_before(self.nxt) {
                self.charged = self.charged.saturating_sub(TRUESIZE);
                continue;
            }
            chunk.seq += old;
            chunk.offset += old;
            chunk.len -= old;
            if join(pool, self.queue.tail, &chunk, false) {
                self.charged = self.charged.saturating_sub(TRUESIZE);
            } else if self.queue.push_back(pool, chunk).is_err() {
                break; // Not reached: its place in the table was just freed.
            }
            self.nxt = end;
        }
        self.forget_blocks(reports);
    }

    fn keep_out_of_order<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        reports: &mut Loans<Report>,
        mut chunk: Chunk<B>,
        scarce: bool,
        joined: &mut Joined,
    ) -> Assembled {
        // Nearly always the new piece goes last: search from there.
        let mut before = self.ooo.tail;
        while let Some(at) = pool.at(before) {
            if at.seq.at_or_before(chunk.seq) {
                break;
            }
            before = at.prev;
        }
        if let Some(at) = pool.at(before)
            && at.end().after(chunk.seq)
        {
            if at.end().at_or_after(chunk.end()) {
                self.report_duplicate(reports, SackBlock { start: chunk.seq, end: chunk.end() });
                return Assembled::Duplicate;
            }
            let overlap = at.end().since(chunk.seq);
            self.report_duplicate(reports, SackBlock { start: chunk.seq, end: at.end() });
            chunk.seq += overlap;
            chunk.offset += overlap;
            chunk.len -= overlap;
        }
        // Decide before anything is given up for the new piece: what SACK has reported stays.
        let tight = scarce || self.charged > self.limit / 2;
        if !can_join(pool, before, &chunk, tight) {
            if scarce || pool.is_full() {
                return Assembled::NoMemory;
            }
            if self.charged + TRUESIZE > self.limit {
                return Assembled::NoRoom;
            }
        }
        self.trim_following(pool, reports, before, &mut chunk);
        let (start, end, len) = (chunk.seq, chunk.end(), chunk.len);
        if join(pool, before, &chunk, tight) {
            joined.coalesced = true;
        } else {
            if self.ooo.insert_after(pool, before, chunk).is_err() {
                return Assembled::NoMemory;
            }
            self.charged += TRUESIZE;
        }
        self.ooo_octets += len;
        self.report_block(reports, SackBlock { start, end });
        Assembled::OutOfOrder
    }

    /// Removes what `chunk` covers behind `before`, or trims `chunk` where it runs into the next.
    fn trim_following<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        reports: &mut Loans<Report>,
        before: u32,
        chunk: &mut Chunk<B>,
    ) {
        loop {
            let next = match pool.at(before) {
                Some(at) => at.next,
                None => self.ooo.head,
            };
            let Some(at) = pool.at(next) else { return };
            if at.seq.at_or_after(chunk.end()) {
                return;
            }
            if at.end().after(chunk.end()) {
                self.report_duplicate(reports, SackBlock { start: at.seq, end: chunk.end() });
                chunk.len = at.seq.since(chunk.seq);
                trim_tail(chunk);
                return;
            }
            self.report_duplicate(reports, SackBlock { start: at.seq, end: at.end() });
            self.ooo_octets = self.ooo_octets.saturating_sub(at.len);
            self.charged = self.charged.saturating_sub(TRUESIZE);
            let _ = self.ooo.remove(pool, next);
        }
    }
}

/// Frees the room behind the payload, if the memory is ours alone.
fn trim_tail<B: Buffer>(chunk: &mut Chunk<B>) {
    let end = (chunk.offset + chunk.len) as usize;
    if let Some(buffer) = chunk.buffer.as_mut()
        && !buffer.is_shared()
    {
        buffer.truncate(end);
    }
}

/// Whether copying `chunk`'s payload behind that of the chunk at `index` pays and fits.
fn can_join<B: Buffer>(pool: &Pool<B>, index: u32, chunk: &Chunk<B>, scarce: bool) -> bool {
    if index == NONE || (chunk.len as usize > SMALL && !scarce) {
        return false;
    }
    let Some(tail) = pool.at(index) else { return false };
    let Some(buffer) = tail.buffer.as_ref() else { return false };
    tail.end() == chunk.seq
        && buffer.data().len() == (tail.offset + tail.len) as usize
        && buffer.tailroom() >= chunk.len as usize
        && !buffer.is_shared()
}

/// Copies `chunk`'s payload behind that of the chunk at `index`, if that pays and fits.
fn join<B: Buffer>(pool: &mut Pool<B>, index: u32, chunk: &Chunk<B>, scarce: bool) -> bool {
    if !can_join(pool, index, chunk, scarce) {
        return false;
    }
    let payload = chunk.received();
    let Some(tail) = pool.at_mut(index) else { return false };
    let Some(buffer) = tail.buffer.as_mut() else { return false };
    buffer.append(payload.len()).copy_from_slice(payload);
    tail.len += chunk.len;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::HeapBuffer;
    use proptest::prelude::*;

    fn octet(position: u32) -> u8 {
        (position.wrapping_mul(2_654_435_761) >> 24) as u8
    }

    fn piece(start: u32, len: u32) -> HeapBuffer {
        HeapBuffer::from_bytes(&(start..start + len).map(octet).collect::<Vec<_>>())
    }

    proptest! {
        /// Whatever the order, the overlaps and the sizes: what is read is what was sent.
        #[test]
        fn any_order_assembles(
            irs in any::<u32>(),
            pieces in proptest::collection::vec((0u32..6000, 1u32..1400), 1..80),
            scarce in any::<bool>(),
        ) {
            let mut pool = Pool::<HeapBuffer>::new(256);
            let first = SeqNumber(irs) + 1;
            let mut receiver = Receiver::new(SeqNumber(irs), 65_535, 7, 1 << 20, 1460);
            let mut reports = Loans::new(1);
            let mut have = vec![false; 8000];
            for (i, (start, len)) in pieces.iter().enumerate() {
                let scarce = scarce && i % 7 == 0;
                let result = receiver.assemble(
                    &mut pool, &mut reports, piece(*start, *len), first + *start, 0, *len, scarce,
                    &mut Joined::default(),
                );
                if !matches!(result, Assembled::NoMemory | Assembled::NoRoom) {
                    have[*start as usize..(*start + *len) as usize].fill(true);
                }
                let in_order = have.iter().position(|h| !h).unwrap() as u32;
                prop_assert_eq!(receiver.nxt, first + in_order);
                let kept = have[in_order as usize..].iter().filter(|h| **h).count();
                prop_assert_eq!(receiver.ooo_octets as usize, kept);
                let nodes = receiver.queue.len + receiver.ooo.len;
                prop_assert_eq!(receiver.charged, nodes * TRUESIZE);
                prop_assert_eq!(pool.len(), nodes as usize);
                let blocks = reports.get(receiver.report).map_or(&[][..], |report| report.blocks());
                for block in blocks {
                    let (a, b) = (block.start.since(first), block.end.since(first));
                    prop_assert!(have[a as usize..b as usize].iter().all(|h| *h));
                    prop_assert!(a > in_order);
                }
            }
            let mut position = 0;
            let mut at = receiver.queue.head;
            while let Some(chunk) = pool.at(at) {
                prop_assert_eq!(chunk.seq, first + position);
                for byte in chunk.received() {
                    prop_assert_eq!(*byte, octet(position));
                    position += 1;
                }
                at = chunk.next;
            }
            prop_assert_eq!(receiver.nxt, first + position);
            receiver.clear(&mut pool, &mut reports);
            prop_assert_eq!((pool.len(), reports.len()), (0, 0));
        }
    }
}
