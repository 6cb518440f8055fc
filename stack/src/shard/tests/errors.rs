//! ICMP errors: which are sent, which are believed.

use super::wire::{header, introduce, ip_frame};
use super::*;
use crate::options::{Options, PathMtuDiscovery};
use crate::wire::icmpv4::{self, Message, unreachable};
use crate::wire::ipv4::{self, ChecksumBy, Header, Protocol};

/// An ICMP error from the neighbor about a datagram of ours.
fn error_about(quoted: &Header, ports: [u16; 2], kind: u8, code: u8) -> Vec<u8> {
    let mut message = vec![0; 8 + 20];
    quoted.emit(&mut message[8..], ChecksumBy::Stack);
    message.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
    message.extend([0, 12, 0, 0, b'd', b'a', b't', b'a']);
    icmpv4::emit_error(&mut message, kind, code, 0);
    ip_frame(&header(Protocol::Icmp, message.len()), &message)
}

fn quoted() -> Header {
    Header { source: ADDRESSES[0], destination: ADDRESSES[1], ..header(Protocol::Udp, 12) }
}

#[test]
fn a_closed_port_and_an_unknown_protocol_are_reported_with_a_quote() {
    let mut host = Host::new();
    introduce(&mut host);
    let datagram = [0, 9, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4];
    for (protocol, code) in
        [(Protocol::Udp, unreachable::PORT), (Protocol::Other(253), unreachable::PROTOCOL)]
    {
        host.inject(&ip_frame(&header(protocol, 12), &datagram));
        let sent = host.sent();
        let packet = ipv4::Header::parse(&sent[0][14..], ipv4::Verify::Checksum).unwrap();
        assert_eq!((packet.protocol, packet.destination), (Protocol::Icmp, ADDRESSES[1]));
        assert_eq!(packet.traffic_class, 0xc0, "internetwork control");
        let Ok(Message::Error(error)) = Message::parse(&sent[0][34..]) else { panic!("no error") };
        assert_eq!((error.kind, error.code), (icmpv4::UNREACHABLE, code));
        assert_eq!((error.quoted, error.payload), (header(protocol, 12), &datagram[..]));
    }
}

#[test]
fn a_flood_of_datagrams_to_closed_ports_gets_few_answers() {
    let mut host = Host::new();
    introduce(&mut host);
    for _ in 0..500 {
        host.inject(&ip_frame(&header(Protocol::Udp, 8), &[0, 9, 0, 7, 0, 8, 0, 0]));
    }
    assert_eq!(host.sent().len(), 50);
    assert_eq!(host.shard.counters().icmp.out_rate_limited, 450);
}

#[test]
fn only_errors_that_quote_a_socket_of_ours_are_believed() {
    let mut host = Host::new();
    introduce(&mut host);
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.bind(host.now, socket, at(0, 4000)).unwrap();
    host.shard.connect(host.now, socket, at(1, 9)).unwrap();
    let foreign = Header { source: Ipv4Addr::new(10, 0, 0, 77), ..quoted() };
    for frame in [
        error_about(&foreign, [4000, 9], 3, 3),
        error_about(&quoted(), [4000, 10], 3, 3),
        error_about(&quoted(), [4001, 9], 3, 3),
        error_about(&quoted(), [4000, 9], 3, 1),
        error_about(&quoted(), [4000, 9], 11, 0),
    ] {
        host.inject(&frame);
        assert_eq!(host.shard.take_error(socket), None);
    }
    host.inject(&error_about(&quoted(), [4000, 9], 3, 3));
    assert_eq!(host.shard.take_error(socket), Some(Error::ConnectionRefused));
    host.inject(&error_about(&quoted(), [4000, 9], 3, 10));
    assert_eq!(host.shard.take_error(socket), Some(Error::HostUnreachable));
    assert_eq!(host.shard.device().buffers_in_use(), 0);
}

#[test]
fn a_silent_neighbor_is_reported_to_who_wants_to_know() {
    let mut host = Host::new();
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.update_options(host.now, socket, |o| o.receive_errors = true).unwrap();
    host.shard.connect(host.now, socket, at(1, 9)).unwrap();
    host.shard.send(host.now, socket, &[IoSlice::new(b"x")], SendFlags::default()).unwrap();
    for _ in 0..4 {
        host.now += Duration::from_millis(1_100);
        host.shard.poll(host.now);
    }
    assert_eq!(host.sent().len(), 3, "three requests, no datagram");
    let mut none = [];
    let report = host.shard.receive_error(socket, &mut none).unwrap().report;
    assert_eq!((report.error, report.kind, report.code), (Error::HostUnreachable, 3, 1));
    assert_eq!(host.shard.counters().neighbor.dropped_unresolved, 1);
    assert_eq!(host.shard.device().buffers_in_use(), 0);
}

#[test]
fn rfc_1191_datagrams_shrink_to_what_the_path_takes() {
    let mut host = Host::new();
    introduce(&mut host);
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.bind(host.now, socket, at(0, 4000)).unwrap();
    host.shard.connect(host.now, socket, at(1, 9)).unwrap();
    let peer = at(1, 9).ip();
    let send = |host: &mut Host| {
        host.shard.send(host.now, socket, &[IoSlice::new(&[0; 1_400])], SendFlags::default())
    };
    assert_eq!(send(&mut host), Ok(1_400));
    assert_eq!(host.sent().len(), 1);
    let too_big = |ports, mtu| {
        let mut message = vec![0; 8 + 20];
        let quoted = Header { total_len: 1_428, ..quoted() };
        quoted.emit(&mut message[8..], ChecksumBy::Stack);
        message.extend([4000u16, ports].iter().flat_map(|p| p.to_be_bytes()));
        message.extend([5, 0x80, 0, 0]);
        let (kind, code) = (icmpv4::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED);
        icmpv4::emit_error(&mut message, kind, code, mtu);
        ip_frame(&header(Protocol::Icmp, message.len()), &message)
    };
    host.inject(&too_big(10, 1_000));
    assert_eq!(host.shard.path_mtu(host.now, peer), Some(1_500), "no socket sent that");
    host.inject(&too_big(9, 1_000));
    assert_eq!(host.shard.take_error(socket), Some(Error::MessageTooLong));
    assert_eq!(host.shard.path_mtu(host.now, peer), Some(1_000));
    assert_eq!(send(&mut host), Ok(1_400));
    assert_eq!(host.sent().len(), 2, "cut into fragments");
    let strict = |o: &mut Options| o.path_mtu_discovery = PathMtuDiscovery::Do;
    host.shard.update_options(host.now, socket, strict).unwrap();
    assert_eq!(send(&mut host), Err(Error::MessageTooLong));
    host.now += Duration::from_secs(601);
    assert_eq!(host.shard.path_mtu(host.now, peer), Some(1_500));
}
