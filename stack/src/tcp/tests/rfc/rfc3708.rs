//! RFC 3708: taking a needless reduction back because of a DSACK.

use super::super::recovery::sending;
use crate::time::Duration;

const ROUND_TRIP: Duration = Duration::from_millis(20);

#[test]
fn rfc_3708_a_needless_retransmission_is_taken_back_though_its_recovery_is_over() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    let before = s.tcp.info(id, s.now).unwrap();
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 2001:5001");
    assert_eq!(s.out(), [". 1001:2001(1000) ack 1"]);
    // It was only late. What was sent before the retransmission is here before its DSACK can be.
    s.inject(". 1:1(0) ack 11001");
    assert!(s.tcp.info(id, s.now).unwrap().snd_cwnd < before.snd_cwnd);
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 11001 sack 1001:2001");
    let after = s.tcp.info(id, s.now).unwrap();
    assert_eq!((after.snd_cwnd, after.snd_ssthresh), (before.snd_cwnd, before.snd_ssthresh));
    assert_eq!((after.ca_state, s.counters.undos), (0, 1));
}

#[test]
fn a_dsack_of_one_of_two_retransmissions_takes_nothing_back() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 3001:6001");
    assert_eq!(s.out(), [". 1001:2001(1000) ack 1"]);
    s.now += Duration::from_millis(1);
    s.inject(". 1:1(0) ack 1001 sack 3001:8001");
    assert_eq!(s.out(), [". 2001:3001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 11001");
    let reduced = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.inject(". 1:1(0) ack 11001 sack 1001:2001");
    assert_eq!((s.tcp.info(id, s.now).unwrap().snd_cwnd, s.counters.undos), (reduced, 0));
}
