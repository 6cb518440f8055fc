//! CUBIC (RFC 9438).

use super::{AckEvent, CongestionControl, Window};
use crate::time::Instant;

/// C (RFC 9438 §4.1).
const C: f64 = 0.4;
/// β (RFC 9438 §4.6).
const BETA: f64 = 0.7;

/// CUBIC.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cubic {
    /// The window before the last reduction, packets.
    w_max: f32,
    /// What Reno would have (RFC 9438 §4.3).
    w_est: f32,
    /// Seconds from the start of the epoch until the window is `w_max` again.
    k: f32,
    /// Fraction of a packet that the window is owed.
    credit: f32,
    epoch_start: Option<Instant>,
    /// The window at the start of the epoch.
    cwnd_epoch: f32,
}

impl Cubic {
    fn begin_epoch(&mut self, now: Instant, cwnd: u32) {
        self.epoch_start = Some(now);
        self.cwnd_epoch = cwnd as f32;
        self.w_est = cwnd as f32;
        self.credit = 0.0;
        if self.w_max <= self.cwnd_epoch {
            self.w_max = self.cwnd_epoch;
            self.k = 0.0;
        } else {
            //= RFC 9438 §4.2
            self.k = (f64::from(self.w_max - self.cwnd_epoch) / C).cbrt() as f32;
        }
    }

    fn target(&self, now: Instant, epoch: Instant, srtt_us: u32, cwnd: u32) -> f64 {
        //= RFC 9438 §4.2: W_cubic(t + RTT), kept within [cwnd, 1.5 cwnd].
        let t = (now - epoch).as_secs_f64() + f64::from(srtt_us) / 1e6 - f64::from(self.k);
        let cubic = C * t * t * t + f64::from(self.w_max);
        cubic.clamp(f64::from(cwnd), 1.5 * f64::from(cwnd))
    }
}

impl CongestionControl for Cubic {
    fn on_ack(&mut self, event: &AckEvent, mut window: Window) -> Window {
        if !event.limited_by_window {
            return window;
        }
        let mut left = event.delivered;
        if window.in_slow_start() {
            left = window.slow_start(left);
        }
        if left == 0 {
            return window;
        }
        if self.epoch_start.is_none() {
            self.begin_epoch(event.now, window.cwnd);
        }
        let epoch = self.epoch_start.unwrap_or(event.now);
        let cwnd = f64::from(window.cwnd);
        let acked = f64::from(left);
        //= RFC 9438 §4.3: in the Reno-friendly region.
        let alpha = if self.w_est < self.w_max { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        self.w_est += (alpha * acked / cwnd) as f32;
        let target = self.target(event.now, epoch, event.srtt_us, window.cwnd);
        let growth = ((target - cwnd) / cwnd * acked).min(acked / 2.0);
        self.credit += growth as f32;
        if self.credit >= 1.0 {
            window.cwnd += self.credit as u32;
            self.credit -= self.credit.trunc();
        }
        if self.w_est > window.cwnd as f32 {
            window.cwnd = self.w_est as u32;
        }
        window
    }

    fn on_loss(&mut self, window: Window) -> u32 {
        self.epoch_start = None;
        let cwnd = window.cwnd as f32;
        //= RFC 9438 §4.7: fast convergence.
        self.w_max = if cwnd < self.w_max { cwnd * (1.0 + BETA as f32) / 2.0 } else { cwnd };
        ((f64::from(window.cwnd) * BETA) as u32).max(2)
    }

    fn on_timeout(&mut self) {
        self.epoch_start = None;
    }

    fn on_restart(&mut self, idle_us: u64) {
        //= RFC 9438 §4.2: time without sending does not count.
        if let Some(start) = &mut self.epoch_start {
            *start += core::time::Duration::from_micros(idle_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn rfc_9438_returns_to_w_max_after_k_seconds() {
        let mut cubic = Cubic::default();
        let mut window = Window { cwnd: 1000, ssthresh: 500 };
        window.ssthresh = cubic.on_loss(window);
        window.cwnd = window.ssthresh;
        assert_eq!(window.cwnd, 700);
        // K = cbrt(300 / 0.4) = 9.09 s.
        let start = Instant::from_millis(1_000);
        let step = Duration::from_millis(100);
        let mut now = start;
        let mut halfway = 0;
        while now < start + Duration::from_millis(9_100) {
            let event = AckEvent {
                now,
                delivered: window.cwnd,
                srtt_us: 100_000,
                min_rtt_us: 100_000,
                limited_by_window: true,
            };
            window = cubic.on_ack(&event, window);
            if now == start + step * 45 {
                halfway = window.cwnd;
            }
            now += step;
        }
        assert!((930..=980).contains(&halfway), "concave: {halfway}");
        assert!((990..=1010).contains(&window.cwnd), "{}", window.cwnd);
    }
}
