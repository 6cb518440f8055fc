//! RFC 6582 (NewReno): fast recovery from a peer without SACK.

use super::super::recovery::sending;
use crate::time::Duration;

#[test]
fn rfc_6582_3_2_three_duplicates_retransmit_and_partial_acknowledgments_go_on() {
    let (mut s, id) = sending("mss 1000", 8);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001");
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [""; 0]);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 1001:2001(1000) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().ca_state, 3);
    //= RFC 6582 §3.2: a partial acknowledgment.
    s.inject(". 1:1(0) ack 3001");
    assert_eq!(s.out()[0], ". 3001:4001(1000) ack 1");
    s.inject(". 1:1(0) ack 9001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.unacked), (0, 0));
    assert_eq!(info.snd_ssthresh, 5);
}
