//! The program's data on its way into the queue: copied once, into buffers of a segment each.

use super::Sender;
use crate::packet::{Allocator, Buffer};
use crate::tcp::queue::{Chunk, Marks, NONE, Pool, SMALL};
use std::io::IoSlice;

/// Buffers that sending leaves in the pool, for receiving and acknowledging.
pub(crate) const RESERVE: usize = 192;

/// Why not all was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The socket's buffer is full; acknowledgments will make room.
    BufferFull,
    /// The pool or the segment table is exhausted; others must give back first.
    NoMemory,
}

/// Reads slices as one run of octets.
#[derive(Debug)]
pub(crate) struct Gather<'a, 'b> {
    slices: &'a [IoSlice<'b>],
    offset: usize,
}

impl<'a, 'b> Gather<'a, 'b> {
    pub fn new(slices: &'a [IoSlice<'b>]) -> Self {
        let mut gather = Gather { slices, offset: 0 };
        gather.skip_empty();
        gather
    }

    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    fn skip_empty(&mut self) {
        while let Some((first, rest)) = self.slices.split_first()
            && self.offset >= first.len()
        {
            self.slices = rest;
            self.offset = 0;
        }
    }

    /// Octets left, but no more than `limit` are counted.
    fn remaining(&self, limit: usize) -> usize {
        let mut total = 0usize;
        for slice in self.slices {
            total = total.saturating_add(slice.len());
            if total >= limit.saturating_add(self.offset) {
                break;
            }
        }
        total.saturating_sub(self.offset).min(limit)
    }

    fn copy_to(&mut self, mut into: &mut [u8]) {
        while let Some(first) = self.slices.first()
            && !into.is_empty()
        {
            let from = first.get(self.offset..).unwrap_or_default();
            let n = from.len().min(into.len());
            let (head, tail) = into.split_at_mut(n);
            head.copy_from_slice(&from[..n]);
            into = tail;
            self.offset += n;
            self.skip_empty();
        }
    }
}

impl Sender {
    /// Queues octets of `data` until it is used up or nothing more fits. `sendable` octets can
    /// leave at once.
    ///
    /// The limit is looked at where Linux looks at it, so that a write takes as much: before each
    /// run of segments that it would give to the device as one buffer. A run that is first in line
    /// when it is full leaves as far as it can, and what is left of it takes more.
    pub fn append<A: Allocator>(
        &mut self,
        pool: &mut Pool<A::Buffer>,
        allocator: &mut A,
        data: &mut Gather<'_, '_>,
        segments_limit: usize,
        mut sendable: u32,
    ) -> (usize, Option<Blocked>) {
        let goal = self.run_goal();
        let (mut taken, mut leaving) = (0, 0);
        let mut pushed = if self.more { self.nxt } else { self.end };
        while !data.is_empty() {
            let waiting = self.end.since(self.nxt).saturating_sub(leaving);
            self.run = self.run.min(waiting);
            let sealed = pool.at(self.queue.tail).is_some_and(|c| c.marks.contains(Marks::SEALED));
            if self.run == 0 || self.run >= goal || sealed {
                let unsent = self.end.since(self.nxt).saturating_sub(leaving);
                if self.charged >= self.limit || unsent >= self.not_sent_limit {
                    return (taken, Some(Blocked::BufferFull));
                }
                self.run = 0;
            }
            let most = goal - self.run;
            let mut added = self.fill_tail(pool, data, most);
            if added == 0 {
                if pool.len() >= segments_limit || !allocator.has_more_than(RESERVE) {
                    return (taken, Some(Blocked::NoMemory));
                }
                let Some(buffer) = allocator.allocate() else {
                    return (taken, Some(Blocked::NoMemory));
                };
                added = self.append_buffer(pool, buffer, data, most);
            }
            if added == 0 {
                return (taken, Some(Blocked::NoMemory));
            }
            taken += added;
            self.run += added as u32;
            // A long write is pushed on its way as well (as by Linux), lest the peer's program waits
            // for the end of it: whenever more than half of the greatest window has gone without.
            if self.run >= goal && self.end.after(pushed + self.max_window / 2) {
                self.mark_push(pool, false);
                pushed = self.end;
            }
            if self.run >= goal && self.run == waiting + added as u32 {
                // Nothing leaves that does not fit the window as a whole.
                let mss = self.mss.max(1);
                let leaves = sendable.min(self.run) / mss * mss;
                (self.run, sendable, leaving) =
                    (self.run - leaves, sendable - leaves, leaving + leaves);
            }
        }
        (taken, None)
    }

    /// How many octets Linux puts into one buffer: whole segments, half the greatest window.
    fn run_goal(&self) -> u32 {
        if self.mss < SMALL {
            return self.mss.max(1); // Crumbs are counted one by one.
        }
        let half = if self.max_window > 536 { self.max_window / 2 } else { self.max_window };
        (half.min(u32::from(u16::MAX)) / self.mss.max(1)).max(1) * self.mss.max(1)
    }

    /// Small writes join in the last segment while it has not been sent.
    fn fill_tail<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        data: &mut Gather<'_, '_>,
        most: u32,
    ) -> usize {
        if self.unsent == NONE {
            return 0;
        }
        let Some(tail) = pool.at_mut(self.queue.tail) else { return 0 };
        if tail.marks.intersects(Marks::FIN | Marks::SEALED) {
            return 0;
        }
        let Some(buffer) = tail.buffer.as_mut() else { return 0 };
        let room = (self.mss.saturating_sub(tail.len).min(most) as usize).min(buffer.tailroom());
        if room == 0 || buffer.is_shared() {
            return 0;
        }
        let n = data.remaining(room);
        data.copy_to(buffer.append(n));
        let before = tail.truesize();
        tail.len += n as u32;
        // What was pushed is no longer the end of a write.
        tail.marks -= Marks::PUSH;
        self.charged = (self.charged + tail.truesize()).saturating_sub(before);
        self.end += n as u32;
        n
    }

    fn append_buffer<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        mut buffer: B,
        data: &mut Gather<'_, '_>,
        most: u32,
    ) -> usize {
        let n = data.remaining((self.mss.min(most) as usize).min(buffer.tailroom()));
        if n == 0 {
            return 0;
        }
        data.copy_to(buffer.append(n));
        let chunk = Chunk::new(Some(buffer), self.end, n as u32, self.marks_of_new());
        let size = chunk.truesize();
        // The caller saw room in the table; data must not be lost here, and is not: it was
        // checked before anything was taken.
        let Ok(index) = self.queue.push_back(pool, chunk) else { return 0 };
        if self.unsent == NONE {
            self.unsent = index;
        }
        self.charged += size;
        self.end += n as u32;
        n
    }

    /// What a segment is marked with when it is queued.
    #[inline]
    pub fn marks_of_new(&self) -> Marks {
        let alone = self.max_window / 2 < self.mss.saturating_mul(2);
        if alone { Marks::ALONE } else { Marks::empty() }
    }

    /// Queues our FIN: with the last segment if that is still to be sent, else on its own.
    /// Returns whether it is queued; it is not when the segment table is exhausted.
    pub fn append_fin<B: Buffer>(&mut self, pool: &mut Pool<B>) -> bool {
        if self.fin_queued {
            return true;
        }
        let tail = if self.unsent == NONE { None } else { pool.at_mut(self.queue.tail) };
        if let Some(tail) = tail {
            tail.marks |= Marks::FIN | Marks::PUSH;
        } else {
            let chunk = Chunk::new(None, self.end, 0, Marks::FIN);
            let Ok(index) = self.queue.push_back(pool, chunk) else { return false };
            self.unsent = index;
        }
        self.end += 1;
        self.fin_queued = true;
        true
    }

    /// The program's write ends here: the last segment carries PSH.
    pub fn mark_push<B>(&mut self, pool: &mut Pool<B>, end_of_record: bool) {
        if self.unsent != NONE
            && let Some(tail) = pool.at_mut(self.queue.tail)
        {
            tail.marks |= Marks::PUSH;
            if end_of_record {
                tail.marks |= Marks::SEALED;
            }
        }
    }

    /// Cuts the segment at `index` so that at most `len` octets of payload stay in it.
    /// `None` when there is no memory for the rest.
    pub fn split<A: Allocator>(
        &mut self,
        pool: &mut Pool<A::Buffer>,
        allocator: &mut A,
        index: u32,
        len: u32,
    ) -> Option<()> {
        let full = pool.is_full();
        let chunk = pool.at_mut(index)?;
        if len == 0 || chunk.len <= len {
            return Some(());
        }
        if full {
            return None;
        }
        let mut rest = allocator.allocate()?;
        let payload = chunk.sent().get(len as usize..)?;
        if rest.tailroom() < payload.len() {
            return None;
        }
        rest.append(payload.len()).copy_from_slice(payload);
        if chunk.buffer.as_ref().is_some_and(Buffer::is_shared) {
            let mut front = allocator.allocate()?;
            let payload = chunk.sent().get(..len as usize)?;
            front.append(payload.len()).copy_from_slice(payload);
            chunk.buffer = Some(front);
        } else if let Some(buffer) = chunk.buffer.as_mut() {
            let cut = buffer.data().len().saturating_sub((chunk.len - len) as usize);
            buffer.truncate(cut);
        }
        let rest_len = chunk.len - len;
        let moved = chunk.marks & (Marks::FIN | Marks::PUSH | Marks::SEALED | Marks::BURST_END);
        let mut behind = Chunk::new(Some(rest), chunk.seq + len, rest_len, chunk.marks);
        behind.sent_at = chunk.sent_at;
        behind.snapshot = chunk.snapshot;
        let before = chunk.truesize();
        chunk.len = len;
        chunk.marks -= moved;
        let size_of_front = chunk.truesize();
        let (marks, sent) = (behind.marks, behind.seq.before(self.nxt));
        let size = behind.truesize();
        let Ok(rest) = self.queue.insert_after(pool, index, behind) else {
            return None; // Not reached: there was room above.
        };
        self.charged = (self.charged + size + size_of_front).saturating_sub(before);
        if sent {
            self.packets_out += 1;
            self.sacked_out += u32::from(marks.contains(Marks::SACKED));
            self.lost_out += u32::from(marks.contains(Marks::LOST));
            let waiting = marks & (Marks::LOST | Marks::RETRANSMITTED) == Marks::LOST;
            self.lost_waiting += u32::from(waiting);
            if marks.contains(Marks::RETRANSMITTED) {
                self.note_resent_split(pool, index, rest);
            }
        }
        Some(())
    }
}
