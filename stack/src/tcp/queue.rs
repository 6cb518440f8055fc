//! The segments that connections keep: one table for the layer, chained into queues.

use super::congestion::Snapshot;
use super::seq::SeqNumber;
use crate::collections::Slab;
use crate::packet::Buffer;
use crate::time::Instant;

/// What a received buffer is charged against its socket's buffer limit, in octets: its memory and
/// its bookkeeping, whatever it holds (Linux charges about the same for one Ethernet frame).
pub(crate) const TRUESIZE: u32 = 2_304;

/// A segment of fewer octets is small: no peer that means well asks for such (RFC 9293 §3.7.1).
pub(crate) const SMALL: u32 = 536;

/// What Linux keeps beside the octets of a packet, in octets: where a packet is one segment. Else
/// it is a share of that.
const ALONE: u32 = 1_280;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

bitflags::bitflags! {
    /// Where a sent segment stands.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Marks: u16 {
        /// Carries our FIN behind its payload.
        const FIN = 0x01;
        /// The program wanted this pushed.
        const PUSH = 0x02;
        /// The peer has it, by SACK.
        const SACKED = 0x04;
        /// Taken for lost.
        const LOST = 0x08;
        /// A retransmission of it is in flight.
        const RETRANSMITTED = 0x10;
        /// Was retransmitted at least once (Karn).
        const EVER_RETRANSMITTED = 0x20;
        /// No payload may be appended: a record ends here.
        const SEALED = 0x40;
        /// Sent after a pause that the program made: its delivery is no measure of the path.
        const APP_LIMITED = 0x80;
        /// The last of several segments that were first sent at once.
        const BURST_END = 0x100;
        /// The peer's window is so small that Linux would keep each segment as a packet of its own.
        const ALONE = 0x200;
    }
}

/// One queued segment: to be acknowledged, to be read, or waiting for the gap before it.
#[derive(Debug)]
pub(crate) struct Chunk<B> {
    /// `None` for a bare FIN.
    pub buffer: Option<B>,
    pub seq: SeqNumber,
    /// Octets of payload: the last that many of a sent buffer; of a received one those at
    /// `offset`.
    pub len: u32,
    /// Where unread payload starts in a received buffer.
    pub offset: u32,
    pub next: u32,
    pub prev: u32,
    pub marks: Marks,
    /// When it was sent last, or when it was received.
    pub sent_at: Instant,
    /// The state of delivery when this was sent last.
    pub snapshot: Snapshot,
    /// The retransmissions in flight, in the order they were sent: the neighbours in that list.
    pub resent_next: u32,
    pub resent_prev: u32,
}

impl<B: Buffer> Chunk<B> {
    pub fn new(buffer: Option<B>, seq: SeqNumber, len: u32, marks: Marks) -> Self {
        Chunk {
            buffer,
            seq,
            len,
            offset: 0,
            next: NONE,
            prev: NONE,
            marks,
            sent_at: Instant::ZERO,
            snapshot: Snapshot::default(),
            resent_next: NONE,
            resent_prev: NONE,
        }
    }

    /// The sequence number behind it, FIN included.
    pub fn end(&self) -> SeqNumber {
        self.seq + self.len + u32::from(self.marks.contains(Marks::FIN))
    }

    /// The payload of a received chunk.
    pub fn received(&self) -> &[u8] {
        let data = self.buffer.as_ref().map_or(&[][..], Buffer::data);
        let start = self.offset as usize;
        data.get(start..start + self.len as usize).unwrap_or_default()
    }

    /// The payload of a sent chunk: what lies before it are headers of an earlier transmission.
    pub fn sent(&self) -> &[u8] {
        let data = self.buffer.as_ref().map_or(&[][..], Buffer::data);
        data.get(data.len().saturating_sub(self.len as usize)..).unwrap_or_default()
    }

    /// What a queued segment is charged against the send buffer's limit: as on Linux its octets
    /// and a share of the bookkeeping; a small one the memory that it takes.
    pub fn truesize(&self) -> u32 {
        match (&self.buffer, self.len) {
            (None, _) => 0,
            (_, ..SMALL) => TRUESIZE,
            (_, len) if self.marks.contains(Marks::ALONE) => len + ALONE,
            (_, len) => len + 80,
        }
    }
}

/// The chunks of all connections.
pub(crate) type Pool<B> = Slab<Chunk<B>>;

/// A queue of chunks in a [`Pool`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub head: u32,
    pub tail: u32,
    pub len: u32,
}

impl Chain {
    pub const EMPTY: Chain = Chain { head: NONE, tail: NONE, len: 0 };

    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Appends `chunk`; gives it back when the table is full.
    pub fn push_back<B>(&mut self, pool: &mut Pool<B>, chunk: Chunk<B>) -> Result<u32, Chunk<B>> {
        self.insert_after(pool, self.tail, chunk)
    }

    /// Inserts `chunk` behind `before`, or first if that is `NONE`.
    pub fn insert_after<B>(
        &mut self,
        pool: &mut Pool<B>,
        before: u32,
        mut chunk: Chunk<B>,
    ) -> Result<u32, Chunk<B>> {
        let behind = match pool.at(before) {
            Some(before) => before.next,
            None => self.head,
        };
        chunk.prev = before;
        chunk.next = behind;
        let index = pool.insert(chunk)?.index();
        match pool.at_mut(before) {
            Some(before) => before.next = index,
            None => self.head = index,
        }
        match pool.at_mut(behind) {
            Some(behind) => behind.prev = index,
            None => self.tail = index,
        }
        self.len += 1;
        Ok(index)
    }

    /// Takes `index`, a member, out of the queue and the table.
    pub fn remove<B>(&mut self, pool: &mut Pool<B>, index: u32) -> Option<Chunk<B>> {
        let chunk = pool.remove_at(index)?;
        match pool.at_mut(chunk.prev) {
            Some(before) => before.next = chunk.next,
            None => self.head = chunk.next,
        }
        match pool.at_mut(chunk.next) {
            Some(behind) => behind.prev = chunk.prev,
            None => self.tail = chunk.prev,
        }
        self.len = self.len.saturating_sub(1);
        Some(chunk)
    }

    /// Takes the first chunk out.
    pub fn pop_front<B>(&mut self, pool: &mut Pool<B>) -> Option<Chunk<B>> {
        self.remove(pool, self.head)
    }

    /// Gives the first chunk's memory back, without a look at it.
    #[inline]
    pub fn discard_front<B>(&mut self, pool: &mut Pool<B>) {
        let Some(chunk) = pool.at(self.head) else { return };
        let (first, next) = (self.head, chunk.next);
        pool.discard_at(first);
        match pool.at_mut(next) {
            Some(behind) => behind.prev = NONE,
            None => self.tail = NONE,
        }
        self.head = next;
        self.len = self.len.saturating_sub(1);
    }

    /// Gives every chunk's memory back.
    pub fn clear<B>(&mut self, pool: &mut Pool<B>) {
        while self.pop_front(pool).is_some() {}
        *self = Chain::EMPTY;
    }
}
