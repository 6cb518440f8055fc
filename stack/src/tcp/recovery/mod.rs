//! Loss recovery: when a segment is taken for lost, and how much may be sent while that is mended.

mod frto;
mod newreno;
mod prr;
mod rack;
mod rto;
mod tlp;
mod undo;

use super::congestion::{AckEvent, INITIAL_WINDOW, Mending, Sample, Window};
use super::connection::{Connection, Env, Rare};
use super::queue::NONE;
use super::segment::Header;
use super::send::Delivery;
use super::seq::SeqNumber;
use super::timers::Alarm;
use crate::packet::Allocator;
use crate::time::{Instant, Stamp};
pub(crate) use frto::Frto;
pub(crate) use prr::Prr;
pub(crate) use rack::{Path, Rack};

/// Duplicate acknowledgments that mean loss (RFC 5681), on a path that does not reorder.
pub(crate) const DUPLICATES: u32 = 3;
/// More reordering than this is not believed (Linux: `tcp_max_reordering`).
const MOST_REORDERING: u32 = 300;

/// Where recovery stands. The numbers are those of Linux's `tcpi_ca_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing is amiss.
    Open = 0,
    /// Duplicates or SACK: perhaps a loss, perhaps reordering.
    Disorder = 1,
    /// The window is being reduced without a loss (ECN).
    WindowReduction = 2,
    /// Fast retransmission mends a loss.
    Recovery = 3,
    /// The retransmission timer ran out.
    Loss = 4,
}

/// The state of loss recovery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    pub phase: Phase,
    /// SND.NXT when the episode began: it ends when that is acknowledged.
    pub high: SeqNumber,
    /// The window and threshold before the episode, to go back to.
    pub prior_cwnd: u32,
    pub prior_ssthresh: u32,
    /// The window was reduced, and that can be undone.
    pub undoable: bool,
    /// Retransmissions since then that no DSACK has called needless.
    pub undo_retransmits: u32,
    /// Our timestamp clock at the first retransmission of the episode (Eifel).
    pub first_retransmit_ts: Option<core::num::NonZeroU32>,
    pub prr: Prr,
    pub rack: Rack,
    /// A tail loss probe is out, for octets up to here; whether it was a retransmission.
    pub probe: Option<(SeqNumber, bool)>,
    /// Timeouts in a row without progress.
    pub timeouts: u8,
    /// Our timestamp clock does not tell when the timeouts began; this does.
    pub stalled_since: Stamp,
    /// Whether the timeout is believed (RFC 5682).
    pub frto: Frto,
    /// How far the path reorders, packets.
    pub reordering: u16,
    /// SND.NXT when a DSACK last made RACK more patient: until that is acknowledged, no other does.
    pub duplicate_round: SeqNumber,
}

impl Recovery {
    pub fn new(first: SeqNumber) -> Self {
        Recovery {
            phase: Phase::Open,
            high: first,
            prior_cwnd: 0,
            prior_ssthresh: 0,
            undoable: false,
            undo_retransmits: 0,
            first_retransmit_ts: None,
            prr: Prr::default(),
            rack: Rack::new(first),
            probe: None,
            timeouts: 0,
            stalled_since: Stamp::NEVER,
            frto: Frto::Off,
            reordering: DUPLICATES as u16,
            duplicate_round: first,
        }
    }
}

impl Connection {
    /// An acknowledgment came while data was in flight: finds losses, moves between the phases,
    /// and sets the congestion window.
    pub fn recover<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        header: &Header,
        delivery: &mut Delivery,
        duplicate: bool,
    ) {
        let now = env.cx.now;
        let marked = self.ecn.is_congested(header.flags);
        if !marked && !duplicate && self.is_untroubled() && delivery.tells_of_no_trouble() {
            return self.on_untroubled(now, delivery);
        }
        if delivery.advanced {
            self.recovery.timeouts = 0;
            let since = core::mem::take(&mut self.recovery.stalled_since);
            if since != Stamp::NEVER {
                let ms = since.elapsed(now).as_millis();
                let took = u32::try_from(ms).unwrap_or(u32::MAX);
                self.count_trouble(env.rare, |t| t.timeout_ms = t.timeout_ms.saturating_add(took));
            }
        }
        if delivery.duplicate.is_some() {
            self.on_duplicate_reported(env.rare);
        }
        if !self.negotiated.sack {
            self.count_duplicates(delivery, duplicate);
        }
        self.rate.count(delivery.delivered, marked, now);
        if let Some(lowest) = delivery.reordered {
            self.note_reordering(env.rare, lowest);
        }
        self.after_tail_probe(env, header.ack, delivery, duplicate);
        self.try_undo(env, header, delivery);
        self.try_frto(env, delivery, duplicate);
        self.end_episode(env);
        let lost_before = self.send.lost_out;
        self.detect_losses(env, delivery);
        let lost = self.send.lost_out.saturating_sub(lost_before);
        self.change_phase(env, marked);
        let sample = self.rate.sample(&delivery.newest, now, self.rtt.min_us);
        let event = self.ack_event(now, delivery, lost, sample);
        if let Some(window) = self.controller.observe(&event, self.window) {
            self.window = window;
            if self.controller.drains_the_path() {
                self.rate.mark_app_limited(event.in_flight);
            }
        } else if matches!(self.recovery.phase, Phase::Recovery | Phase::WindowReduction) {
            self.reduce(delivery, lost > 0);
        } else if self.may_grow(delivery) {
            self.window = self.controller.grow(&event, self.window);
        }
    }

    /// What [`Connection::recover`] comes to where nothing is amiss: there is nothing to find out,
    /// to mend or to take back.
    #[inline]
    pub(super) fn on_untroubled(&mut self, now: Instant, delivery: &Delivery) {
        if delivery.advanced {
            self.recovery.timeouts = 0;
        }
        self.rate.count(delivery.delivered, false, now);
        let sample = self.rate.sample(&delivery.newest, now, self.rtt.min_us);
        if self.controller.watches() {
            let event = self.ack_event(now, delivery, 0, sample);
            if let Some(window) = self.controller.observe(&event, self.window) {
                self.window = window;
                if self.controller.drains_the_path() {
                    self.rate.mark_app_limited(event.in_flight);
                }
                return;
            }
        }
        if self.may_grow(delivery) && self.is_limited_by_window() {
            let event = self.ack_event(now, delivery, 0, sample);
            self.window = self.controller.grow(&event, self.window);
        }
    }

    /// The window was the limit: only then does its size mean anything (RFC 7661).
    #[inline]
    fn is_limited_by_window(&self) -> bool {
        let doubled = self.window.cwnd < self.send.max_packets_out.saturating_mul(2);
        self.send.limited_by_window || (self.window.in_slow_start() && doubled)
    }

    /// Where a gap is usually a loss, the window waits until it is known; on a path that reorders
    /// there is always a gap, and what SACK reports lets the window grow as well (as on Linux).
    fn may_grow(&self, delivery: &Delivery) -> bool {
        let reorders = u32::from(self.recovery.reordering) > DUPLICATES;
        delivery.acked > 0 || (reorders && delivery.sacked > 0)
    }

    /// What the acknowledgment means for the phase.
    fn change_phase<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, marked: bool) {
        if self.is_recovering() {
            return;
        }
        if self.send.lost_out > 0 {
            if self.path == 0 || !self.probe_was_lost(env) {
                self.enter_recovery(env, marked);
            }
        } else if marked && self.recovery.phase != Phase::WindowReduction {
            self.enter_window_reduction(env);
        } else if self.recovery.phase != Phase::WindowReduction {
            let disorder = self.send.sacked_out > 0;
            if !disorder && self.recovery.phase == Phase::Disorder {
                self.send.forget_board(&mut env.rare.boards);
            }
            self.recovery.phase = if disorder { Phase::Disorder } else { Phase::Open };
        }
    }

    /// A segment was delivered after one from beyond it: by how much does the path reorder?
    fn note_reordering(&mut self, rare: &mut Rare, lowest: SeqNumber) {
        let recovery = &mut self.recovery;
        let by = recovery.rack.fack.since(lowest).div_ceil(self.send.mss.max(1));
        let by = by.clamp(DUPLICATES, MOST_REORDERING) as u16;
        recovery.reordering = recovery.reordering.max(by);
        recovery.rack.reordering_seen = true;
        self.count_trouble(rare, |t| t.reorderings = t.reorderings.wrapping_add(1));
    }

    fn detect_losses<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, delivery: &Delivery) {
        if !self.negotiated.sack {
            return self.detect_losses_by_count(env, delivery);
        }
        let recovering = self.is_recovering();
        if self.send.sacked_out == 0 && self.send.retrans_out == 0 && !recovering {
            return; // What is left was sent after what arrived.
        }
        let path = self.path();
        let (_, wait) =
            self.recovery.rack.detect(&mut self.send, env.pool, env.cx.now, recovering, &path);
        self.wait_for_reordered(env, wait);
    }

    fn path(&self) -> Path {
        let srtt_us = self.rtt.srtt_us();
        let min_rtt_us = if self.rtt.min_us == u32::MAX { srtt_us } else { self.rtt.min_us };
        Path { srtt_us, min_rtt_us, reordering: u32::from(self.recovery.reordering) }
    }

    fn wait_for_reordered<A: Allocator>(
        &mut self,
        env: &Env<'_, '_, A>,
        wait: Option<core::time::Duration>,
    ) {
        if let Some(wait) = wait {
            let at = env.cx.now + wait.max(core::time::Duration::from_micros(100));
            self.timers.set_alarm(Alarm::Reordering, at);
        } else if self.timers.alarm == Alarm::Reordering {
            self.arm_retransmit(env);
        }
    }

    /// A reordered segment's patience ended.
    pub fn on_reordering_timeout<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let recovering = self.is_recovering();
        let path = self.path();
        let prior_in_flight = self.send.in_flight();
        let lost_before = self.send.lost_out;
        let (found, wait) =
            self.recovery.rack.scan(&mut self.send, env.pool, env.cx.now, recovering, &path);
        if found && !recovering && (self.path == 0 || !self.probe_was_lost(env)) {
            self.enter_recovery(env, false);
            let lost = self.send.lost_out.saturating_sub(lost_before);
            let delivery = Delivery { prior_in_flight, ..Delivery::default() };
            let event = self.ack_event(env.cx.now, &delivery, lost, None);
            match self.controller.observe(&event, self.window) {
                Some(window) => self.window = window,
                None => self.reduce(&delivery, true),
            }
        }
        if self.send.packets_out > 0 {
            self.arm_retransmit(env);
            self.wait_for_reordered(env, wait);
        }
    }

    fn enter_recovery<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, marked: bool) {
        env.cx.counters.fast_recoveries += 1;
        let reducing = self.recovery.phase == Phase::WindowReduction;
        self.begin_episode(Phase::Recovery);
        if reducing || marked {
            // The network said that it is congested: there is nothing to take back.
            self.recovery.undoable = false;
        }
        if !reducing {
            self.recovery.prr = Prr::begin(self.window.cwnd);
            self.window.ssthresh = self.controller.on_loss(self.window);
            self.ecn.reduced();
        }
    }

    /// The network marked packets: the window comes down once per round trip, without a loss.
    fn enter_window_reduction<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        //= RFC 3168 §6.1.2
        env.cx.counters.ecn_reductions += 1;
        self.begin_episode(Phase::WindowReduction);
        self.recovery.undoable = false;
        self.recovery.prr = Prr::begin(self.window.cwnd);
        self.window.ssthresh = self.controller.on_mark(self.window);
        self.ecn.reduced();
    }

    /// Remembers where we are, so that the reduction can be undone.
    fn begin_episode(&mut self, phase: Phase) {
        let recovery = &mut self.recovery;
        recovery.phase = phase;
        recovery.high = self.send.nxt;
        recovery.prior_cwnd = self.window.cwnd;
        recovery.prior_ssthresh = self.window.ssthresh;
        recovery.undoable = true;
        recovery.undo_retransmits = self.send.retrans_out;
        recovery.first_retransmit_ts = None;
        recovery.probe = None;
        recovery.frto = Frto::Off;
    }

    fn end_episode<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let una = self.send.una;
        if self.recovery.phase == Phase::WindowReduction {
            //= RFC 3168 §6.1.2: until CWR has reached the receiver, ECE says nothing new.
            if una.after(self.recovery.high) {
                self.settle_window();
                self.recovery.phase = Phase::Open;
            }
            return;
        }
        if !self.is_recovering() || una.before(self.recovery.high) {
            return;
        }
        //= RFC 6582 §3.2: without SACK, duplicates of what was sent before may still come.
        if !self.negotiated.sack && una == self.recovery.high && self.send.packets_out > 0 {
            return;
        }
        if self.recovery.phase == Phase::Recovery {
            self.settle_window();
            self.avoid_burst();
        }
        if !self.negotiated.sack {
            self.send.sacked_out = 0;
        }
        if self.send.sacked_out == 0 {
            self.send.forget_board(&mut env.rare.boards);
        }
        self.recovery.phase = Phase::Open;
        // Still undoable: a DSACK for a retransmission comes behind all that was sent before it.
        self.recovery.frto = Frto::Off;
        self.recovery.rack.on_recovered();
    }

    /// A reduction is complete.
    pub(super) fn settle_window(&mut self) {
        if !self.controller.governs() {
            self.window.cwnd = self.window.ssthresh.max(1);
        }
    }

    /// Where much less is in flight than the window allows (the peer's window was full) and more waits,
    /// all of that at once would overflow a queue on the path: what is missing is added as in slow
    /// start. Where nothing waits the window is kept for what the program sends next, as on Linux.
    fn avoid_burst(&mut self) {
        //= RFC 6582 §3.2 step 3
        // With more that is lost, the next episode starts from the window of this one.
        let waits = self.send.unsent != NONE;
        if waits && self.send.lost_out == 0 && !self.controller.governs() {
            self.window.cwnd = self.window.cwnd.min(self.send.in_flight() + INITIAL_WINDOW);
        }
    }

    /// The window while a loss is mended.
    fn reduce(&mut self, delivery: &Delivery, lost_more: bool) {
        let cwnd = self.recovery.prr.on_ack(
            delivery.delivered,
            lost_more,
            delivery.advanced,
            self.send.in_flight(),
            self.window.ssthresh,
        );
        self.window.cwnd = cwnd.max(1);
    }

    /// What congestion control is told.
    fn ack_event(
        &self,
        now: Instant,
        delivery: &Delivery,
        lost: u32,
        sample: Option<Sample>,
    ) -> AckEvent {
        AckEvent {
            now,
            una: self.send.una,
            nxt: self.send.nxt,
            mss: self.send.mss,
            delivered: delivery.delivered,
            lost,
            total_delivered: self.rate.delivered,
            total_ce: self.rate.delivered_ce,
            prior_in_flight: delivery.prior_in_flight,
            in_flight: self.send.in_flight(),
            rtt_us: delivery.rtt_us,
            srtt_us: self.rtt.srtt_us(),
            sample,
            mending: match self.recovery.phase {
                Phase::Recovery => Mending::Loss,
                Phase::Loss => Mending::Timeout,
                _ => Mending::Nothing,
            },
            limited_by_window: self.is_limited_by_window(),
        }
    }

    /// The window before the episode.
    pub(super) fn prior_window(&self) -> Window {
        Window { cwnd: self.recovery.prior_cwnd, ssthresh: self.recovery.prior_ssthresh }
    }
}
