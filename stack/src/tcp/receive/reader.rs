//! The program reading: octets leave the queue, buffers go back to the pool.

use super::{Receiver, Urgent};
use crate::packet::Buffer;
use crate::tcp::queue::{Pool, TRUESIZE};
use std::io::IoSliceMut;

/// Where read octets go.
#[derive(Debug)]
pub(crate) struct Scatter<'a, 'b> {
    slices: &'a mut [IoSliceMut<'b>],
    slice: usize,
    offset: usize,
    discard: bool,
}

impl<'a, 'b> Scatter<'a, 'b> {
    /// Into `slices`; with `discard` their lengths count but nothing is copied (`MSG_TRUNC`).
    pub fn new(slices: &'a mut [IoSliceMut<'b>], discard: bool) -> Self {
        Scatter { slices, slice: 0, offset: 0, discard }
    }

    /// Takes as much of `from` as there is room for.
    fn put(&mut self, mut from: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(slice) = self.slices.get_mut(self.slice) {
            let discard = self.discard;
            let room = slice.get_mut(self.offset..).unwrap_or_default();
            let n = room.len().min(from.len());
            if !discard {
                room[..n].copy_from_slice(&from[..n]);
            }
            taken += n;
            self.offset += n;
            from = &from[n..];
            if from.is_empty() {
                break;
            }
            self.slice += 1;
            self.offset = 0;
        }
        taken
    }

    fn is_full(&self) -> bool {
        self.slices.iter().skip(self.slice).map(|s| s.len()).sum::<usize>() <= self.offset
    }
}

impl Receiver {
    /// Octets that a read returns now: up to the urgent octet, which parts reads.
    pub fn available(&self, inline: bool) -> u32 {
        let unread = self.unread();
        if inline || self.urgent == Urgent::None || !self.urgent_ahead() {
            return unread;
        }
        self.urgent_seq.since(self.copied).min(unread)
    }

    fn urgent_ahead(&self) -> bool {
        self.urgent != Urgent::None
            && self.urgent_seq.at_or_after(self.copied)
            && self.urgent_seq.before(self.nxt)
    }

    /// Copies out as much as there is room for; stops at the urgent octet, skips it when it comes
    /// first and is not inline. With `peek` everything stays, `skip` octets are passed over.
    pub fn read<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        into: &mut Scatter<'_, '_>,
        inline: bool,
        peek: Option<u32>,
    ) -> u32 {
        if let Some(skip) = peek {
            return self.peek(pool, into, inline, skip);
        }
        if self.urgent == Urgent::None {
            return self.read_plainly(pool, into);
        }
        let mut total = 0;
        loop {
            if self.urgent_ahead() && self.urgent_seq == self.copied {
                if total > 0 {
                    break; // The mark parts what goes before from the octet itself.
                }
                if !inline {
                    self.consume(pool, 1);
                    continue;
                }
            }
            let ahead = self.urgent_ahead().then(|| self.urgent_seq.since(self.copied));
            let limit = ahead.filter(|n| *n > 0).unwrap_or(u32::MAX);
            let Some(chunk) = pool.at(self.queue.head) else { break };
            let payload = chunk.received();
            let payload = payload.get(..limit as usize).unwrap_or(payload);
            let n = into.put(payload) as u32;
            self.consume(pool, n);
            total += n;
            if n == 0 || into.is_full() {
                break;
            }
        }
        if self.urgent != Urgent::None && self.copied.after(self.urgent_seq) {
            self.urgent = Urgent::None;
        }
        total
    }

    /// [`Receiver::read`] where there is no urgent data.
    fn read_plainly<B: Buffer>(&mut self, pool: &mut Pool<B>, into: &mut Scatter<'_, '_>) -> u32 {
        let mut total = 0;
        while let Some(chunk) = pool.at(self.queue.head) {
            let len = chunk.len;
            let n = into.put(chunk.received()) as u32;
            self.consume(pool, n);
            total += n;
            if n < len {
                break;
            }
        }
        total
    }

    fn peek<B: Buffer>(
        &self,
        pool: &Pool<B>,
        into: &mut Scatter<'_, '_>,
        inline: bool,
        mut skip: u32,
    ) -> u32 {
        let mut at = self.queue.head;
        let mut seq = self.copied;
        let mut total = 0;
        while let Some(chunk) = pool.at(at) {
            at = chunk.next;
            let mut payload = chunk.received();
            while !payload.is_empty() {
                let urgent = self.urgent_ahead() && self.urgent_seq.at_or_after(seq);
                let before_mark = self.urgent_seq.since(seq);
                if urgent && before_mark == 0 && total > 0 {
                    return total;
                }
                if urgent && before_mark == 0 && !inline {
                    payload = &payload[1..];
                    seq += 1;
                    continue;
                }
                let limit = if urgent && before_mark > 0 { before_mark } else { u32::MAX };
                let run = payload.get(..limit as usize).unwrap_or(payload);
                let passed = run.len().min(skip as usize);
                skip -= passed as u32;
                let rest = &run[passed..];
                let n = into.put(rest);
                total += n as u32;
                if n < rest.len() {
                    return total;
                }
                seq += run.len() as u32;
                payload = &payload[run.len()..];
            }
        }
        total
    }

    /// The program has `n` more octets.
    fn consume<B: Buffer>(&mut self, pool: &mut Pool<B>, mut n: u32) {
        self.copied += n;
        while n > 0 {
            let Some(chunk) = pool.at_mut(self.queue.head) else { return };
            if chunk.len > n {
                chunk.offset += n;
                chunk.len -= n;
                chunk.seq += n;
                return;
            }
            n -= chunk.len;
            self.queue.discard_front(pool);
            self.charged = self.charged.saturating_sub(TRUESIZE);
        }
    }
}
