//! UDP between two shards.

use super::*;
use crate::options::PathMtuDiscovery;
use crate::readiness::Readiness;

#[test]
fn a_datagram_waits_for_arp_and_is_echoed() {
    let mut net = Net::new();
    let (client, server) = (net.udp(0, 4000), net.udp(1, 7));
    assert_eq!(net.send(0, client, b"hello", Some(at(1, 7))), Ok(5));
    assert_eq!(net.hosts[0].occupancy().unresolved_packets, 1);
    net.settle();
    assert_eq!(net.receive(1, server), Ok((b"hello".to_vec(), Some(at(0, 4000)))));
    assert_eq!(net.send(1, server, b"", Some(at(0, 4000))), Ok(0));
    net.settle();
    assert_eq!(net.receive(0, client), Ok((vec![], Some(at(1, 7)))));
    assert_eq!(net.receive(0, client), Err(Error::WouldBlock));
    let [left, right] = &net.hosts;
    assert_eq!(left.counters().neighbor.out_requests, 1);
    assert_eq!(right.counters().neighbor.out_requests, 0, "the request taught it the address");
    assert_eq!(net.buffers_in_use(), 0);
}

#[test]
fn large_datagrams_are_fragmented_and_put_together_either_way() {
    let mut net = Net::new();
    let (client, server) = (net.udp(0, 4000), net.udp(1, 7));
    // The neighbor's queue is smaller than a large datagram: resolve first, as ping would.
    net.send(0, client, b"?", Some(at(1, 7))).unwrap();
    net.settle();
    net.receive(1, server).unwrap();
    let room = 8 * 1024 * 1024;
    for (host, socket) in [(0, client), (1, server)] {
        let now = net.now;
        net.hosts[host].update_options(now, socket, |o| o.receive_buffer = room).unwrap();
    }
    for len in [1472, 1473, 2952, 9000, 65_507] {
        let data = pattern(len);
        assert_eq!(net.send(0, client, &data, Some(at(1, 7))), Ok(len));
        net.settle();
        assert_eq!(net.receive(1, server), Ok((data.clone(), Some(at(0, 4000)))), "{len} octets");
        net.send(1, server, &data, Some(at(0, 4000))).unwrap();
        net.settle();
        assert_eq!(net.receive(0, client), Ok((data, Some(at(1, 7)))), "{len} octets back");
    }
    assert_eq!(net.send(0, client, &pattern(65_508), Some(at(1, 7))), Err(Error::MessageTooLong));
    let ip = net.hosts[1].counters().ip;
    assert_eq!((ip.reassembly_ok, ip.reassembly_malformed), (4, 0));
    assert_eq!(net.buffers_in_use(), 0);
    assert_eq!(net.hosts[0].occupancy().udp.parts, 0);
}

#[test]
fn what_must_not_be_fragmented_is_refused() {
    let mut net = Net::new();
    let client = net.udp(0, 4000);
    let now = net.now;
    let strict = PathMtuDiscovery::Do;
    net.hosts[0].update_options(now, client, |o| o.path_mtu_discovery = strict).unwrap();
    assert_eq!(net.send(0, client, &pattern(1473), Some(at(1, 7))), Err(Error::MessageTooLong));
    assert!(net.hosts[0].receive_error(client, &mut []).is_err());
    net.hosts[0].update_options(now, client, |o| o.receive_errors = true).unwrap();
    assert_eq!(net.send(0, client, &pattern(1473), Some(at(1, 7))), Err(Error::MessageTooLong));
    let report = net.hosts[0].receive_error(client, &mut []).unwrap().report;
    assert_eq!((report.error, report.info, report.offender), (Error::MessageTooLong, 1500, None));
    assert_eq!(net.send(0, client, &pattern(1472), Some(at(1, 7))), Ok(1472));
}

#[test]
fn a_connected_socket_hears_of_a_closed_port() {
    let mut net = Net::new();
    let client = net.socket(0, SocketKind::Udp);
    let now = net.now;
    net.hosts[0].connect(now, client, at(1, 9)).unwrap();
    assert_eq!(net.hosts[0].local_address(client).unwrap().ip(), ADDRESSES[0]);
    net.send(0, client, b"x", None).unwrap();
    net.settle();
    assert!(net.hosts[0].readiness(client).contains(Readiness::ERROR));
    assert_eq!(net.receive(0, client), Err(Error::ConnectionRefused));
    assert_eq!(net.receive(0, client), Err(Error::WouldBlock));
    net.send(0, client, b"x", None).unwrap();
    net.settle();
    assert_eq!(net.send(0, client, b"x", None), Err(Error::ConnectionRefused));
    let unconnected = net.udp(0, 4001);
    net.send(0, unconnected, b"x", Some(at(1, 9))).unwrap();
    net.settle();
    assert_eq!(net.receive(0, unconnected), Err(Error::WouldBlock));
    assert_eq!(net.buffers_in_use(), 0);
}

#[test]
fn the_error_queue_names_the_offender_and_returns_the_payload() {
    let mut net = Net::new();
    let client = net.udp(0, 4000);
    let now = net.now;
    net.hosts[0].update_options(now, client, |o| o.receive_errors = true).unwrap();
    net.send(0, client, b"payload", Some(at(1, 9))).unwrap();
    net.settle();
    let mut data = [0; 64];
    let report = net.hosts[0].receive_error(client, &mut [IoSliceMut::new(&mut data)]).unwrap();
    assert_eq!(&data[..report.len], b"payload");
    let report = report.report;
    assert_eq!((report.error, report.kind, report.code), (Error::ConnectionRefused, 3, 3));
    assert_eq!((report.offender, report.remote), (Some(ADDRESSES[1].into()), at(1, 9)));
    assert_eq!(net.hosts[0].take_error(client), None);
    assert_eq!(net.hosts[0].occupancy().udp.errors, 0);
    assert_eq!(net.buffers_in_use(), 0);
}

#[test]
fn a_full_receive_buffer_drops_and_counts() {
    let mut net = Net::new();
    let (client, server) = (net.udp(0, 4000), net.udp(1, 7));
    let now = net.now;
    net.hosts[1].update_options(now, server, |o| o.receive_buffer = 2_304).unwrap();
    for n in 0..10u8 {
        net.send(0, client, &[n], Some(at(1, 7))).unwrap();
        net.settle();
    }
    let mut got = Vec::new();
    while let Ok((data, _)) = net.receive(1, server) {
        got.push(data[0]);
    }
    assert_eq!(got, [0, 1, 2, 3], "768 octets each, one more than fits");
    assert_eq!(net.hosts[1].counters().udp.receive_buffer_errors, 6);
    let mut drops = 0;
    net.hosts[1].sockets(|socket| drops = socket.drops);
    assert_eq!(drops, 6);
}

#[test]
fn broadcast_needs_permission_and_reaches_every_listener() {
    let mut net = Net::new();
    let client = net.udp(0, 4000);
    let listeners = [0, 1].map(|_| {
        let socket = net.socket(1, SocketKind::Udp);
        let now = net.now;
        net.hosts[1].update_options(now, socket, |o| o.reuse_address = true).unwrap();
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 7);
        net.hosts[1].bind(now, socket, any).unwrap();
        socket
    });
    let everybody = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 255).into(), 7);
    assert_eq!(net.send(0, client, b"hi", Some(everybody)), Err(Error::PermissionDenied));
    let now = net.now;
    net.hosts[0].update_options(now, client, |o| o.broadcast = true).unwrap();
    net.send(0, client, b"hi", Some(everybody)).unwrap();
    net.settle();
    for listener in listeners {
        assert_eq!(net.receive(1, listener), Ok((b"hi".to_vec(), Some(at(0, 4000)))));
    }
    assert_eq!(net.buffers_in_use(), 0);
}

#[test]
fn a_device_that_takes_nothing_makes_senders_wait() {
    let mut net = Net::new();
    let (client, server) = (net.udp(0, 4000), net.udp(1, 7));
    net.send(0, client, b"?", Some(at(1, 7))).unwrap();
    net.settle();
    net.receive(1, server).unwrap();
    while net.hosts[0].poll_event().is_some() {}
    net.hosts[0].device_mut().tx_limit = 0;
    let sent = (0..2_000).take_while(|_| net.send(0, client, b"x", Some(at(1, 7))).is_ok()).count();
    assert!((64..1_999).contains(&sent), "{sent}");
    assert!(!net.hosts[0].readiness(client).contains(Readiness::WRITABLE));
    let soon = net.now + Duration::from_micros(50);
    assert!(net.hosts[0].next_timeout().is_some_and(|next| next <= soon));
    net.hosts[0].device_mut().tx_limit = usize::MAX;
    net.settle();
    let event = net.hosts[0].poll_event().expect("room again");
    assert!(event.readiness.contains(Readiness::WRITABLE));
    assert_eq!(net.hosts[1].counters().interface.rx_frames as usize, sent + 2 + 1, "none lost");
}

#[test]
fn segments_of_one_call_are_datagrams() {
    let mut net = Net::new();
    let (client, server) = (net.udp(0, 4000), net.udp(1, 7));
    let control = SendControl { segment_size: Some(1000), ..SendControl::default() };
    let data = pattern(2_500);
    let slices = [IoSlice::new(&data[..700]), IoSlice::new(&data[700..])];
    let (now, flags) = (net.now, SendFlags::default());
    let sent = net.hosts[0].send_to(now, client, &slices, Some(at(1, 7)), &control, flags);
    assert_eq!(sent, Ok(2_500));
    net.settle();
    for piece in data.chunks(1000) {
        assert_eq!(net.receive(1, server).unwrap().0, piece);
    }
}

#[test]
fn corked_pieces_leave_as_one_datagram() {
    let mut net = Net::new();
    let (client, server) = (net.udp(0, 4000), net.udp(1, 7));
    let (now, control) = (net.now, SendControl::default());
    for (piece, more) in [(&b"one "[..], true), (b"two ", true), (b"three", false)] {
        let flags = SendFlags { more, ..SendFlags::default() };
        let slices = [IoSlice::new(piece)];
        net.hosts[0].send_to(now, client, &slices, Some(at(1, 7)), &control, flags).unwrap();
    }
    net.hosts[0].update_options(now, client, |o| o.udp_cork = true).unwrap();
    net.send(0, client, b"four ", Some(at(1, 7))).unwrap();
    net.send(0, client, b"five", Some(at(1, 7))).unwrap();
    net.settle();
    assert_eq!(net.receive(1, server).unwrap().0, b"one two three");
    assert_eq!(net.receive(1, server), Err(Error::WouldBlock));
    net.hosts[0].update_options(now, client, |o| o.udp_cork = false).unwrap();
    net.settle();
    assert_eq!(net.receive(1, server).unwrap().0, b"four five");
    assert_eq!(net.hosts[0].occupancy().udp.parts, 0);
}

/// What the host sends when `data` is sent with these flags.
fn sent_with(net: &mut Net, socket: SocketId, data: &[u8], flags: SendFlags) -> Vec<Vec<u8>> {
    let host = &mut net.hosts[0];
    host.capture_start(0);
    let (slices, to) = ([IoSlice::new(data)], Some(at(1, 7)));
    host.send_to(net.now, socket, &slices, to, &SendControl::default(), flags).unwrap();
    let mut frames = Vec::new();
    host.capture_read(|frame| frames.push([frame.octets.0, frame.octets.1].concat()));
    host.capture_stop();
    net.settle();
    frames
}

#[test]
fn the_short_way_of_a_datagram_puts_the_same_octets_on_the_wire() {
    for offloads in [false, true] {
        let mut net = Net::with(|_| {}, |device| device.offloads.tx_udp_checksum = offloads);
        let (client, _server) = (net.udp(0, 4000), net.udp(1, 7));
        sent_with(&mut net, client, b"who has", SendFlags::default());
        for (len, class, hops) in [(0, 0, 64), (1, 8, 3), (64, 0, 64), (1472, 4, 255), (1473, 0, 9)]
        {
            let (data, now) = (pattern(len), net.now);
            let change = |options: &mut crate::options::Options| {
                (options.traffic_class, options.hop_limit) = (class, hops);
            };
            net.hosts[0].update_options(now, client, change).unwrap();
            let short = sent_with(&mut net, client, &data, SendFlags::default());
            // A flag that changes nothing, but has to be looked at.
            let general = SendFlags { confirm: true, ..SendFlags::default() };
            let mut general = sent_with(&mut net, client, &data, general);
            if len > 1472 {
                // Fragments have a number, which is another each time.
                assert_eq!(short.len(), 2);
                general.clone_from(&short);
            }
            assert_eq!(short, general, "{len} octets");
        }
    }
}
