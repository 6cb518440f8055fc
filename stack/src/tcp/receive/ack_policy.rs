//! When to acknowledge (RFC 1122 §4.2.3.2, RFC 5681 §4.2), as Linux adapts it: at once at the
//! start of a connection and whenever something is odd, else every second full segment or after
//! a short while; and with the answer when the program talks in turns.

use crate::config::TcpConfig;
use crate::time::{Instant, micros};

/// Segments acknowledged at once when a connection starts.
const QUICK_ACKS: u8 = 16;

/// What decides about acknowledgments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AckPolicy {
    /// An acknowledgment is owed.
    pub owed: bool,
    /// That many of the next are sent at once.
    pub quick: u8,
    /// The program answers what it receives: acknowledgments ride on the answers.
    pub interactive: bool,
    /// The delay, µs; 0 before the first data.
    pub delay_us: u32,
    /// The size of the peer's segments, estimated.
    pub peer_mss: u32,
    /// When data last came.
    pub last_data: Instant,
}

impl AckPolicy {
    pub fn new(mss: u32) -> Self {
        AckPolicy {
            owed: false,
            quick: 0,
            interactive: false,
            delay_us: 0,
            peer_mss: mss,
            last_data: Instant::ZERO,
        }
    }

    /// Data arrived.
    pub fn on_data(
        &mut self,
        len: u32,
        window: u32,
        rto_us: u32,
        now: Instant,
        config: &TcpConfig,
    ) {
        self.owed = true;
        self.measure(len);
        let least = micros(config.delayed_ack_min) as u32;
        if self.delay_us == 0 {
            //= RFC 5681 §4.2: the peer is in slow start, do not hold it up.
            self.enter_quick(window);
            self.delay_us = least;
        } else {
            let gap_us = u32::try_from(now.micros_since(self.last_data)).unwrap_or(u32::MAX);
            if gap_us <= least / 2 {
                self.delay_us = (self.delay_us >> 1) + least / 2;
            } else if gap_us < self.delay_us {
                self.delay_us = ((self.delay_us >> 1) + gap_us).min(rto_us);
            } else if gap_us > rto_us {
                // Too long a gap: the peer may have restarted slow start.
                self.enter_quick(window);
            }
        }
        self.last_data = now;
    }

    /// What is owed now rides on data that comes at once.
    pub fn expect_data(&mut self, config: &TcpConfig) {
        self.owed = true;
        self.enter_quick_for(QUICK_ACKS);
        self.delay_us = config.delayed_ack_min.as_micros() as u32;
    }

    fn measure(&mut self, len: u32) {
        if len >= self.peer_mss {
            self.peer_mss = len.min(u32::from(u16::MAX));
        } else if len >= 536 {
            self.peer_mss = len;
        }
    }

    /// The next few are sent at once.
    pub fn enter_quick(&mut self, window: u32) {
        let quick = (window / (2 * self.peer_mss.max(1))).max(2);
        self.enter_quick_for(quick.min(u32::from(QUICK_ACKS)) as u8);
    }

    /// At least the next `n` are sent at once.
    pub fn enter_quick_for(&mut self, n: u8) {
        self.quick = self.quick.max(n);
    }

    /// We sent data: if in answer to what just came, the talk goes in turns.
    pub fn on_sent_data(&mut self, now: Instant) {
        if now.micros_since(self.last_data) < u64::from(self.delay_us) {
            self.interactive = true;
        }
    }

    /// A segment that acknowledges has left.
    pub fn on_ack_sent(&mut self) {
        self.owed = false;
        if self.quick > 0 {
            self.quick -= 1;
            if self.quick == 0 {
                self.delay_us = self.delay_us.max(1);
            }
        }
    }

    /// Whether acknowledgments go at once regardless of how much came.
    pub fn is_quick(&self) -> bool {
        self.quick > 0 && !self.interactive
    }

    /// How long an acknowledgment may be held back, µs.
    pub fn delay_us(&self, srtt_us: u32, config: &TcpConfig) -> u64 {
        let least = micros(config.delayed_ack_min);
        let most = micros(config.delayed_ack_max);
        let most = if self.interactive { most } else { most / 2 };
        let mut delay = u64::from(self.delay_us).min(most);
        if srtt_us > 0 {
            delay = delay.min(u64::from(srtt_us).max(least));
        }
        delay.max(least)
    }
}
