//! CUBIC (RFC 9438), with HyStart++ for its first slow start.

use super::hystart::{Growth, HyStart};
use super::{AckEvent, CongestionControl, NO_THRESHOLD, Window};
use crate::time::{Duration, Instant, Stamp};

/// C (RFC 9438 §5).
const C: f64 = 0.4;
/// β (RFC 9438 §4.6).
const BETA: f64 = 0.7;
/// α while CUBIC is to be no faster than Reno (RFC 9438 §4.3).
const ALPHA: f32 = (3.0 * (1.0 - BETA) / (1.0 + BETA)) as f32;
/// While the window stays, the curve is looked at no more often than this (Linux: 1/32 s), or than
/// four times in a round trip where that is more: what it says changes little in between, but on
/// a short path a small window would stand still for many round trips.
const LOOK_MS: u32 = 31;
const LOOKS_PER_ROUND: u32 = 4;

/// CUBIC.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cubic {
    curve: Curve,
    /// The curve before the last reduction, should that turn out to be needless.
    before: Curve,
    /// Fraction of a packet that the window is owed.
    credit: f32,
    /// By how much the window grows for each acknowledged packet, as the curve said when it was
    /// last looked at.
    slope: f32,
    /// When the curve was last looked at; never, once the window has grown since.
    looked_at: Stamp,
    hystart: HyStart,
}

/// Where the window is on its way back. Windows in packets.
#[derive(Debug, Clone, Copy, Default)]
struct Curve {
    /// The window before the last reduction; less if that was already lower than the one before.
    w_max: f32,
    /// The window before the last reduction as it was: `cwnd_prior`.
    cwnd_prior: f32,
    /// What Reno would have (RFC 9438 §4.3). Before the stage begins: the fraction of a packet by
    /// which the reduced window was rounded down, for with windows of ten packets, of which a loss
    /// takes three, halves matter.
    w_est: f32,
    /// Seconds from the start of the epoch until the window is `w_max` again.
    k: f32,
    /// When this stage of congestion avoidance began; zero while there is none.
    epoch_start: Instant,
}

impl Curve {
    fn begin_epoch(&mut self, now: Instant, cwnd: u32) {
        let cwnd = cwnd as f32 + self.w_est;
        self.epoch_start = now;
        self.w_est = cwnd;
        if self.w_max <= cwnd {
            self.w_max = cwnd;
            self.k = 0.0;
        } else {
            //= RFC 9438 §4.2
            self.k = (f64::from(self.w_max - cwnd) / C).cbrt() as f32;
        }
    }

    /// RFC 9438 §4.2: W_cubic(t + RTT), kept within [cwnd, 1.5 cwnd].
    fn target(&self, now: Instant, srtt_us: u32, cwnd: f64) -> f64 {
        let t = (now - self.epoch_start).as_secs_f64() + f64::from(srtt_us) / 1e6;
        let t = t - f64::from(self.k);
        (C * t * t * t + f64::from(self.w_max)).clamp(cwnd, 1.5 * cwnd)
    }
}

impl Cubic {
    /// Slow start; returns the acknowledged packets that it did not use.
    fn slow_start(&mut self, event: &AckEvent, window: &mut Window) -> u32 {
        //= RFC 9406 §4.1: for the first slow start, whose threshold is still infinite.
        if window.ssthresh < NO_THRESHOLD {
            return window.slow_start(event.delivered);
        }
        match self.hystart.on_ack(event.una, event.nxt, event.rtt_us, event.delivered) {
            Growth::By(packets) => {
                window.slow_start(packets);
                0
            }
            Growth::Ended => {
                window.ssthresh = window.cwnd;
                event.delivered
            }
        }
    }
}

impl CongestionControl for Cubic {
    fn on_ack(&mut self, event: &AckEvent, mut window: Window) -> Window {
        if !event.limited_by_window {
            return window;
        }
        let mut left = event.delivered;
        if window.in_slow_start() {
            left = self.slow_start(event, &mut window);
        }
        if left == 0 {
            return window;
        }
        if self.curve.epoch_start == Instant::ZERO {
            self.curve.begin_epoch(event.now, window.cwnd);
            self.credit = 0.0;
            self.looked_at = Stamp::NEVER;
        }
        //= RFC 9438 §4.3: as Reno, and from the former window on exactly so.
        let curve = &mut self.curve;
        let alpha = if curve.w_est < curve.cwnd_prior { ALPHA } else { 1.0 };
        curve.w_est += alpha * left as f32 / window.cwnd as f32;
        //= RFC 9438 §4.4, §4.5
        let every_ms = LOOK_MS.min(event.srtt_us / (1_000 * LOOKS_PER_ROUND));
        let looks = self.looked_at.elapsed_ms(event.now) >= u64::from(every_ms);
        if looks {
            let cwnd = f64::from(window.cwnd);
            let target = curve.target(event.now, event.srtt_us, cwnd);
            self.slope = ((target - cwnd) / cwnd) as f32;
            self.looked_at = event.now.stamp();
        }
        let before = window.cwnd;
        self.credit += self.slope * left as f32;
        if self.credit >= 1.0 {
            window.cwnd += self.credit as u32;
            self.credit -= self.credit.trunc();
        }
        if looks && curve.w_est > window.cwnd as f32 {
            window.cwnd = curve.w_est as u32;
        }
        if window.cwnd != before {
            self.looked_at = Stamp::NEVER;
        }
        window
    }

    fn on_loss(&mut self, window: Window) -> u32 {
        self.before = self.curve;
        let curve = &mut self.curve;
        // The window as it would be if packets could be cut.
        let under_way = curve.epoch_start != Instant::ZERO;
        let ahead = if under_way { curve.w_est - window.cwnd as f32 } else { 0.0 };
        let cwnd = window.cwnd as f32 + ahead.max(self.credit).clamp(0.0, 0.99);
        curve.epoch_start = Instant::ZERO;
        curve.cwnd_prior = cwnd;
        //= RFC 9438 §4.7: fast convergence.
        curve.w_max = if cwnd < curve.w_max { cwnd * (1.0 + BETA as f32) / 2.0 } else { cwnd };
        //= RFC 9438 §4.6
        let reduced = f64::from(cwnd) * BETA;
        self.credit = 0.0;
        curve.w_est = if reduced < 2.0 { 0.0 } else { reduced.fract() as f32 };
        (reduced as u32).max(2)
    }

    fn on_timeout(&mut self) {
        //= RFC 9438 §4.8: after a timeout K is 0 and W_max the window at which slow start ends.
        self.curve.epoch_start = Instant::ZERO;
        self.curve.w_max = 0.0;
        self.curve.w_est = 0.0;
    }

    fn on_undo(&mut self) {
        //= RFC 9438 §4.9: what the needless reduction changed is as it was.
        self.curve = self.before;
        self.looked_at = Stamp::NEVER;
    }

    fn on_restart(&mut self, idle_us: u64) {
        //= RFC 9438 §4.2: time without sending does not count.
        if self.curve.epoch_start != Instant::ZERO {
            self.curve.epoch_start += Duration::from_micros(idle_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reno::tests::ack;
    use super::*;

    /// Round trips of 100 ms from `start` for `ms`; returns the window at the end.
    fn run(cubic: &mut Cubic, mut window: Window, start: Instant, ms: u64) -> Window {
        let mut now = start;
        while now < start + Duration::from_millis(ms) {
            let event = AckEvent { now, srtt_us: 100_000, ..ack(window.cwnd, true) };
            window = cubic.on_ack(&event, window);
            now += Duration::from_millis(100);
        }
        window
    }

    fn reduced(cubic: &mut Cubic, cwnd: u32) -> Window {
        let ssthresh = cubic.on_loss(Window { cwnd, ssthresh: cwnd / 2 });
        Window { cwnd: ssthresh, ssthresh }
    }

    const START: Instant = Instant::from_millis(1_000);

    #[test]
    fn rfc_9438_returns_to_w_max_after_k_seconds() {
        let mut cubic = Cubic::default();
        let window = reduced(&mut cubic, 1000);
        assert_eq!(window.cwnd, 700);
        // K = cbrt(300 / 0.4) = 9.09 s.
        let half = run(&mut cubic.clone(), window, START, 4_600).cwnd;
        assert!((930..=980).contains(&half), "concave: {half}");
        let whole = run(&mut cubic, window, START, 9_100).cwnd;
        assert!((990..=1010).contains(&whole), "{whole}");
    }

    #[test]
    fn rfc_9438_4_3_a_small_window_grows_as_reno_does() {
        let mut cubic = Cubic::default();
        let window = reduced(&mut cubic, 10);
        assert_eq!(window.cwnd, 7);
        // Until the former window: 0.53 packets a round trip; then one.
        let after = run(&mut cubic.clone(), window, START, 600).cwnd;
        assert_eq!(after, 7 + (6.0 * ALPHA) as u32);
        let later = run(&mut cubic, window, START, 2_600).cwnd;
        assert!(later >= 28, "0.53 for 6 round trips, 1 for 20, if not faster: {later}");
    }

    #[test]
    fn the_curve_is_not_looked_at_again_at_once_while_the_window_stays() {
        let mut cubic = Cubic::default();
        let mut window = reduced(&mut cubic, 10);
        let one = |ms: u64, srtt_us| {
            let now = START + Duration::from_millis(ms);
            AckEvent { now, srtt_us, delivered: 1, ..ack(1, true) }
        };
        // 0.53 packets for seven: after fourteen acknowledgments the window is owed one.
        for ms in 0..14 {
            window = cubic.on_ack(&one(ms, 100_000), window);
        }
        assert_eq!(window.cwnd, 7, "it has been looked at 14 ms ago");
        let late = cubic.clone().on_ack(&one(25, 100_000), window);
        assert_eq!(late.cwnd, 8, "a quarter of the round trip is over");
        assert_eq!(cubic.on_ack(&one(25, 3_900), window).cwnd, 8, "on a short path always");
    }

    #[test]
    fn what_rounding_takes_from_a_small_window_is_not_lost() {
        let mut cubic = Cubic::default();
        let window = reduced(&mut cubic, 15);
        assert_eq!(window.cwnd, 10, "of 10.5");
        // Half a packet, and 0.53 for a round trip.
        assert_eq!(run(&mut cubic, window, START, 100).cwnd, 11);
        // 11.03 and 0.53 more are 11.56; reduced again that is 8.09.
        let window = run(&mut cubic, Window { cwnd: 11, ..window }, START, 100);
        assert_eq!(window.cwnd, 11);
        assert_eq!(cubic.on_loss(window), 8);
    }

    #[test]
    fn rfc_9438_4_7_gives_way_to_new_flows() {
        let mut cubic = Cubic::default();
        reduced(&mut cubic, 1000);
        reduced(&mut cubic, 800);
        assert_eq!(cubic.curve.w_max, 800.0 * 0.85);
        assert_eq!(cubic.curve.cwnd_prior, 800.0);
    }

    #[test]
    fn rfc_9438_4_8_after_a_timeout_the_curve_begins_where_slow_start_ends() {
        let mut cubic = Cubic::default();
        let window = reduced(&mut cubic, 1000);
        cubic.on_timeout();
        run(&mut cubic, window, START, 100);
        assert_eq!((cubic.curve.k, cubic.curve.w_max), (0.0, 700.0));
    }

    #[test]
    fn rfc_9438_4_9_an_undone_reduction_leaves_no_trace() {
        let mut cubic = Cubic::default();
        let window = reduced(&mut cubic, 1000);
        let window = run(&mut cubic, window, START, 3_000);
        let before = cubic.curve;
        reduced(&mut cubic, window.cwnd);
        cubic.on_undo();
        assert_eq!(cubic.curve.w_max, before.w_max);
        assert_eq!(cubic.curve.epoch_start, before.epoch_start);
        assert_eq!(cubic.curve.k, before.k);
    }

    #[test]
    fn time_without_sending_does_not_count() {
        let mut cubic = Cubic::default();
        let window = reduced(&mut cubic, 1000);
        let window = run(&mut cubic, window, START, 1_000);
        cubic.on_restart(60_000_000);
        let later = START + Duration::from_millis(61_000);
        let after = run(&mut cubic.clone(), window, later, 100);
        assert!(after.cwnd < window.cwnd + 30, "{} after {}", after.cwnd, window.cwnd);
    }
}
