//! RFC 8985: RACK and tail loss probes, and what proves that a path reorders.

use super::super::recovery::sending;
use crate::tcp::testing::Script;
use crate::time::Duration;

const ROUND_TRIP: Duration = Duration::from_millis(20);

impl Script {
    /// The program writes one more segment.
    fn send_more(&mut self) {
        let mut id = None;
        self.host.tcp.sockets(|socket| id = id.or(socket.id));
        self.host.send(id.unwrap(), &[0; 2000]).unwrap();
        self.out();
    }
}

#[test]
fn rfc_8985_a_lost_retransmission_is_found() {
    let (mut s, _) = sending("mss 1000 sackok", 10);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:5001");
    assert_eq!(s.out()[0], ". 1001:2001(1000) ack 1");
    s.send_more();
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:11001");
    s.out();
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:12001");
    let seen = s.out();
    assert!(seen.iter().any(|l| l.starts_with(". 1001:2001")), "{seen:?}");
}

#[test]
fn rfc_8985_7_the_tail_is_probed_before_the_timeout() {
    let (mut s, id) = sending("mss 1000 sackok", 3);
    let seen = s.wait_ms(60);
    assert_eq!(seen, ["P. 3001:4001(1000) ack 1"], "the last segment, after two round trips");
    assert_eq!(s.counters.tail_loss_probes, 1);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 3001:4001");
    let mut seen = s.out();
    seen.extend(s.wait_ms(50));
    assert!(seen.iter().any(|l| l.starts_with(". 1001:2001")), "{seen:?}");
    s.inject(". 1:1(0) ack 4001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 0);
}

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
fn rfc_8985_6_2_patience_ends_when_it_is_due() {
    let (mut s, _) = sending("mss 1000 sackok", 4);
    s.now += ROUND_TRIP;
    s.inject(". 1:1(0) ack 1001 sack 4001:5001");
    // A quarter of the round trip; Linux waits for whole ticks, and at least for two.
    assert_eq!(s.wait(Duration::from_micros(4_990)), [""; 0]);
    assert_eq!(s.wait(Duration::from_micros(150))[0], ". 1001:2001(1000) ack 1");
}
