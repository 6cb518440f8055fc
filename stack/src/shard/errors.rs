//! ICMP errors, ours and others'.

use super::rx::Inbound;
use super::{Shard, tcp_context, udp_context};
use crate::device::Device;
use crate::error::Error;
use crate::icmp::{self, MAX_QUOTE};
use crate::ip::pmtu;
use crate::packet::Buffer;
use crate::tcp::SeqNumber;
use crate::time::Instant;
use crate::udp::{ErrorOrigin, Unreachable};
use crate::wire::icmpv4::{self, Message, unreachable};
use crate::wire::ipv4::{self, ChecksumBy, Header, Protocol, Verify};
use core::net::{IpAddr, SocketAddr};

/// Every error ends a TCP opening, soft ones of RFC 1122 §4.2.3.9 too: Linux's programs expect
/// connect to fail with EHOSTUNREACH after three seconds, not ETIMEDOUT after two minutes.
const ENDS_OPENING: bool = true;

/// The precedence of ICMP errors, and the bits of a packet's type of service that they take over.
const INTERNETWORK_CONTROL: u8 = 0xc0;
const TYPE_OF_SERVICE: u8 = 0x1e;

impl<D: Device> Shard<D> {
    /// Tells the sender of `inbound` that it did not arrive, if that may be told.
    pub(super) fn send_unreachable(
        &mut self,
        now: Instant,
        code: u8,
        inbound: &Inbound<'_, D::Buffer>,
    ) {
        let (header, payload) = (&inbound.header, inbound.first.data());
        let counters = &mut self.counters.icmp;
        if !self.icmp.may_send(now, header, payload, inbound.to_many(), counters) {
            return;
        }
        let Some(mut message) = self.device.allocate() else {
            self.counters.interface.tx_no_buffer += 1;
            return;
        };
        let room = message.tailroom().min(MAX_QUOTE + icmpv4::HEADER_LEN);
        let quoted = payload.len().min(room.saturating_sub(icmpv4::HEADER_LEN + ipv4::HEADER_LEN));
        let octets = message.append(icmpv4::HEADER_LEN + ipv4::HEADER_LEN + quoted);
        let quote = &mut octets[icmpv4::HEADER_LEN..];
        // The header as it came, but for options, which nobody reads in a quote.
        let plain = Header {
            header_len: ipv4::HEADER_LEN as u8,
            total_len: header.payload_len().saturating_add(ipv4::HEADER_LEN as u16),
            ..*header
        };
        plain.emit(quote, ChecksumBy::Stack);
        quote[ipv4::HEADER_LEN..].copy_from_slice(&payload[..quoted]);
        icmpv4::emit_error(octets, icmpv4::UNREACHABLE, code, 0);
        self.counters.icmp.out_unreachables += 1;
        //= RFC 1812 §4.3.2.5: errors have precedence; the kind of service is the packet's.
        let class = INTERNETWORK_CONTROL | (header.traffic_class & TYPE_OF_SERVICE);
        self.send_icmp(now, header, class, 0, false, message);
    }

    /// An error about something that we are said to have sent: the quote must be of a packet from
    /// an address of ours, and the transport checks that it has a socket that could have sent it.
    pub(super) fn on_icmp_error(&mut self, now: Instant, inbound: Inbound<'_, D::Buffer>) {
        let Ok(Message::Error(error)) = Message::parse(inbound.first.data()) else { return };
        let Header { source, destination, protocol, header_len, .. } = error.quoted;
        let (error_mtu, error_len) = (error.mtu, error.quoted.total_len);
        let meaning = icmp::meaning(error.kind, error.code);
        let ours = self.ip.is_local(source.into()) && error.quoted.fragment_offset == 0;
        let (Some(meaning), true, false) = (meaning, ours, inbound.to_many()) else {
            self.counters.icmp.in_bad_quotes += 1;
            return;
        };
        let Some((source_port, destination_port)) = ipv4::ports(error.payload) else { return };
        let local = SocketAddr::new(source.into(), source_port);
        let remote = SocketAddr::new(destination.into(), destination_port);
        self.counters.icmp.in_unreachables += 1;
        match protocol {
            Protocol::Tcp => {
                // //= RFC 5927 §4.1: TCP checks that the sequence number is in flight.
                let seq = seq_number(error.payload);
                let error = meaning.error;
                let cx = tcp_context!(self, now);
                if error == Error::MessageTooLong {
                    let mtu = pmtu::meant(error_mtu, error_len);
                    if self.tcp.on_packet_too_big(cx, local, remote, seq, mtu) {
                        self.path_mtus.learn(destination.into(), mtu, now);
                    }
                } else {
                    self.tcp.on_unreachable(cx, local, remote, seq, error, ENDS_OPENING);
                }
            }
            Protocol::Udp => {
                let too_big = meaning.error == Error::MessageTooLong;
                let mtu = pmtu::meant(error_mtu, error_len);
                let report = Unreachable {
                    local,
                    remote,
                    error: meaning.error,
                    hard: meaning.hard || too_big,
                    origin: ErrorOrigin::Icmp,
                    kind: error.kind,
                    code: error.code,
                    info: if too_big { u32::from(mtu) } else { 0 },
                    offender: Some(IpAddr::V4(inbound.header.source)),
                };
                let skip = icmpv4::HEADER_LEN + usize::from(header_len) + 8;
                let mut quote = inbound.first;
                quote.trim_front(skip.min(quote.data().len()));
                let known = self.udp.on_unreachable(udp_context!(self, now), &report, Some(quote));
                if too_big && known {
                    self.path_mtus.learn(remote.ip(), mtu, now);
                }
            }
            Protocol::Icmp | Protocol::Other(_) => self.counters.icmp.in_ignored += 1,
        }
    }

    /// A packet of ours could not be sent: its neighbor did not answer. The transport hears what
    /// a router would have told it.
    ///
    /// //= RFC 1122 §2.4; RFC 4861 §7.2.2
    pub(super) fn on_unresolved(&mut self, now: Instant, packet: &D::Buffer) {
        let Ok(header) = Header::parse(packet.data(), Verify::Nothing) else { return };
        let payload = &packet.data()[usize::from(header.header_len)..];
        let Some((source_port, destination_port)) = ipv4::ports(payload) else { return };
        if header.fragment_offset != 0 {
            return;
        }
        let local = SocketAddr::new(header.source.into(), source_port);
        let remote = SocketAddr::new(header.destination.into(), destination_port);
        let error = Error::HostUnreachable;
        match header.protocol {
            Protocol::Tcp => {
                let seq = seq_number(payload);
                let cx = tcp_context!(self, now);
                self.tcp.on_unreachable(cx, local, remote, seq, error, ENDS_OPENING);
            }
            Protocol::Udp => {
                let report = Unreachable {
                    local,
                    remote,
                    error,
                    hard: false,
                    origin: ErrorOrigin::Icmp,
                    kind: icmpv4::UNREACHABLE,
                    code: unreachable::HOST,
                    info: 0,
                    offender: Some(IpAddr::V4(header.source)),
                };
                let _ = self.udp.on_unreachable(udp_context!(self, now), &report, None);
            }
            Protocol::Icmp | Protocol::Other(_) => {}
        }
    }
}

/// The sequence number in (at least) the first eight octets of a TCP header.
fn seq_number(tcp: &[u8]) -> SeqNumber {
    let octets = tcp.get(4..8).and_then(|b| b.first_chunk::<4>()).copied().unwrap_or_default();
    SeqNumber(u32::from_be_bytes(octets))
}
