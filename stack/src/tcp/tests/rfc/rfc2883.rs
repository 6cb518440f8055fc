//! RFC 2883: duplicates are reported (DSACK).

use crate::tcp::testing::Script;

#[test]
fn rfc_2883_duplicates_are_reported() {
    let mut s = Script::plain();
    s.established("mss 1000 sackok");
    s.inject(". 1:1001(1000) ack 1");
    s.out();
    s.inject(". 1:1001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1001 sack 1:1001"]);
}

#[test]
fn rfc_2883_4_2_a_duplicate_beyond_the_gap_comes_before_the_block_that_holds_it() {
    let mut s = Script::plain();
    s.established("mss 1000 sackok");
    s.inject(". 2001:4001(2000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 2001:4001"]);
    s.inject(". 2001:3001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 2001:3001 sack 2001:4001"]);
    s.inject(". 5001:6001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 5001:6001 sack 2001:4001"], "it is told once");
}

#[test]
fn rfc_2883_a_peer_without_sack_hears_of_none() {
    let mut s = Script::plain();
    s.established("mss 1000");
    s.inject(". 1:1001(1000) ack 1");
    s.out();
    s.inject(". 1:1001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1001"]);
}
