//! Segments that overlap, with other contents the second time: what was taken first stays, and
//! however the pieces lie they cost no more than the receive buffer.

use crate::rng::Rng;
use crate::tcp::testing::Script;

fn forged(s: &mut Script, seq: u32, len: u32, octet: u8) {
    let (header, payload) = s.parse(&format!("P. {seq}:{}({len}) ack 1", seq + len));
    s.inject_header(&header, &vec![octet; payload.len()]);
}

#[test]
fn what_is_in_order_is_not_rewritten() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.inject("P. 1:101(100) ack 1");
    forged(&mut s, 1, 100, 0xee);
    forged(&mut s, 51, 100, 0xee);
    let got = s.receive(id, 1000).unwrap();
    assert_eq!(got[..100], Script::stream(1, 100));
    assert_eq!(got[100..], [0xee; 50], "the new part is new");
}

#[test]
fn what_waits_for_a_gap_is_not_rewritten_by_what_runs_into_it() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.inject("P. 101:201(100) ack 1");
    forged(&mut s, 51, 100, 0xee);
    forged(&mut s, 151, 100, 0xee);
    forged(&mut s, 121, 10, 0xee);
    s.inject("P. 1:51(50) ack 1");
    let got = s.receive(id, 1000).unwrap();
    assert_eq!(got.len(), 250);
    assert_eq!(got[..50], Script::stream(1, 50));
    assert_eq!(got[50..100], [0xee; 50]);
    assert_eq!(got[100..200], Script::stream(101, 100));
    assert_eq!(got[200..], [0xee; 50]);
}

#[test]
fn ten_thousand_overlapping_pieces_cost_no_more_than_the_buffer() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    let limit = s.tcp.options(id).unwrap().receive_buffer as usize;
    let mut rng = Rng::new([9; 32]);
    for _ in 0..10_000 {
        let (seq, len) = (3 + rng.below(60_000), 1 + rng.below(40));
        forged(&mut s, seq, len, 1);
        s.out();
        let held = s.tcp.occupancy().segments * 2_304;
        assert!(held <= 2 * limit, "{held} octets of memory for a buffer of {limit}");
    }
    s.inject("P. 1:3(2) ack 1");
    assert!(!s.receive(id, 100).unwrap().is_empty(), "and the connection still works");
}
