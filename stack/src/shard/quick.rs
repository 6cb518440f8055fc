//! The short ways: a segment of an established connection, or a datagram, from the frame to its
//! socket, and from there to the device, without the general path's questions, whose answers
//! are known here.
//!
//! Whatever is not plain (fragments, options, other protocols, unknown neighbors, wrong checksums)
//! is handed back untouched for the general path, which counts and answers it: nothing here drops
//! anything. `rx` and `tx` ask here first.

use super::rx::Inbound;
use super::rx::joined_segments;
use super::{Shard, TCP_CHECKSUM_AT, tcp_context, udp_context};
use crate::addr::MacAddr;
use crate::capture::Direction;
use crate::device::Device;
use crate::ip::{Arrival, Cast, Hop, Verdict};
use crate::packet::{Buffer, IpMeta, L4Checksum, RxChecksum, Transmit, TxOffload};
use crate::socket::SendFlags;
use crate::tcp::{Ahead, Flow, TcpId};
use crate::time::Instant;
use crate::udp::{self, Arrived, Delivery, UdpId};
use crate::wire::checksum::{Sum, pseudo_header_v4};
use crate::wire::ethernet::HEADER_LEN as ETHERNET;
use crate::wire::icmpv4::unreachable;
use crate::wire::ipv4::{HEADER_LEN as IPV4, Header, Protocol};
use crate::wire::udp::{CHECKSUM_AT as UDP_CHECKSUM_AT, HEADER_LEN as UDP_HEADER};
use core::net::{IpAddr, Ipv4Addr};
use std::io::IoSlice;

/// Octets in front of a TCP header.
const HEADERS: usize = ETHERNET + IPV4;
/// IPv4's numbers of the two.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What an Ethernet and an IPv4 header without options say about a segment or a datagram.
struct Plain {
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    source_port: u16,
    destination_port: u16,
    /// Octets of the IP packet.
    total_len: usize,
    hop_limit: u8,
    traffic_class: u8,
    identification: u16,
    dont_fragment: bool,
}

impl Plain {
    /// The segment that starts with `frame` and has `len` octets, if it is that plain. Nothing is
    /// verified yet.
    #[inline]
    fn parse(frame: &[u8], len: usize, mac: [u8; 6]) -> Option<Plain> {
        // No frame on a wire is shorter than a TCP header needs; one in memory may be.
        let fixed = frame.first_chunk::<{ HEADERS + UDP_HEADER }>()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let address =
            |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let total_len = usize::from(word(16));
        let plain = fixed[..6] == mac
            && fixed[12..15] == [0x08, 0x00, 0x45]
            && word(20) & 0x3fff == 0
            && (fixed[23] == TCP && total_len >= IPV4 + 20
                || fixed[23] == UDP && total_len >= IPV4 + UDP_HEADER)
            && total_len <= len - ETHERNET
            // What is in several buffers has no padding that would have to be found.
            && (len == frame.len() || len == ETHERNET + total_len);
        plain.then(|| Plain {
            protocol: fixed[23],
            source: address(26),
            destination: address(30),
            source_port: word(34),
            destination_port: word(36),
            total_len,
            hop_limit: fixed[22],
            traffic_class: fixed[15],
            identification: word(18),
            dont_fragment: fixed[20] & 0x40 != 0,
        })
    }

    /// The IP header of a datagram.
    #[inline]
    fn ip_header(&self) -> Header {
        Header {
            header_len: IPV4 as u8,
            traffic_class: self.traffic_class,
            total_len: self.total_len as u16,
            identification: self.identification,
            dont_fragment: self.dont_fragment,
            more_fragments: false,
            fragment_offset: 0,
            hop_limit: self.hop_limit,
            protocol: Protocol::Udp,
            source: self.source,
            destination: self.destination,
        }
    }

    #[inline]
    fn flow(&self) -> Flow {
        Flow {
            local: self.destination,
            remote: self.source,
            ports: (self.destination_port, self.source_port),
        }
    }

    /// Whether the IP header's checksum is right.
    #[inline]
    fn verify_ip(&self, frame: &[u8]) -> bool {
        frame.get(ETHERNET..HEADERS).is_some_and(|ip| Sum::of(ip).finish() == 0)
    }

    /// Whether both checksums are right; not if the segment is in several buffers.
    #[inline]
    fn verify(&self, frame: &[u8]) -> bool {
        let (Some(ip), Some(tcp)) =
            (frame.get(ETHERNET..HEADERS), frame.get(HEADERS..ETHERNET + self.total_len))
        else {
            return false;
        };
        let pseudo = pseudo_header_v4(self.source, self.destination, TCP, tcp.len());
        Sum::of(ip).finish() == 0 && Sum::of(tcp).plus(pseudo).finish() == 0
    }
}

impl<D: Device> Shard<D> {
    /// Begins to ask for what the frames of a burst need, before the first is handled: each is likely
    /// to be for another connection, and where there are many of those none is in a cache.
    #[inline]
    pub(super) fn look_ahead(&self, frames: &[D::Buffer]) -> Ahead {
        if !self.tcp.is_cold() {
            return Ahead::default();
        }
        let mut last = None;
        self.tcp.look_ahead(frames.iter().filter_map(|frame| {
            let flow = Plain::parse(frame.data(), frame.packet_len(), self.mac.0)?.flow();
            (last.replace(flow) != Some(flow)).then_some(flow)
        }))
    }

    /// Takes a frame that is a plain segment of a connection, or a plain datagram; gives others back
    /// as they are.
    #[inline]
    pub(super) fn receive_quickly(
        &mut self,
        now: Instant,
        mut frame: D::Buffer,
    ) -> Option<D::Buffer> {
        let len = frame.packet_len();
        let Some(plain) = Plain::parse(frame.data(), len, self.mac.0) else { return Some(frame) };
        if plain.protocol == UDP {
            return self.receive_datagram(now, frame, &plain);
        }
        // The addresses of a connection were judged when it was opened.
        let Some(socket) = self.tcp.find_connected(plain.flow()) else {
            return Some(frame);
        };
        let sound = match frame.rx_checksum() {
            RxChecksum::Good => true,
            RxChecksum::TransportGood => plain.verify_ip(frame.data()),
            RxChecksum::Unknown | RxChecksum::Bad => plain.verify(frame.data()),
        };
        if !sound {
            return Some(frame);
        }
        self.counters.ip.in_receives += joined_segments(&frame, HEADERS);
        self.counters.ip.in_delivers += 1;
        frame.truncate(ETHERNET + plain.total_len);
        frame.trim_front(HEADERS);
        let ip = (plain.hop_limit, plain.traffic_class);
        self.tcp.on_connected(tcp_context!(self, now), socket, ip, frame);
        None
    }

    #[inline]
    fn receive_datagram(
        &mut self,
        now: Instant,
        mut frame: D::Buffer,
        plain: &Plain,
    ) -> Option<D::Buffer> {
        let header = plain.ip_header();
        let arrival = Arrival::Unicast;
        let ours = self.ip.classify(&header, arrival) == Verdict::Deliver(Cast::Unicast);
        let verified = match frame.rx_checksum() {
            RxChecksum::Good | RxChecksum::TransportGood => true,
            RxChecksum::Unknown | RxChecksum::Bad => false,
        };
        if !ours || frame.parts() > 1 || !plain.verify_ip(frame.data()) {
            return Some(frame);
        }
        self.counters.ip.in_receives += 1;
        self.counters.ip.in_delivers += 1;
        frame.truncate(ETHERNET + plain.total_len);
        frame.trim_front(HEADERS);
        let meta = IpMeta {
            source: plain.source.into(),
            destination: plain.destination.into(),
            traffic_class: plain.traffic_class,
            hop_limit: plain.hop_limit,
        };
        let arrived = Arrived { meta, to_many: false, verified };
        let delivery = self.udp.on_packet(udp_context!(self, now), arrived, frame, &mut []);
        if let Delivery::NoPort(first) = delivery {
            // //= RFC 1122 §4.1.3.1
            let cast = Cast::Unicast;
            let inbound = Inbound { header, arrival, cast, first, rest: &mut [] };
            self.send_unreachable(now, unreachable::PORT, &inbound);
        }
        None
    }

    /// Whether nothing waits to be sent: what a call brings may go first.
    #[inline]
    fn is_idle(&self) -> bool {
        self.frames.is_empty()
            && self.backlog.is_empty()
            && self.loopback.is_empty()
            && !self.tcp.wants_transmit()
            && !self.udp.wants_transmit()
    }

    /// Sends a program's data as one segment, past every list, if nothing else is to be sent; else
    /// nothing has changed.
    #[inline]
    pub(super) fn send_at_once(
        &mut self,
        now: Instant,
        id: TcpId,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> bool {
        if !self.is_idle() {
            return false;
        }
        let sent = self.tcp.send_at_once(tcp_context!(self, now), id, data, flags);
        let Some((transmit, sent)) = sent else { return false };
        match self.send_quickly(now, transmit) {
            None => {
                self.send_frames();
                self.tcp.remember_sent(tcp_context!(self, now), sent);
            }
            Some(transmit) => {
                // To ourselves, perhaps: the answer must find it remembered.
                self.tcp.remember_sent(tcp_context!(self, now), sent);
                self.send_tcp(now, transmit);
                self.transmit(now);
            }
        }
        true
    }

    /// Sends a datagram past every list, if nothing else is to be sent; else nothing has changed.
    #[inline]
    pub(super) fn send_datagram_at_once(
        &mut self,
        now: Instant,
        id: UdpId,
        path: &udp::Path,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> bool {
        if !self.is_idle() {
            return false;
        }
        let sent = self.udp.send_at_once(udp_context!(self, now), id, path, data, flags);
        let Some(transmit) = sent else { return false };
        let mac = self.neighbor_of(now, transmit.destination, &transmit.packet);
        let addresses = (transmit.source, transmit.destination);
        match (mac, addresses, transmit.dont_fragment) {
            (Some(mac), (IpAddr::V4(source), IpAddr::V4(destination)), true) => {
                let udp::Transmit { packet, traffic_class, hop_limit, .. } = transmit;
                let addresses = [source, destination];
                let ip = PlainIp { addresses, traffic_class, hop_limit, protocol: UDP };
                self.send_plain(now, mac, &ip, UDP_HEADER as u8, packet);
                self.send_frames();
            }
            _ => {
                self.send_udp(now, transmit);
                // To ourselves, perhaps.
                self.transmit(now);
            }
        }
        true
    }

    /// The address of the station that a packet to `destination` goes to next, if the last one went
    /// there too and the packet is plain.
    #[inline]
    fn neighbor_of(
        &mut self,
        now: Instant,
        destination: IpAddr,
        packet: &D::Buffer,
    ) -> Option<MacAddr> {
        let len = packet.data().len();
        let plain = packet.headroom() >= HEADERS
            && (8..=usize::from(u16::MAX) - IPV4).contains(&len)
            && packet.parts() == 1;
        let Hop::Neighbor(neighbor) = self.last_route_to(destination)?.hop else { return None };
        if plain { self.neighbors.ready(now, neighbor) } else { None }
    }

    /// Sends a segment to a neighbor that is known; gives others back as they are.
    #[inline]
    pub(super) fn send_quickly(
        &mut self,
        now: Instant,
        transmit: Transmit<D::Buffer>,
    ) -> Option<Transmit<D::Buffer>> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (transmit.source, transmit.destination)
        else {
            return Some(transmit);
        };
        if !transmit.dont_fragment || transmit.segment_size > 0 {
            return Some(transmit);
        }
        let mac = self.neighbor_of(now, transmit.destination, &transmit.packet);
        let Some(mac) = mac else { return Some(transmit) };
        let Transmit { packet, traffic_class, hop_limit, header_len, .. } = transmit;
        let addresses = [source, destination];
        let ip = PlainIp { addresses, traffic_class, hop_limit, protocol: TCP };
        self.send_plain(now, mac, &ip, header_len, packet);
        None
    }

    /// Puts checksum and headers on a packet that is never cut, and gives it to the next burst.
    #[inline]
    fn send_plain(
        &mut self,
        now: Instant,
        mac: MacAddr,
        ip: &PlainIp,
        header_len: u8,
        mut packet: D::Buffer,
    ) {
        let len = packet.data().len();
        self.counters.ip.out_requests += 1;
        let by_device = self.fill_checksum(&mut packet, ip, header_len);
        let total_len = (IPV4 + len) as u16;
        let checksum = if by_device && self.offloads.tx_ipv4_checksum {
            [0, 0]
        } else {
            ip.checksum(total_len).to_be_bytes()
        };
        if let Some(header) = packet.prepend(HEADERS).first_chunk_mut::<HEADERS>() {
            header[..6].copy_from_slice(&mac.0);
            header[6..12].copy_from_slice(&self.mac.0);
            ip.write(header, total_len, checksum);
        }
        self.capture.tap(now, Direction::Sent, [packet.data(), &[]]);
        self.counters.interface.tx_frames += 1;
        self.counters.interface.tx_octets += (HEADERS + len) as u64;
        self.frames.push(packet);
        if self.frames.is_full() {
            self.send_frames();
        }
    }

    /// The transport's checksum, by us or by the device: whether by the device.
    #[inline]
    fn fill_checksum(&mut self, packet: &mut D::Buffer, ip: &PlainIp, header_len: u8) -> bool {
        let offloads = &self.offloads;
        let (at, l4_checksum, offered) = match ip.protocol {
            TCP => (TCP_CHECKSUM_AT, L4Checksum::Tcp, offloads.tx_tcp_checksum),
            _ => (UDP_CHECKSUM_AT, L4Checksum::Udp, offloads.tx_udp_checksum),
        };
        let len = packet.data().len();
        let pseudo = pseudo_header_v4(ip.addresses[0], ip.addresses[1], ip.protocol, len);
        let by_device = offered && len >= usize::from(offloads.checksum_from);
        let value = if by_device {
            packet.set_tx_offload(TxOffload {
                l2_len: ETHERNET as u8,
                l3_len: IPV4 as u8,
                l4_len: header_len,
                ipv4_checksum: offloads.tx_ipv4_checksum,
                l4_checksum,
                segment_size: 0,
            });
            pseudo.fold()
        } else {
            if offered && ip.protocol == TCP {
                // The last transmission of the same buffer may have been longer.
                packet.set_tx_offload(TxOffload::default());
            }
            let sum = pseudo.plus(Sum::of(packet.data())).finish();
            if ip.protocol == UDP { udp::nonzero(sum) } else { sum }
        };
        if let Some(field) = packet.data_mut().get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        by_device
    }
}

/// What the IPv4 header of a packet that is never cut says.
struct PlainIp {
    /// Ours and the peer's.
    addresses: [Ipv4Addr; 2],
    traffic_class: u8,
    hop_limit: u8,
    protocol: u8,
}

impl PlainIp {
    #[inline]
    fn checksum(&self, total_len: u16) -> u16 {
        let halves = self.addresses.map(|address| {
            let bits = address.to_bits();
            (bits >> 16) + (bits & 0xffff)
        });
        let pairs = [(self.hop_limit, self.protocol), (0x45, self.traffic_class)];
        let sum: u32 = pairs.iter().map(|(a, b)| u32::from(*a) << 8 | u32::from(*b)).sum();
        let sum = sum + halves[0] + halves[1] + u32::from(total_len) + 0x4000;
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// Writes the header behind the stations' addresses.
    #[inline]
    fn write(&self, frame: &mut [u8; HEADERS], total_len: u16, checksum: [u8; 2]) {
        let [l0, l1] = total_len.to_be_bytes();
        let [s0, s1, s2, s3] = self.addresses[0].octets();
        let [d0, d1, d2, d3] = self.addresses[1].octets();
        let [c0, c1] = checksum;
        let (class, hops, protocol) = (self.traffic_class, self.hop_limit, self.protocol);
        //= RFC 6864 §4: what is never fragmented needs no number.
        let front = [0x08, 0x00, 0x45, class, l0, l1, 0, 0, 0x40, 0, hops, protocol];
        frame[12..24].copy_from_slice(&front);
        frame[24..].copy_from_slice(&[c0, c1, s0, s1, s2, s3, d0, d1, d2, d3]);
    }
}
