//! From a packet to what it belongs to: a connection, an opening, TIME-WAIT, a listener, nobody.

use super::connection::{Connection, Established};
use super::demux::{Target, Tuple};
use super::input::{Arrival, Step, segments_in};
use super::opening::passive::{Admission, Beginning, admit};
use super::opening::{Verdict, early};
use super::reply::Reply;
use super::segment::{Flags, Header};
use super::seq::SeqNumber;
use super::socket::{Binding, Kind, Socket};
use super::state::State;
use super::{Context, Flow, Tcp, TcpId, env, time_wait};
use crate::error::Error;
use crate::packet::{Allocator, Buffer, IpMeta};
use crate::readiness::Readiness;
use core::net::SocketAddr;

/// A packet, parsed.
pub(super) struct Inbound<B> {
    pub meta: IpMeta,
    /// What is known of the path back, if it takes less than the device.
    pub path_mtu: Option<u16>,
    pub header: Header,
    pub header_len: usize,
    pub tuple: Tuple,
    pub hash: u64,
    pub packet: B,
}

impl<B: Buffer> Inbound<B> {
    pub fn payload_len(&self) -> u32 {
        self.packet.packet_len().saturating_sub(self.header_len) as u32
    }
}

impl<B: Buffer> Tcp<B> {
    /// A packet for one of our addresses: from the TCP header on, its checksum verified. `path_mtu`
    /// is the largest IP packet that goes back to its sender, where that is known: a connection
    /// that it opens starts from it.
    pub fn on_packet<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        meta: IpMeta,
        path_mtu: Option<u16>,
        packet: B,
    ) {
        cx.counters.segments_in += 1;
        let parsed = Header::parse(packet.data());
        let Ok((header, header_len)) = parsed else {
            cx.counters.malformed += 1;
            return;
        };
        if header.signed {
            cx.counters.md5_unexpected += 1;
            return;
        }
        let joined = segments_in(&packet, packet.packet_len().saturating_sub(header_len));
        cx.counters.segments_in += u64::from(joined - 1);
        //= RFC 9293 §3.9.2.3: TCP is between two hosts; anything else is dropped silently.
        if meta.destination.is_multicast() || meta.source.is_multicast() {
            cx.counters.malformed += 1;
            return;
        }
        let tuple = Tuple {
            local: meta.destination,
            remote: meta.source,
            local_port: header.destination_port,
            remote_port: header.source_port,
        };
        let hash = tuple.place(self.keys.demux);
        let inbound = Inbound { meta, path_mtu, header, header_len, tuple, hash, packet };
        match self.find(&tuple, hash) {
            Some(Target::Socket(index)) => self.for_socket(cx, index, inbound),
            Some(Target::Opening(place)) => self.for_opening(cx, place, inbound),
            Some(Target::TimeWait(place)) => self.for_time_wait(cx, place, inbound),
            None => self.for_listener(cx, inbound, None),
        }
        self.feed_starved(cx);
    }

    /// The socket of the connection between these ends, for a segment of it.
    #[inline]
    pub fn find_connected(&self, flow: Flow) -> Option<u32> {
        let cold = self.is_cold();
        self.locate(flow, |index| {
            if cold {
                self.sockets.prefetch(index);
            }
        })
    }

    /// The socket of the connection between these ends.
    pub fn connection_between(&self, flow: Flow) -> Option<TcpId> {
        let index = self.locate(flow, |_| {})?;
        self.sockets.handle_at(index).map(TcpId)
    }

    /// The same, where `look` sees each socket before it is looked at.
    #[inline]
    fn locate(&self, flow: Flow, look: impl Fn(u32)) -> Option<u32> {
        let tuple = Tuple::from(flow);
        let hash = tuple.place(self.keys.demux);
        let found = self.demux.find(hash, |target| {
            let Target::Socket(index) = target else { return false };
            look(index);
            match self.sockets.at(index).map(|socket| &socket.kind) {
                // The first acknowledgment after Fast Open ends the opening beside it.
                Some(Kind::Connected(c)) => c.tuple == tuple && !c.awaits_ack,
                _ => false,
            }
        });
        match found {
            Some(Target::Socket(index)) => Some(index),
            _ => None,
        }
    }

    /// [`Tcp::on_packet`] for a segment whose connection is known, with the hop limit and the
    /// traffic class of its IP header.
    #[inline]
    pub fn on_connected<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        (hop_limit, traffic_class): (u8, u8),
        packet: B,
    ) {
        cx.counters.segments_in += 1;
        let Ok((header, header_len)) = Header::parse(packet.data()) else {
            cx.counters.malformed += 1;
            return;
        };
        if header.signed {
            cx.counters.md5_unexpected += 1;
            return;
        }
        let joined = segments_in(&packet, packet.packet_len().saturating_sub(header_len));
        cx.counters.segments_in += u64::from(joined - 1);
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if hop_limit < self.option_sets.get(socket.options).min_hop_limit {
            return;
        }
        if let Kind::Connected(connection) = &mut socket.kind {
            let mut arrival = Arrival::new(&header, packet, header_len);
            arrival.traffic_class = traffic_class;
            connection
                .on_segment(&mut env!(self, cx, self.option_sets.get(socket.options)), arrival);
        }
        self.settle(cx, index);
        self.feed_starved(cx);
    }

    fn for_socket<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        inbound: Inbound<B>,
    ) {
        if self.sockets.at(index).and_then(Socket::connection).is_some_and(|c| c.awaits_ack)
            && self.before_acknowledged(cx, index, &inbound) == Step::Drop
        {
            return self.settle(cx, index);
        }
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let least = self.option_sets.get(socket.options).min_hop_limit;
        match &mut socket.kind {
            Kind::Connected(connection) => {
                if inbound.meta.hop_limit < least {
                    return;
                }
                let mut arrival = Arrival::new(&inbound.header, inbound.packet, inbound.header_len);
                arrival.traffic_class = inbound.meta.traffic_class;
                connection
                    .on_segment(&mut env!(self, cx, self.option_sets.get(socket.options)), arrival);
            }
            Kind::Opening(_) => self.for_own_opening(cx, index, inbound),
            _ => {}
        }
        self.settle(cx, index);
    }

    /// A segment for a connection that we are opening.
    fn for_own_opening<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        inbound: Inbound<B>,
    ) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let Kind::Opening(opening) = &mut socket.kind else { return };
        let header = &inbound.header;
        let crossing = opening.state == State::SynReceived;
        let verdict = if crossing {
            opening.on_segment_in_syn_received(header, inbound.payload_len(), cx.now)
        } else {
            opening.on_segment_in_syn_sent(header, self.option_sets.get(socket.options), cx.now)
        };
        match verdict {
            Verdict::Stay => {}
            Verdict::Resend => opening.transmit = true,
            Verdict::Refuse(seq) => self.refuse(cx, &inbound, seq),
            Verdict::Failed(error) => {
                cx.counters.attempt_failures += 1;
                cx.counters.resets_in += 1;
                let error = if crossing { Error::ConnectionReset } else { error };
                self.fail_opening(index, error);
            }
            Verdict::Established => {
                let acked = opening.early_acknowledged(header.ack).unwrap_or(0);
                early::learn(&mut self.fast_open.destinations, opening, header, acked, cx.now);
                let mut from = opening.established(cx.now);
                from.iss += acked;
                let early = opening.early.clone();
                let again = opening.retransmits > 0 || early.plain;
                let options = self.option_sets.get(socket.options);
                let mut connection =
                    Connection::new(&from, options, &self.config, options.congestion, cx.now);
                connection.begin(header, &mut env!(self, cx, options));
                // Linux counts the SYN that the peer acknowledged, and none of a passive open.
                connection.stats.octets_acked = 1;
                if early.more {
                    connection.expect_first_data(&self.config, cx.now);
                }
                connection.after_fast_open(&early, acked, again, &mut self.pool, cx.now);
                if crossing && header.flags.contains(Flags::SYN) {
                    connection.receive.report_repeated_syn(&mut self.rare.reports);
                }
                connection.edges |= Readiness::WRITABLE;
                socket.kind = Kind::Connected(connection);
                self.connected += 1;
                self.begin_path(index, cx.now);
                if inbound.payload_len() > 0 || header.flags.contains(Flags::FIN) {
                    self.deliver(cx, index, inbound);
                }
            }
        }
    }

    fn deliver<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        mut inbound: Inbound<B>,
    ) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if let Kind::Connected(connection) = &mut socket.kind {
            // Its SYN has been taken; what follows is as if in a segment of its own.
            if inbound.header.flags.contains(Flags::SYN) {
                inbound.header.flags -= Flags::SYN;
                inbound.header.seq += 1;
            }
            let mut arrival = Arrival::new(&inbound.header, inbound.packet, inbound.header_len);
            arrival.traffic_class = inbound.meta.traffic_class;
            connection
                .on_segment(&mut env!(self, cx, self.option_sets.get(socket.options)), arrival);
        }
    }

    /// A segment for an embryonic connection of a listener.
    fn for_opening<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        place: u32,
        inbound: Inbound<B>,
    ) {
        let Some(opening) = self.openings.at_mut(place) else { return };
        let header = &inbound.header;
        let again = header.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN
            && header.seq == opening.irs;
        let verdict = if again {
            opening.on_repeated_syn(cx.now, &self.config);
            Verdict::Resend
        } else {
            opening.on_segment_in_syn_received(header, inbound.payload_len(), cx.now)
        };
        match verdict {
            Verdict::Stay => {}
            Verdict::Resend => {
                opening.transmit = true;
                self.ready_openings.push_back(place);
            }
            Verdict::Refuse(seq) => self.refuse(cx, &inbound, seq),
            Verdict::Failed(_) => {
                cx.counters.attempt_failures += 1;
                cx.counters.resets_in += 1;
                self.end_opening(place);
            }
            Verdict::Established => self.complete(cx, place, inbound),
        }
    }

    /// The final ACK: the connection goes to the listener's accept queue.
    fn complete<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        place: u32,
        inbound: Inbound<B>,
    ) {
        let payload = inbound.payload_len();
        let Some(opening) = self.openings.at_mut(place) else { return };
        let Some(id) = opening.listener else { return };
        let Some(parent) = self.sockets.get_mut(id.0) else {
            return self.end_opening(place);
        };
        if opening.is_deferred(payload, self.option_sets.get(parent.options), cx.now) {
            return;
        }
        let Kind::Listening(listener) = &parent.kind else { return };
        if listener.is_full() {
            cx.counters.accept_queue_full += 1;
            if self.config.abort_on_overflow {
                self.end_opening(place);
                return self.refuse(cx, &inbound, inbound.header.ack);
            }
            // The peer thinks it is connected; what it sends, or our SYN-ACK, brings it back.
            opening.acknowledged = true;
            return;
        }
        let from = opening.established(cx.now);
        self.hand_over(cx, id, &from, Some(place), inbound);
    }

    /// Makes `from`, which the opening at `place` or a SYN cookie led to, a socket in the accept
    /// queue of the listener `id`; the segment that completed it is its first.
    pub(super) fn hand_over<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        from: &Established,
        place: Option<u32>,
        inbound: Inbound<B>,
    ) {
        let Some(index) = self.spawn(cx, id, from, &inbound.header) else { return };
        if let Some(place) = place {
            self.end_opening(place);
        }
        self.deliver(cx, index, inbound);
        self.settle(cx, index);
        self.settle(cx, id.0.index());
    }

    /// The socket that `from` becomes, in the accept queue of the listener `id`; its place.
    pub(super) fn spawn<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        from: &Established,
        header: &Header,
    ) -> Option<u32> {
        let parent = self.sockets.get_mut(id.0)?;
        let options = self.option_sets.get(parent.options);
        let mut child = Socket::new(parent.family, parent.options);
        child.local = from.tuple.local;
        child.port = from.tuple.local_port;
        child.binding = Binding::Inherited;
        child.owner = 0;
        child.waiting_at = Some(id);
        child.registered = true;
        let mut connection =
            Connection::new(from, options, &self.config, options.congestion, cx.now);
        connection.begin(header, &mut env!(self, cx, options));
        connection.pending -= super::connection::Pending::ACK;
        child.kind = Kind::Connected(connection);
        let Ok(handle) = self.sockets.insert(child) else {
            cx.counters.sockets_exhausted += 1;
            return None;
        };
        let index = handle.index();
        self.connected += 1;
        if let Some(child) = self.sockets.at(index) {
            self.option_sets.share(child.options);
        }
        if let Some(child) = self.sockets.at_mut(index) {
            let asked = self.option_sets.get(child.options).timestamping;
            child.stamping = self.stamps.inherit(index, asked);
        }
        self.begin_path(index, cx.now);
        cx.counters.passive_opens += 1;
        self.demux.insert(from.hash, Target::Socket(index));
        self.ports.bound.push_front(u32::from(from.tuple.local_port), index);
        self.enqueue_for_accept(id, index);
        Some(index)
    }

    fn enqueue_for_accept(&mut self, id: TcpId, index: u32) {
        let Some(parent) = self.sockets.get_mut(id.0) else { return };
        parent.edges |= Readiness::READABLE;
        let Kind::Listening(listener) = &mut parent.kind else { return };
        listener.waiting += 1;
        let last = core::mem::replace(&mut listener.last, index + 1);
        if last == 0 {
            listener.first = index + 1;
        } else if let Some(last) = self.sockets.at_mut(last - 1) {
            last.next_waiting = index + 1;
        }
    }

    fn for_time_wait<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        place: u32,
        inbound: Inbound<B>,
    ) {
        let Some(entry) = self.time_waits.entries.at_mut(place) else { return };
        let len = inbound.payload_len() + inbound.header.control_len();
        match entry.on_segment(&inbound.header, len, cx.now) {
            time_wait::Verdict::Drop => {}
            time_wait::Verdict::Acknowledge(reply) => {
                self.time_waits.restart(place, cx.now + self.config.time_wait);
                self.replies.push(reply, cx.counters);
            }
            time_wait::Verdict::Reuse(iss) => {
                if self.find_listener(&inbound.tuple, inbound.hash).is_none() {
                    return;
                }
                cx.counters.time_wait_reused += 1;
                self.end_time_wait(place);
                self.for_listener(cx, inbound, Some(iss));
            }
        }
    }

    /// A segment that belongs to no connection (RFC 9293 §3.10.7.1, §3.10.7.2).
    fn for_listener<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        inbound: Inbound<B>,
        iss: Option<SeqNumber>,
    ) {
        let flags = inbound.header.flags;
        if flags.contains(Flags::RST) {
            return;
        }
        let Some(index) = self.find_listener(&inbound.tuple, inbound.hash) else {
            cx.counters.no_socket += 1;
            return self.refuse_stray(cx, &inbound);
        };
        if flags.contains(Flags::ACK) {
            return self.on_cookie(cx, index, inbound);
        }
        //= RFC 9293 §3.10.7.2: a SYN with FIN is no SYN (Linux drops it).
        if flags & (Flags::SYN | Flags::FIN) != Flags::SYN {
            return;
        }
        self.begin_passive(cx, index, inbound, iss);
    }

    fn begin_passive<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        inbound: Inbound<B>,
        iss: Option<SeqNumber>,
    ) {
        let start = iss.map_or(Beginning::Fresh, Beginning::Above);
        let Some(handle) = self.sockets.handle_at(index) else { return };
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let Kind::Listening(listener) = &mut socket.kind else { return };
        if inbound.meta.hop_limit < self.option_sets.get(socket.options).min_hop_limit {
            return;
        }
        let admission = admit(listener, &self.config, self.openings.is_full(), iss, cx.now);
        match admission {
            Admission::Remember => {}
            Admission::Cookie => return self.send_cookie(cx, TcpId(handle), &inbound),
            Admission::AcceptQueueFull => {
                cx.counters.accept_queue_full += 1;
                return;
            }
            Admission::SynQueueFull => {
                cx.counters.syn_queue_full += 1;
                return;
            }
        }
        self.remember(cx, TcpId(handle), inbound, start);
    }

    /// RFC 9293 §3.10.7.1: the reset that a segment for nobody gets.
    fn refuse_stray<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        inbound: &Inbound<B>,
    ) {
        let header = &inbound.header;
        if header.flags.contains(Flags::ACK) {
            return self.refuse(cx, inbound, header.ack);
        }
        let reply = Reply {
            seq: SeqNumber(0),
            ack: header.seq + inbound.payload_len() + header.control_len(),
            flags: Flags::RST | Flags::ACK,
            ..reset_of(inbound)
        };
        self.replies.push(reply, cx.counters);
    }

    /// A reset with sequence number `seq`.
    pub(super) fn refuse<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        inbound: &Inbound<B>,
        seq: SeqNumber,
    ) {
        let reply = Reply { seq, ..reset_of(inbound) };
        self.replies.push(reply, cx.counters);
    }

    /// ICMP says that our segment with `seq` did not arrive. It ends an opening of ours at once,
    /// `hard` or not, as on Linux; a peer's only when `hard`. An established connection reports
    /// it when it times out, or at once with `IP_RECVERR`.
    pub fn on_unreachable<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        local: SocketAddr,
        remote: SocketAddr,
        seq: SeqNumber,
        error: Error,
        hard: bool,
    ) {
        let tuple = Tuple::new(local, remote);
        cx.counters.icmp_errors += 1;
        match self.find(&tuple, tuple.place(self.keys.demux)) {
            Some(Target::Socket(index)) => {
                let Some(socket) = self.sockets.at_mut(index) else { return };
                match &mut socket.kind {
                    Kind::Opening(opening) if opening.iss == seq => {
                        // While opening Linux takes soft errors for final as well.
                        cx.counters.attempt_failures += 1;
                        self.fail_opening(index, error);
                    }
                    // As an opening of ours, until it is accepted (Linux: `tcp_v4_err`).
                    Kind::Connected(c)
                        if c.awaits_ack
                            && socket.waiting_at.is_some()
                            && seq.between(c.send.una - 1, c.send.nxt) =>
                    {
                        cx.counters.attempt_failures += 1;
                        c.finish(Some(error));
                    }
                    //= RFC 5927 §4: only about what is in flight.
                    Kind::Connected(c) if seq.between(c.send.una, c.send.nxt) => {
                        if self.option_sets.get(socket.options).receive_errors {
                            c.error = Some(error);
                            c.edges |= Readiness::ERROR;
                        } else {
                            c.soft_error = Some(error);
                        }
                    }
                    _ => cx.counters.icmp_out_of_window += 1,
                }
                self.settle(cx, index);
            }
            Some(Target::Opening(place)) => {
                if hard && self.openings.at(place).is_some_and(|o| o.iss == seq) {
                    self.end_opening(place);
                }
            }
            _ => cx.counters.icmp_out_of_window += 1,
        }
    }
}

fn reset_of<B: Buffer>(inbound: &Inbound<B>) -> Reply {
    Reply {
        tuple: inbound.tuple,
        seq: SeqNumber(0),
        ack: SeqNumber(0),
        flags: Flags::RST,
        window: 0,
        timestamps: None,
        traffic_class: 0,
        hop_limit: 64,
        syn: None,
    }
}
