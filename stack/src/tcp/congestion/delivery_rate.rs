//! Delivery-rate estimation (draft-cheng-iccrg-delivery-rate-estimation): how fast the path has
//! carried what we sent, and whether it was we who sent too little for that to mean anything.
//!
//! Every segment remembers the state of delivery at the time it was sent ([`Snapshot`]); an
//! acknowledgment compares that of the newest segment it reports with the state now. The
//! connection feeds this; nothing here touches a window.

use crate::tcp::seq::SeqNumber;
use crate::time::Instant;

/// What a segment remembers of the time it was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    /// The connection's count of delivered packets.
    pub delivered: u32,
    /// When that count last changed.
    pub delivered_at: Instant,
    /// When the segment whose delivery changed it had been sent.
    pub first_sent: Instant,
}

/// The newest segment that one acknowledgment reported.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Newest {
    /// When it was sent; zero while there is none.
    sent_at: Instant,
    end: SeqNumber,
    snapshot: Snapshot,
    app_limited: bool,
}

impl Newest {
    /// A segment that ended at `end` was delivered.
    #[inline]
    pub fn on_delivered(
        &mut self,
        sent_at: Instant,
        end: SeqNumber,
        snapshot: &Snapshot,
        app_limited: bool,
    ) {
        if sent_at > self.sent_at || (sent_at == self.sent_at && end.after(self.end)) {
            *self = Newest { sent_at, end, snapshot: *snapshot, app_limited };
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Packets delivered in the interval.
    pub delivered: u32,
    /// The interval, µs; never 0.
    pub interval_us: u32,
    /// The count of delivered packets when the newest of them was sent.
    pub prior_delivered: u32,
    /// The program had left the path idle meanwhile: the path may be faster than this.
    pub app_limited: bool,
}

/// The state of the estimator of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryRate {
    /// Packets delivered, in all.
    pub delivered: u32,
    /// Of those: reported by acknowledgments with ECE.
    pub delivered_ce: u32,
    /// When `delivered` last changed.
    delivered_at: Instant,
    /// When the most recently delivered segment had been sent.
    first_sent: Instant,
    /// The count of delivered packets behind which the path was idle for want of data; 0: none.
    app_limited: u32,
    /// The best recent measurement, for `TCP_INFO`.
    best_delivered: u32,
    best_interval_us: u32,
    /// That measurement was limited by the program.
    pub best_app_limited: bool,
}

impl DeliveryRate {
    /// Nothing but the handshake is delivered.
    pub fn new(now: Instant) -> Self {
        DeliveryRate {
            delivered: 1,
            delivered_ce: 0,
            delivered_at: now,
            first_sent: now,
            // Until the first delivery there has been nothing to fill the path with.
            app_limited: u32::MAX,
            best_delivered: 0,
            best_interval_us: 0,
            best_app_limited: true,
        }
    }

    /// What a segment that is sent now shall remember; `idle`: nothing is in flight.
    #[inline]
    pub fn snapshot(&mut self, now: Instant, idle: bool) -> Snapshot {
        if idle {
            // A new flight: the pause before it is nobody's rate.
            self.first_sent = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
        }
    }

    /// Whether what is sent now is sent after a bubble of silence.
    #[inline]
    pub fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }

    /// The program has nothing to send though `in_flight` packets leave room: the samples until
    /// those are delivered say nothing about the path.
    pub fn mark_app_limited(&mut self, in_flight: u32) {
        self.app_limited = self.delivered.wrapping_add(in_flight).max(1);
    }

    /// `n` more packets were delivered, `ce`: and the network is congested.
    #[inline]
    pub fn count(&mut self, n: u32, ce: bool, now: Instant) {
        if n > 0 {
            self.delivered = self.delivered.wrapping_add(n);
            self.delivered_at = now;
            if ce {
                self.delivered_ce = self.delivered_ce.wrapping_add(n);
            }
        }
        if self.app_limited != 0 && (self.delivered.wrapping_sub(self.app_limited) as i32) > 0 {
            self.app_limited = 0;
        }
    }

    /// The measurement that an acknowledgment allows; call after [`DeliveryRate::count`].
    #[inline]
    pub fn sample(&mut self, newest: &Newest, now: Instant, min_rtt_us: u32) -> Option<Sample> {
        if newest.sent_at == Instant::ZERO {
            return None;
        }
        self.first_sent = newest.sent_at;
        let snapshot = &newest.snapshot;
        //= draft-cheng-iccrg-delivery-rate-estimation §3.3: the longer of the send and the ACK
        //= phase, so that ACK compression cannot make the path look faster than it is.
        let sending = newest.sent_at.as_nanos().saturating_sub(snapshot.first_sent.as_nanos());
        let acking = now.as_nanos().saturating_sub(snapshot.delivered_at.as_nanos());
        let interval_us = u32::try_from(sending.max(acking) / 1_000).unwrap_or(u32::MAX);
        // Faster than any round trip has ever been: this was a retransmission mistaken for its
        // original.
        if interval_us == 0 || (min_rtt_us != u32::MAX && interval_us < min_rtt_us) {
            return None;
        }
        let sample = Sample {
            delivered: self.delivered.wrapping_sub(snapshot.delivered),
            interval_us,
            prior_delivered: snapshot.delivered,
            app_limited: newest.app_limited,
        };
        let faster = u64::from(sample.delivered) * u64::from(self.best_interval_us)
            >= u64::from(self.best_delivered) * u64::from(interval_us);
        if !sample.app_limited || faster {
            self.best_delivered = sample.delivered;
            self.best_interval_us = interval_us;
            self.best_app_limited = sample.app_limited;
        }
        Some(sample)
    }

    /// The rate in octets per second with segments of `mss` octets; 0 before the first sample.
    pub fn octets_per_second(&self, mss: u32) -> u64 {
        match u64::from(self.best_interval_us) {
            0 => 0,
            us => u64::from(self.best_delivered) * u64::from(mss) * 1_000_000 / us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    /// Ten segments, a millisecond apart; the acknowledgments of the last come at once.
    #[test]
    fn compressed_acknowledgments_do_not_make_the_path_faster() {
        let start = Instant::from_millis(1_000);
        let mut rate = DeliveryRate::new(start);
        let sent: Vec<(Instant, Snapshot)> = (0..10u32)
            .map(|n| {
                let at = start + MS * n;
                (at, rate.snapshot(at, n == 0))
            })
            .collect();
        let mut last = None;
        for (n, (at, snapshot)) in sent.iter().enumerate() {
            // The first comes after 20 ms, the others in a burst right behind it.
            let now = start + MS * 20 + Duration::from_micros(n as u64);
            let mut newest = Newest::default();
            newest.on_delivered(*at, SeqNumber(n as u32), snapshot, false);
            rate.count(1, false, now);
            last = rate.sample(&newest, now, 100);
        }
        // All ten in the 20 ms since the flight began.
        let last = last.unwrap();
        assert_eq!((last.delivered, last.interval_us), (10, 20_009));
        assert_eq!(rate.octets_per_second(1000), 10 * 1000 * 1_000_000 / 20_009);
    }

    #[test]
    fn a_bubble_marks_the_samples_until_it_has_passed() {
        let start = Instant::from_millis(1_000);
        let mut rate = DeliveryRate::new(start);
        assert!(rate.is_app_limited(), "nothing is known yet");
        rate.count(1, false, start);
        assert!(!rate.is_app_limited());
        rate.mark_app_limited(3);
        rate.count(3, false, start);
        assert!(rate.is_app_limited());
        rate.count(1, true, start);
        assert!(!rate.is_app_limited());
        assert_eq!((rate.delivered, rate.delivered_ce), (6, 1));
    }

    #[test]
    fn what_is_faster_than_any_round_trip_is_no_sample() {
        let start = Instant::from_millis(1_000);
        let mut rate = DeliveryRate::new(start);
        let snapshot = rate.snapshot(start, true);
        let mut newest = Newest::default();
        newest.on_delivered(start, SeqNumber(1), &snapshot, false);
        rate.count(1, false, start + MS);
        assert_eq!(rate.sample(&newest, start + MS, 5_000), None);
    }
}
