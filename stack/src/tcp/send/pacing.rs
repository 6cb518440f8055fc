//! Pacing: segments leave no faster than a rate, whatever the windows allow. BBR asks for a rate;
//! `SO_MAX_PACING_RATE` sets a limit; a connection with neither is not paced, as on Linux without
//! the fq scheduler.
//!
//! The release time moves on with every octet sent, so that the rate is met in the long run
//! whatever the timer's grain. What goes at once is about a millisecond's worth, as the bursts of
//! Linux.

use crate::options::Options;
use crate::tcp::connection::Connection;
use crate::time::{Duration, Instant};

const SECOND_NS: u64 = 1_000_000_000;
/// A burst lasts that long at the rate, or is of so many octets, whichever is less.
const BURST_NS: u64 = 1_000_000;
const BURST_OCTETS: u64 = 65_536;
/// The timer may be late: what it missed is sent all the same.
const LATE_NS: u64 = 500_000;
/// The first packets of a connection leave as they are (as Linux's).
const UNPACED_PACKETS: u32 = 10;
/// Percent of the window per round trip (Linux: `tcp_pacing_ss_ratio`, `tcp_pacing_ca_ratio`).
const SLOW_START_PERCENT: u64 = 200;
const AVOIDANCE_PERCENT: u64 = 120;

impl Connection {
    /// Whether the connection is paced at all.
    #[inline]
    pub fn is_paced(&self, options: &Options) -> bool {
        options.max_pacing_rate != u64::MAX || self.controller.governs()
    }

    /// Octets per second that `TCP_INFO` shows, and that a paced connection keeps; `u64::MAX`
    /// while nothing limits it.
    pub fn pacing_rate(&self, options: &Options) -> u64 {
        let wanted = self.controller.pacing_rate().unwrap_or_else(|| self.window_rate());
        wanted.min(options.max_pacing_rate)
    }

    /// A little more than the window per round trip.
    fn window_rate(&self) -> u64 {
        let srtt = u64::from(self.rtt.srtt_us());
        if srtt == 0 {
            return u64::MAX;
        }
        let doubling = self.window.cwnd < self.window.ssthresh / 2;
        let percent = if doubling { SLOW_START_PERCENT } else { AVOIDANCE_PERCENT };
        let packets = u64::from(self.window.cwnd.max(self.send.packets_out));
        packets * u64::from(self.send.mss) * 10_000 * percent / srtt
    }

    /// Whether the next segment must wait for its time; if so the timer is set.
    #[inline]
    pub fn is_held_by_pacing(&mut self, options: &Options, now: Instant) -> bool {
        self.is_paced(options) && self.must_wait(options, now)
    }

    fn must_wait(&mut self, options: &Options, now: Instant) -> bool {
        if self.timers.paced_until <= now {
            return false;
        }
        let rate = self.pacing_rate(options).max(1);
        let octet_ns = |octets: u64| octets.saturating_mul(SECOND_NS) / rate;
        let segment = octet_ns(u64::from(self.send.mss));
        // At least two segments go together, as from Linux.
        let burst = BURST_NS.min(octet_ns(BURST_OCTETS)).max(2 * segment);
        let ahead = self.timers.paced_until.as_nanos() - now.as_nanos();
        if ahead <= burst - segment {
            return false;
        }
        self.timers.held = true;
        true
    }

    /// How many segments may leave as one unit: a burst's worth.
    #[inline]
    pub fn paced_segments(&self, options: &Options) -> u32 {
        if !self.is_paced(options) {
            return u32::MAX;
        }
        let octets = (self.pacing_rate(options) / (SECOND_NS / BURST_NS)).min(BURST_OCTETS);
        (octets as u32 / self.send.mss.max(1)).max(2)
    }

    /// A segment with `octets` of payload was sent.
    #[inline]
    pub fn note_paced(&mut self, options: &Options, octets: u32, now: Instant) {
        if self.is_paced(options) && octets > 0 {
            self.move_release_time(options, octets, now);
        }
    }

    fn move_release_time(&mut self, options: &Options, octets: u32, now: Instant) {
        let rate = self.pacing_rate(options);
        if rate == u64::MAX || rate == 0 || self.stats.data_segments_out < UNPACED_PACKETS {
            return;
        }
        let takes = u64::from(octets).saturating_mul(SECOND_NS) / rate;
        let earliest = Instant::from_nanos(now.as_nanos().saturating_sub(LATE_NS));
        let from = self.timers.paced_until.max(earliest);
        self.timers.paced_until = from + Duration::from_nanos(takes);
    }
}
