//! NewReno's window (RFC 5681, RFC 6582).

use super::{AckEvent, CongestionControl, Window};

/// Reno.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reno {
    /// Packets acknowledged towards the next growth by one.
    counted: u32,
}

impl CongestionControl for Reno {
    fn on_ack(&mut self, event: &AckEvent, mut window: Window) -> Window {
        if !event.limited_by_window {
            return window;
        }
        let mut left = event.delivered;
        if window.in_slow_start() {
            left = window.slow_start(left);
        }
        //= RFC 5681 §3.1: one packet per window in congestion avoidance.
        self.counted += left;
        let whole = window.cwnd.max(1);
        if self.counted >= whole {
            window.cwnd += self.counted / whole;
            self.counted %= whole;
        }
        window
    }

    fn on_loss(&mut self, window: Window) -> u32 {
        // What was counted towards a larger window is no part of the smaller one.
        self.counted = 0;
        (window.cwnd / 2).max(2)
    }

    fn on_timeout(&mut self) {
        self.counted = 0;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tcp::congestion::Mending;
    use crate::tcp::seq::SeqNumber;
    use crate::time::Instant;

    /// An acknowledgment that reports `delivered` packets, and nothing else.
    pub fn ack(delivered: u32, limited_by_window: bool) -> AckEvent {
        AckEvent {
            now: Instant::ZERO,
            una: SeqNumber(0),
            nxt: SeqNumber(0),
            mss: 1000,
            delivered,
            lost: 0,
            total_delivered: 0,
            total_ce: 0,
            prior_in_flight: 0,
            in_flight: 0,
            rtt_us: 1000,
            srtt_us: 1000,
            sample: None,
            mending: Mending::Nothing,
            limited_by_window,
        }
    }

    #[test]
    fn rfc_5681_doubles_then_grows_by_one_per_window() {
        let mut reno = Reno::default();
        let mut window = Window { cwnd: 10, ssthresh: 20 };
        window = reno.on_ack(&ack(10, true), window);
        assert_eq!(window.cwnd, 20);
        for _ in 0..10 {
            window = reno.on_ack(&ack(2, true), window);
        }
        assert_eq!(window.cwnd, 21);
        window = reno.on_ack(&ack(100, false), window);
        assert_eq!(window.cwnd, 21, "an idle window proves nothing");
        assert_eq!(reno.on_loss(window), 10);
    }

    #[test]
    fn growth_is_one_per_window_however_the_acknowledgments_come() {
        for each in [1, 2, 3, 7] {
            let mut reno = Reno::default();
            let mut window = Window { cwnd: 20, ssthresh: 10 };
            // 20 + 21 + 22 + 23 + 24 packets are five windows.
            for _ in 0..110 / each {
                window = reno.on_ack(&ack(each, true), window);
            }
            assert!((24..=25).contains(&window.cwnd), "{each} at a time: {}", window.cwnd);
        }
    }

    #[test]
    fn a_reduced_window_begins_to_count_anew() {
        let mut reno = Reno::default();
        let mut window = Window { cwnd: 100, ssthresh: 50 };
        window = reno.on_ack(&ack(99, true), window);
        window.cwnd = reno.on_loss(window);
        window = reno.on_ack(&ack(1, true), window);
        assert_eq!(window.cwnd, 50);
    }
}
