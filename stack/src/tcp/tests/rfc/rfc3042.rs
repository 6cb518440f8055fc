//! RFC 3042: limited transmit.

use super::super::recovery::sending;
use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn rfc_3042_limited_transmit_sends_new_data_on_duplicates() {
    let (mut s, _) = sending("mss 1000", 14);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 11001:12001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 12001:13001(1000) ack 1"]);
}

#[test]
fn rfc_3042_2_1_not_beyond_the_peers_window() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 10000");
    s.send(id, &[0; 14_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    s.inject(". 1:1(0) ack 1 win 10000");
    s.inject(". 1:1(0) ack 1 win 10000");
    assert_eq!(s.out(), [""; 0], "ten segments fill it");
}

#[test]
fn rfc_3042_2_1_with_sack_only_for_what_is_new() {
    let (mut s, _) = sending("mss 1000 sackok", 14);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:3001");
    assert_eq!(s.out(), [". 11001:12001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 1001 sack 2001:3001");
    assert_eq!(s.out(), [""; 0], "it tells nothing");
}
