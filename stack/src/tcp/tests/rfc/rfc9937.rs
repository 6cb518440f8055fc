//! RFC 9937: proportional rate reduction.

use super::super::recovery::sending;
use crate::time::Duration;

#[test]
fn rfc_9937_6_the_window_comes_down_as_data_arrives() {
    let (mut s, id) = sending("mss 1000 sackok", 11);
    s.send(id, &[0; 20_000]).unwrap();
    s.out();
    s.now += Duration::from_millis(20);
    let mut sent = 0;
    for i in 2..11u32 {
        s.inject(&format!(". 1:1(0) ack 1001 sack 2001:{}001", i + 1));
        sent += s.out().len();
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.snd_ssthresh, 5);
    assert!((4..=8).contains(&sent), "about every second acknowledgment sends: {sent}");
}

#[test]
fn rfc_9937_6_2_however_much_is_lost_no_more_is_sent_than_delivered() {
    let (mut s, id) = sending("mss 1000 sackok", 11);
    s.send(id, &[0; 50_000]).unwrap();
    s.out();
    s.now += Duration::from_millis(20);
    // Seven of ten are lost: the pipe is below the threshold at once.
    let mut sent = 0;
    for end in [9001, 10_001, 11_001] {
        s.inject(&format!(". 1:1(0) ack 1001 sack 8001:{end}"));
        sent += s.out().len();
    }
    assert!(sent <= 4, "one for each that arrived, and the first: {sent}");
    assert!(s.tcp.info(id, s.now).unwrap().snd_cwnd >= 1);
}

#[test]
fn rfc_9937_6_at_the_end_the_window_is_the_threshold() {
    let (mut s, id) = sending("mss 1000 sackok", 11);
    s.send(id, &[0; 20_000]).unwrap();
    s.out();
    s.now += Duration::from_millis(20);
    for end in 3..12u32 {
        s.inject(&format!(". 1:1(0) ack 1001 sack 2001:{end}001"));
        s.out();
    }
    let next = s.tcp.info(id, s.now).unwrap();
    let sent = 1001 + 1000 * u64::from(next.unacked);
    s.now += Duration::from_millis(20);
    s.inject(&format!(". 1:1(0) ack {sent}"));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.ca_state, 0);
    // This acknowledgment may already count for congestion avoidance.
    assert!((0..=1).contains(&(info.snd_cwnd - info.snd_ssthresh)), "{}", info.snd_cwnd);
}
