//! RACK (RFC 8985): a segment is lost if one sent sufficiently later has been delivered.

use super::DUPLICATES;
use crate::packet::Buffer;
use crate::tcp::queue::{Chunk, Marks, Pool};
use crate::tcp::send::Sender;
use crate::tcp::seq::SeqNumber;
use crate::time::{Duration, Instant};

/// What RACK knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rack {
    /// When the most recently sent of the delivered segments was sent, and where it ended.
    sent_at: Instant,
    end: SeqNumber,
    /// How long its delivery took, µs.
    rtt_us: u32,
    /// The highest sequence number that SACK reported.
    pub fack: SeqNumber,
    /// Delivery out of order has been seen.
    pub reordering_seen: bool,
    /// The reordering window in quarters of the least round-trip time (RFC 8985 §6.2 step 4).
    pub window_quarters: u8,
    /// Recoveries until that shrinks back.
    pub window_persist: u8,
    advanced: bool,
}

impl Rack {
    pub fn new(first: SeqNumber) -> Self {
        Rack {
            sent_at: Instant::ZERO,
            end: first,
            rtt_us: 0,
            fack: first,
            reordering_seen: false,
            window_quarters: 1,
            window_persist: 16,
            advanced: false,
        }
    }

    /// `chunk` was delivered.
    pub fn on_delivered<B: Buffer>(&mut self, chunk: &Chunk<B>, now: Instant, min_rtt_us: u32) {
        let rtt_us = u32::try_from((now - chunk.sent_at).as_micros()).unwrap_or(u32::MAX);
        //= RFC 8985 §6.2 step 2: a retransmission that "arrived" too fast was needless.
        if chunk.marks.contains(Marks::EVER_RETRANSMITTED) && rtt_us < min_rtt_us {
            return;
        }
        self.advanced = true;
        self.rtt_us = rtt_us;
        let later = chunk.sent_at > self.sent_at
            || (chunk.sent_at == self.sent_at && chunk.end().after(self.end));
        if later {
            self.sent_at = chunk.sent_at;
            self.end = chunk.end();
        }
    }

    fn reordering_window(&self, recovering: bool, sender: &Sender, srtt: u32, min_rtt: u32) -> u32 {
        //= RFC 8985 §6.2 step 4
        if !self.reordering_seen && (recovering || sender.sacked_out >= DUPLICATES) {
            return 0;
        }
        let quarters = u64::from(min_rtt) / 4 * u64::from(self.window_quarters);
        u32::try_from(quarters).unwrap_or(u32::MAX).min(srtt)
    }

    /// A DSACK says that we retransmitted needlessly: wait longer for reordered segments.
    pub fn on_duplicate(&mut self) {
        self.window_quarters = self.window_quarters.saturating_add(1);
        self.window_persist = 16;
    }

    /// A recovery ended.
    pub fn on_recovered(&mut self) {
        self.window_persist = self.window_persist.saturating_sub(1);
        if self.window_persist == 0 {
            self.window_quarters = 1;
        }
    }

    /// Marks the lost among the segments in flight; returns whether any was, and how long until
    /// another might be.
    pub fn detect<B: Buffer>(
        &mut self,
        sender: &mut Sender,
        pool: &mut Pool<B>,
        now: Instant,
        recovering: bool,
        srtt_us: u32,
        min_rtt_us: u32,
    ) -> (bool, Option<Duration>) {
        if !self.advanced {
            return (false, None);
        }
        self.advanced = false;
        self.scan(sender, pool, now, recovering, srtt_us, min_rtt_us)
    }

    /// The same when the reordering timer has run out.
    pub fn scan<B: Buffer>(
        &mut self,
        sender: &mut Sender,
        pool: &mut Pool<B>,
        now: Instant,
        recovering: bool,
        srtt_us: u32,
        min_rtt_us: u32,
    ) -> (bool, Option<Duration>) {
        let window = self.reordering_window(recovering, sender, srtt_us, min_rtt_us);
        let patience = Duration::from_micros(u64::from(self.rtt_us) + u64::from(window));
        let (mut found, mut wait) = (false, None);
        let mut at = sender.queue.head;
        while at != sender.unsent
            && let Some(chunk) = pool.at(at)
        {
            let (index, next, marks) = (at, chunk.next, chunk.marks);
            let later = chunk.sent_at > self.sent_at
                || (chunk.sent_at == self.sent_at && chunk.end().at_or_after(self.end));
            let deadline = chunk.sent_at + patience;
            at = next;
            if later && !marks.contains(Marks::EVER_RETRANSMITTED) && sender.retrans_out == 0 {
                break; // Sent in order from here on: all later.
            }
            let waiting = marks.contains(Marks::LOST) && !marks.contains(Marks::RETRANSMITTED);
            if later || waiting || marks.contains(Marks::SACKED) {
                continue;
            }
            //= RFC 8985 §6.2 step 5
            if deadline <= now {
                sender.mark_lost(pool, index);
                found = true;
            } else {
                let left = deadline - now;
                wait = Some(wait.map_or(left, |w: Duration| w.max(left)));
            }
        }
        (found, wait)
    }
}
