//! RFC 6056: ephemeral ports that are hard to guess.

use crate::tcp::testing::{OURS, PEER, Script};
use core::net::SocketAddr;
use std::collections::HashSet;

#[test]
fn rfc_6056_ephemeral_ports_differ_and_avoid_bound_ones() {
    let mut s = Script::new();
    let mut seen = HashSet::new();
    for _ in 0..200 {
        let id = s.socket();
        s.connect(id, SocketAddr::new(PEER, 443)).unwrap();
        let port = s.tcp.local_address(id).unwrap().port();
        assert!((32_768..=60_999).contains(&port));
        assert!(seen.insert(port));
    }
    let id = s.socket();
    s.bind(id, 0).unwrap();
    let local = s.tcp.local_address(id).unwrap();
    assert_eq!(local.ip(), OURS);
    assert!(!seen.contains(&local.port()) && local.port() >= 32_768);
}

#[test]
fn rfc_6056_3_3_4_one_destinations_ports_do_not_tell_anothers() {
    let mut s = Script::new();
    let mut first = Vec::new();
    for n in 0..64u16 {
        let id = s.socket();
        s.connect(id, SocketAddr::new(PEER, 1_000 + n)).unwrap();
        first.push(s.tcp.local_address(id).unwrap().port());
    }
    let mut steps: Vec<i32> =
        first.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    steps.sort_unstable();
    steps.dedup();
    assert!(steps.len() > 55, "hardly a step is seen twice: {}", steps.len());
    let spread = first.iter().max().unwrap() - first.iter().min().unwrap();
    assert!(spread > 15_000, "they are all over the range: {spread}");
}

#[test]
fn rfc_6056_3_3_4_a_port_does_not_come_back_soon() {
    let mut s = Script::new();
    let mut last: Vec<u16> = Vec::new();
    for _ in 0..1_000 {
        let id = s.socket();
        s.connect(id, SocketAddr::new(PEER, 443)).unwrap();
        let port = s.tcp.local_address(id).unwrap().port();
        assert!(!last.contains(&port), "it was used among the last {}", last.len());
        last.push(port);
        s.abort(id);
        s.out();
    }
}
