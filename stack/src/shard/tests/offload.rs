//! Units of segments: sent whole, cut, joined, and what becomes of them when some are lost.

use super::*;
use crate::device::Offloads;

const TSO: Offloads = Offloads {
    rx_checksum: true,
    lro: true,
    tx_ipv4_checksum: false,
    tx_tcp_checksum: true,
    tx_udp_checksum: true,
    checksum_from: 512,
    tso: true,
    max_parts: 48,
};

/// A connection from the first host to the second.
fn connected(net: &mut Net) -> (SocketId, SocketId) {
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    (client, server)
}

#[test]
fn a_unit_crosses_a_link_in_memory_whole() {
    let mut net = Net::with(|_| {}, |device| device.offloads = TSO);
    let (client, server) = connected(&mut net);
    net.transfer((0, client), (1, server), &pattern(400_000));
    let sent = net.hosts[0].counters().interface;
    let got = net.hosts[1].counters().interface;
    assert!(sent.tx_tso_packets > 0 && sent.tx_gso_packets == 0, "{sent:?}");
    assert!(sent.tx_tso_segments > 4 * sent.tx_tso_packets, "{sent:?}");
    assert_eq!(got.rx_lro_packets, sent.tx_tso_packets);
    assert_eq!((got.rx_frames, got.rx_octets), (sent.tx_frames, sent.tx_octets));
    let tcp = (net.hosts[0].counters().tcp, net.hosts[1].counters().tcp);
    assert_eq!(tcp.0.segments_out, tcp.1.segments_in, "segments are counted, not units");
    assert_eq!(tcp.0.retransmitted, 0);
}

#[test]
fn short_packets_are_summed_by_the_stack_where_the_driver_is_software() {
    let mut net = Net::with(|_| {}, |device| device.offloads = TSO);
    let (client, _) = connected(&mut net);
    net.hosts[0].update_options(net.now, client, |o| o.no_delay = true).unwrap();
    net.send(0, client, &[1; 100], None).unwrap();
    net.hosts[0].poll(net.now);
    let frame = net.hosts[0].device_mut().sent().unwrap();
    assert_eq!(frame.tx_offload().l4_checksum, crate::packet::L4Checksum::Done);
    net.send(0, client, &[1; 600], None).unwrap();
    net.hosts[0].poll(net.now);
    let frame = net.hosts[0].device_mut().sent().unwrap();
    assert_eq!(frame.tx_offload().l4_checksum, crate::packet::L4Checksum::Tcp);
    assert_eq!(frame.tx_offload().segment_size, 0);
}

#[test]
fn without_a_device_that_cuts_units_are_cut_and_joined_again() {
    let mut net = Net::new();
    let (client, server) = connected(&mut net);
    net.transfer((0, client), (1, server), &pattern(400_000));
    let sent = net.hosts[0].counters().interface;
    let got = net.hosts[1].counters().interface;
    assert!(sent.tx_gso_packets > 0 && sent.tx_tso_packets == 0, "{sent:?}");
    assert!(got.rx_gro_packets > 0 && got.rx_gro_frames > 2 * got.rx_gro_packets, "{got:?}");
    assert_eq!((got.rx_frames, got.rx_octets), (sent.tx_frames, sent.tx_octets));
    let tcp = (net.hosts[0].counters().tcp, net.hosts[1].counters().tcp);
    assert_eq!(tcp.0.segments_out, tcp.1.segments_in);
    assert_eq!(net.hosts[1].counters().ip.in_tcp_checksum_errors, 0);
}

#[test]
fn off_means_off() {
    let off = |config: &mut Config| (config.segment, config.coalesce) = (false, false);
    let mut net = Net::with(off, |_| {});
    let (client, server) = connected(&mut net);
    net.transfer((0, client), (1, server), &pattern(400_000));
    let (sent, got) = (net.hosts[0].counters().interface, net.hosts[1].counters().interface);
    assert_eq!((sent.tx_gso_packets, sent.tx_tso_packets, got.rx_gro_packets), (0, 0, 0));
}

#[test]
fn segments_on_the_wire_have_their_numbers_lengths_and_flags() {
    let mut net = Net::new();
    let (client, server) = connected(&mut net);
    net.transfer((0, client), (1, server), &pattern(200_000));
    assert_eq!(net.send(0, client, &pattern(14_480), None), Ok(14_480));
    net.hosts[0].poll(net.now);
    let frames: Vec<_> = core::iter::from_fn(|| net.hosts[0].device_mut().sent())
        .map(|frame| frame.data().to_vec())
        .collect();
    assert_eq!(frames.len(), 10);
    let seq = |frame: &[u8]| u32::from_be_bytes(frame[38..42].try_into().unwrap());
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame.len(), 14 + 1500);
        assert_eq!(frame[16..18], 1500u16.to_be_bytes());
        assert_eq!(seq(frame), seq(&frames[0]).wrapping_add(1448 * n as u32));
        assert_eq!(frame[47], if n == 9 { 0x18 } else { 0x10 }, "PSH on the last alone");
    }
}

#[test]
fn a_damaged_segment_of_a_burst_is_dropped_alone() {
    let mut net = Net::new();
    let (client, server) = connected(&mut net);
    net.transfer((0, client), (1, server), &pattern(200_000));
    let data = pattern(14_480);
    assert_eq!(net.send(0, client, &data, None), Ok(14_480));
    net.hosts[0].poll(net.now);
    let frames: Vec<_> = core::iter::from_fn(|| net.hosts[0].device_mut().sent()).collect();
    for (n, mut frame) in frames.into_iter().enumerate() {
        if n == 4 {
            frame.data_mut()[700] ^= 0x20;
        }
        net.hosts[0].device_mut().resend(frame);
    }
    net.hosts[1].poll(net.now);
    let counters = net.hosts[1].counters();
    assert_eq!(counters.ip.in_tcp_checksum_errors, 1);
    let (got, _) = net.receive(1, server).unwrap();
    assert_eq!(got, data[..4 * 1448]);
    assert_eq!(net.hosts[1].info(net.now, server).unwrap().rcv_ooopack, 5);
    let mut rest = Vec::new();
    for _ in 0..200 {
        net.advance(Duration::from_millis(5));
        rest.extend(net.receive(1, server).map_or(vec![], |(octets, _)| octets));
    }
    assert_eq!(rest, data[4 * 1448..]);
    assert_eq!(net.hosts[0].counters().tcp.retransmitted, 1, "the one segment of the unit");
}

#[test]
fn a_lost_unit_is_repaired() {
    let mut net = Net::with(|_| {}, |device| device.offloads = TSO);
    let (client, server) = connected(&mut net);
    let data = pattern(400_000);
    let (mut sent, mut got, mut units) = (0, Vec::new(), 0u32);
    for _ in 0..20_000 {
        if got.len() == data.len() {
            break;
        }
        sent += net.send(0, client, &data[sent..], None).unwrap_or(0);
        net.hosts[0].poll(net.now);
        let crossing: Vec<_> = core::iter::from_fn(|| net.hosts[0].device_mut().sent()).collect();
        for frame in crossing {
            units += u32::from(frame.parts() > 1);
            if frame.parts() == 1 || units % 3 != 0 {
                net.hosts[0].device_mut().resend(frame);
            }
        }
        net.hosts[1].poll(net.now);
        got.extend(net.receive(1, server).map_or(vec![], |(octets, _)| octets));
        net.now += Duration::from_millis(5);
    }
    assert!(got == data, "{} of {} octets", got.len(), data.len());
    assert!(units > 3 && net.hosts[0].counters().tcp.retransmitted > 0);
}

#[test]
fn loopback_carries_units_cut() {
    let mut net = Net::with(|_| {}, |device| device.offloads = TSO);
    let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80);
    let listener = net.listener(0, here);
    let client = net.connect(0, here);
    let (server, _) = net.hosts[0].accept(net.now, listener).unwrap();
    net.transfer((0, client), (0, server), &pattern(400_000));
    assert_eq!(net.hosts[0].counters().interface.tx_tso_packets, 0);
}

#[test]
fn a_capture_shows_units_whole() {
    let mut net = Net::with(|_| {}, |device| device.offloads = TSO);
    let (client, server) = connected(&mut net);
    net.transfer((0, client), (1, server), &pattern(200_000));
    net.hosts[0].capture_start(0);
    net.send(0, client, &pattern(14_480), None).unwrap();
    net.settle();
    let mut longest = (0, 0);
    net.hosts[0].capture_read(|f| {
        longest = longest.max((f.wire_len, f.octets.0.len() + f.octets.1.len()));
    });
    assert_eq!(longest, (14 + 20 + 32 + 14_480, 14 + 20 + 32 + 14_480));
}
