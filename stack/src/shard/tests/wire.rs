//! Frames in the test's hands: ARP, ping, checksums, bounds.

use super::*;
use crate::capture::Direction;
use crate::device::Offloads;
use crate::packet::L4Checksum;
use crate::wire::arp::{Operation, Packet};
use crate::wire::checksum::{Sum, checksum, pseudo_header};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::icmpv4;
use crate::wire::ipv4::{ChecksumBy, Header, Protocol, Verify};
use core::net::IpAddr;

pub(super) fn ethernet_frame(
    destination: MacAddr,
    ether_type: EtherType,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::Header { destination, source: MACS[1], ether_type }.emit(&mut frame);
    frame.extend(payload);
    frame
}

pub(super) fn header(protocol: Protocol, payload_len: usize) -> Header {
    Header {
        header_len: 20,
        traffic_class: 0,
        total_len: (20 + payload_len) as u16,
        identification: 9,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        hop_limit: 64,
        protocol,
        source: ADDRESSES[1],
        destination: ADDRESSES[0],
    }
}

pub(super) fn ip_frame(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    header.emit(&mut packet, ChecksumBy::Stack);
    packet.extend(payload);
    ethernet_frame(MACS[0], EtherType::Ipv4, &packet)
}

fn arp(operation: Operation, sender: Ipv4Addr, target: Ipv4Addr) -> Packet {
    Packet { operation, sender_mac: MACS[1], sender, target_mac: MacAddr::default(), target }
}

pub(super) fn inject_arp(host: &mut Host, packet: &Packet) {
    let mut octets = [0; 28];
    packet.emit(&mut octets);
    host.inject(&ethernet_frame(MacAddr::BROADCAST, EtherType::Arp, &octets));
}

fn sent_arp(host: &mut Host) -> Vec<Packet> {
    host.sent().iter().filter_map(|frame| Packet::parse(&frame[14..])).collect()
}

/// Makes the host know its neighbor.
pub(super) fn introduce(host: &mut Host) {
    inject_arp(host, &arp(Operation::Request, ADDRESSES[1], ADDRESSES[0]));
    host.sent();
}

fn udp_payload(len_field: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0, 9, 0, 7];
    datagram.extend(len_field.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let (source, destination) = (ADDRESSES[1].into(), ADDRESSES[0].into());
    let sum = pseudo_header(source, destination, 17, datagram.len()).plus(Sum::of(&datagram));
    datagram[6..8].copy_from_slice(&sum.finish().to_be_bytes());
    datagram
}

#[test]
fn a_host_announces_itself_twice() {
    let device = TestDevice::new(MACS[0], MTU, 64);
    let mut host =
        Host { now: Instant::from_millis(1), shard: Shard::new(&config(0), device, [0; 32]) };
    for expected in [1, 0, 1, 0] {
        host.shard.poll(host.now);
        let announcements = sent_arp(&mut host);
        assert_eq!(announcements.len(), expected);
        assert!(announcements.iter().all(|a| a.sender == ADDRESSES[0] && a.target == a.sender));
        host.now += Duration::from_millis(1_200);
    }
}

#[test]
fn another_address_is_announced_at_once_and_again_and_the_old_one_is_anothers() {
    const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0x77, 1]);
    let mut host = Host::new();
    introduce(&mut host);
    host.shard.set_mac(host.now, NEW);
    assert_eq!(host.shard.mac(), NEW);
    for expected in [1, 0, 1, 0] {
        let frames = host.sent();
        assert_eq!(frames.len(), expected);
        for frame in frames {
            let arp = Packet::parse(&frame[14..]).unwrap();
            assert_eq!((frame[..6].to_vec(), &frame[6..12]), (vec![0xff; 6], &NEW.0[..]));
            assert_eq!((arp.sender_mac, arp.sender, arp.target), (NEW, ADDRESSES[0], arp.sender));
        }
        host.now += Duration::from_millis(1_200);
        host.shard.poll(host.now);
    }
    let mut echo = vec![icmpv4::ECHO_REQUEST, 0, 0, 0, 1, 2, 0, 1];
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ip_frame(&header(Protocol::Icmp, echo.len()), &echo);
    host.inject(&frame);
    assert_eq!((host.sent().len(), host.shard.counters().interface.rx_other_station), (0, 1));
    frame[..6].copy_from_slice(&NEW.0);
    host.inject(&frame);
    let replies = host.sent();
    assert_eq!((replies.len(), &replies[0][6..12]), (1, &NEW.0[..]));
    // Who asks is told the new one.
    inject_arp(&mut host, &arp(Operation::Request, ADDRESSES[1], ADDRESSES[0]));
    assert_eq!(sent_arp(&mut host)[0].sender_mac, NEW);
}

#[test]
fn frames_for_groups_are_counted_captured_and_dropped_with_their_reason() {
    let mut host = Host::new();
    host.shard.capture_start(0);
    let payload = udp_payload(11, b"abc");
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let mut frame = ip_frame(&Header { destination: group, ..header(Protocol::Udp, 11) }, &payload);
    frame[..6].copy_from_slice(&ethernet::multicast_v4(group).0);
    host.inject(&frame);
    // Everybody is no group.
    inject_arp(&mut host, &arp(Operation::Request, ADDRESSES[1], ADDRESSES[1]));
    let counters = host.shard.counters();
    assert_eq!((counters.interface.rx_multicast, counters.ip.in_not_member), (1, 1));
    let mut seen = 0;
    host.shard.capture_read(|frame| seen += usize::from(frame.direction == Direction::Received));
    assert_eq!(seen, 2);
}

#[test]
fn requests_and_probes_for_us_are_answered_and_others_not() {
    let mut host = Host::new();
    for (sender, target, answers) in [
        (ADDRESSES[1], ADDRESSES[0], 1),
        (Ipv4Addr::UNSPECIFIED, ADDRESSES[0], 1),
        (ADDRESSES[1], Ipv4Addr::new(10, 0, 0, 99), 0),
        (ADDRESSES[1], ADDRESSES[1], 0),
        (Ipv4Addr::BROADCAST, ADDRESSES[0], 0),
    ] {
        inject_arp(&mut host, &arp(Operation::Request, sender, target));
        let replies = sent_arp(&mut host);
        assert_eq!(replies.len(), answers, "from {sender} for {target}");
        for reply in replies {
            assert_eq!((reply.operation, reply.sender), (Operation::Reply, ADDRESSES[0]));
            assert_eq!((reply.sender_mac, reply.target_mac), (MACS[0], MACS[1]));
        }
    }
    assert_eq!(host.shard.counters().neighbor.in_bogus, 1);
    assert_eq!(host.shard.neighbors(host.now).count(), 1);
}

#[test]
fn our_address_is_defended() {
    let mut host = Host::new();
    inject_arp(&mut host, &arp(Operation::Request, ADDRESSES[0], ADDRESSES[0]));
    inject_arp(&mut host, &arp(Operation::Reply, ADDRESSES[0], ADDRESSES[0]));
    assert_eq!(sent_arp(&mut host).len(), 1, "not more often than every ten seconds");
    assert_eq!(host.shard.counters().neighbor.conflicts, 2);
    assert_eq!(host.shard.occupancy().neighbors, 0);
}

#[test]
fn ping_is_answered_whole_and_in_fragments() {
    let mut host = Host::new();
    introduce(&mut host);
    let mut echo = vec![icmpv4::ECHO_REQUEST, 0, 0, 0, 1, 2, 0, 1];
    echo.extend(pattern(2_000));
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut whole = echo[..64].to_vec();
    whole[2..4].fill(0);
    let sum = checksum(&whole);
    whole[2..4].copy_from_slice(&sum.to_be_bytes());
    let urgent = Header { traffic_class: 0x10, ..header(Protocol::Icmp, 64) };
    host.inject(&ip_frame(&urgent, &whole));
    let replies = host.sent();
    assert_eq!(replies.len(), 1);
    assert_eq!(checksum(&replies[0][34..]), 0);
    assert_eq!(replies[0][15], 0x10, "the answer is as urgent as the question");
    assert_eq!((replies[0][34], &replies[0][38..]), (icmpv4::ECHO_REPLY, &whole[4..]));

    let (one, two) = echo.split_at(1_480);
    let second = Header { fragment_offset: 1_480, ..header(Protocol::Icmp, two.len()) };
    let first = Header { more_fragments: true, ..header(Protocol::Icmp, one.len()) };
    host.inject(&ip_frame(&second, two));
    host.inject(&ip_frame(&first, one));
    let replies = host.sent();
    assert_eq!(replies.len(), 2);
    let headers: Vec<Header> =
        replies.iter().map(|f| Header::parse(&f[14..], Verify::Checksum).unwrap()).collect();
    assert_eq!(headers[0].identification, headers[1].identification);
    assert_eq!((headers[0].more_fragments, headers[1].fragment_offset), (true, 1_480));
    let reply = [&replies[0][34..], &replies[1][34..]].concat();
    assert_eq!((checksum(&reply), &reply[4..]), (0, &echo[4..]));
    assert_eq!(host.shard.device().buffers_in_use(), 0);
}

#[test]
fn udp_checks_length_and_checksum_and_ignores_padding() {
    let mut host = Host::new();
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.bind(host.now, socket, at(0, 7)).unwrap();
    let good = udp_payload(11, b"abc");
    let mut frame = ip_frame(&header(Protocol::Udp, good.len()), &good);
    frame.extend([0; 15]); // Ethernet's padding.
    host.inject(&frame);
    assert_eq!(receive(&mut host.shard, host.now, socket).unwrap().0, b"abc");
    let mut wrong = good.clone();
    wrong[9] ^= 1;
    host.inject(&ip_frame(&header(Protocol::Udp, 11), &wrong));
    host.inject(&ip_frame(&header(Protocol::Udp, 11), &udp_payload(12, b"abc")));
    host.inject(&ip_frame(&header(Protocol::Udp, 11), &udp_payload(7, b"abc")));
    assert_eq!(receive(&mut host.shard, host.now, socket), Err(Error::WouldBlock));
    let udp = host.shard.counters().udp;
    assert_eq!((udp.in_checksum_errors, udp.in_length_errors), (1, 2));
    wrong[6..8].fill(0);
    host.inject(&ip_frame(&header(Protocol::Udp, 11), &wrong));
    assert!(receive(&mut host.shard, host.now, socket).is_ok(), "no checksum was computed");
}

#[test]
fn a_device_that_checks_and_fills_in_checksums_is_trusted() {
    let mut device = TestDevice::new(MACS[0], MTU, 64);
    device.offloads = Offloads {
        rx_checksum: true,
        tx_ipv4_checksum: true,
        tx_udp_checksum: true,
        ..Offloads::default()
    };
    let mut host = Host::with(device, &config(0));
    introduce(&mut host);
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.bind(host.now, socket, at(0, 7)).unwrap();
    let mut wrong = udp_payload(11, b"abc");
    wrong[6] ^= 0x55;
    let frame = ip_frame(&header(Protocol::Udp, 11), &wrong);
    host.shard.device_mut().inject(&frame, RxChecksum::Good);
    host.shard.device_mut().inject(&frame, RxChecksum::Bad);
    host.shard.poll(host.now);
    assert!(receive(&mut host.shard, host.now, socket).is_ok());
    assert!(receive(&mut host.shard, host.now, socket).is_err());
    let (control, flags) = (SendControl::default(), SendFlags::default());
    let slices = [IoSlice::new(b"xyz")];
    host.shard.send_to(host.now, socket, &slices, Some(at(1, 9)), &control, flags).unwrap();
    let frame = host.shard.device_mut().sent().unwrap();
    let offload = frame.tx_offload();
    assert_eq!((offload.l2_len, offload.l3_len, offload.l4_len), (14, 20, 8));
    assert_eq!((offload.ipv4_checksum, offload.l4_checksum), (true, L4Checksum::Udp));
    let (source, destination): (IpAddr, IpAddr) = (ADDRESSES[0].into(), ADDRESSES[1].into());
    let pseudo = pseudo_header(source, destination, 17, 11).fold().to_be_bytes();
    assert_eq!((&frame.data()[24..26], &frame.data()[40..42]), (&[0, 0][..], &pseudo[..]));
}

#[test]
fn capture_sees_both_directions() {
    let mut host = Host::new();
    introduce(&mut host);
    host.shard.capture_start(40);
    inject_arp(&mut host, &arp(Operation::Request, ADDRESSES[1], ADDRESSES[0]));
    let mut seen = Vec::new();
    host.shard.capture_read(|f| seen.push((f.direction, f.wire_len, f.octets.0.len())));
    assert_eq!(seen, [(Direction::Received, 42, 40), (Direction::Sent, 42, 40)]);
    host.shard.capture_stop();
    inject_arp(&mut host, &arp(Operation::Request, ADDRESSES[1], ADDRESSES[0]));
    host.shard.capture_read(|_| panic!("it was stopped"));
}
