//! Round-trip time and the retransmission timeout that follows from it (RFC 6298).

use crate::config::TcpConfig;
use crate::time::{Duration, Instant, Stamp, micros};

/// How long a least round-trip time is believed (Linux: `tcp_min_rtt_wlen`).
const MIN_RTT_WINDOW_MS: u64 = 300_000;

/// The estimator. Times in µs; a round trip is never 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rtt {
    /// SRTT times 8; 0 before the first sample.
    srtt8: u32,
    /// RTTVAR times 4.
    rttvar4: u32,
    /// The latest sample.
    pub latest_us: u32,
    /// The least of late; `u32::MAX` before the first sample.
    pub min_us: u32,
    min_at: Stamp,
    /// The timeout without backoff.
    rto_us: u32,
    /// How often the timeout was doubled.
    pub backoff: u8,
}

/// The longest sample that is believed, µs: eight times as much must fit a word.
const LONGEST_US: u32 = 500_000_000;

impl Rtt {
    pub fn new() -> Self {
        Rtt {
            srtt8: 0,
            rttvar4: 0,
            latest_us: 0,
            min_us: u32::MAX,
            min_at: Stamp::NEVER,
            //= RFC 6298 §2.1
            rto_us: 1_000_000,
            backoff: 0,
        }
    }

    pub fn has_sample(&self) -> bool {
        self.srtt8 != 0
    }

    pub fn srtt_us(&self) -> u32 {
        self.srtt8 >> 3
    }

    pub fn rttvar_us(&self) -> u32 {
        self.rttvar4 >> 2
    }

    /// Takes a sample; never one of a retransmitted segment (Karn).
    pub fn sample(&mut self, sample: Duration, now: Instant, config: &TcpConfig) {
        self.sample_us(micros(sample), now, config);
    }

    /// [`Rtt::sample`] in microseconds.
    pub fn sample_us(&mut self, us: u64, now: Instant, config: &TcpConfig) {
        let us = us.clamp(1, u64::from(LONGEST_US)) as u32;
        self.latest_us = us;
        if us <= self.min_us || self.min_at.elapsed_ms(now) > MIN_RTT_WINDOW_MS {
            self.min_us = us;
            self.min_at = now.stamp();
        }
        if self.srtt8 == 0 {
            //= RFC 6298 §2.2
            self.srtt8 = us << 3;
            self.rttvar4 = us << 1;
        } else {
            //= RFC 6298 §2.3
            let srtt = self.srtt8 >> 3;
            self.rttvar4 = self.rttvar4 - (self.rttvar4 >> 2) + srtt.abs_diff(us);
            self.srtt8 = (self.srtt8 - srtt + us).max(8);
        }
        // The floor is on the variance's share, as in Linux: RTO = SRTT + max(200 ms, 4 RTTVAR).
        let floor = micros(config.rto_min) as u32;
        let ceiling = micros(config.rto_max) as u32;
        self.rto_us = (self.srtt8 >> 3).saturating_add(self.rttvar4.max(floor)).min(ceiling);
    }

    /// The timeout with backoff.
    pub fn rto(&self, config: &TcpConfig) -> Duration {
        Duration::from_micros(self.rto_with_backoff_us(config))
    }

    /// [`Rtt::rto`] in microseconds.
    #[inline]
    pub fn rto_with_backoff_us(&self, config: &TcpConfig) -> u64 {
        (u64::from(self.rto_us) << self.backoff.min(30)).min(micros(config.rto_max))
    }

    /// The timeout without backoff.
    pub fn base_rto(&self) -> Duration {
        Duration::from_micros(u64::from(self.rto_us))
    }

    /// [`Rtt::base_rto`] in microseconds.
    #[inline]
    pub fn base_rto_us(&self) -> u32 {
        self.rto_us
    }

    /// RFC 6298 §5.7: the SYN was retransmitted and no sample was taken.
    pub fn fall_back_to_three_seconds(&mut self) {
        if self.srtt8 == 0 {
            self.rto_us = 3_000_000;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_without_bounds_do_not_overflow() {
        let config = TcpConfig::default();
        let mut rtt = Rtt::new();
        for n in 0..200 {
            let sample = if n % 3 == 0 { Duration::ZERO } else { Duration::from_secs(1 << 40) };
            rtt.sample(sample, Instant::ZERO, &config);
        }
        for _ in 0..200 {
            rtt.sample(Duration::from_secs(1 << 40), Instant::ZERO, &config);
        }
        assert!(rtt.srtt_us().abs_diff(LONGEST_US) < 10);
        assert_eq!(rtt.rto(&config), config.rto_max);
    }

    #[test]
    fn rfc_6298_smooths_and_linux_floors() {
        let config = TcpConfig::default();
        let mut rtt = Rtt::new();
        assert_eq!(rtt.rto(&config), Duration::from_secs(1));
        rtt.sample(Duration::from_millis(100), Instant::ZERO, &config);
        assert_eq!((rtt.srtt_us(), rtt.rttvar_us()), (100_000, 50_000));
        assert_eq!(rtt.rto(&config), Duration::from_millis(300));
        for _ in 0..50 {
            rtt.sample(Duration::from_millis(100), Instant::ZERO, &config);
        }
        assert_eq!(rtt.rto(&config), Duration::from_millis(300), "the floor is 200 ms over SRTT");
        rtt.backoff = 3;
        assert_eq!(rtt.rto(&config), Duration::from_millis(2_400));
        rtt.backoff = 30;
        assert_eq!(rtt.rto(&config), Duration::from_secs(120));
    }
}
