//! Binding and matching, on the layer alone.

use super::*;
use crate::config::Capacity;
use crate::packet::IpMeta;
use crate::socket::{ReceiveFlags, SendFlags};
use crate::testing::{PoolBuffer, TestDevice};
use crate::wire::udp::Header;
use core::net::Ipv4Addr;
use std::io::{IoSlice, IoSliceMut};

const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const THEM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

struct Bench {
    udp: Udp<PoolBuffer>,
    device: TestDevice,
    rng: Rng,
    counters: UdpCounters,
}

macro_rules! cx {
    ($bench:expr) => {
        &mut Context {
            now: Instant::from_millis(1),
            rng: &mut $bench.rng,
            allocator: &mut $bench.device,
            counters: &mut $bench.counters,
        }
    };
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

impl Bench {
    fn new() -> Self {
        let mut rng = Rng::new([5; 32]);
        let capacity = Capacity { udp_sockets: 64, segments: 256, ..Capacity::default() };
        let config = Config { capacity, ephemeral_ports: (40_000, 40_009), ..Config::default() };
        let device = TestDevice::new(crate::addr::MacAddr([2; 6]), 1500, 256);
        let counters = UdpCounters::default();
        Bench { udp: Udp::new(&config, &mut rng), device, rng, counters }
    }

    fn socket(&mut self, change: impl FnOnce(&mut Options)) -> UdpId {
        let id = self.udp.socket(Family::V4).unwrap();
        self.udp.update_options(cx!(self), id, change).unwrap();
        id
    }

    fn bind(&mut self, id: UdpId, to: SocketAddr) -> Result<(), Error> {
        self.udp.bind(cx!(self), id, to)
    }

    fn bound(&mut self, to: SocketAddr, change: impl FnOnce(&mut Options)) -> UdpId {
        let id = self.socket(change);
        self.bind(id, to).unwrap();
        id
    }

    fn connect(&mut self, id: UdpId, to: SocketAddr) {
        self.udp.connect(cx!(self), id, US.into(), to).unwrap();
    }

    /// A datagram from the peer's `from` port; whether a socket took it.
    fn arrive(&mut self, from: u16, to: SocketAddr) -> bool {
        let mut buffer = self.device.allocate().unwrap();
        let header = Header { source_port: from, destination_port: to.port(), len: 9, checksum: 0 };
        header.emit(buffer.append(8));
        buffer.append(1)[0] = from as u8;
        let meta =
            IpMeta { source: THEM.into(), destination: to.ip(), traffic_class: 0, hop_limit: 64 };
        let arrived = Arrived { meta, to_many: false, verified: false };
        matches!(self.udp.on_packet(cx!(self), arrived, buffer, &mut []), Delivery::Done)
    }

    /// How many datagrams each socket has got.
    fn got(&mut self, ids: &[UdpId]) -> Vec<usize> {
        ids.iter()
            .map(|id| {
                let mut data = [0; 16];
                let flags = ReceiveFlags::default();
                core::iter::repeat_with(|| {
                    self.udp.receive(*id, &mut [IoSliceMut::new(&mut data)], flags)
                })
                .take_while(Result::is_ok)
                .count()
            })
            .collect()
    }
}

#[test]
fn the_same_port_twice_needs_consent_or_different_addresses() {
    type Change = fn(&mut Options);
    let none: Change = |_| {};
    let address: Change = |o| o.reuse_address = true;
    let port: Change = |o| o.reuse_port = true;
    let in_use = Err(Error::AddressInUse);
    for (first, second, to_first, to_second, expected) in [
        (none, none, US, US, in_use),
        (none, none, US, OTHER, Ok(())),
        (none, none, ANY, US, in_use),
        (none, none, US, ANY, in_use),
        (address, address, US, US, Ok(())),
        (address, none, US, US, in_use),
        (none, address, ANY, US, in_use),
        (port, port, ANY, ANY, Ok(())),
        (port, address, ANY, ANY, in_use),
    ] {
        let mut b = Bench::new();
        b.bound(at(to_first, 53), first);
        let id = b.socket(second);
        assert_eq!(b.bind(id, at(to_second, 53)), expected, "{to_first} then {to_second}");
    }
}

#[test]
fn a_socket_is_bound_once_and_its_port_is_free_after_close() {
    let mut b = Bench::new();
    let id = b.bound(at(ANY, 53), |_| {});
    assert_eq!(b.bind(id, at(ANY, 54)), Err(Error::InvalidArgument));
    b.udp.close(id);
    assert_eq!(b.udp.local_address(id), Err(Error::BadDescriptor));
    b.bound(at(ANY, 53), |_| {});
}

#[test]
fn ephemeral_ports_are_all_used_and_then_out() {
    let mut b = Bench::new();
    let mut ports: Vec<u16> = (0..10)
        .map(|_| {
            let id = b.bound(at(ANY, 0), |_| {});
            b.udp.local_address(id).unwrap().port()
        })
        .collect();
    assert!(ports.windows(2).any(|pair| pair[1] != pair[0] + 1), "{ports:?} is predictable");
    ports.sort_unstable();
    assert_eq!(ports, (40_000..40_010).collect::<Vec<_>>());
    let id = b.socket(|_| {});
    assert_eq!(b.bind(id, at(ANY, 0)), Err(Error::AddressInUse));
    b.bound(at(ANY, 0), |o| o.bind_address_no_port = true);
}

#[test]
fn the_most_specific_socket_hears_it() {
    let mut b = Bench::new();
    let reuse = |o: &mut Options| o.reuse_address = true;
    let any = b.bound(at(ANY, 53), reuse);
    let ours = b.bound(at(US, 53), reuse);
    let connected = b.bound(at(US, 53), reuse);
    b.connect(connected, at(THEM, 9));
    let ids = [any, ours, connected];
    assert!(b.arrive(9, at(US, 53)));
    assert_eq!(b.got(&ids), [0, 0, 1]);
    assert!(b.arrive(10, at(US, 53)));
    assert_eq!(b.got(&ids), [0, 1, 0], "not from whom the third is connected to");
    assert!(b.arrive(9, at(OTHER, 53)));
    assert_eq!(b.got(&ids), [1, 0, 0]);
    assert!(!b.arrive(9, at(US, 54)));
    assert_eq!(b.counters.no_ports, 1);
    let later = b.bound(at(US, 53), reuse);
    assert!(b.arrive(10, at(US, 53)));
    assert_eq!(b.got(&[ours, later]), [0, 1], "among equals the latest");
}

#[test]
fn reuse_port_spreads_by_peer_and_keeps_each_peer_at_one_socket() {
    let mut b = Bench::new();
    let ids: Vec<UdpId> = (0..4).map(|_| b.bound(at(ANY, 53), |o| o.reuse_port = true)).collect();
    for _ in 0..2 {
        for from in 1..=100 {
            assert!(b.arrive(from, at(US, 53)));
        }
        let got = b.got(&ids);
        assert_eq!(got.iter().sum::<usize>(), 100);
        assert!(got.iter().all(|n| *n >= 10), "{got:?} is no spread");
    }
    for _ in 0..20 {
        b.arrive(7, at(US, 53));
    }
    assert_eq!(b.got(&ids).iter().max(), Some(&20));
}

#[test]
fn connecting_and_disconnecting_choose_and_forget_what_bind_did_not_say() {
    let mut b = Bench::new();
    let id = b.socket(|_| {});
    b.connect(id, at(THEM, 9));
    let local = b.udp.local_address(id).unwrap();
    assert_eq!(local.ip(), US);
    assert_ne!(local.port(), 0);
    b.udp.disconnect(id).unwrap();
    assert_eq!(b.udp.local_address(id).unwrap(), at(ANY, 0));
    assert_eq!(b.udp.remote_address(id), Err(Error::NotConnected));
    let id = b.bound(at(US, 53), |_| {});
    b.connect(id, at(THEM, 9));
    b.udp.disconnect(id).unwrap();
    assert_eq!(b.udp.local_address(id).unwrap(), at(US, 53));
}

#[test]
fn peeking_leaves_it_and_short_reads_say_the_real_length() {
    let mut b = Bench::new();
    let id = b.bound(at(ANY, 53), |_| {});
    b.arrive(9, at(US, 53));
    assert_eq!(b.udp.receive_available(id), Ok(1));
    let flags = ReceiveFlags { peek: true, ..ReceiveFlags::default() };
    for _ in 0..2 {
        let received = b.udp.receive(id, &mut [], flags).unwrap();
        assert_eq!((received.len, received.datagram_len), (0, 1));
        assert_eq!((received.source, received.hop_limit), (Some(at(THEM, 9)), 64));
    }
    assert_eq!(b.got(&[id]), [1]);
    assert_eq!(b.udp.receive_available(id), Ok(0));
}

#[test]
fn every_arrival_is_an_edge() {
    let mut b = Bench::new();
    let id = b.bound(at(ANY, 53), |_| {});
    b.udp.set_owner(id, 77);
    for _ in 0..2 {
        b.arrive(9, at(US, 53));
        b.arrive(9, at(US, 53));
        let event = b.udp.poll_event().unwrap();
        assert_eq!((event.socket, event.owner), (id, 77));
        assert!(event.readiness.contains(Readiness::READABLE | Readiness::WRITABLE));
        assert_eq!(b.udp.poll_event(), None);
    }
}

#[test]
fn shutting_an_unconnected_socket_fails_but_shuts() {
    let mut b = Bench::new();
    let id = b.bound(at(ANY, 53), |_| {});
    assert_eq!(b.udp.shutdown(id, Shutdown::Both), Err(Error::NotConnected));
    assert!(b.udp.readiness(id).contains(Readiness::HANGUP | Readiness::READ_HANGUP));
    let received = b.udp.receive(id, &mut [], ReceiveFlags::default()).unwrap();
    assert_eq!((received.len, received.source), (0, None));
    let path = Path {
        source: US.into(),
        remote: at(THEM, 9),
        mtu: 1500,
        piece: 1500,
        traffic_class: 0,
        hop_limit: 64,
        segment_size: 0,
    };
    let sent = b.udp.send(cx!(b), id, &path, &[IoSlice::new(b"x")], SendFlags::default());
    assert_eq!(sent, Err(Error::BrokenPipe));
}

#[test]
fn a_least_hop_limit_is_kept() {
    let mut b = Bench::new();
    let id = b.bound(at(ANY, 53), |o| o.min_hop_limit = 65);
    b.arrive(9, at(US, 53));
    assert_eq!(b.got(&[id]), [0]);
    assert_eq!(b.counters.in_hop_limit_errors, 1);
}
