//! BBR, version 1 (draft-cardwell-iccrg-bbr-congestion-control-00): a model of the path, its
//! bottleneck's bandwidth and its round-trip time without queue, says how fast to send (pacing)
//! and how much may be in flight (the window). Loss is no signal.
//!
//! `model` measures; here is what follows: the states, the gains, the window. Everything else
//! about loss recovery is as for other controllers; only the window is BBR's alone.

mod filter;
mod model;

use super::{AckEvent, INITIAL_WINDOW, Mending, Restart, Window};
use crate::time::Instant;
use model::Model;

/// Gains are in 1/256.
const UNIT: u64 = 256;
/// 2/ln 2: what doubles the rate every round trip (§4.1.1, "BBRHighGain").
const HIGH_GAIN: u64 = UNIT * 2885 / 1000 + 1;
/// Its inverse: empties in one round trip the queue that startup has made.
const DRAIN_GAIN: u64 = UNIT * 1000 / 2885;
/// §4.3.4.2: one eighth of the time more, one eighth less, then as fast as the path.
const CYCLE: [u64; 8] = [UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT];
/// Room for delayed and stretched acknowledgments.
const WINDOW_GAIN: u64 = 2 * UNIT;
/// §4.2.3.1: what keeps the acknowledgments coming (BBRMinPipeCwnd).
const LEAST_WINDOW: u32 = 4;
const PROBE_RTT_MS: u32 = 200;
/// §4.3.2.2: the pipe is full when three rounds bring less than a quarter more.
const FULL_ROUNDS: u8 = 3;
/// Pacing stays a little below the bandwidth so that queues do not grow.
const MARGIN_PERCENT: u64 = 1;

/// BBR's state machine (§4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Doubles until the bandwidth does not grow any more.
    Startup,
    /// Empties the queue which that has made.
    Drain,
    /// Probes for more bandwidth now and then.
    ProbeBandwidth,
    /// Almost stops, to see the round trip without a queue.
    ProbeRoundTrip,
}

/// BBR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bbr {
    model: Model,
    /// Octets per second.
    pacing_rate: u64,
    /// The window before recovery or a look at the round trip.
    prior_cwnd: u32,
    /// The bandwidth at the last growth that counted.
    full_bandwidth: u32,
    /// When the phase of the cycle began, µs.
    phase_at_us: u32,
    /// When the look at the round trip may end, ms; meaningful if `probing`.
    probe_until_ms: u32,
    full_rounds: u8,
    /// Which phase of the cycle.
    phase: u8,
    mode: Mode,
    mending: Mending,
    /// The pipe has been full.
    full: bool,
    /// The window is small enough: the time of the look at the round trip runs.
    probing: bool,
    /// A whole round has passed meanwhile.
    probed_round: bool,
    /// The first round of recovery sends one packet for each that left the network.
    conserving: bool,
    /// Sending goes on after a pause: no reason to look at the round trip now.
    restarting: bool,
    /// The pacing rate follows from a round trip that was measured.
    measured: bool,
}

impl Bbr {
    pub fn new() -> Self {
        Bbr {
            model: Model::new(),
            pacing_rate: 0,
            prior_cwnd: 0,
            full_bandwidth: 0,
            phase_at_us: 0,
            probe_until_ms: 0,
            full_rounds: 0,
            phase: 0,
            mode: Mode::Startup,
            mending: Mending::Nothing,
            full: false,
            probing: false,
            probed_round: false,
            conserving: false,
            restarting: false,
            measured: false,
        }
    }

    pub fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    /// Whether it keeps the path empty to see its round trip.
    pub fn probes_round_trip(&self) -> bool {
        self.mode == Mode::ProbeRoundTrip
    }

    /// Before the first acknowledgment the initial window per round trip is all there is to go by
    /// (§4.2.1, BBRInitPacingRate).
    pub fn begin(&mut self, now: Instant, window: Window, srtt_us: u32, mss: u32) {
        self.model.begin(now, srtt_us);
        self.pace_by_window(window.cwnd, srtt_us, mss);
    }

    fn pace_by_window(&mut self, cwnd: u32, srtt_us: u32, mss: u32) {
        self.measured |= srtt_us > 0;
        let round_trip = if srtt_us > 0 { srtt_us } else { 1_000 };
        let bandwidth = model::bandwidth(cwnd, round_trip);
        self.pacing_rate = rate(bandwidth, HIGH_GAIN, mss);
    }

    pub fn on_ack(&mut self, event: &AckEvent, window: Window) -> Window {
        let mut window = window;
        if self.model.on_sample(event) {
            self.conserving = false;
        }
        self.model.measure_aggregation(event, window.cwnd, self.full);
        self.advance_cycle(event);
        self.check_full_pipe(event);
        self.check_drain(event, &mut window);
        self.look_at_round_trip(event, &mut window);
        self.set_pacing_rate(event, window.cwnd);
        self.set_window(event, &mut window);
        window
    }

    fn gains(&self) -> (u64, u64) {
        match self.mode {
            Mode::Startup => (HIGH_GAIN, HIGH_GAIN),
            Mode::Drain => (DRAIN_GAIN, HIGH_GAIN),
            Mode::ProbeBandwidth => (CYCLE[usize::from(self.phase) % CYCLE.len()], WINDOW_GAIN),
            Mode::ProbeRoundTrip => (UNIT, UNIT),
        }
    }

    /// §4.3.4.3: when the next phase of the cycle begins.
    fn advance_cycle(&mut self, event: &AckEvent) {
        if self.mode != Mode::ProbeBandwidth {
            return;
        }
        let now = event.now.as_micros() as u32;
        let whole = now.wrapping_sub(self.phase_at_us) > self.model.min_rtt_us;
        let (gain, _) = self.gains();
        let over = match gain {
            UNIT => whole,
            // Until a queue shows that there is no more, or losses that there is no room for one.
            gain if gain > UNIT => {
                let filled = event.prior_in_flight >= self.inflight(gain, event.mss);
                whole && (event.lost > 0 || filled)
            }
            // Until the queue which that made is gone.
            _ => whole || event.prior_in_flight <= self.inflight(UNIT, event.mss),
        };
        if over {
            self.phase = (self.phase + 1) % CYCLE.len() as u8;
            self.phase_at_us = now;
        }
    }

    /// §4.3.2.2.
    fn check_full_pipe(&mut self, event: &AckEvent) {
        let limited = event.sample.is_none_or(|sample| sample.app_limited);
        if self.full || !self.model.round_start || limited {
            return;
        }
        let bandwidth = self.model.bandwidth();
        if u64::from(bandwidth) * 4 >= u64::from(self.full_bandwidth) * 5 {
            self.full_bandwidth = bandwidth;
            self.full_rounds = 0;
            return;
        }
        self.full_rounds += 1;
        self.full = self.full_rounds >= FULL_ROUNDS;
    }

    /// §4.3.3.
    fn check_drain(&mut self, event: &AckEvent, window: &mut Window) {
        if self.mode == Mode::Startup && self.full {
            self.mode = Mode::Drain;
            window.ssthresh = self.inflight(UNIT, event.mss);
        }
        if self.mode == Mode::Drain && event.in_flight <= self.inflight(UNIT, event.mss) {
            self.enter_probe_bandwidth(event.now, event.una.0);
        }
    }

    /// §4.3.4.3: anywhere in the cycle but where it would send less; sequence numbers are as good
    /// as dice.
    fn enter_probe_bandwidth(&mut self, now: Instant, dice: u32) {
        self.mode = Mode::ProbeBandwidth;
        let throw = (dice.wrapping_mul(0x9e37_79b1) >> 16) % (CYCLE.len() as u32 - 1);
        // 0 is the phase of more, then come 2 to 7.
        self.phase = if throw == 0 { 0 } else { throw as u8 + 1 };
        self.phase_at_us = now.as_micros() as u32;
    }

    /// §4.3.5: when the least round trip has not been seen for ten seconds, a queue may hide it.
    fn look_at_round_trip(&mut self, event: &AckEvent, window: &mut Window) {
        let stale = self.model.on_round_trip(event);
        if stale && !self.restarting && self.mode != Mode::ProbeRoundTrip {
            self.mode = Mode::ProbeRoundTrip;
            self.save_window(window.cwnd);
            self.probing = false;
        }
        if self.mode == Mode::ProbeRoundTrip {
            let now_ms = event.now.as_millis() as u32;
            if !self.probing && event.in_flight <= LEAST_WINDOW {
                self.probing = true;
                self.probed_round = false;
                self.probe_until_ms = now_ms.wrapping_add(PROBE_RTT_MS);
                self.model.begin_round(event.total_delivered);
            } else if self.probing {
                self.probed_round |= self.model.round_start;
                if self.probed_round {
                    self.end_look(event.now, event.una.0, window);
                }
            }
        }
        if event.sample.is_some_and(|sample| sample.delivered > 0) {
            self.restarting = false;
        }
    }

    /// Ends the look at the round trip if it has lasted long enough.
    fn end_look(&mut self, now: Instant, dice: u32, window: &mut Window) {
        let passed = (now.as_millis() as u32).wrapping_sub(self.probe_until_ms) as i32;
        if !self.probing || passed < 0 {
            return;
        }
        self.probing = false;
        self.model.round_trip_seen(now);
        window.cwnd = window.cwnd.max(self.prior_cwnd);
        if self.full {
            self.enter_probe_bandwidth(now, dice);
        } else {
            self.mode = Mode::Startup;
        }
    }

    /// §4.2.1.
    fn set_pacing_rate(&mut self, event: &AckEvent, cwnd: u32) {
        if !self.measured && event.srtt_us > 0 {
            self.pace_by_window(cwnd, event.srtt_us, event.mss);
        }
        let rate = rate(self.model.bandwidth(), self.gains().0, event.mss);
        if self.full || rate > self.pacing_rate {
            self.pacing_rate = rate;
        }
    }

    /// §4.2.3.
    fn set_window(&mut self, event: &AckEvent, window: &mut Window) {
        if event.delivered > 0 && !self.set_window_in_recovery(event, window) {
            let (_, gain) = self.gains();
            let extra = if self.full { self.model.aggregation() } else { 0 };
            let target = self.quantized(self.model.product(gain) + extra, event.mss);
            let grown = window.cwnd + event.delivered;
            if self.full {
                window.cwnd = grown.min(target);
            } else if window.cwnd < target || event.total_delivered < INITIAL_WINDOW {
                window.cwnd = grown;
            }
            window.cwnd = window.cwnd.max(LEAST_WINDOW);
        }
        if self.mode == Mode::ProbeRoundTrip {
            window.cwnd = window.cwnd.min(LEAST_WINDOW);
        }
    }

    /// §4.2.3.4: packet conservation in the first round of recovery, and back afterwards.
    fn set_window_in_recovery(&mut self, event: &AckEvent, window: &mut Window) -> bool {
        if event.lost > 0 {
            window.cwnd = window.cwnd.saturating_sub(event.lost).max(1);
        }
        let before = core::mem::replace(&mut self.mending, event.mending);
        if event.mending == Mending::Loss && before != Mending::Loss {
            self.conserving = true;
            self.model.begin_round(event.total_delivered);
            window.cwnd = event.in_flight + event.delivered;
        } else if before != Mending::Nothing && event.mending == Mending::Nothing {
            window.cwnd = window.cwnd.max(self.prior_cwnd);
            self.conserving = false;
        }
        if self.conserving {
            window.cwnd = window.cwnd.max(event.in_flight + event.delivered);
        }
        self.conserving
    }

    fn save_window(&mut self, cwnd: u32) {
        let undisturbed = self.mending == Mending::Nothing && self.mode != Mode::ProbeRoundTrip;
        self.prior_cwnd = if undisturbed { cwnd } else { self.prior_cwnd.max(cwnd) };
    }

    /// Packets in flight at `gain` times the estimated product of bandwidth and round trip.
    fn inflight(&self, gain: u64, mss: u32) -> u32 {
        self.quantized(self.model.product(gain), mss)
    }

    /// §4.2.3.2: what the sender's and the receiver's bursts hold back comes on top.
    fn quantized(&self, packets: u32, mss: u32) -> u32 {
        let burst = (self.pacing_rate >> 10) / u64::from(mss.max(1));
        let least = if self.pacing_rate < 1_200_000 / 8 { 1 } else { 2 };
        let mut packets = packets + 3 * (burst.clamp(least, 127) as u32);
        packets += packets % 2; // Delayed acknowledgments come in pairs.
        if self.mode == Mode::ProbeBandwidth && self.phase == 0 {
            packets += 2;
        }
        packets
    }

    /// A loss was found; the threshold stays.
    pub fn on_loss(&mut self, window: Window) -> u32 {
        self.save_window(window.cwnd);
        window.ssthresh
    }

    /// The retransmission timer ran out.
    pub fn on_timeout(&mut self) {
        self.mending = Mending::Timeout;
        self.full_bandwidth = 0;
        self.model.round_start = true;
    }

    /// The loss was none: the bandwidth may have suffered from it.
    pub fn on_undo(&mut self) {
        self.full_bandwidth = 0;
        self.full_rounds = 0;
    }

    /// Sending goes on with nothing in flight.
    pub fn on_restart(&mut self, restart: &Restart, mut window: Window) -> Window {
        if !restart.app_limited {
            return window;
        }
        //= draft-cardwell-iccrg-bbr-congestion-control-00 §4.3.4.4: with the rate of the path, for
        //= its queue is empty.
        self.restarting = true;
        self.model.restart_aggregation(restart.now);
        match self.mode {
            Mode::ProbeBandwidth => {
                self.pacing_rate = rate(self.model.bandwidth(), UNIT, restart.mss);
            }
            Mode::ProbeRoundTrip => self.end_look(restart.now, 0, &mut window),
            Mode::Startup | Mode::Drain => {}
        }
        window
    }
}

/// `gain` times `bandwidth` in octets per second, less the margin.
fn rate(bandwidth: u32, gain: u64, mss: u32) -> u64 {
    let octets = u128::from(bandwidth) * u128::from(mss) * u128::from(gain) / u128::from(UNIT);
    let per_second = octets * u128::from(1_000_000 / 100 * (100 - MARGIN_PERCENT));
    (per_second >> model::SCALE) as u64
}

#[cfg(test)]
mod tests;
