//! The last three steps of segment arrival (RFC 9293 §3.10.7.4): urgent data, payload, FIN; and
//! whether what came is acknowledged at once.

use super::connection::{Connection, Env, Pending};
use super::input::{Arrival, Step};
use super::receive::Urgent;
use super::receive::assembler::{Assembled, Joined};
use super::reply::Reply;
use super::segment::{Flags, Header};
use super::seq::SeqNumber;
use super::state::State;
use crate::packet::{Allocator, Buffer};
use crate::readiness::Readiness;
use crate::time::Instant;

/// The octet at `position` of a packet.
fn octet_of<B: Buffer>(packet: &B, position: usize) -> Option<u8> {
    let (mut found, mut before) = (None, 0);
    packet.for_each_part(|part| {
        if let Some(octet) = position.checked_sub(before).and_then(|at| part.get(at)) {
            found = found.or(Some(*octet));
        }
        before += part.len();
    });
    found
}

/// When the pool has no more than this left, received data is joined or dropped, not hoarded.
pub(super) const SCARCE: usize = 96;

impl Connection {
    /// Sixth: URG.
    pub fn step_6_urgent<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        let header = arrival.header;
        if header.flags.contains(Flags::URG) && header.urgent > 0 && self.state.can_receive() {
            //= RFC 6093 §3: the pointer names the octet behind; we take the one before, as Linux.
            self.announce_urgent(header.seq + u32::from(header.urgent) - 1, env);
        }
        if self.receive.urgent == Urgent::Announced {
            let at = self.receive.urgent_seq;
            let packet = arrival.packet.as_ref();
            if at.at_or_after(arrival.seq) && at.before(arrival.seq + arrival.len) {
                let position = (arrival.offset + at.since(arrival.seq)) as usize;
                if let Some(octet) = packet.and_then(|packet| octet_of(packet, position)) {
                    self.receive.urgent = Urgent::Valid(octet);
                    self.edges |= Readiness::PRIORITY;
                }
            }
        }
        Step::Continue
    }

    fn announce_urgent<A: Allocator>(&mut self, at: SeqNumber, env: &mut Env<'_, '_, A>) {
        let receive = &mut self.receive;
        if at.before(receive.copied) || at.before(receive.nxt) {
            return;
        }
        if receive.urgent != Urgent::None && at.at_or_before(receive.urgent_seq) {
            return;
        }
        // A second urgent octet before the first was read: the first becomes ordinary data that
        // nobody asked for, and is passed over.
        if receive.urgent != Urgent::None
            && receive.urgent_seq == receive.copied
            && !env.options.oob_inline
            && receive.copied != receive.nxt
        {
            let mut nothing = [];
            let mut into = super::receive::reader::Scatter::new(&mut nothing, true);
            let _ = receive.read(env.pool, &mut into, false, None);
        }
        receive.urgent = Urgent::Announced;
        receive.urgent_seq = at;
    }

    /// Seventh: the payload.
    pub fn step_7_text<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        if !self.state.can_receive() {
            return self.after_the_end(env, arrival);
        }
        let unread = (arrival.seq + arrival.len).after(self.receive.nxt);
        if arrival.len > 0 && unread && self.is_deaf() {
            //= RFC 1122 §4.2.2.13: data that nobody will read is answered by a reset.
            env.cx.counters.data_after_close += 1;
            env.cx.counters.aborted_on_close += 1;
            self.send.clear(env.pool);
            self.refuse_data(env, arrival.header);
            self.finish(None);
            return Step::Drop;
        }
        if arrival.len == 0 {
            return Step::Continue;
        }
        self.trim_to_window(arrival);
        if let Some(packet) = arrival.packet.take()
            && arrival.len > 0
        {
            self.on_marked_payload(env, arrival.traffic_class, arrival.header.flags);
            self.take_payload(env, packet, arrival);
        } else {
            self.receive.ack.enter_quick(self.receive.window());
            self.pending |= Pending::ACK; // A probe of our closed window.
        }
        Step::Continue
    }

    /// Nobody will read any more: closed, or both directions shut.
    fn is_deaf(&self) -> bool {
        self.orphaned || (self.shut_read && self.shut_write)
    }

    /// The reset that a segment for nobody gets.
    fn refuse_data<A: Allocator>(&self, env: &mut Env<'_, '_, A>, header: &Header) {
        let reply = Reply {
            tuple: self.tuple,
            seq: header.ack,
            ack: SeqNumber(0),
            flags: Flags::RST,
            window: 0,
            timestamps: None,
            syn: None,
            traffic_class: env.options.traffic_class,
            hop_limit: env.options.hop_limit,
        };
        env.replies.push(reply, env.cx.counters);
    }

    fn after_the_end<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &Arrival<'_, A::Buffer>,
    ) -> Step {
        // The peer's FIN is in: anything else is a duplicate, and its sender wants an answer.
        if arrival.end().since(arrival.header.seq) > 0 {
            self.report_duplicate(env, arrival);
            self.answer_stray(env, true);
        }
        Step::Drop
    }

    fn trim_to_window<B>(&mut self, arrival: &mut Arrival<'_, B>) {
        let edge = self.receive.nxt + self.receive.window();
        let end = arrival.seq + arrival.len;
        if end.after(edge) {
            let over = end.since(edge).min(arrival.len);
            arrival.len -= over;
            arrival.fin = false;
        }
    }

    fn take_payload<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        packet: A::Buffer,
        arrival: &Arrival<'_, A::Buffer>,
    ) {
        let before = self.receive.nxt;
        let data_in = &mut self.stats.data_segments_in;
        *data_in = data_in.wrapping_add(arrival.segments);
        // Each buffer of a chain is a piece of its own; what is acknowledged, and whether at
        // once, is decided for all of them together.
        let (mut seq, mut left, mut offset) = (arrival.seq, arrival.len, arrival.offset);
        let mut next = Some(packet);
        while let Some(mut packet) = next.take() {
            next = packet.take_rest();
            let len = (packet.data().len() as u32).saturating_sub(offset).min(left);
            if len > 0 {
                let taken = self.take_part(env, packet, seq, offset, len);
                if matches!(taken, Assembled::NoRoom | Assembled::NoMemory) {
                    break;
                }
            }
            (seq, left, offset) = (seq + len, left - len, 0);
        }
        if self.receive.nxt != before {
            self.on_data_in_order(env, before, arrival);
        }
    }

    /// Takes the payload of one buffer.
    fn take_part<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        packet: A::Buffer,
        seq: SeqNumber,
        offset: u32,
        len: u32,
    ) -> Assembled {
        let scarce = !env.cx.allocator.has_more_than(SCARCE);
        let mut joined = Joined::default();
        let reports = &mut env.rare.reports;
        let result =
            self.receive.assemble(env.pool, reports, packet, seq, offset, len, scarce, &mut joined);
        env.cx.counters.coalesced += u64::from(joined.coalesced);
        match result {
            Assembled::InOrder => {}
            Assembled::OutOfOrder => {
                env.cx.counters.out_of_order += 1;
                self.receive.note_gap(&mut env.rare.reports, self.timestamps.recent);
                self.count_trouble(env.rare, |t| t.out_of_order = t.out_of_order.wrapping_add(1));
                self.receive.ack.owed = true;
                if self.negotiated.sack {
                    // Without SACK a window that changes would be no duplicate acknowledgment.
                    self.receive.grow_window(len, self.receive_mss());
                }
                //= RFC 5681 §4.2: out of order is acknowledged at once.
                self.pending |= Pending::ACK;
            }
            Assembled::Duplicate => {
                env.cx.counters.duplicate_data += 1;
                self.receive.ack.enter_quick(self.receive.window());
                self.pending |= Pending::ACK;
            }
            Assembled::NoRoom => {
                env.cx.counters.receive_buffer_full += 1;
                self.pending |= Pending::ACK;
            }
            Assembled::NoMemory => {
                env.cx.counters.receive_no_memory += 1;
                self.pending |= Pending::ACK;
            }
        }
        result
    }

    #[inline]
    pub(super) fn on_data_in_order<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        before: SeqNumber,
        arrival: &Arrival<'_, A::Buffer>,
    ) {
        let now = env.cx.now;
        let window = self.receive.window();
        let rto = self.rtt.base_rto_us();
        self.stats.octets_received += u64::from(self.receive.nxt.since(before));
        self.receive.ack.on_data(arrival.segment_size, window, rto, now, env.config);
        let mss = self.receive_mss();
        self.receive.grow_window(arrival.len, mss);
        match arrival.header.timestamps {
            Some(ts) if self.negotiated.timestamps => {
                if ts.echo != 0 && arrival.len >= self.receive.ack.peer_mss {
                    self.receive.on_echo(self.timestamps.value(now).wrapping_sub(ts.echo));
                }
            }
            _ => self.receive.on_window_passed(now),
        }
        if self.state.can_receive() && !self.shut_read {
            self.edges |= Readiness::READABLE;
        }
        self.decide_ack(env, !self.receive.ooo.is_empty());
    }

    /// Now, or after a while? (RFC 1122 §4.2.3.2, RFC 5681 §4.2)
    fn decide_ack<A: Allocator>(&mut self, env: &Env<'_, '_, A>, gap: bool) {
        let receive = &self.receive;
        let owed = receive.nxt.since(receive.acknowledged);
        let mss = self.receive_mss();
        let second = owed > receive.ack.peer_mss && receive.wanted_window(mss) >= receive.window();
        let duplicate = receive.has_duplicate(&env.rare.reports);
        if gap || second || receive.ack.is_quick() || duplicate {
            self.pending |= Pending::ACK;
        } else if self.timers.ack_at == Instant::FAR_FUTURE {
            let srtt = self.rtt.srtt_us();
            self.timers.ack_at = env.cx.now.plus_micros(receive.ack.delay_us(srtt, env.config));
        }
    }

    /// Eighth: FIN.
    pub fn step_8_fin<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> Step {
        if !self.state.can_receive() {
            return Step::Continue;
        }
        if arrival.fin {
            let at = arrival.seq + arrival.len;
            let known = self.receive.fin_at.is_some();
            if at.at_or_after(self.receive.nxt) && !known {
                self.receive.fin_at = Some(at);
            }
        }
        if self.receive.fin_at == Some(self.receive.nxt) {
            self.on_fin(env);
        } else if arrival.fin {
            self.pending |= Pending::ACK;
        }
        Step::Continue
    }

    fn on_fin<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        self.receive.nxt += 1;
        self.receive.fin = true;
        self.receive.clear_ooo(env.pool, &mut env.rare.reports);
        self.pending |= Pending::ACK;
        self.edges |= Readiness::READABLE | Readiness::READ_HANGUP;
        match self.state {
            State::Established | State::SynReceived => self.state = State::CloseWait,
            State::FinWait1 => {
                // Its acknowledgment of our FIN, if any, was handled in the fifth step.
                self.state = State::Closing;
                self.edges |= Readiness::HANGUP;
            }
            State::FinWait2 => {
                self.state = State::TimeWait;
                self.edges |= Readiness::HANGUP;
            }
            _ => {}
        }
    }
}
