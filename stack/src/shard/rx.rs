//! The way in: device → Ethernet → IPv4 → verdict → transport.

use super::gro::{Look, Run};
use super::{RX_BURSTS, Shard, tcp_context, udp_context};
use crate::addr::MacAddr;
use crate::capture::Direction;
use crate::device::{BURST, Burst, Device};
use crate::ip::reassembly::Whole;
use crate::ip::{self, Arrival, Cast, Verdict};
use crate::packet::{Buffer, IpMeta, RxChecksum};
use crate::tcp::Ahead;
use crate::time::Instant;
use crate::udp::{Arrived, Delivery};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::icmpv4::{self, unreachable};
use crate::wire::ipv4::{self, ChecksumBy, Header, Malformed, Protocol, Verify};

/// Buffers behind the first that a datagram may come in.
const MAX_PARTS: usize = 48;

/// A received packet on its way to a transport.
pub(super) struct Inbound<'a, B> {
    pub header: Header,
    pub arrival: Arrival,
    pub cast: Cast,
    /// The payload, or its beginning.
    pub first: B,
    /// The rest of a payload that came in fragments.
    pub rest: &'a mut [Option<B>],
}

impl<B: Buffer> Inbound<'_, B> {
    /// Whether others got it too.
    pub fn to_many(&self) -> bool {
        self.cast != Cast::Unicast || self.arrival == Arrival::Broadcast
    }

    /// Whether nobody needs to verify the transport's checksum: the device did, or it never left.
    fn is_verified(&self) -> bool {
        let good = |buffer: &B| {
            matches!(buffer.rx_checksum(), RxChecksum::Good | RxChecksum::TransportGood)
        };
        // Devices do not look into fragments.
        self.arrival == Arrival::Loopback || (self.rest.is_empty() && good(&self.first))
    }

    fn len(&self) -> usize {
        let rest: usize = self.rest.iter().flatten().map(|b| b.data().len()).sum();
        self.first.packet_len() + rest
    }

    pub fn sum(&self) -> Sum {
        if self.first.parts() == 1 && self.rest.is_empty() {
            return Sum::of(self.first.data());
        }
        let (mut sum, mut len) = (Sum::default(), 0);
        let mut add = |part: &[u8]| {
            sum = sum.plus(Sum::of(part).at(len));
            len += part.len();
        };
        self.first.for_each_part(&mut add);
        self.rest.iter().flatten().for_each(|part| add(part.data()));
        sum
    }

    pub fn meta(&self) -> IpMeta {
        IpMeta {
            source: self.header.source.into(),
            destination: self.header.destination.into(),
            traffic_class: self.header.traffic_class,
            hop_limit: self.header.hop_limit,
        }
    }
}

/// How many segments a packet with its TCP header at `at` was on the wire.
#[inline]
pub(super) fn joined_segments<B: Buffer>(packet: &B, at: usize) -> u64 {
    let size = usize::from(packet.rx_segment_size());
    if size == 0 {
        return 1;
    }
    let header_len = packet.data().get(at + 12).map_or(20, |octet| usize::from(octet >> 4) * 4);
    let payload = packet.packet_len().saturating_sub(at + header_len);
    payload.div_ceil(size).max(1) as u64
}

impl<D: Device> Shard<D> {
    /// Takes what the device has, up to a bound, and handles each frame to completion.
    #[inline]
    pub(super) fn receive_frames(&mut self, now: Instant) -> usize {
        let mut total = 0;
        for _ in 0..RX_BURSTS {
            let mut frames = Burst::new();
            self.device.rx_burst(&mut frames);
            let n = frames.len();
            self.handle_burst(now, &mut frames);
            total += n;
            if n < BURST {
                break;
            }
        }
        total
    }

    /// Handles each frame to completion.
    #[inline]
    pub(super) fn handle_burst(&mut self, now: Instant, frames: &mut Burst<D::Buffer>) {
        // Drained, not consumed: an iterator by value would move all of the array's room.
        if frames.len() <= 1 {
            for frame in frames.drain(..) {
                self.note_coalesced(&frame);
                self.on_frame(now, frame);
            }
            return;
        }
        let mut ahead = self.look_ahead(frames);
        if self.coalesce {
            return self.on_burst(now, frames, &mut ahead);
        }
        for frame in frames.drain(..) {
            self.tcp.step_ahead(&mut ahead);
            self.note_coalesced(&frame);
            self.on_frame(now, frame);
        }
    }

    /// Counts what the device has joined.
    #[inline]
    fn note_coalesced(&mut self, frame: &D::Buffer) {
        if frame.parts() > 1 && frame.rx_segment_size() > 0 {
            self.counters.interface.rx_lro_packets += 1;
        }
    }

    /// Frames that came together: segments of a flow that follow each other become one.
    fn on_burst(&mut self, now: Instant, frames: &mut Burst<D::Buffer>, ahead: &mut Ahead) {
        let mut run = Run::new();
        for frame in frames.drain(..) {
            self.tcp.step_ahead(ahead);
            let Some(look) = Look::at(&frame) else {
                self.end_run(now, &mut run);
                self.note_coalesced(&frame);
                self.on_frame(now, frame);
                continue;
            };
            let frame = if run.is_empty() {
                frame
            } else {
                let Err(frame) = run.join(frame, look) else { continue };
                self.end_run(now, &mut run);
                frame
            };
            run.begin(frame, look);
        }
        self.end_run(now, &mut run);
    }

    fn end_run(&mut self, now: Instant, run: &mut Run<D::Buffer>) {
        let Some((frame, count)) = run.finish() else { return };
        if count > 1 {
            let interface = &mut self.counters.interface;
            interface.rx_frames += count as u64 - 1;
            interface.rx_octets += run.header_octets(count) as u64;
            interface.rx_gro_packets += 1;
            interface.rx_gro_frames += count as u64;
        }
        self.on_frame(now, frame);
    }

    fn on_frame(&mut self, now: Instant, frame: D::Buffer) {
        let interface = &mut self.counters.interface;
        interface.rx_frames += 1;
        interface.rx_octets += frame.packet_len() as u64;
        self.capture.tap_packet(now, Direction::Received, &frame);
        let Some(mut frame) = self.receive_quickly(now, frame) else { return };
        let interface = &mut self.counters.interface;
        let Some(header) = ethernet::Header::parse(frame.data()) else {
            interface.rx_short += 1;
            return;
        };
        let arrival = if header.destination == self.mac {
            Arrival::Unicast
        } else if header.destination.is_multicast() {
            interface.rx_multicast += u64::from(!header.destination.is_broadcast());
            Arrival::Broadcast
        } else {
            interface.rx_other_station += 1;
            return;
        };
        match header.ether_type {
            EtherType::Ipv4 => {
                frame.trim_front(ethernet::HEADER_LEN);
                self.on_ipv4(now, arrival, frame);
            }
            EtherType::Arp => self.on_arp(now, frame),
            EtherType::Ipv6 | EtherType::Other(_) => interface.rx_unknown_ether_type += 1,
        }
    }

    /// A packet, from the IPv4 header on.
    pub(super) fn on_ipv4(&mut self, now: Instant, arrival: Arrival, mut packet: D::Buffer) {
        let counters = &mut self.counters.ip;
        counters.in_receives += 1;
        let verified = arrival == Arrival::Loopback || packet.rx_checksum() == RxChecksum::Good;
        let verify = if verified { Verify::Nothing } else { Verify::Checksum };
        let whole = packet.packet_len();
        let header = match Header::parse_within(packet.data(), whole, verify) {
            Ok(header) => header,
            Err(malformed) => return ip::count_malformed(malformed, counters),
        };
        if packet.parts() > 1 {
            return self.on_long_ipv4(now, arrival, packet, header);
        }
        match self.ip.classify(&header, arrival) {
            Verdict::Deliver(cast) => {
                packet.truncate(usize::from(header.total_len));
                packet.trim_front(usize::from(header.header_len));
                let rest = &mut [];
                self.deliver(now, Inbound { header, arrival, cast, first: packet, rest });
            }
            Verdict::Reassemble(cast) => {
                packet.truncate(usize::from(header.total_len));
                packet.trim_front(usize::from(header.header_len));
                let whole = self.reassembly.on_fragment(now, &header, packet, counters);
                if let Some(Whole { header, first, mut rest, .. }) = whole {
                    let rest = &mut rest;
                    self.deliver(now, Inbound { header, arrival, cast, first, rest });
                }
            }
            Verdict::Forward => self.on_unclaimed(packet),
            Verdict::Drop(reason) => ip::count_drop(reason, counters),
        }
    }

    /// A packet in several buffers: coalesced segments, or a frame longer than a buffer.
    fn on_long_ipv4(
        &mut self,
        now: Instant,
        arrival: Arrival,
        mut packet: D::Buffer,
        header: Header,
    ) {
        let counters = &mut self.counters.ip;
        // Ethernet pads short frames only.
        if packet.packet_len() != usize::from(header.total_len) {
            return ip::count_malformed(Malformed::TotalLength, counters);
        }
        if header.is_fragment() {
            // Rare, and reassembly takes one buffer each.
            counters.in_receives -= 1;
            match self.join_parts(&packet) {
                Some(packet) => return self.on_ipv4(now, arrival, packet),
                None => self.counters.ip.reassembly_too_large += 1,
            }
            return;
        }
        counters.in_receives += joined_segments(&packet, usize::from(header.header_len)) - 1;
        match self.ip.classify(&header, arrival) {
            Verdict::Deliver(cast) if header.protocol == Protocol::Tcp => {
                packet.trim_front(usize::from(header.header_len));
                let rest = &mut [];
                self.deliver(now, Inbound { header, arrival, cast, first: packet, rest });
            }
            Verdict::Deliver(cast) => {
                packet.trim_front(usize::from(header.header_len));
                let mut rest: [Option<D::Buffer>; MAX_PARTS] = [const { None }; MAX_PARTS];
                let mut behind = packet.take_rest();
                let mut places = rest.iter_mut();
                while let Some(mut part) = behind {
                    behind = part.take_rest();
                    let Some(place) = places.next() else {
                        return ip::count_malformed(Malformed::TotalLength, counters);
                    };
                    *place = Some(part);
                }
                let rest = &mut rest;
                self.deliver(now, Inbound { header, arrival, cast, first: packet, rest });
            }
            Verdict::Reassemble(_) => {}
            Verdict::Forward => self.on_unclaimed(packet),
            Verdict::Drop(reason) => ip::count_drop(reason, counters),
        }
    }

    /// A packet for an address that is not ours. We are a host and do not forward
    /// (RFC 1122 §3.3.1.1). Programs that share a device will be found here.
    fn on_unclaimed(&mut self, packet: D::Buffer) {
        self.counters.ip.in_address_errors += 1;
        drop(packet);
    }

    fn deliver(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        self.counters.ip.in_delivers += 1;
        match inbound.header.protocol {
            Protocol::Tcp => self.deliver_tcp(now, inbound),
            Protocol::Udp => self.deliver_udp(now, inbound),
            Protocol::Icmp => self.on_icmp(now, inbound),
            Protocol::Other(_) => {
                self.counters.ip.in_unknown_protocols += 1;
                self.send_unreachable(now, unreachable::PROTOCOL, &inbound);
            }
        }
    }

    fn deliver_tcp(&mut self, now: Instant, mut inbound: Inbound<'_, D::Buffer>) {
        // //= RFC 9293 §3.9.2.3 (MUST-57): a segment to many is not for TCP.
        if inbound.to_many() {
            self.counters.ip.in_link_broadcast += 1;
            return;
        }
        if !inbound.is_verified() {
            let meta = inbound.meta();
            let pseudo = pseudo_header(meta.source, meta.destination, 6, inbound.len());
            if inbound.sum().plus(pseudo).finish() != 0 {
                self.counters.ip.in_tcp_checksum_errors += 1;
                return;
            }
        }
        let meta = inbound.meta();
        if !inbound.rest.is_empty() {
            match self.join(&inbound) {
                Some(whole) => inbound.first = whole,
                None => {
                    self.counters.ip.reassembly_too_large += 1;
                    return;
                }
            }
            if !self.is_ours(&inbound) {
                return self.pass_on(inbound);
            }
        }
        let known = self.path_mtus.get(meta.source, now);
        self.tcp.on_packet(tcp_context!(self, now), meta, known, inbound.first);
    }

    /// Whether a segment's flow is this shard's. Only fragments come without having been asked this.
    fn is_ours(&self, inbound: &Inbound<'_, D::Buffer>) -> bool {
        let Some([a, b, c, d]) = inbound.first.data().first_chunk::<4>() else { return true };
        let ports = [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])];
        let Header { source, destination, .. } = inbound.header;
        inbound.arrival == Arrival::Loopback || self.share.has([source, destination], ports)
    }

    /// Gives a segment that is whole now to its shard, as the frame that it might have come in.
    fn pass_on(&mut self, inbound: Inbound<'_, D::Buffer>) {
        let Inbound { header, mut first, .. } = inbound;
        let header = Header {
            header_len: ipv4::HEADER_LEN as u8,
            total_len: (ipv4::HEADER_LEN + first.data().len()) as u16,
            more_fragments: false,
            fragment_offset: 0,
            ..header
        };
        if first.headroom() < ipv4::HEADER_LEN + ethernet::HEADER_LEN {
            self.counters.ip.reassembly_too_large += 1;
            return;
        }
        header.emit(first.prepend(ipv4::HEADER_LEN), ChecksumBy::Stack);
        let (destination, source) = (self.mac, MacAddr::default());
        let link = ethernet::Header { destination, source, ether_type: EtherType::Ipv4 };
        link.emit(first.prepend(ethernet::HEADER_LEN));
        self.device.hand_over(first);
    }

    /// A packet's octets in one buffer, if they fit.
    fn join_parts(&mut self, packet: &D::Buffer) -> Option<D::Buffer> {
        let len = packet.packet_len();
        let mut whole = self.device.allocate().filter(|b| b.tailroom() >= len)?;
        packet.for_each_part(|part| whole.append(part.len()).copy_from_slice(part));
        Some(whole)
    }

    /// The payload in one buffer, if it fits.
    fn join(&mut self, inbound: &Inbound<'_, D::Buffer>) -> Option<D::Buffer> {
        let mut whole = self.device.allocate().filter(|b| b.tailroom() >= inbound.len())?;
        let pieces = core::iter::once(&inbound.first).chain(inbound.rest.iter().flatten());
        for piece in pieces {
            whole.append(piece.data().len()).copy_from_slice(piece.data());
        }
        Some(whole)
    }

    fn deliver_udp(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        let arrived = Arrived {
            meta: inbound.meta(),
            to_many: inbound.to_many(),
            verified: inbound.is_verified(),
        };
        let Inbound { header, arrival, cast, first, rest } = inbound;
        let cx = udp_context!(self, now);
        match self.udp.on_packet(cx, arrived, first, &mut *rest) {
            Delivery::Done => {}
            Delivery::NoPort(first) => {
                // //= RFC 1122 §4.1.3.1
                let inbound = Inbound { header, arrival, cast, first, rest };
                self.send_unreachable(now, unreachable::PORT, &inbound);
            }
        }
    }

    fn on_icmp(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        let counters = &mut self.counters.icmp;
        counters.in_messages += 1;
        if !inbound.rest.is_empty() {
            return self.on_large_icmp(now, inbound);
        }
        match icmpv4::Message::parse(inbound.first.data()) {
            Ok(icmpv4::Message::EchoRequest) => self.on_echo_request(now, inbound),
            Ok(icmpv4::Message::EchoReply) => counters.in_echo_replies += 1,
            Ok(icmpv4::Message::Error(_)) => self.on_icmp_error(now, inbound),
            Ok(icmpv4::Message::Other(_)) => counters.in_ignored += 1,
            Err(icmpv4::Unusable::Quote) => counters.in_bad_quotes += 1,
            Err(icmpv4::Unusable::TooShort | icmpv4::Unusable::Checksum) => counters.in_errors += 1,
        }
    }

    /// A message that came in fragments: only an echo request has reason to.
    fn on_large_icmp(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        let echo = inbound.first.data().first() == Some(&icmpv4::ECHO_REQUEST);
        let whole = inbound.first.data().len() >= icmpv4::HEADER_LEN;
        if inbound.sum().finish() != 0 {
            self.counters.icmp.in_errors += 1;
        } else if echo && whole {
            self.on_echo_request(now, inbound);
        } else {
            self.counters.icmp.in_ignored += 1;
        }
    }

    /// //= RFC 1122 §3.2.2.6; requests to everybody are not answered, as Linux does.
    fn on_echo_request(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        self.counters.icmp.in_echo_requests += 1;
        if inbound.to_many() {
            self.counters.icmp.in_ignored += 1;
            return;
        }
        self.send_echo_reply(now, inbound);
        self.counters.icmp.out_echo_replies += 1;
    }
}
