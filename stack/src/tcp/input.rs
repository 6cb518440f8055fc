//! Segment arrival on a synchronized connection: the eight steps of RFC 9293 §3.10.7.4, eight
//! functions in order (the third, security, has nothing to do). The first five are here, the last
//! three, which take what the segment brings, in `text`. SYN-SENT and SYN-RECEIVED are in
//! `opening/`.

use super::connection::{Connection, Env};
use super::queue::NONE;
use super::receive::Urgent;
use super::recovery::Phase;
use super::segment::{Flags, Header, SackBlock};
use super::send::Delivery;
use super::send::scoreboard::Arrived;
use super::seq::SeqNumber;
use super::state::State;
use super::timers::Alarm;
use crate::error::Error;
use crate::packet::{Allocator, Buffer};
use crate::readiness::Readiness;
use crate::time::Instant;

/// Ticks by which a timestamp may be behind TS.Recent once a connection is there (Linux:
/// `TCP_PAWS_WINDOW`): neighbors overtake each other, and nobody sends 2^31 octets in one.
const PAWS_WINDOW: u32 = 1;

/// Whether the next step sees the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Step {
    Continue,
    Drop,
}

/// A segment on its way through the steps.
pub(crate) struct Arrival<'h, B> {
    pub header: &'h Header,
    /// The whole packet; its payload starts at `offset`.
    pub packet: Option<B>,
    pub offset: u32,
    /// Where the payload starts in sequence space.
    pub seq: SeqNumber,
    /// Octets of payload.
    pub len: u32,
    /// Octets of payload of each of the segments that it was joined of; its own if of one.
    pub segment_size: u32,
    /// How many those were.
    pub segments: u32,
    pub fin: bool,
    /// Of its packet.
    pub traffic_class: u8,
}

/// How many segments `len` octets of `packet` were on the wire.
#[inline]
pub(crate) fn segments_in<B: Buffer>(packet: &B, len: usize) -> u32 {
    match u32::from(packet.rx_segment_size()) {
        0 => 1,
        size => (len as u32).div_ceil(size).max(1),
    }
}

impl<'h, B: Buffer> Arrival<'h, B> {
    pub fn new(header: &'h Header, packet: B, header_len: usize) -> Self {
        let len = packet.packet_len().saturating_sub(header_len);
        let segments = segments_in(&packet, len);
        let len = len as u32;
        let segment_size = if segments > 1 { u32::from(packet.rx_segment_size()) } else { len };
        let syn = u32::from(header.flags.contains(Flags::SYN));
        Arrival {
            header,
            packet: Some(packet),
            offset: header_len as u32,
            seq: header.seq + syn,
            len,
            segment_size,
            segments,
            fin: header.flags.contains(Flags::FIN),
            traffic_class: 0,
        }
    }

    /// The sequence number behind it, FIN included.
    pub fn end(&self) -> SeqNumber {
        self.seq + self.len + u32::from(self.fin)
    }
}

impl Connection {
    /// A segment for this connection.
    pub fn on_segment<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        mut arrival: Arrival<'_, A::Buffer>,
    ) {
        self.stats.segments_in = self.stats.segments_in.wrapping_add(arrival.segments);
        if self.state == State::Closed {
            return;
        }
        if self.is_predicted(&arrival) {
            return self.on_predicted(env, &mut arrival);
        }
        let steps = [
            Self::step_1_sequence::<A>,
            Self::step_2_reset::<A>,
            Self::step_4_syn::<A>,
            Self::step_5_ack::<A>,
            Self::step_6_urgent::<A>,
            Self::step_7_text::<A>,
            Self::step_8_fin::<A>,
        ];
        for step in steps {
            if step(self, env, &mut arrival) == Step::Drop {
                return;
            }
        }
    }

    /// Header prediction: the next segment in order with nothing special about it.
    fn is_predicted<B>(&self, arrival: &Arrival<'_, B>) -> bool {
        let header = arrival.header;
        let plain = header.flags & !Flags::PSH == Flags::ACK;
        plain
            && self.state == State::Established
            && header.seq == self.receive.nxt
            && header.ack.between(self.send.una, self.send.nxt)
            && arrival.len <= self.receive.window()
            && self.receive.ooo.is_empty()
            && self.receive.fin_at.is_none()
            && self.receive.urgent == Urgent::None
            && match (self.negotiated.timestamps, header.timestamps) {
                (true, Some(ts)) => ts.value.wrapping_sub(self.timestamps.recent) as i32 >= 0,
                (false, _) => true,
                (true, None) => false,
            }
    }

    fn on_predicted<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) {
        if arrival.len == 0 {
            env.cx.counters.predicted_acks += 1;
        } else {
            env.cx.counters.predicted_data += 1;
        }
        let go_on =
            self.take_plain_ack(env, arrival) || self.step_5_ack(env, arrival) == Step::Continue;
        if go_on && arrival.len > 0 && !self.take_plain_text(env, arrival) {
            let _ = self.step_7_text(env, arrival);
        }
    }

    #[inline]
    pub(super) fn store_timestamp<B>(&mut self, now: Instant, arrival: &Arrival<'_, B>) {
        //= RFC 7323 §4.3: only a segment that spans what we acknowledged last.
        if let Some(ts) = arrival.header.timestamps
            && self.negotiated.timestamps
            && arrival.header.seq.at_or_before(self.receive.acknowledged)
            && ts.value.wrapping_sub(self.timestamps.recent) as i32 >= 0
        {
            self.timestamps.store(ts.value, now);
        }
    }

    /// First: is it in the window, and not an old duplicate?
    fn step_1_sequence<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        let header = arrival.header;
        let reset = header.flags.contains(Flags::RST);
        //= RFC 7323 §5.3 R1
        if self.negotiated.timestamps
            && !reset
            && let Some(ts) = header.timestamps
            && self.timestamps.is_old(ts.value.wrapping_add(PAWS_WINDOW), env.cx.now)
            && !self.is_late_duplicate(env, arrival, ts.value)
            && !self.is_late_original(env, arrival, ts.value)
        {
            env.cx.counters.paws_rejected += 1;
            self.report_duplicate(env, arrival);
            self.answer_stray(env, arrival.len > 0);
            return Step::Drop;
        }
        let (seq, end) = (header.seq, arrival.end());
        let window_end = self.receive.nxt + self.receive.window();
        if end.before(self.receive.acknowledged) || seq.after(window_end) {
            env.cx.counters.out_of_window += 1;
            if reset {
                return Step::Drop;
            }
            if header.flags.contains(Flags::SYN) {
                self.challenge(env);
                return Step::Drop;
            }
            self.report_duplicate(env, arrival);
            self.answer_stray(env, arrival.len > 0);
            return Step::Drop;
        }
        Step::Continue
    }

    /// Whether a segment that PAWS would reject is a duplicate acknowledgment that a later one has
    /// overtaken: it does no harm, and what SACK reports in it is wanted (Linux accepts it, too).
    #[cold]
    fn is_late_duplicate<A: Allocator>(
        &self,
        env: &Env<'_, '_, A>,
        arrival: &Arrival<'_, A::Buffer>,
        timestamp: u32,
    ) -> bool {
        let header = arrival.header;
        let window = u32::from(header.window) << self.negotiated.send_shift;
        let bare = arrival.len == 0 && header.flags == Flags::ACK;
        // One that would change the window is refused, for it may be as old as it says.
        let news = header.seq.after(self.send.wl1) || window > self.send.window || window == 0;
        let late_ms = u64::from(self.timestamps.recent.wrapping_sub(timestamp));
        bare && !news
            && header.seq == self.receive.nxt
            && header.ack == self.send.una
            && late_ms * 1_000 <= self.rtt.rto_with_backoff_us(env.config)
    }

    /// Whether a segment that PAWS would reject is data that came late, after a retransmission which
    /// left after it and filled a gap before it. Dropped, it would have to be sent again, and that
    /// retransmission would overtake the next one: on a path that reorders one loss would lead to another.
    #[cold]
    fn is_late_original<A: Allocator>(
        &self,
        env: &Env<'_, '_, A>,
        arrival: &Arrival<'_, A::Buffer>,
        timestamp: u32,
    ) -> bool {
        let at_gap = self.receive.recent_at_gap(&env.rare.reports);
        arrival.len > 0 && at_gap.is_some_and(|recent| timestamp.wrapping_sub(recent) as i32 >= 0)
    }

    /// The peer sends what we have: our acknowledgment got lost, so let the next ones be quick.
    pub fn report_duplicate<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &Arrival<'_, A::Buffer>,
    ) {
        if arrival.len > 0 && arrival.seq.before(self.receive.nxt) {
            self.receive.ack.enter_quick(self.receive.window());
            if self.negotiated.sack {
                let end = (arrival.seq + arrival.len).min(self.receive.nxt);
                let block = SackBlock { start: arrival.seq, end };
                self.receive.report_duplicate(&mut env.rare.reports, block);
            }
        }
    }

    /// Second: RST.
    fn step_2_reset<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        if !arrival.header.flags.contains(Flags::RST) {
            return Step::Continue;
        }
        //= RFC 5961 §3.2: only the exact number resets.
        if arrival.header.seq != self.receive.nxt {
            self.challenge(env);
            return Step::Drop;
        }
        env.cx.counters.resets_in += 1;
        self.on_reset(env);
        Step::Drop
    }

    /// The peer has reset the connection.
    pub fn on_reset<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        env.cx.counters.established_resets += 1;
        let error = match self.state {
            State::CloseWait => Error::BrokenPipe,
            _ => Error::ConnectionReset,
        };
        self.send.clear(env.pool);
        self.finish(Some(error));
    }

    /// Fourth: a SYN has no business here.
    fn step_4_syn<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        //= RFC 5961 §4.2
        if arrival.header.flags.contains(Flags::SYN) {
            self.challenge(env);
            return Step::Drop;
        }
        Step::Continue
    }

    /// Fifth: the acknowledgment.
    fn step_5_ack<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        let header = arrival.header;
        if !header.flags.contains(Flags::ACK) {
            return Step::Drop;
        }
        if header.ack.after(self.send.nxt) {
            //= RFC 5961 §5.2
            env.cx.counters.bad_ack += 1;
            self.challenge(env);
            return Step::Drop;
        }
        if header.ack.before(self.send.una) {
            let oldest = self.send.una - self.send.max_window;
            if header.ack.before(oldest) {
                env.cx.counters.bad_ack += 1;
                self.challenge(env);
                return Step::Drop;
            }
            self.on_old_ack(env, header);
        } else {
            self.store_timestamp(env.cx.now, arrival);
            self.on_ack(env, arrival);
        }
        self.after_ack(env)
    }

    /// The states that our FIN's acknowledgment changes.
    fn after_ack<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Step {
        if !self.send.fin_acknowledged() {
            return Step::Continue;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.edges |= Readiness::WRITABLE;
                if self.orphaned {
                    self.enter_orphaned_fin_wait_2(env);
                }
            }
            State::Closing => {
                self.state = State::TimeWait;
                return Step::Drop;
            }
            State::LastAck => {
                self.finish(None);
                return Step::Drop;
            }
            _ => {}
        }
        Step::Continue
    }

    /// Nobody will read what the peer still sends: it gets only so long to finish.
    pub fn enter_orphaned_fin_wait_2<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        match env.options.linger2 {
            None => {
                self.send_reset(env);
                self.finish(None);
            }
            Some(limit) => {
                self.timers.keepalive_at = env.cx.now + limit.get();
            }
        }
    }

    /// An acknowledgment between SND.UNA and SND.NXT.
    fn on_ack<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, arrival: &Arrival<'_, A::Buffer>) {
        let (header, now) = (arrival.header, env.cx.now);
        let prior_una = self.send.una;
        let mut delivery = Delivery {
            // What SACK said before only counts while some of it stands: numbers wrap.
            prior_fack: (self.send.sacked_out > 0).then_some(self.recovery.rack.fack),
            high: self.recovery.high,
            prior_in_flight: self.send.in_flight(),
            ..Delivery::default()
        };
        let min_rtt = self.rtt.min_us;
        self.heard = now;
        self.send.burst = 0;
        self.probes = 0;
        if self.negotiated.sack && !header.sack.is_empty() {
            let (blocks, ack, min_rtt_us) = (&header.sack, header.ack, min_rtt);
            let arrived = Arrived { blocks, ack, now, min_rtt_us };
            let rack = &mut self.recovery.rack;
            let boards = &mut env.rare.boards;
            self.send.mark_sacked(env.pool, boards, &arrived, rack, &mut delivery);
        }
        let window_changed = self.update_window(header);
        self.send.remove_acked(
            env.pool,
            header.ack,
            &mut self.recovery.rack,
            now,
            min_rtt,
            &mut delivery,
        );
        self.stats.octets_acked += u64::from(header.ack.since(prior_una));
        let bare = arrival.len == 0 && !arrival.fin;
        let duplicate = bare && !delivery.advanced && !window_changed && self.send.packets_out > 0;
        self.sample_rtt(header, &mut delivery, env);
        let told = delivery.acked > 0 || delivery.sacked > 0 || delivery.duplicate.is_some();
        if self.send.packets_out > 0 || told {
            self.recover(env, header, &mut delivery, duplicate);
        }
        self.after_delivery(env, &delivery, window_changed);
    }

    /// An acknowledgment that a later one has overtaken: what SACK reports in it is news all the
    /// same.
    fn on_old_ack<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, header: &Header) {
        if !self.negotiated.sack || header.sack.is_empty() || self.send.packets_out == 0 {
            return;
        }
        let mut delivery = Delivery {
            prior_fack: (self.send.sacked_out > 0).then_some(self.recovery.rack.fack),
            high: self.recovery.high,
            prior_in_flight: self.send.in_flight(),
            ..Delivery::default()
        };
        self.send.burst = 0;
        let (blocks, ack, min_rtt_us) = (&header.sack, header.ack, self.rtt.min_us);
        let arrived = Arrived { blocks, ack, now: env.cx.now, min_rtt_us };
        let rack = &mut self.recovery.rack;
        self.send.mark_sacked(env.pool, &mut env.rare.boards, &arrived, rack, &mut delivery);
        if delivery.sacked > 0 || delivery.duplicate.is_some() {
            self.recover(env, header, &mut delivery, false);
            self.after_delivery(env, &delivery, false);
        }
    }

    fn after_delivery<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        delivery: &Delivery,
        window_changed: bool,
    ) {
        if delivery.advanced {
            self.rtt.backoff = 0;
            self.send.more = false;
            self.grow_send_buffer(env);
        }
        if self.send.packets_out == 0 {
            if self.send.unsent == NONE {
                self.limits.rest(env.cx.now);
            }
            let probing = self.timers.alarm == Alarm::WindowProbe;
            if self.send.unsent == NONE {
                self.timers.stop_alarm();
            } else if window_changed || !probing || delivery.advanced {
                if window_changed && self.send.window > 0 {
                    self.rtt.backoff = 0;
                }
                self.arm_window_probe(env);
            }
        } else if (delivery.advanced && self.timers.alarm != Alarm::Reordering)
            || (delivery.sacked > 0 && self.timers.alarm == Alarm::TailProbe)
        {
            self.rearm(env);
        }
    }

    /// RFC 9293 §3.10.7.4, fifth step: SND.WND. Returns whether it changed.
    #[inline]
    pub(super) fn update_window(&mut self, header: &Header) -> bool {
        let window = u32::from(header.window) << self.negotiated.send_shift;
        let newer = header.ack.after(self.send.una)
            || header.seq.after(self.send.wl1)
            || (header.seq == self.send.wl1 && (window > self.send.window || window == 0));
        if !newer {
            return false;
        }
        self.send.wl1 = header.seq;
        let changed = window != self.send.window;
        self.send.window = window;
        self.send.max_window = self.send.max_window.max(window);
        changed
    }

    fn sample_rtt<A: Allocator>(
        &mut self,
        header: &Header,
        delivery: &mut Delivery,
        env: &Env<'_, '_, A>,
    ) {
        let now = env.cx.now;
        if let Some(us) = delivery.sample_us(now) {
            self.rtt.sample_us(us, now, env.config);
            delivery.rtt_us = self.rtt.latest_us;
        } else if delivery.advanced
            && delivery.acked > 0
            && let (true, Some(ts)) = (self.negotiated.timestamps, header.timestamps)
            && ts.echo != 0
        {
            //= RFC 7323 §4.1: with timestamps even a retransmission tells.
            let ms = self.timestamps.value(now).wrapping_sub(ts.echo);
            if ms < 600_000 {
                self.rtt.sample_us(u64::from(ms.max(1)) * 1_000, now, env.config);
            }
        }
    }

    /// Whether recovery is under way: for `TCP_INFO`, and for what depends on it.
    pub fn is_recovering(&self) -> bool {
        self.recovery.phase >= Phase::Recovery
    }
}
