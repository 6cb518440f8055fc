//! bind(2) as on Linux, and ephemeral ports (RFC 6056).

use crate::error::Error;
use crate::steering::{Share, hash, shard_of};
use crate::tcp::testing::{PEER, Script};
use core::net::SocketAddr;

#[test]
fn a_port_belongs_to_one_unless_both_allow_it() {
    let mut s = Script::new();
    let a = s.socket();
    s.bind(a, 80).unwrap();
    assert_eq!(s.bind(a, 81), Err(Error::InvalidArgument), "bound already");
    let b = s.socket();
    assert_eq!(s.bind(b, 80), Err(Error::AddressInUse));
    s.options(b, |o| o.reuse_address = true);
    assert_eq!(s.bind(b, 80), Err(Error::AddressInUse), "both must allow it");
    s.options(a, |o| o.reuse_address = true);
    assert_eq!(s.bind(b, 80), Ok(()));
    assert_eq!(s.listen(a, 1), Ok(()));
    assert_eq!(s.listen(b, 1), Err(Error::AddressInUse), "but only one listens");
    let c = s.socket();
    s.options(c, |o| o.reuse_address = true);
    assert_eq!(s.bind(c, 80), Err(Error::AddressInUse));
    s.close(a);
    assert_eq!(s.bind(c, 80), Ok(()));
}

#[test]
fn reuseport_spreads_connections() {
    let mut s = Script::new();
    let listeners: Vec<_> = (0..4)
        .map(|_| {
            let id = s.socket();
            s.options(id, |o| o.reuse_port = true);
            s.bind(id, 80).unwrap();
            s.listen(id, 200).unwrap();
            id
        })
        .collect();
    for port in 6000..6100u16 {
        let (mut syn, _) = s.parse("S 0:0(0) mss 1000");
        syn.source_port = port;
        s.inject_header(&syn, b"");
        s.out();
        let (mut ack, _) = s.parse(". 1:1(0) ack 1");
        ack.source_port = port;
        s.inject_header(&ack, b"");
    }
    for listener in listeners {
        let mut n = 0;
        while s.accept(listener).is_ok() {
            n += 1;
        }
        assert!((10..45).contains(&n), "{n} of 100");
    }
}

#[test]
fn a_bound_port_connects_to_many_peers_but_once_to_each() {
    let mut s = Script::new();
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let id = s.socket();
            s.options(id, |o| o.reuse_address = true);
            s.bind(id, 4000).unwrap();
            id
        })
        .collect();
    s.connect(ids[0], SocketAddr::new(PEER, 1)).unwrap();
    assert_eq!(s.connect(ids[1], SocketAddr::new(PEER, 1)), Err(Error::AddressNotAvailable));
    assert_eq!(s.connect(ids[1], SocketAddr::new(PEER, 2)), Ok(()));
}

#[test]
fn listening_without_bind_takes_any_port() {
    let mut s = Script::new();
    let id = s.socket();
    s.listen(id, 5).unwrap();
    assert_ne!(s.tcp.local_address(id).unwrap().port(), 0);
}

#[test]
fn a_shard_of_several_chooses_ports_whose_answers_come_to_it() {
    for index in 0..3 {
        let mut s = Script::new();
        s.tcp.set_share(Share::new(index, 3));
        for _ in 0..50 {
            let id = s.socket();
            let remote = SocketAddr::new(PEER, 443);
            s.connect(id, remote).unwrap();
            let local = s.tcp.local_address(id).unwrap();
            let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else { panic!() };
            let flow = hash([*remote.ip(), *local.ip()], [remote.port(), local.port()]);
            assert_eq!(shard_of(flow, 3), index);
        }
    }
}

#[test]
fn every_port_is_found_and_the_second_half_without_a_walk_over_the_first() {
    let mut s = Script::new();
    s.tcp.ports.ephemeral = (40_000, 40_199);
    let mut taken = Vec::new();
    for n in 0..200 {
        let id = s.socket();
        let looked = crate::collections::steps::taken_by(|| {
            s.connect(id, SocketAddr::new(PEER, 443)).unwrap();
        });
        taken.push(s.tcp.local_address(id).unwrap().port());
        assert!(n >= 190 || looked < 120, "{looked} steps for the {n}th");
    }
    assert!(taken[..100].iter().all(|port| port % 2 == 0), "every other port first");
    taken.sort_unstable();
    assert!(taken.iter().copied().eq(40_000..40_200));
    let id = s.socket();
    let full = s.connect(id, SocketAddr::new(PEER, 443));
    assert_eq!(full, Err(Error::AddressNotAvailable));
    assert_eq!(s.connect(id, SocketAddr::new(PEER, 444)), Ok(()), "to others there are more");
}
