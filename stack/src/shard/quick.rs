//! The short ways: a segment of an established connection from the frame to its connection, and a
//! segment from its connection to the device, without the general path's questions, whose answers
//! are known here.
//!
//! Whatever is not plain (fragments, options, other protocols, unknown neighbors, wrong checksums)
//! is handed back untouched for the general path, which counts and answers it: nothing here drops
//! anything. `rx` and `tx` ask here first.

use super::rx::joined_segments;
use super::{Shard, TCP_CHECKSUM_AT, tcp_context};
use crate::capture::Direction;
use crate::device::BURST;
use crate::device::Device;
use crate::ip::Hop;
use crate::packet::{Buffer, L4Checksum, RxChecksum, Transmit, TxOffload};
use crate::socket::SendFlags;
use crate::tcp::{Flow, TcpId};
use crate::time::Instant;
use crate::wire::checksum::{Sum, pseudo_header_v4};
use crate::wire::ethernet::HEADER_LEN as ETHERNET;
use crate::wire::ipv4::HEADER_LEN as IPV4;
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr};
use std::io::IoSlice;

/// Octets in front of a TCP header.
const HEADERS: usize = ETHERNET + IPV4;
/// IPv4's number for TCP.
const TCP: u8 = 6;

/// What an Ethernet and an IPv4 header without options say about a TCP segment.
struct Plain {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    source_port: u16,
    destination_port: u16,
    /// Octets of the IP packet.
    total_len: usize,
    hop_limit: u8,
    traffic_class: u8,
}

impl Plain {
    /// The segment that starts with `frame` and has `len` octets, if it is that plain. Nothing is
    /// verified yet.
    #[inline]
    fn parse(frame: &[u8], len: usize, mac: [u8; 6]) -> Option<Plain> {
        let fixed = frame.first_chunk::<{ HEADERS + 20 }>()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let address =
            |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let total_len = usize::from(word(16));
        let plain = fixed[..6] == mac
            && fixed[12..15] == [0x08, 0x00, 0x45]
            && word(20) & 0x3fff == 0
            && fixed[23] == TCP
            && (IPV4 + 20..=len - ETHERNET).contains(&total_len)
            // What is in several buffers has no padding that would have to be found.
            && (len == frame.len() || len == ETHERNET + total_len);
        plain.then(|| Plain {
            source: address(26),
            destination: address(30),
            source_port: word(34),
            destination_port: word(36),
            total_len,
            hop_limit: fixed[22],
            traffic_class: fixed[15],
        })
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
    /// Asks for what the frames of a burst need, before the first is handled: each is likely to be
    /// for another connection, and where there are many of those none is in a cache.
    #[inline]
    pub(super) fn warm_up(&self, frames: &[D::Buffer]) {
        if frames.len() > 1 && self.tcp.is_cold() {
            self.touch_all(frames);
        }
    }

    fn touch_all(&self, frames: &[D::Buffer]) {
        let mut places = ArrayVec::<u64, BURST>::new();
        let mut last = None;
        for frame in frames {
            let plain = Plain::parse(frame.data(), frame.packet_len(), self.mac.0);
            let flow = plain.map(|plain| plain.flow());
            if let Some(flow) = flow
                && last != Some(flow)
            {
                // A burst holds no more frames than that.
                let _ = places.try_push(self.tcp.touch_place(flow));
            }
            last = flow.or(last);
        }
        for place in places {
            self.tcp.touch_connection(place);
        }
    }

    /// Takes a frame that is a plain segment of a connection; gives others back as they are.
    #[inline]
    pub(super) fn receive_quickly(
        &mut self,
        now: Instant,
        mut frame: D::Buffer,
    ) -> Option<D::Buffer> {
        let len = frame.packet_len();
        let Some(plain) = Plain::parse(frame.data(), len, self.mac.0) else { return Some(frame) };
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
        let idle = self.frames.is_empty()
            && self.backlog.is_empty()
            && self.loopback.is_empty()
            && !self.udp.wants_transmit();
        if !idle {
            return false;
        }
        let sent = self.tcp.send_at_once(tcp_context!(self, now), id, data, flags);
        let Some(transmit) = sent else { return false };
        if let Some(transmit) = self.send_quickly(now, transmit) {
            self.send_tcp(now, transmit);
            // To ourselves, perhaps.
            self.transmit(now);
        }
        self.send_frames();
        true
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
        let len = transmit.packet.data().len();
        let plain = transmit.dont_fragment
            && transmit.segment_size == 0
            && transmit.packet.headroom() >= HEADERS
            && (20..=usize::from(u16::MAX) - IPV4).contains(&len);
        let hop = self.last_hop.filter(|(last, _)| plain && *last == transmit.destination);
        let Some((_, Hop::Neighbor(neighbor))) = hop else { return Some(transmit) };
        let Some(mac) = self.neighbors.ready(now, neighbor) else { return Some(transmit) };
        self.counters.ip.out_requests += 1;
        let Transmit { mut packet, traffic_class, hop_limit, header_len, .. } = transmit;
        let by_device = self.fill_checksum(&mut packet, source, destination, header_len);
        let total_len = (IPV4 + len) as u16;
        let [s0, s1, s2, s3] = source.octets();
        let [d0, d1, d2, d3] = destination.octets();
        let pairs =
            [(s0, s1), (s2, s3), (d0, d1), (d2, d3), (hop_limit, TCP), (0x45, traffic_class)];
        let sum: u32 = pairs.iter().map(|(a, b)| u32::from(*a) << 8 | u32::from(*b)).sum();
        let sum = sum + u32::from(total_len) + 0x4000;
        let sum = (sum & 0xffff) + (sum >> 16);
        let checksum = if by_device && self.offloads.tx_ipv4_checksum {
            [0, 0]
        } else {
            (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
        };
        if let Some(header) = packet.prepend(HEADERS).first_chunk_mut::<HEADERS>() {
            header[..6].copy_from_slice(&mac.0);
            header[6..12].copy_from_slice(&self.mac.0);
            let [l0, l1] = total_len.to_be_bytes();
            let [c0, c1] = checksum;
            //= RFC 6864 §4: what is never fragmented needs no number.
            header[12..24].copy_from_slice(&[
                0x08,
                0x00,
                0x45,
                traffic_class,
                l0,
                l1,
                0,
                0,
                0x40,
                0,
                hop_limit,
                TCP,
            ]);
            header[24..].copy_from_slice(&[c0, c1, s0, s1, s2, s3, d0, d1, d2, d3]);
        }
        self.capture.tap(now, Direction::Sent, [packet.data(), &[]]);
        self.counters.interface.tx_frames += 1;
        self.counters.interface.tx_octets += (HEADERS + len) as u64;
        self.frames.push(packet);
        if self.frames.is_full() {
            self.send_frames();
        }
        None
    }

    /// The segment's checksum, by us or by the device: whether by the device.
    #[inline]
    fn fill_checksum(
        &mut self,
        packet: &mut D::Buffer,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        header_len: u8,
    ) -> bool {
        let len = packet.data().len();
        let pseudo = pseudo_header_v4(source, destination, TCP, len);
        let by_device =
            self.offloads.tx_tcp_checksum && len >= usize::from(self.offloads.checksum_from);
        let value = if by_device {
            packet.set_tx_offload(TxOffload {
                l2_len: ETHERNET as u8,
                l3_len: IPV4 as u8,
                l4_len: header_len,
                ipv4_checksum: self.offloads.tx_ipv4_checksum,
                l4_checksum: L4Checksum::Tcp,
                segment_size: 0,
            });
            pseudo.fold()
        } else {
            if self.offloads.tx_tcp_checksum {
                // The last transmission of the same buffer may have been longer.
                packet.set_tx_offload(TxOffload::default());
            }
            pseudo.plus(Sum::of(packet.data())).finish()
        };
        if let Some(field) = packet.data_mut().get_mut(TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        by_device
    }
}
