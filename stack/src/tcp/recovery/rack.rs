//! RACK (RFC 8985): a segment is lost if one sent sufficiently later has been delivered.

use crate::packet::Buffer;
use crate::tcp::queue::{Chunk, Marks, Pool};
use crate::tcp::send::Sender;
use crate::tcp::seq::SeqNumber;
use crate::time::{Duration, Instant};

/// What the judgement of a loss depends on besides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub srtt_us: u32,
    pub min_rtt_us: u32,
    /// Duplicates that mean loss, packets.
    pub reordering: u32,
}

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
        let rtt_us = u32::try_from(now.micros_since(chunk.sent_at)).unwrap_or(u32::MAX);
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

    fn reordering_window(&self, recovering: bool, sender: &Sender, path: &Path) -> u32 {
        //= RFC 8985 §6.2 step 4
        if !self.reordering_seen && (recovering || sender.sacked_out >= path.reordering) {
            return 0;
        }
        let quarters = u64::from(path.min_rtt_us) / 4 * u64::from(self.window_quarters);
        u32::try_from(quarters).unwrap_or(u32::MAX).min(path.srtt_us)
    }

    /// How long the newest delivery took, µs: what was sent later than that ago may be on its way.
    pub fn rtt_us(&self) -> u32 {
        self.rtt_us
    }

    /// A DSACK says that we retransmitted needlessly: wait longer for reordered segments.
    pub fn on_duplicate(&mut self, first_of_round: bool) {
        self.window_persist = 16;
        //= RFC 8985 §6.2 step 4: once per round trip, however many come.
        if first_of_round {
            self.window_quarters = self.window_quarters.saturating_add(1);
        }
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
        path: &Path,
    ) -> (bool, Option<Duration>) {
        if !self.advanced {
            return (false, None);
        }
        self.advanced = false;
        self.scan(sender, pool, now, recovering, path)
    }

    /// The same when the reordering timer has run out.
    pub fn scan<B: Buffer>(
        &mut self,
        sender: &mut Sender,
        pool: &mut Pool<B>,
        now: Instant,
        recovering: bool,
        path: &Path,
    ) -> (bool, Option<Duration>) {
        let window = self.reordering_window(recovering, sender, path);
        let patience = Duration::from_micros(u64::from(self.rtt_us) + u64::from(window));
        let mut overdue = Overdue { found: false, wait: None };
        // Retransmissions first: they are in the order they were sent.
        let mut at = sender.resent_first;
        while let Some(chunk) = pool.at(at) {
            let (index, next) = (at, chunk.resent_next);
            at = next;
            if chunk.sent_at > self.sent_at {
                break;
            }
            if !self.is_later(chunk) {
                overdue.judge(sender, pool, index, now, patience);
            }
        }
        self.scan_originals(sender, pool, now, patience, &mut overdue);
        (overdue.found, overdue.wait)
    }

    /// Segments sent once are in the order of the queue. Whatever is before the first that may
    /// still be in flight need not be looked at again.
    fn scan_originals<B: Buffer>(
        &self,
        sender: &mut Sender,
        pool: &mut Pool<B>,
        now: Instant,
        patience: Duration,
        overdue: &mut Overdue,
    ) {
        let known = pool.at(sender.judged).is_some();
        let mut at = if known { sender.judged } else { sender.queue.head };
        let mut done = true;
        while at != sender.unsent
            && let Some(chunk) = pool.at(at)
        {
            #[cfg(test)]
            crate::tcp::send::scoreboard::count_step();
            let (index, marks) = (at, chunk.marks);
            at = chunk.behind_run(pool);
            if !marks.intersects(Marks::SACKED | Marks::LOST | Marks::RETRANSMITTED) {
                if !self.is_later(chunk) {
                    overdue.judge(sender, pool, index, now, patience);
                } else if !marks.contains(Marks::EVER_RETRANSMITTED) {
                    break; // Sent in order from here on: all later.
                }
            }
            let settled = Marks::SACKED | Marks::LOST | Marks::RETRANSMITTED;
            done &= pool.at(index).is_some_and(|chunk| chunk.marks.intersects(settled));
            if done {
                sender.judged = index;
            }
        }
    }

    /// Whether `chunk` was sent after the newest that was delivered.
    fn is_later<B: Buffer>(&self, chunk: &Chunk<B>) -> bool {
        chunk.sent_at > self.sent_at
            || (chunk.sent_at == self.sent_at && chunk.end().at_or_after(self.end))
    }
}

/// What a scan finds.
struct Overdue {
    found: bool,
    /// How long until all that are not overdue yet will be.
    wait: Option<Duration>,
}

impl Overdue {
    /// The segment at `index` was sent before one that was delivered: is its time up?
    fn judge<B: Buffer>(
        &mut self,
        sender: &mut Sender,
        pool: &mut Pool<B>,
        index: u32,
        now: Instant,
        patience: Duration,
    ) {
        let Some(deadline) = pool.at(index).map(|chunk| chunk.sent_at + patience) else { return };
        //= RFC 8985 §6.2 step 5
        if deadline <= now {
            sender.mark_lost(pool, index);
            self.found = true;
        } else {
            let left = deadline - now;
            self.wait = Some(self.wait.map_or(left, |wait| wait.max(left)));
        }
    }
}
