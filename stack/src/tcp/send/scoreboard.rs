//! What SACK reported (RFC 2018): marks on the segments in flight, and how to get to the next one
//! without walking over all the others.
//!
//! An acknowledgment costs what it reports for the first time, whatever the window: blocks that the
//! one before reported are not looked at again, runs of reported segments are skipped as one, and
//! the search for a block begins near where the last one ended. Connections share a table of what
//! that takes; one that has nothing reported has no entry.

use super::{Delivery, Sender};
use crate::collections::Slab;
use crate::packet::Buffer;
use crate::tcp::queue::{Chunk, Marks, NONE, Pool};
use crate::tcp::recovery::Rack;
use crate::tcp::segment::{SackBlock, SackBlocks};
use crate::tcp::seq::SeqNumber;
use crate::time::Instant;

/// A reported segment: its place, and where it begins.
type Place = Option<(u32, SeqNumber)>;

/// What is remembered of what SACK reported.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    /// The blocks of the acknowledgment before.
    seen: SackBlocks,
    /// The reported segment with the highest number, and the latest.
    highest: Place,
    latest: Place,
}

/// The boards of all connections.
pub(crate) type Boards = Slab<Board>;

/// What an acknowledgment comes with.
pub(crate) struct Arrived<'a> {
    pub blocks: &'a SackBlocks,
    pub ack: SeqNumber,
    pub now: Instant,
    pub min_rtt_us: u32,
}

impl<B> Chunk<B> {
    /// Behind this segment; behind the whole run if it is reported and others behind it are.
    pub fn behind_run(&self, pool: &Pool<B>) -> u32 {
        let last = if self.marks.contains(Marks::SACKED) { self.resent_next } else { NONE };
        pool.at(last).map_or(self.next, |last| last.next)
    }
}

impl Sender {
    /// Marks what the blocks of an acknowledgment report.
    pub fn mark_sacked<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        boards: &mut Boards,
        arrived: &Arrived<'_>,
        rack: &mut Rack,
        delivery: &mut Delivery,
    ) {
        let mut board = boards.at(self.board).cloned().unwrap_or_default();
        let mut seen = SackBlocks::new();
        for (i, block) in arrived.blocks.iter().enumerate() {
            if block.end.at_or_before(block.start) || block.end.after(self.nxt) {
                continue;
            }
            //= RFC 2883 §4: the first block may report a duplicate.
            let inside = arrived
                .blocks
                .get(1)
                .is_some_and(|b| block.start.at_or_after(b.start) && block.end.at_or_before(b.end));
            if i == 0 && (block.start.before(arrived.ack) || inside) {
                delivery.duplicate = Some(*block);
                continue;
            }
            if block.start.before(self.una) {
                continue;
            }
            self.mark_block(pool, block, &mut board, arrived, rack, delivery);
            let _ = seen.try_push(*block);
        }
        if seen.is_empty() {
            return;
        }
        board.seen = seen;
        match boards.at_mut(self.board) {
            Some(place) => *place = board,
            None if self.sacked_out > 0 => {
                self.board = boards.insert(board).map_or(NONE, |handle| handle.index());
            }
            None => {}
        }
    }

    /// Nothing is reported any more.
    pub fn forget_board(&mut self, boards: &mut Boards) {
        boards.remove_at(core::mem::replace(&mut self.board, NONE));
    }

    /// Marks what `block` reports and the acknowledgment before did not.
    fn mark_block<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        block: &SackBlock,
        board: &mut Board,
        arrived: &Arrived<'_>,
        rack: &mut Rack,
        delivery: &mut Delivery,
    ) {
        let mut from = block.start;
        while from.before(block.end) {
            let known = board.seen.iter().find(|b| b.start.at_or_before(from) && b.end.after(from));
            if let Some(known) = known {
                from = known.end;
                continue;
            }
            let starts = board.seen.iter().map(|b| b.start);
            let next = starts.filter(|s| s.after(from) && s.before(block.end));
            let to = next.min_by_key(|s| s.since(from)).unwrap_or(block.end);
            let mut at = self.search_from(pool, board, from);
            while at != self.unsent
                && let Some(chunk) = pool.at(at)
            {
                #[cfg(test)]
                count_step();
                if chunk.seq.at_or_after(to) {
                    break;
                }
                let (index, whole) = (at, chunk.end().at_or_before(block.end));
                at = chunk.behind_run(pool);
                // A segment that the block covers in part counts as not received.
                if whole
                    && chunk.seq.at_or_after(block.start)
                    && !chunk.marks.contains(Marks::SACKED)
                {
                    self.mark_one(pool, index, board, arrived, rack, delivery);
                }
            }
            from = to;
        }
    }

    /// The segment at `index` is reported.
    fn mark_one<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        index: u32,
        board: &mut Board,
        arrived: &Arrived<'_>,
        rack: &mut Rack,
        delivery: &mut Delivery,
    ) {
        self.forget_resent(pool, index);
        let Some(chunk) = pool.at_mut(index) else { return };
        delivery.note_sacked(chunk);
        rack.on_delivered(chunk, arrived.now, arrived.min_rtt_us);
        if chunk.marks.contains(Marks::LOST) {
            self.lost_out = self.lost_out.saturating_sub(1);
            self.lost_waiting = self.lost_waiting.saturating_sub(1);
        }
        chunk.marks -= Marks::LOST;
        chunk.marks |= Marks::SACKED;
        let (seq, end) = (chunk.seq, chunk.end());
        self.sacked_out += 1;
        board.latest = Some((index, seq));
        if rack.fack.before(end) || self.sacked_out == 1 {
            rack.fack = end;
            board.highest = Some((index, seq));
        }
        join_runs(pool, index);
    }

    /// Where to begin the search for what is at `from`: the nearest before it that is known.
    fn search_from<B>(&self, pool: &Pool<B>, board: &Board, from: SeqNumber) -> u32 {
        let mut nearest = (self.queue.head, self.una);
        for (index, seq) in [board.highest, board.latest].into_iter().flatten() {
            // One that is acknowledged is not there any more.
            let there = seq.at_or_after(self.una) && seq.at_or_before(from);
            if there && seq.after(nearest.1) && pool.at(index).is_some_and(|c| c.seq == seq) {
                nearest = (index, seq);
            }
        }
        nearest.0
    }

    /// Forgets what SACK reported: the peer may have thrown it away (RFC 2018 §8).
    pub fn unmark_sacked<B>(&mut self, pool: &mut Pool<B>, boards: &mut Boards) {
        self.forget_board(boards);
        let mut at = self.queue.head;
        while at != self.unsent
            && let Some(chunk) = pool.at_mut(at)
        {
            at = chunk.next;
            if chunk.marks.contains(Marks::SACKED) {
                chunk.marks -= Marks::SACKED;
                (chunk.resent_next, chunk.resent_prev) = (NONE, NONE);
            }
        }
        self.sacked_out = 0;
        self.judged = NONE;
    }
}

/// The segment at `index` was reported: it makes one run with those beside it. The first of a run
/// knows its last and the last its first, in the fields that link retransmissions, of which a
/// reported segment is none. What is between may name a last of former times, which is in the run.
fn join_runs<B>(pool: &mut Pool<B>, index: u32) {
    let Some((before, behind)) = pool.at(index).map(|chunk| (chunk.prev, chunk.next)) else {
        return;
    };
    let reported = |at: u32| pool.at(at).filter(|chunk| chunk.marks.contains(Marks::SACKED));
    let or = |link: u32, own: u32| if link == NONE { own } else { link };
    let first = reported(before).map_or(index, |chunk| or(chunk.resent_prev, before));
    let last = reported(behind).map_or(index, |chunk| or(chunk.resent_next, behind));
    if let Some(first) = pool.at_mut(first) {
        first.resent_next = last;
    }
    if let Some(last) = pool.at_mut(last) {
        last.resent_prev = first;
    }
}

/// `chunk`, the first in flight, was reported and is gone from place `index`: the next one is the
/// first of its run.
pub(super) fn leave_run<B>(pool: &mut Pool<B>, index: u32, chunk: &Chunk<B>) {
    let (last, next) = (chunk.resent_next, chunk.next);
    if last == NONE || last == index {
        return;
    }
    if let Some(next) = pool.at_mut(next) {
        next.resent_next = last;
    }
    if let Some(last) = pool.at_mut(last) {
        last.resent_prev = next;
    }
}

#[cfg(test)]
thread_local! {
    /// Segments looked at, for tests of what an acknowledgment costs.
    static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

#[cfg(test)]
pub(crate) fn count_step() {
    STEPS.set(STEPS.get() + 1);
}

/// Segments looked at since the last call.
#[cfg(test)]
pub(crate) fn take_steps() -> u64 {
    STEPS.take()
}
