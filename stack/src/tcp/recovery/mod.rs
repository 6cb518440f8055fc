//! Loss recovery: when a segment is taken for lost, and how much may be sent while that is mended.

mod newreno;
mod prr;
mod rack;
mod rto;
mod tlp;
mod undo;

use super::congestion::AckEvent;
use super::connection::{Connection, Env};
use super::segment::Header;
use super::send::Delivery;
use super::seq::SeqNumber;
use super::timers::Alarm;
use crate::packet::Allocator;
pub(crate) use prr::Prr;
pub(crate) use rack::Rack;

/// Duplicate acknowledgments that mean loss (RFC 5681).
pub(crate) const DUPLICATES: u32 = 3;

/// Where recovery stands. The numbers are those of Linux's `tcpi_ca_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing is amiss.
    Open = 0,
    /// Duplicates or SACK: perhaps a loss, perhaps reordering.
    Disorder = 1,
    /// The window is being reduced without a loss (ECN).
    #[allow(dead_code)] // Entered by ECN.
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
    /// SND.UNA when the window was reduced, while the reduction can be undone.
    pub undo_marker: Option<SeqNumber>,
    /// Retransmissions since then that no DSACK has called needless.
    pub undo_retransmits: u32,
    /// Our timestamp clock at the first retransmission of the episode (Eifel).
    pub first_retransmit_ts: Option<u32>,
    pub prr: Prr,
    pub rack: Rack,
    /// A tail loss probe is out, for octets up to here; whether it was a retransmission.
    pub probe: Option<(SeqNumber, bool)>,
    /// Timeouts in a row without progress.
    pub timeouts: u8,
    /// Our timestamp clock does not tell when the timeouts began; this does.
    pub stalled_since: Option<crate::time::Instant>,
}

impl Recovery {
    pub fn new(first: SeqNumber) -> Self {
        Recovery {
            phase: Phase::Open,
            high: first,
            prior_cwnd: 0,
            prior_ssthresh: 0,
            undo_marker: None,
            undo_retransmits: 0,
            first_retransmit_ts: None,
            prr: Prr::default(),
            rack: Rack::new(first),
            probe: None,
            timeouts: 0,
            stalled_since: None,
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
        if delivery.advanced {
            self.recovery.timeouts = 0;
            if let Some(since) = self.recovery.stalled_since.take() {
                let ms = (now - since).as_millis();
                let took = u32::try_from(ms).unwrap_or(u32::MAX);
                self.stats.timeout_ms = self.stats.timeout_ms.saturating_add(took);
            }
        }
        if delivery.duplicate.is_some() {
            self.on_duplicate_reported();
        }
        if !self.negotiated.sack {
            self.count_duplicates(delivery, duplicate);
        }
        self.count_delivered(delivery.delivered, now);
        if delivery.reordered && !self.recovery.rack.reordering_seen {
            self.recovery.rack.reordering_seen = true;
            self.stats.reorderings = self.stats.reorderings.wrapping_add(1);
        }
        self.after_tail_probe(env, header.ack, delivery, duplicate);
        self.try_undo(env, header, delivery);
        self.end_episode();
        let lost_before = self.send.lost_out;
        self.detect_losses(env, delivery);
        let lost_more = self.send.lost_out > lost_before;
        match self.recovery.phase {
            Phase::Open | Phase::Disorder | Phase::WindowReduction => {
                if self.send.lost_out > 0 {
                    self.enter_recovery(env);
                    self.reduce(delivery, lost_more);
                } else {
                    self.recovery.phase =
                        if self.send.sacked_out > 0 { Phase::Disorder } else { Phase::Open };
                    self.grow(env, delivery);
                }
            }
            Phase::Recovery => self.reduce(delivery, lost_more),
            Phase::Loss => self.grow(env, delivery),
        }
    }

    fn detect_losses<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, delivery: &Delivery) {
        if !self.negotiated.sack {
            return self.detect_losses_by_count(env, delivery);
        }
        let recovering = self.is_recovering();
        if self.send.sacked_out == 0 && self.send.retrans_out == 0 && !recovering {
            return; // What is left was sent after what arrived.
        }
        let (srtt, min_rtt) = (self.rtt.srtt_us(), self.rtt.min_us);
        let min_rtt = if min_rtt == u32::MAX { srtt } else { min_rtt };
        let (_, wait) = self.recovery.rack.detect(
            &mut self.send,
            env.pool,
            env.cx.now,
            recovering,
            srtt,
            min_rtt,
        );
        self.wait_for_reordered(env, wait);
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
        let (srtt, min_rtt) = (self.rtt.srtt_us(), self.rtt.min_us);
        let (found, wait) = self.recovery.rack.scan(
            &mut self.send,
            env.pool,
            env.cx.now,
            recovering,
            srtt,
            min_rtt,
        );
        if found && !recovering {
            self.enter_recovery(env);
            self.reduce(&Delivery::default(), true);
        }
        if self.send.packets_out > 0 {
            self.arm_retransmit(env);
            self.wait_for_reordered(env, wait);
        }
    }

    fn enter_recovery<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        env.cx.counters.fast_recoveries += 1;
        self.begin_episode(Phase::Recovery);
        self.recovery.prr = Prr::begin(self.window.cwnd);
        self.window.ssthresh = self.controller.get().on_loss(self.window);
    }

    /// Remembers where we are, so that the reduction can be undone.
    fn begin_episode(&mut self, phase: Phase) {
        let recovery = &mut self.recovery;
        recovery.phase = phase;
        recovery.high = self.send.nxt;
        recovery.prior_cwnd = self.window.cwnd;
        recovery.prior_ssthresh = self.window.ssthresh;
        recovery.undo_marker = Some(self.send.una);
        recovery.undo_retransmits = self.send.retrans_out;
        recovery.first_retransmit_ts = None;
        recovery.probe = None;
    }

    fn end_episode(&mut self) {
        let una = self.send.una;
        if !self.is_recovering() || una.before(self.recovery.high) {
            return;
        }
        //= RFC 6582 §3.2: without SACK, duplicates of what was sent before may still come.
        if !self.negotiated.sack && una == self.recovery.high && self.send.packets_out > 0 {
            return;
        }
        if self.recovery.phase == Phase::Recovery {
            self.window.cwnd = self.window.ssthresh.max(1);
        }
        if !self.negotiated.sack {
            self.send.sacked_out = 0;
        }
        self.recovery.phase = Phase::Open;
        self.recovery.undo_marker = None;
        self.recovery.rack.on_recovered();
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

    /// The window while all goes well, or while a timeout is mended.
    fn grow<A: Allocator>(&mut self, env: &Env<'_, '_, A>, delivery: &Delivery) {
        if delivery.acked == 0 {
            return;
        }
        let limited_by_window = if self.window.in_slow_start() {
            self.window.cwnd < 2 * self.send.max_packets_out
        } else {
            self.send.limited_by_window
        };
        let event = AckEvent {
            now: env.cx.now,
            delivered: delivery.delivered,
            srtt_us: self.rtt.srtt_us(),
            min_rtt_us: self.rtt.min_us,
            limited_by_window,
        };
        self.window = self.controller.get().on_ack(&event, self.window);
    }
}
