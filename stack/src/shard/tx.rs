//! The way out: transport → route → neighbor → link header → device.

use super::rx::Inbound;
use super::{BACKLOG_SOFT, Shard, TCP_CHECKSUM_AT, tcp_context};
use crate::addr::MacAddr;
use crate::capture::Direction;
use crate::device::Device;
use crate::ip::{Hop, RouteInfo};
use crate::neighbor::{Released, Resolution};
use crate::packet::{Buffer, L4Checksum, Transmit, TxOffload};
use crate::time::Instant;
use crate::udp::{self, Piece};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::icmpv4;
use crate::wire::ipv4::{self, ChecksumBy, Header, Protocol};
use crate::wire::udp::CHECKSUM_AT as UDP_CHECKSUM_AT;
use core::net::IpAddr;

/// Turns of sending and delivering to ourselves in one call.
const LOOPBACK_TURNS: usize = 64;

/// A packet that lacks its IP header.
pub(super) struct Outbound<B> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub traffic_class: u8,
    pub hop_limit: u8,
    pub dont_fragment: bool,
    pub identification: u16,
    pub fragment_offset: u16,
    pub more_fragments: bool,
    pub checksum: Checksum,
    /// Octets of the transport's header.
    pub header_len: u8,
    /// For the device to cut TCP segments; 0 means not.
    pub segment_size: u16,
    pub packet: B,
}

/// What is to be done about a transport's checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// It is right.
    Done,
    /// TCP's is to be filled in.
    Tcp,
    /// UDP's is to be filled in.
    Udp,
}

impl<D: Device> Shard<D> {
    /// Sends what the transports have, as far as the device takes it, and handles what goes to
    /// ourselves, until nothing is left to do (or a bound is reached).
    #[inline]
    pub(super) fn transmit(&mut self, now: Instant) -> usize {
        let mut total = 0;
        for _ in 0..LOOPBACK_TURNS {
            if self.tcp.wants_transmit() || self.udp.wants_transmit() || !self.backlog.is_empty() {
                total += self.drain_transports(now);
            }
            if self.loopback.is_empty() {
                break;
            }
            self.send_frames();
            total += self.receive_loopback(now);
        }
        // A lone packet is never delayed: what there is goes now.
        self.send_frames();
        total
    }

    fn drain_transports(&mut self, now: Instant) -> usize {
        let mut total = 0;
        if !self.backlog.is_empty() {
            let given_up = self.backlog.offer(now, &mut self.device);
            self.counters.interface.tx_given_up += given_up;
        }
        while self.tcp.wants_transmit() && self.has_room() {
            let Some(transmit) = self.tcp.poll_transmit(tcp_context!(self, now)) else { break };
            if let Some(transmit) = self.send_quickly(now, transmit) {
                self.send_tcp(now, transmit);
            }
            total += 1;
        }
        while self.udp.wants_transmit() && self.has_room() {
            let Some(transmit) = self.udp.poll_transmit() else { break };
            self.send_udp(now, transmit);
            total += 1;
        }
        total
    }

    /// Whether the transports may hand out packets; else they keep them, and nothing is lost.
    fn has_room(&self) -> bool {
        self.backlog.len() < BACKLOG_SOFT && self.loopback.len() < self.loopback_limit
    }

    #[cold]
    pub(super) fn send_tcp(&mut self, now: Instant, transmit: Transmit<D::Buffer>) {
        if transmit.segment_size > 0 {
            return self.send_unit(now, transmit);
        }
        self.send_segment(now, transmit);
    }

    /// Sends a segment, or a unit that the device cuts.
    #[inline]
    pub(super) fn send_segment(&mut self, now: Instant, transmit: Transmit<D::Buffer>) {
        let Transmit {
            source,
            destination,
            traffic_class,
            hop_limit,
            dont_fragment,
            packet,
            header_len,
            segment_size,
        } = transmit;
        self.send_ip(
            now,
            Outbound {
                source,
                destination,
                protocol: Protocol::Tcp,
                traffic_class,
                hop_limit,
                dont_fragment,
                identification: 0,
                fragment_offset: 0,
                more_fragments: false,
                checksum: Checksum::Tcp,
                header_len,
                segment_size,
                packet,
            },
        );
    }

    pub(super) fn send_udp(&mut self, now: Instant, transmit: udp::Transmit<D::Buffer>) {
        let udp::Transmit {
            source,
            destination,
            traffic_class,
            hop_limit,
            dont_fragment,
            packet,
            piece,
        } = transmit;
        let (fragment_offset, more_fragments, checksum) = match piece {
            Piece::Whole => (0, false, Checksum::Udp),
            Piece::Fragment { offset, more } => (offset, more, Checksum::Done),
        };
        self.send_ip(
            now,
            Outbound {
                source,
                destination,
                protocol: Protocol::Udp,
                traffic_class,
                hop_limit,
                dont_fragment,
                identification: 0,
                fragment_offset,
                more_fragments,
                checksum,
                header_len: 8,
                segment_size: 0,
                packet,
            },
        );
    }

    /// Sends an echo request's octets back, in as many buffers as they came in.
    pub(super) fn send_echo_reply(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        let Inbound { header, mut first, rest, .. } = inbound;
        icmpv4::make_echo_reply(first.data_mut());
        let mut left = rest.iter().flatten().count();
        let mut offset = 0;
        for packet in core::iter::once(first).chain(rest.iter_mut().filter_map(Option::take)) {
            let more_fragments = left > 0;
            left = left.saturating_sub(1);
            let len = packet.data().len();
            let class = header.traffic_class; // As Linux: the answer is as urgent as the question.
            self.send_icmp(now, &header, class, offset, more_fragments, packet);
            offset += len as u16;
        }
    }

    /// Answers the packet whose header `about` is.
    pub(super) fn send_icmp(
        &mut self,
        now: Instant,
        about: &Header,
        traffic_class: u8,
        fragment_offset: u16,
        more_fragments: bool,
        packet: D::Buffer,
    ) {
        self.send_ip(
            now,
            Outbound {
                source: about.destination.into(),
                destination: about.source.into(),
                protocol: Protocol::Icmp,
                traffic_class,
                hop_limit: 64,
                dont_fragment: false,
                identification: 0,
                fragment_offset,
                more_fragments,
                checksum: Checksum::Done,
                header_len: icmpv4::HEADER_LEN as u8,
                segment_size: 0,
                packet,
            },
        );
    }

    /// Routes a packet, puts the IP header in front, and sends it to its next hop.
    pub(super) fn send_ip(&mut self, now: Instant, mut out: Outbound<D::Buffer>) {
        let Some(hop) = self.hop(out.destination) else {
            self.counters.ip.out_no_routes += 1;
            return;
        };
        let (IpAddr::V4(_), IpAddr::V4(_)) = (out.source, out.destination) else {
            self.counters.ip.out_no_routes += 1;
            return;
        };
        if out.packet.headroom() < ipv4::HEADER_LEN + ethernet::HEADER_LEN {
            self.counters.interface.tx_no_headroom += 1;
            return;
        }
        self.counters.ip.out_requests += 1;
        self.identify(&mut out);
        match hop {
            Hop::Loopback => {
                self.put_ip_header(&mut out, ChecksumBy::Device);
                self.loop_back(out.packet);
            }
            Hop::Neighbor(neighbor) => {
                self.finish_headers(&mut out);
                let counters = &mut self.counters.neighbor;
                match self.neighbors.send(now, neighbor, out.packet, counters) {
                    Resolution::Ready(mac, packet) => self.emit(now, mac, EtherType::Ipv4, packet),
                    Resolution::Waiting => self.send_solicits(now),
                    Resolution::Dropped(packet) => drop(packet),
                }
            }
            Hop::Broadcast => {
                self.finish_headers(&mut out);
                self.loop_back_copy(&out.packet);
                self.emit(now, MacAddr::BROADCAST, EtherType::Ipv4, out.packet);
            }
            Hop::Multicast(group) => {
                self.finish_headers(&mut out);
                self.loop_back_copy(&out.packet);
                let mac = ethernet::multicast_v4(group);
                self.emit(now, mac, EtherType::Ipv4, out.packet);
            }
        }
    }

    /// The first station on the way to `destination`.
    #[inline]
    pub(super) fn hop(&mut self, destination: IpAddr) -> Option<Hop> {
        if let Some(route) = self.last_route_to(destination) {
            return Some(route.hop);
        }
        let route = self.ip.route(destination).ok()?;
        self.last_route = Some((destination, route));
        Some(route.hop)
    }

    /// The route to `destination`, if the last packet went there.
    #[inline]
    pub(super) fn last_route_to(&self, destination: IpAddr) -> Option<&RouteInfo> {
        self.last_route.as_ref().filter(|(last, _)| *last == destination).map(|(_, route)| route)
    }

    /// //= RFC 6864 §4: only what may be fragmented needs a number, the same for all fragments.
    fn identify(&mut self, out: &mut Outbound<D::Buffer>) {
        if out.dont_fragment {
            return;
        }
        if out.fragment_offset == 0 {
            let protocol = out.protocol.number();
            self.fragment_id = self.identification.next(out.source, out.destination, protocol);
        }
        if out.fragment_offset != 0 || out.more_fragments {
            self.counters.ip.fragments_created += 1;
        }
        out.identification = self.fragment_id;
    }

    /// The transport's checksum and the IP header, by us or the device.
    fn finish_headers(&mut self, out: &mut Outbound<D::Buffer>) {
        let (at, l4_checksum, by_device) = match out.checksum {
            Checksum::Done => return self.put_ip_header(out, ChecksumBy::Stack),
            Checksum::Tcp => (TCP_CHECKSUM_AT, L4Checksum::Tcp, self.offloads.tx_tcp_checksum),
            Checksum::Udp => (UDP_CHECKSUM_AT, L4Checksum::Udp, self.offloads.tx_udp_checksum),
        };
        let len = out.packet.packet_len();
        if out.packet.data().len() < at + 2 {
            return self.put_ip_header(out, ChecksumBy::Stack);
        }
        let protocol = out.protocol.number();
        let segmented = out.segment_size > 0 && self.offloads.tso;
        let by_device = by_device && len >= usize::from(self.offloads.checksum_from);
        // A device that cuts segments adds each one's length itself.
        let summed = if segmented { 0 } else { len };
        let pseudo = pseudo_header(out.source, out.destination, protocol, summed);
        if !by_device {
            let sum = pseudo.plus(Sum::of(out.packet.data())).finish();
            let sum = if out.checksum == Checksum::Udp { udp::nonzero(sum) } else { sum };
            out.packet.data_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            // The last transmission of the same buffer may have asked for more.
            if self.offloads.tx_tcp_checksum {
                out.packet.set_tx_offload(TxOffload::default());
            }
            return self.put_ip_header(out, ChecksumBy::Stack);
        }
        out.packet.data_mut()[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        let ipv4_checksum = self.offloads.tx_ipv4_checksum;
        out.packet.set_tx_offload(TxOffload {
            l2_len: ethernet::HEADER_LEN as u8,
            l3_len: ipv4::HEADER_LEN as u8,
            l4_len: out.header_len,
            ipv4_checksum,
            l4_checksum,
            segment_size: if segmented { out.segment_size } else { 0 },
        });
        let by = if ipv4_checksum { ChecksumBy::Device } else { ChecksumBy::Stack };
        self.put_ip_header(out, by);
    }

    fn put_ip_header(&mut self, out: &mut Outbound<D::Buffer>, checksum_by: ChecksumBy) {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (out.source, out.destination) else {
            return;
        };
        let total_len = ipv4::HEADER_LEN + out.packet.packet_len();
        let header = Header {
            header_len: ipv4::HEADER_LEN as u8,
            traffic_class: out.traffic_class,
            total_len: total_len.min(usize::from(u16::MAX)) as u16,
            identification: out.identification,
            dont_fragment: out.dont_fragment,
            more_fragments: out.more_fragments,
            fragment_offset: out.fragment_offset,
            hop_limit: out.hop_limit,
            protocol: out.protocol,
            source,
            destination,
        };
        header.emit(out.packet.prepend(ipv4::HEADER_LEN), checksum_by);
    }

    /// Puts the link header in front and gives the frame to the device's next burst.
    pub(super) fn emit(
        &mut self,
        now: Instant,
        destination: MacAddr,
        ether_type: EtherType,
        mut packet: D::Buffer,
    ) {
        if packet.headroom() < ethernet::HEADER_LEN {
            self.counters.interface.tx_no_headroom += 1;
            return;
        }
        let header = ethernet::Header { destination, source: self.mac, ether_type };
        header.emit(packet.prepend(ethernet::HEADER_LEN));
        self.capture.tap_packet(now, Direction::Sent, &packet);
        self.counters.interface.tx_frames += 1;
        self.counters.interface.tx_octets += packet.packet_len() as u64;
        self.frames.push(packet);
        if self.frames.is_full() {
            self.send_frames();
        }
    }

    /// Gives the burst to the device; what it does not take waits in the backlog, in order.
    #[inline]
    pub(super) fn send_frames(&mut self) {
        if !self.frames.is_empty() {
            self.send_burst();
        }
    }

    fn send_burst(&mut self) {
        if self.backlog.is_empty() {
            self.device.tx_burst(&mut self.frames);
        }
        for frame in self.frames.drain(..) {
            if self.backlog.push(frame) {
                self.counters.interface.tx_backlogged += 1;
            } else {
                self.counters.interface.tx_backlog_full += 1;
            }
        }
    }

    /// Sends packets whose neighbor answered, and reports those whose did not.
    pub(super) fn send_released(&mut self, now: Instant) {
        while let Some(released) = self.neighbors.poll_released() {
            match released {
                Released::Ready(mac, packet) => self.emit(now, mac, EtherType::Ipv4, packet),
                Released::Failed(packet) => {
                    self.counters.neighbor.dropped_unresolved += 1;
                    self.on_unresolved(now, &packet);
                }
            }
        }
    }
}
