//! RFC 6528: initial sequence numbers that are hard to guess and still move on with time.

use crate::config::TcpConfig;
use crate::packet::Buffer;
use crate::tcp::testing::{Host, OURS, PEER, Script};
use core::net::SocketAddr;

fn listening() -> Script {
    let mut s = Script::plain();
    s.listener(80, 64);
    s
}

/// Our number for a SYN from `port`.
fn number(s: &mut Script, port: u16, seq: &str) -> u32 {
    let (mut syn, _) = s.parse(&format!("S {seq}:{seq}(0) mss 1000"));
    syn.source_port = port;
    s.inject_header(&syn, b"");
    s.out();
    let (mut reset, _) = s.parse(&format!("R {}:{0}(0)", seq.parse::<u32>().unwrap() + 1));
    reset.source_port = port;
    s.inject_header(&reset, b"");
    s.iss.0
}

#[test]
fn rfc_6528_3_a_new_incarnation_starts_above_the_old_one() {
    let mut s = listening();
    let first = number(&mut s, 4000, "0");
    s.wait_ms(1_000);
    let second = number(&mut s, 4000, "0");
    // A clock of 64 ns: a second is 15,625,000.
    assert_eq!(second.wrapping_sub(first), 15_625_000);
}

#[test]
fn rfc_6528_3_one_number_tells_nothing_of_anothers() {
    let mut s = listening();
    let numbers: Vec<u32> = (4000..4064).map(|port| number(&mut s, port, "0")).collect();
    let mut steps: Vec<u32> = numbers.windows(2).map(|n| n[1].wrapping_sub(n[0])).collect();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps.len(), 63, "no two neighbours are equally far apart");
    // Every bit of them is one as often as it is zero, about.
    for bit in 0..32 {
        let ones = numbers.iter().filter(|n| *n >> bit & 1 == 1).count();
        assert!((16..=48).contains(&ones), "bit {bit}: {ones} of 64");
    }
}

#[test]
fn rfc_6528_3_the_key_decides_and_connecting_ends_have_such_numbers_too() {
    let number = |seed: u8| {
        let mut host = Host::new(OURS, seed, &TcpConfig::default());
        let id = host.socket();
        host.bind(id, 5555).unwrap();
        host.connect(id, SocketAddr::new(PEER, 80)).unwrap();
        let syn = host.transmit().unwrap();
        let octets: [u8; 4] = syn.packet.data()[4..8].try_into().unwrap();
        u32::from_be_bytes(octets)
    };
    assert_eq!(number(1), number(1));
    assert!(number(1).abs_diff(number(2)) > 1_000, "another key");
}
