//! A path that reorders: what counts as proof of it, and what it must not cost (RFC 8985 §6.2,
//! RFC 3708).

use super::recovery::sending;
use crate::time::Duration;

const ROUND_TRIP: Duration = Duration::from_millis(20);

#[test]
fn a_lost_acknowledgment_is_not_reordering() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    s.now += ROUND_TRIP;
    // The acknowledgments of 1001 to 3001 were lost; this one stands for them.
    s.inject(". 1:1(0) ack 3001 sack 4001:6001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().reord_seen, 0);
    s.inject(". 1:1(0) ack 3001 sack 7001:9001 sack 4001:6001");
    assert_eq!(s.out()[0], ". 3001:4001(1000) ack 1", "so the third SACKed segment means loss");
}

#[test]
fn blocks_of_one_acknowledgment_are_not_reordering() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 8001:9001 sack 5001:6001 sack 2001:3001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().reord_seen, 0);
    assert_eq!(s.out()[0], ". 1001:2001(1000) ack 1");
}

#[test]
fn rfc_8985_6_2_a_segment_that_comes_after_one_from_beyond_it_is() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 7001:8001");
    s.inject(". 1:1(0) ack 3001 sack 7001:8001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.reord_seen, info.reordering), (1, 7));
    assert_eq!(info.lost, 0, "nothing is taken for lost yet");
}

#[test]
fn the_window_grows_with_what_sack_reports() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 7001:8001");
    s.inject(". 1:1(0) ack 8001 sack 9001:10001");
    s.inject(". 1:1(0) ack 11001");
    s.send(id, &[0; 100_000]).unwrap();
    let flight = s.out().len() as u32;
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.now += ROUND_TRIP;
    // One segment is late, and all the others are here.
    for n in 2..=flight {
        s.inject(&format!(". 1:1(0) ack 11001 sack 12001:{}", 11_001 + n * 1000));
        s.out();
    }
    let after = s.tcp.info(id, s.now).unwrap();
    assert_eq!((after.lost, after.ca_state), (0, 1));
    assert_eq!(after.snd_cwnd, before + flight - 1, "slow start goes on");
}

#[test]
fn a_gap_holds_the_window_where_paths_are_in_order() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 2001:3001");
    s.inject(". 1:1(0) ack 1001 sack 2001:4001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_cwnd, before);
}

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
    s.inject(". 1:1(0) ack 1001 sack 3001:8001");
    assert_eq!(s.out(), [". 2001:3001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 11001");
    let reduced = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.inject(". 1:1(0) ack 11001 sack 1001:2001");
    assert_eq!((s.tcp.info(id, s.now).unwrap().snd_cwnd, s.counters.undos), (reduced, 0));
}
