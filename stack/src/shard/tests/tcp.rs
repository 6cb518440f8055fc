//! TCP over the whole stack: two hosts, one host with itself, and nobody.

use super::*;
use crate::readiness::Readiness;
use crate::socket::{First, Shutdown};
use crate::tcp;

impl Net {
    pub fn listener(&mut self, host: usize, address: SocketAddr) -> SocketId {
        let socket = self.socket(host, SocketKind::Tcp);
        self.hosts[host].bind(self.now, socket, address).unwrap();
        self.hosts[host].listen(self.now, socket, 16).unwrap();
        socket
    }

    pub fn connect(&mut self, host: usize, to: SocketAddr) -> SocketId {
        let socket = self.socket(host, SocketKind::Tcp);
        self.hosts[host].connect(self.now, socket, to).unwrap();
        self.settle();
        socket
    }

    /// Sends all of `data` one way and compares what arrives.
    pub fn transfer(&mut self, from: (usize, SocketId), to: (usize, SocketId), data: &[u8]) {
        let (mut sent, mut got) = (0, Vec::new());
        for _ in 0..10_000 {
            if got.len() == data.len() {
                break;
            }
            match self.send(from.0, from.1, &data[sent..], None) {
                Ok(n) => sent += n,
                Err(error) => assert_eq!(error, Error::WouldBlock),
            }
            self.settle();
            if let Ok((octets, _)) = self.receive(to.0, to.1) {
                got.extend(octets);
            }
            self.advance(Duration::from_millis(5));
        }
        assert!(got == data, "{} of {} octets", got.len(), data.len());
    }

    /// Closes both ends and waits until nothing is left.
    pub fn finish(&mut self, sockets: &[(usize, SocketId)]) {
        for (host, socket) in sockets {
            self.hosts[*host].close(self.now, *socket);
            self.settle();
        }
        for _ in 0..70 {
            self.advance(Duration::from_secs(1));
        }
        for host in &self.hosts {
            assert_eq!(host.occupancy().tcp, tcp::Occupancy::default());
        }
        assert_eq!(self.buffers_in_use(), 0);
    }
}

#[test]
fn a_connection_carries_data_both_ways_and_leaves_nothing() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, peer) = net.hosts[1].accept(net.now, listener).unwrap();
    assert_eq!(peer, net.hosts[0].local_address(client).unwrap());
    assert!(net.hosts[0].readiness(client).contains(Readiness::WRITABLE));
    net.transfer((0, client), (1, server), &pattern(200_000));
    net.transfer((1, server), (0, client), &pattern(200_000));
    net.hosts[0].shutdown(net.now, client, Shutdown::Write).unwrap();
    net.settle();
    assert_eq!(net.receive(1, server).unwrap().0, b"");
    net.transfer((1, server), (0, client), b"still open this way");
    let mut seen = 0;
    net.hosts[0].sockets(|socket| seen += usize::from(socket.remote == Some(at(1, 80))));
    assert_eq!(seen, 1);
    net.finish(&[(0, client), (1, server), (1, listener)]);
}

#[test]
fn what_is_sent_is_readable_at_the_other_end_of_loopback_at_once() {
    let mut net = Net::new();
    let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80);
    let listener = net.listener(0, here);
    let client = net.socket(0, SocketKind::Tcp);
    net.hosts[0].connect(net.now, client, here).unwrap();
    let (server, _) = net.hosts[0].accept(net.now, listener).expect("no poll was needed");
    assert_eq!(net.send(0, client, b"ping", None), Ok(4));
    assert_eq!(net.receive(0, server).unwrap().0, b"ping");
    assert_eq!(net.send(0, server, b"pong", None), Ok(4));
    assert_eq!(net.receive(0, client).unwrap().0, b"pong");
    net.transfer((0, client), (0, server), &pattern(500_000));
    let counters = net.hosts[0].counters();
    assert_eq!(counters.interface.loopback_full, 0);
    assert_eq!(net.hosts[1].counters().interface.rx_frames, counters.interface.tx_frames);
    net.finish(&[(0, client), (0, server), (0, listener)]);
}

#[test]
fn a_closed_port_refuses() {
    let mut net = Net::new();
    let client = net.connect(0, at(1, 81));
    let ready = net.hosts[0].readiness(client);
    assert!(ready.contains(Readiness::ERROR | Readiness::WRITABLE), "{ready:?}");
    assert_eq!(net.hosts[0].take_error(client), Some(Error::ConnectionRefused));
    net.finish(&[(0, client)]);
}

#[test]
fn a_silent_neighbor_is_host_unreachable() {
    let mut net = Net::new();
    let nobody = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 99).into(), 80);
    let client = net.connect(0, nobody);
    for _ in 0..12 {
        net.advance(Duration::from_millis(500));
    }
    assert_eq!(net.hosts[0].take_error(client), Some(Error::HostUnreachable));
    net.finish(&[(0, client)]);
}

#[test]
fn addresses_are_checked_before_anything_is_sent() {
    let mut net = Net::new();
    let socket = net.socket(0, SocketKind::Tcp);
    let (now, host) = (net.now, &mut net.hosts[0]);
    assert_eq!(host.bind(now, socket, at(1, 80)), Err(Error::AddressNotAvailable));
    let far = SocketAddr::new(Ipv4Addr::new(8, 8, 8, 8).into(), 80);
    assert_eq!(host.connect(now, socket, far), Err(Error::NetworkUnreachable));
    let group = SocketAddr::new(Ipv4Addr::new(224, 1, 1, 1).into(), 80);
    assert_eq!(host.connect(now, socket, group), Err(Error::NetworkUnreachable));
    let udp = host.socket(SocketKind::Udp, Family::V4).unwrap();
    assert_eq!(host.listen(now, udp, 1), Err(Error::OperationNotSupported));
    assert_eq!(host.accept(now, udp), Err(Error::OperationNotSupported));
    host.update_options(now, socket, |o| o.free_bind = true).unwrap();
    assert_eq!(host.bind(now, socket, at(1, 80)), Ok(()));
}

#[test]
fn a_killed_programs_connection_is_reset() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    net.hosts[1].abort(net.now, server);
    net.settle();
    assert_eq!(net.receive(0, client), Err(Error::ConnectionReset));
    net.hosts[1].reset_all(net.now);
    net.finish(&[(0, client), (1, listener)]);
}

#[test]
fn when_the_device_goes_connections_end_and_no_way_out_is_left() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    net.hosts[1].device_gone(net.now);
    assert_eq!(net.receive(1, server), Err(Error::NetworkDown));
    assert_eq!(net.receive(1, server), Ok((vec![], None)), "once");
    net.settle();
    assert_eq!(net.receive(0, client), Err(Error::ConnectionReset), "the last word was sent");
    let (now, host) = (net.now, &mut net.hosts[1]);
    assert_eq!(host.accept(now, listener), Err(Error::WouldBlock));
    let other = host.socket(SocketKind::Tcp, Family::V4).unwrap();
    assert_eq!(host.connect(now, other, at(0, 80)), Err(Error::NetworkUnreachable));
    net.finish(&[(0, client), (1, server), (1, listener), (1, other)]);
}

#[test]
fn loss_is_repaired() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    let data = pattern(300_000);
    let (mut sent, mut got, mut frames) = (0, Vec::new(), 0u32);
    for _ in 0..20_000 {
        if got.len() == data.len() {
            break;
        }
        sent += net.send(0, client, &data[sent..], None).unwrap_or(0);
        net.hosts[0].poll(net.now);
        let crossing: Vec<_> = core::iter::from_fn(|| net.hosts[0].device_mut().sent()).collect();
        for frame in crossing {
            frames += 1;
            if frames % 23 != 0 {
                net.hosts[0].device_mut().resend(frame);
            }
        }
        net.hosts[1].poll(net.now);
        got.extend(net.receive(1, server).map_or(vec![], |(octets, _)| octets));
        net.now += Duration::from_millis(5);
    }
    assert!(got == data, "{} of {} octets", got.len(), data.len());
    net.finish(&[(0, client), (1, server), (1, listener)]);
}

#[test]
fn the_first_acknowledgment_after_fast_open_ends_its_opening() {
    let mut net = Net::with(|config| config.tcp.fast_open = 0x607, |_| {});
    let listener = net.listener(1, at(1, 80));
    let client = net.socket(0, SocketKind::Tcp);
    let first = First { data: &[IoSlice::new(b"hello")], zero_copy: false, waits: false };
    let begun = net.hosts[0].connect_fast(net.now, client, at(1, 80), Some(first));
    assert_eq!(begun, Ok(5));
    net.settle();
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    assert_eq!(net.receive(1, server).unwrap().0, b"hello");
    assert_eq!(net.hosts[1].state(server), Some(tcp::State::Established));
    assert_eq!(net.hosts[1].occupancy().tcp.openings, 0, "its SYN-ACK is not sent again");
    net.hosts[1].close(net.now, listener);
    net.finish(&[(0, client), (1, server)]);
}

#[test]
fn a_connection_that_comes_in_starts_from_what_is_known_of_its_path() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let now = net.now;
    net.hosts[1].path_mtus.learn(at(0, 0).ip(), 1_000, now);
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    let info = net.hosts[1].info(net.now, server).unwrap();
    assert_eq!((info.pmtu, info.snd_mss), (1_000, 1_000 - 52));
    net.transfer((1, server), (0, client), &pattern(20_000));
    assert_eq!(net.hosts[1].counters().tcp.retransmitted, 0);
    net.finish(&[(0, client), (1, server), (1, listener)]);
}

#[test]
fn when_the_mtu_changes_new_connections_say_so_and_old_ones_follow() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let old = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    let info = |net: &Net, socket| net.hosts[0].info(net.now, socket).unwrap();
    assert_eq!((info(&net, old).pmtu, info(&net, old).advmss), (1_500, 1_460));
    let now = net.now;
    net.hosts[0].set_mtu(now, 1_000);
    assert_eq!(net.hosts[0].mtu(), 1_000);
    assert_eq!(info(&net, old).pmtu, 1_000);
    net.transfer((0, old), (1, server), &pattern(100_000));
    net.transfer((1, server), (0, old), &pattern(100_000));
    let new = net.connect(0, at(1, 80));
    let (second, _) = net.hosts[1].accept(net.now, listener).unwrap();
    assert_eq!((info(&net, new).pmtu, info(&net, new).advmss), (1_000, 960));
    net.transfer((1, second), (0, new), &pattern(100_000));
    net.finish(&[(0, old), (0, new), (1, server), (1, second), (1, listener)]);
}

#[test]
fn when_our_ethernet_address_changes_connections_go_on_and_the_peer_follows() {
    const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0x77, 1]);
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    net.transfer((0, client), (1, server), &pattern(20_000));
    net.transfer((1, server), (0, client), &pattern(20_000));
    // Something is under way to the old address.
    net.send(1, server, b"lost", None).unwrap();
    let now = net.now;
    net.hosts[1].poll(now);
    net.hosts[0].set_mac(now, NEW);
    net.settle();
    let known = net.hosts[1].neighbors(now).find(|one| one.address == at(0, 0).ip()).unwrap();
    assert_eq!(known.mac, Some(NEW), "though it was confirmed just now");
    net.advance(Duration::from_secs(1));
    assert_eq!(net.receive(0, client).unwrap().0, b"lost");
    net.transfer((0, client), (1, server), &pattern(100_000));
    net.transfer((1, server), (0, client), &pattern(100_000));
    assert_eq!(net.hosts[0].counters().interface.rx_other_station, 1);
    net.finish(&[(0, client), (1, server), (1, listener)]);
}
