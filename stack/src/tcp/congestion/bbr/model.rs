//! What BBR believes of the path: the bandwidth of its bottleneck, the round trip without queue,
//! how many acknowledgments come at once, and where a round ends.

use super::UNIT;
use super::filter::MaxFilter;
use crate::tcp::congestion::{AckEvent, INITIAL_WINDOW};
use crate::time::Instant;

/// Bandwidth is in packets per µs, times 2^24.
pub(super) const SCALE: u32 = 24;
/// §4.1.1.3: rounds that a measurement of the bandwidth is believed.
const BANDWIDTH_ROUNDS: u16 = 10;
/// §4.1.2.1: how long the least round trip is believed.
const MIN_RTT_WINDOW_MS: u32 = 10_000;
/// Aggregation counts in epochs of at most this many packets.
const AGGREGATION_MOST: u32 = 1 << 20;
/// A burst of acknowledgments is believed to hide no more than so much time.
const AGGREGATION_US: u64 = 100_000;

/// The model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model {
    bandwidth: MaxFilter,
    /// µs; `u32::MAX` before the first.
    pub min_rtt_us: u32,
    min_rtt_at_ms: u32,
    /// Rounds so far, and the count of delivered packets that ends this one.
    rounds: u16,
    round_end: u32,
    /// When the epoch of the measurement of aggregation began, µs; packets acknowledged since.
    epoch_at_us: u32,
    epoch_acked: u32,
    /// Packets acknowledged beyond what the bandwidth explains: the most in these rounds, and in
    /// those before.
    extra: [u16; 2],
    extra_rounds: u8,
    extra_place: u8,
    /// This acknowledgment begins a round.
    pub round_start: bool,
}

/// The bandwidth of `packets` in `us`.
pub(super) fn bandwidth(packets: u32, us: u32) -> u32 {
    let scaled = (u64::from(packets) << SCALE) / u64::from(us.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

impl Model {
    pub fn new() -> Self {
        Model {
            bandwidth: MaxFilter::default(),
            min_rtt_us: u32::MAX,
            min_rtt_at_ms: 0,
            rounds: 0,
            round_end: 0,
            epoch_at_us: 0,
            epoch_acked: 0,
            extra: [0; 2],
            extra_rounds: 0,
            extra_place: 0,
            round_start: false,
        }
    }

    pub fn begin(&mut self, now: Instant, srtt_us: u32) {
        if srtt_us > 0 {
            self.min_rtt_us = srtt_us;
        }
        self.min_rtt_at_ms = now.as_millis() as u32;
        self.restart_aggregation(now);
    }

    /// The bandwidth believed in.
    pub fn bandwidth(&self) -> u32 {
        self.bandwidth.max()
    }

    /// Takes the acknowledgment's measurement of the bandwidth. Returns whether a round begins.
    pub fn on_sample(&mut self, event: &AckEvent) -> bool {
        self.round_start = false;
        let Some(sample) = event.sample else { return false };
        //= draft-cardwell-iccrg-bbr-congestion-control-00 §4.1.1.2
        if sample.prior_delivered.wrapping_sub(self.round_end) as i32 >= 0 {
            self.begin_round(event.total_delivered);
            self.rounds = self.rounds.wrapping_add(1);
            self.round_start = true;
        }
        let measured = bandwidth(sample.delivered, sample.interval_us);
        //= §4.1.1.4: what the program limited counts only if it is more all the same.
        if !sample.app_limited || measured >= self.bandwidth() {
            self.bandwidth.update(BANDWIDTH_ROUNDS, self.rounds, measured);
        }
        self.round_start
    }

    /// A round ends when what is in flight now is delivered.
    pub fn begin_round(&mut self, delivered: u32) {
        self.round_end = delivered;
    }

    /// Takes the acknowledgment's round trip. Returns whether the least one is out of date.
    pub fn on_round_trip(&mut self, event: &AckEvent) -> bool {
        let now_ms = event.now.as_millis() as u32;
        let stale = now_ms.wrapping_sub(self.min_rtt_at_ms) > MIN_RTT_WINDOW_MS;
        if event.rtt_us > 0 && (event.rtt_us <= self.min_rtt_us || stale) {
            self.min_rtt_us = event.rtt_us;
            self.min_rtt_at_ms = now_ms;
        }
        stale
    }

    /// A look at the path without queue has just ended.
    pub fn round_trip_seen(&mut self, now: Instant) {
        self.min_rtt_at_ms = now.as_millis() as u32;
    }

    /// `gain` times the product of bandwidth and round trip, packets.
    pub fn product(&self, gain: u64) -> u32 {
        if self.min_rtt_us == u32::MAX {
            return INITIAL_WINDOW;
        }
        let product = u128::from(self.bandwidth()) * u128::from(self.min_rtt_us);
        let packets = (product * u128::from(gain) / u128::from(UNIT)).div_ceil(1 << SCALE);
        u32::try_from(packets).unwrap_or(u32::MAX).min(1 << 24)
    }

    /// How many packets more than the bandwidth explains come acknowledged at once: Wi-Fi and
    /// receivers that coalesce hold acknowledgments back
    /// (draft-cardwell-iccrg-bbr-congestion-control-02 §4.5.5).
    pub fn measure_aggregation(&mut self, event: &AckEvent, cwnd: u32, full: bool) {
        if event.sample.is_none() || event.delivered == 0 {
            return;
        }
        if self.round_start {
            self.extra_rounds = (self.extra_rounds + 1).min(31);
            // Before the pipe is full yesterday's measurements mean nothing.
            if self.extra_rounds >= if full { 10 } else { 1 } {
                self.extra_rounds = 0;
                self.extra_place ^= 1;
                self.extra[usize::from(self.extra_place % 2)] = 0;
            }
        }
        let now_us = event.now.as_micros() as u32;
        let passed = u64::from(now_us.wrapping_sub(self.epoch_at_us));
        let mut expected = (u64::from(self.bandwidth()) * passed) >> SCALE;
        let over = self.epoch_acked.saturating_add(event.delivered) >= AGGREGATION_MOST;
        if u64::from(self.epoch_acked) <= expected || over {
            self.restart_aggregation(event.now);
            expected = 0;
        }
        self.epoch_acked = self.epoch_acked.saturating_add(event.delivered);
        let extra = u64::from(self.epoch_acked).saturating_sub(expected).min(u64::from(cwnd));
        let most = &mut self.extra[usize::from(self.extra_place % 2)];
        *most = (*most).max(u16::try_from(extra).unwrap_or(u16::MAX));
    }

    pub fn restart_aggregation(&mut self, now: Instant) {
        self.epoch_at_us = now.as_micros() as u32;
        self.epoch_acked = 0;
    }

    /// Packets that the window must have beyond the product for the path to stay busy while
    /// acknowledgments are held back.
    pub fn aggregation(&self) -> u32 {
        let most = (u64::from(self.bandwidth()) * AGGREGATION_US) >> SCALE;
        u32::from(self.extra[0].max(self.extra[1])).min(u32::try_from(most).unwrap_or(u32::MAX))
    }
}
