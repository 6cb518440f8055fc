//! The segments in flight: what an acknowledgment removes, what SACK marks (RFC 2018), what is
//! taken for lost. Every count in [`Sender`] is kept here.

use super::Sender;
use crate::packet::Buffer;
use crate::tcp::congestion::Newest;
use crate::tcp::queue::{Chunk, Marks, NONE, Pool};
use crate::tcp::recovery::Rack;
use crate::tcp::segment::SackBlock;
use crate::tcp::seq::SeqNumber;
use crate::time::Instant;

/// What one acknowledgment reported.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivery {
    /// Segments that the cumulative acknowledgment removed.
    pub acked: u32,
    /// Segments that SACK reported for the first time.
    pub sacked: u32,
    /// Segments delivered for the first time, either way.
    pub delivered: u32,
    /// SND.UNA moved.
    pub advanced: bool,
    /// When the oldest segment acknowledged without retransmission was sent.
    pub first_sent: Option<Instant>,
    /// When the oldest segment that SACK reported, never retransmitted, was sent.
    pub sacked_sent: Option<Instant>,
    /// The first segment that had been retransmitted of those acknowledged cumulatively.
    pub retransmitted: Option<SeqNumber>,
    /// The lowest never-retransmitted segment that was delivered after one from beyond it: the
    /// path reorders.
    pub reordered: Option<SeqNumber>,
    /// A segment sent once, before the retransmission timer ran out, was delivered (RFC 5682).
    pub original: bool,
    /// The first block reported octets that had arrived already (RFC 2883).
    pub duplicate: Option<SackBlock>,
    /// What was delivered from furthest beyond SND.UNA before this acknowledgment, if anything.
    pub prior_fack: Option<SeqNumber>,
    /// Up to where all had been sent when the last episode of recovery began.
    pub high: SeqNumber,
    /// Packets in flight before.
    pub prior_in_flight: u32,
    /// The round trip it showed, µs; 0 if none.
    pub rtt_us: u32,
    /// The newest segment reported, for the delivery rate.
    pub newest: Newest,
}

impl Delivery {
    /// The round-trip time that the acknowledgment showed, µs.
    pub fn sample_us(&self, now: Instant) -> Option<u64> {
        //= RFC 6298 §3 (Karn): what a retransmission released waited for it, not for the path.
        let acked = self.first_sent.filter(|_| self.retransmitted.is_none());
        acked.or(self.sacked_sent).map(|sent| now.micros_since(sent))
    }

    /// Whether nothing that it says contradicts that all is well.
    #[inline]
    pub fn tells_of_no_trouble(&self) -> bool {
        self.sacked == 0 && self.duplicate.is_none() && self.reordered.is_none()
    }

    /// `chunk`, never retransmitted, was delivered. Only an earlier acknowledgment proves that
    /// one from beyond it came first: this one may stand for several that were lost.
    fn note_order<B>(&mut self, chunk: &Chunk<B>) {
        if self.prior_fack.is_some_and(|fack| fack.after(chunk.seq)) {
            let seq = chunk.seq;
            self.reordered = Some(self.reordered.map_or(seq, |lowest| lowest.min(seq)));
        }
    }

    /// SACK reports `chunk` for the first time.
    pub(super) fn note_sacked<B: Buffer>(&mut self, chunk: &Chunk<B>) {
        if !chunk.marks.contains(Marks::EVER_RETRANSMITTED) {
            self.note_order(chunk);
            self.original |= chunk.end().at_or_before(self.high);
            self.sacked_sent = self.sacked_sent.or(Some(chunk.sent_at));
        }
        self.note_newest(chunk);
        self.sacked += 1;
        self.delivered += 1;
    }

    #[inline]
    pub fn note_newest<B: Buffer>(&mut self, chunk: &Chunk<B>) {
        self.newest.on_delivered(
            chunk.sent_at,
            chunk.end(),
            &chunk.snapshot,
            chunk.marks.contains(Marks::APP_LIMITED),
        );
    }
}

impl Sender {
    /// Removes what `ack` acknowledges.
    pub fn remove_acked<B: Buffer>(
        &mut self,
        pool: &mut Pool<B>,
        ack: SeqNumber,
        rack: &mut Rack,
        now: Instant,
        min_rtt_us: u32,
        delivery: &mut Delivery,
    ) {
        delivery.advanced = ack.after(self.una);
        while let Some(chunk) = pool.at(self.queue.head) {
            if self.queue.head == self.unsent || ack.at_or_before(chunk.seq) {
                break;
            }
            if chunk.end().after(ack) {
                self.trim_acked(pool, ack);
                break;
            }
            let marks = chunk.marks;
            if !marks.contains(Marks::SACKED) {
                delivery.delivered += 1;
                if !marks.contains(Marks::EVER_RETRANSMITTED) {
                    delivery.first_sent = delivery.first_sent.or(Some(chunk.sent_at));
                    delivery.note_order(chunk);
                    delivery.original |= chunk.end().at_or_before(delivery.high);
                }
                rack.on_delivered(chunk, now, min_rtt_us);
                delivery.note_newest(chunk);
            }
            if marks.contains(Marks::EVER_RETRANSMITTED) {
                delivery.retransmitted = delivery.retransmitted.or(Some(chunk.seq));
            }
            delivery.acked += 1;
            self.release(pool, self.queue.head);
        }
        self.una = ack;
        if self.urgent.is_some_and(|up| up.at_or_before(ack)) {
            self.urgent = None;
        }
    }

    fn release<B: Buffer>(&mut self, pool: &mut Pool<B>, index: u32) {
        self.forget_resent(pool, index);
        let Some(chunk) = self.queue.remove(pool, index) else { return };
        if chunk.marks.contains(Marks::SACKED) {
            super::scoreboard::leave_run(pool, index, &chunk);
        }
        if self.judged == index {
            self.judged = chunk.next;
        }
        if self.retransmit_hint == index {
            self.retransmit_hint = chunk.next;
        }
        self.charged = self.charged.saturating_sub(chunk.truesize());
        self.packets_out = self.packets_out.saturating_sub(1);
        let out = |mark, count: &mut u32| {
            *count = count.saturating_sub(u32::from(chunk.marks.contains(mark)));
        };
        out(Marks::SACKED, &mut self.sacked_out);
        out(Marks::LOST, &mut self.lost_out);
        out(Marks::LOST, &mut self.lost_waiting);
    }

    /// The segment at `index` was sent again, after all others in flight.
    pub fn note_resent<B>(&mut self, pool: &mut Pool<B>, index: u32) {
        if pool.at(index).is_none_or(|chunk| chunk.marks.contains(Marks::SACKED)) {
            return; // It had arrived, and what links it is of its run.
        }
        self.forget_resent(pool, index);
        let before = core::mem::replace(&mut self.resent_last, index);
        match pool.at_mut(before) {
            Some(before) => before.resent_next = index,
            None => self.resent_first = index,
        }
        if let Some(chunk) = pool.at_mut(index) {
            chunk.resent_prev = before;
            let lost = u32::from(chunk.marks.contains(Marks::LOST));
            self.lost_waiting = self.lost_waiting.saturating_sub(lost);
            chunk.marks |= Marks::RETRANSMITTED | Marks::EVER_RETRANSMITTED;
            self.retrans_out += 1;
        }
    }

    /// If a retransmission of the segment at `index` is in flight, it is so no longer.
    pub(super) fn forget_resent<B>(&mut self, pool: &mut Pool<B>, index: u32) {
        let Some(chunk) = pool.at_mut(index) else { return };
        if !chunk.marks.contains(Marks::RETRANSMITTED) {
            return;
        }
        chunk.marks -= Marks::RETRANSMITTED;
        self.lost_waiting += u32::from(chunk.marks.contains(Marks::LOST));
        let (before, behind) = (chunk.resent_prev, chunk.resent_next);
        (chunk.resent_prev, chunk.resent_next) = (NONE, NONE);
        match pool.at_mut(before) {
            Some(before) => before.resent_next = behind,
            None => self.resent_first = behind,
        }
        match pool.at_mut(behind) {
            Some(behind) => behind.resent_prev = before,
            None => self.resent_last = before,
        }
        self.retrans_out = self.retrans_out.saturating_sub(1);
    }

    /// `behind` was cut off the segment at `index`, whose retransmission is in flight.
    pub fn note_resent_split<B>(&mut self, pool: &mut Pool<B>, index: u32, behind: u32) {
        let Some(chunk) = pool.at_mut(index) else { return };
        let next = core::mem::replace(&mut chunk.resent_next, behind);
        match pool.at_mut(next) {
            Some(next) => next.resent_prev = behind,
            None => self.resent_last = behind,
        }
        if let Some(behind) = pool.at_mut(behind) {
            (behind.resent_prev, behind.resent_next) = (index, next);
        }
        self.retrans_out += 1;
    }

    /// The acknowledgment ends within the first segment: its acknowledged part is not sent again.
    fn trim_acked<B: Buffer>(&mut self, pool: &mut Pool<B>, ack: SeqNumber) {
        if let Some(chunk) = pool.at_mut(self.queue.head) {
            let n = ack.since(chunk.seq).min(chunk.len);
            // The payload is the last `len` octets, so forgetting some of it is all there is to do.
            let before = chunk.truesize();
            chunk.len -= n;
            chunk.seq += n;
            self.charged = (self.charged + chunk.truesize()).saturating_sub(before);
        }
    }

    /// Takes the segment at `index`, in flight, for lost.
    pub fn mark_lost<B>(&mut self, pool: &mut Pool<B>, index: u32) {
        if pool.at(index).is_none_or(|chunk| chunk.marks.contains(Marks::SACKED)) {
            return;
        }
        self.forget_resent(pool, index);
        let Some(chunk) = pool.at_mut(index) else { return };
        if !chunk.marks.contains(Marks::LOST) {
            chunk.marks |= Marks::LOST;
            self.lost_out += 1;
            self.lost_waiting += 1;
        }
        let seq = chunk.seq;
        if pool.at(self.retransmit_hint).is_none_or(|hint| hint.seq.after(seq)) {
            self.retransmit_hint = index;
        }
    }

    /// Takes everything in flight for lost that SACK has not reported, but what was sent after
    /// `recent`: the first segment in any case.
    pub fn mark_all_lost<B>(&mut self, pool: &mut Pool<B>, recent: Instant) {
        let mut at = self.queue.head;
        while at != self.unsent
            && let Some(chunk) = pool.at(at)
        {
            let next = chunk.next;
            if chunk.sent_at <= recent || at == self.queue.head {
                self.mark_lost(pool, at);
            }
            at = next;
        }
        self.retransmit_hint = self.queue.head;
    }

    /// Takes every loss mark back (it was reordering, or delay).
    pub fn unmark_lost<B>(&mut self, pool: &mut Pool<B>) {
        let mut at = self.queue.head;
        while at != self.unsent
            && let Some(chunk) = pool.at_mut(at)
        {
            chunk.marks -= Marks::LOST;
            at = chunk.next;
        }
        (self.lost_out, self.lost_waiting) = (0, 0);
        self.retransmit_hint = NONE;
        self.judged = NONE;
    }

    /// The first lost segment that has not been sent again.
    pub fn next_lost<B>(&mut self, pool: &Pool<B>) -> Option<u32> {
        if self.lost_waiting == 0 {
            return None;
        }
        let mut at = self.retransmit_hint;
        while at != self.unsent
            && let Some(chunk) = pool.at(at)
        {
            #[cfg(test)]
            super::scoreboard::count_step();
            if chunk.marks.contains(Marks::LOST) && !chunk.marks.contains(Marks::RETRANSMITTED) {
                self.retransmit_hint = at;
                return Some(at);
            }
            at = chunk.behind_run(pool);
        }
        self.retransmit_hint = NONE;
        None
    }
}
