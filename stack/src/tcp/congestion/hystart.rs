//! HyStart++ (RFC 9406): slow start ends when the round-trip time rises, before packets are lost;
//! whether it did so too soon is found out at a quarter of the speed.
//!
//! Only the first slow start of a connection is watched. The limit L on the growth per
//! acknowledgment is infinite here, as in Linux: receivers and devices that coalesce acknowledge
//! dozens of segments at once.

use crate::tcp::seq::SeqNumber;

/// RFC 9406 §4.3.
const MIN_RTT_THRESH_US: u32 = 4_000;
const MAX_RTT_THRESH_US: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;
const INFINITE: u32 = u32::MAX;

/// How slow start goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Growth {
    /// By so many packets.
    By(u32),
    /// Not at all: this is congestion avoidance.
    Ended,
}

/// What HyStart++ knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct HyStart {
    /// Where the round ends.
    window_end: SeqNumber,
    last_round_min_us: u32,
    current_round_min_us: u32,
    /// The least round trip of the round that made us enter CSS.
    css_baseline_us: u32,
    samples: u8,
    /// Rounds in Conservative Slow Start, begun ones included; 0 outside.
    css_round: u8,
    /// Quarters of a packet.
    credit: u8,
    started: bool,
}

impl Default for HyStart {
    fn default() -> Self {
        HyStart {
            window_end: SeqNumber(0),
            last_round_min_us: INFINITE,
            current_round_min_us: INFINITE,
            css_baseline_us: INFINITE,
            samples: 0,
            css_round: 0,
            credit: 0,
            started: false,
        }
    }
}

impl HyStart {
    /// `acked` packets were acknowledged in slow start.
    pub fn on_ack(&mut self, una: SeqNumber, nxt: SeqNumber, rtt_us: u32, acked: u32) -> Growth {
        if !self.started || una.at_or_after(self.window_end) {
            if self.css_round > 0 {
                //= RFC 9406 §4.2: CSS lasts at most CSS_ROUNDS rounds.
                if self.css_round >= CSS_ROUNDS {
                    return Growth::Ended;
                }
                self.css_round += 1;
            }
            self.begin_round(nxt);
        }
        if rtt_us > 0 {
            self.current_round_min_us = self.current_round_min_us.min(rtt_us);
            self.samples = self.samples.saturating_add(1);
        }
        if self.samples >= N_RTT_SAMPLE {
            self.judge();
        }
        if self.css_round == 0 {
            return Growth::By(acked);
        }
        let quarters = u32::from(self.credit) + acked;
        self.credit = (quarters % CSS_GROWTH_DIVISOR) as u8;
        Growth::By(quarters / CSS_GROWTH_DIVISOR)
    }

    fn begin_round(&mut self, nxt: SeqNumber) {
        self.started = true;
        self.window_end = nxt;
        self.last_round_min_us = self.current_round_min_us;
        self.current_round_min_us = INFINITE;
        self.samples = 0;
    }

    fn judge(&mut self) {
        if self.css_round > 0 {
            //= RFC 9406 §4.2: the rise was a passing one; slow start resumes.
            if self.current_round_min_us < self.css_baseline_us {
                self.css_baseline_us = INFINITE;
                self.css_round = 0;
            }
        } else if self.last_round_min_us != INFINITE {
            //= RFC 9406 §4.2
            let threshold = (self.last_round_min_us / MIN_RTT_DIVISOR)
                .clamp(MIN_RTT_THRESH_US, MAX_RTT_THRESH_US);
            if self.current_round_min_us >= self.last_round_min_us.saturating_add(threshold) {
                self.css_baseline_us = self.current_round_min_us;
                self.css_round = 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of `n` acknowledgments with this round trip; how much the window grew, or `None`
    /// when slow start ended.
    fn round(hystart: &mut HyStart, at: &mut u32, n: u32, rtt_us: u32) -> Option<u32> {
        // The round ends with the first acknowledgment after these.
        let end = SeqNumber(*at + (n + 1) * 1000);
        let mut grown = 0;
        for _ in 0..n {
            *at += 1000;
            match hystart.on_ack(SeqNumber(*at), end, rtt_us, 1) {
                Growth::By(packets) => grown += packets,
                Growth::Ended => return None,
            }
        }
        Some(grown)
    }

    #[test]
    fn rfc_9406_a_steady_round_trip_lets_slow_start_go_on() {
        let (mut hystart, mut at) = (HyStart::default(), 0);
        for n in [10, 20, 40, 80, 160] {
            assert_eq!(round(&mut hystart, &mut at, n, 40_000), Some(n));
        }
    }

    #[test]
    fn rfc_9406_a_rise_ends_slow_start_after_five_slow_rounds() {
        let (mut hystart, mut at) = (HyStart::default(), 0);
        assert_eq!(round(&mut hystart, &mut at, 16, 40_000), Some(16));
        // 40 ms / 8: five milliseconds more are a rise. Seven samples do not suffice.
        let grown = round(&mut hystart, &mut at, 16, 45_000).unwrap();
        assert_eq!(grown, 7 + 9 / 4);
        for _ in 0..4 {
            let grown = round(&mut hystart, &mut at, 16, 45_000).unwrap();
            assert!((4..=5).contains(&grown), "{grown}");
        }
        assert_eq!(round(&mut hystart, &mut at, 16, 45_000), None);
    }

    #[test]
    fn rfc_9406_a_passing_rise_lets_slow_start_resume() {
        let (mut hystart, mut at) = (HyStart::default(), 0);
        assert_eq!(round(&mut hystart, &mut at, 16, 40_000), Some(16));
        assert!(round(&mut hystart, &mut at, 16, 60_000).unwrap() < 16);
        // It was only jitter.
        let grown = round(&mut hystart, &mut at, 16, 41_000).unwrap();
        assert_eq!(grown, 2 + 8 + 1, "seven acknowledgments slowly, the others at full speed");
        assert_eq!(round(&mut hystart, &mut at, 16, 41_000), Some(16));
    }

    #[test]
    fn rfc_9406_few_samples_prove_nothing() {
        let (mut hystart, mut at) = (HyStart::default(), 0);
        for rtt_ms in [10, 20, 40, 80] {
            assert_eq!(round(&mut hystart, &mut at, 7, rtt_ms * 1_000), Some(7));
        }
    }
}
