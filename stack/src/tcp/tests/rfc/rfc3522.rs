//! RFC 3522 and RFC 4015: taking a needless reduction back because of a timestamp (Eifel).

use super::super::recovery::config;
use crate::config::TcpConfig;
use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn rfc_3522_a_needless_timeout_is_undone() {
    let mut s = Script::with(&TcpConfig { timestamps: true, ..config() });
    let id = s.established("mss 1000 sackok ts 1 0");
    let echo = |s: &Script| s.last.timestamps.unwrap().value as i32;
    s.send(id, &[0; 5000]).unwrap();
    assert_eq!(s.out().len(), 6);
    let original = echo(&s);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    let seen = s.wait_ms(2500);
    assert!(!seen.is_empty());
    s.inject(&format!(". 1:1(0) ack 989 ts 5 {original}"));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.lost), (0, 0));
    assert!(info.snd_cwnd >= before, "{} < {before}", info.snd_cwnd);
    assert_eq!(s.counters.undos, 1);
}

#[test]
fn what_came_late_and_was_sent_again_in_vain_shows_that_the_path_reorders() {
    let mut s = Script::with(&TcpConfig { timestamps: true, ..config() });
    let rtt = Duration::from_millis(20);
    let id = s.established_in("mss 1012 sackok ts 1 0", rtt);
    let send = |s: &mut Script| {
        s.send(id, &[0; 10_000]).unwrap();
        assert_eq!(s.out().len(), 10);
        s.now += rtt;
        s.last.timestamps.unwrap().value as i32
    };
    let original = send(&mut s);
    // The second overtakes the first by so much that three duplicates have come before that.
    s.inject(&format!(". 1:1(0) ack 1 ts 2 {original} sack 1001:4001"));
    assert_eq!(s.out(), [". 1:1001(1000) ack 1"]);
    s.now += Duration::from_millis(1);
    s.inject(&format!(". 1:1(0) ack 4001 ts 2 {original}"));
    assert_eq!(s.counters.undos, 1);
    assert_eq!(s.tcp.info(id, s.now).unwrap().reord_seen, 1);
    s.inject(&format!(". 1:1(0) ack 10001 ts 2 {original}"));
    let original = send(&mut s);
    s.inject(&format!(". 1:1(0) ack 10001 ts 3 {original} sack 11001:14001"));
    assert_eq!(s.out(), [""; 0], "now it is given a quarter of a round trip");
    s.now += Duration::from_millis(4);
    s.inject(&format!(". 1:1(0) ack 14001 ts 3 {original}"));
    assert_eq!(s.wait_ms(4), [""; 0]);
    assert_eq!((s.counters.undos, s.counters.retransmitted), (1, 1));
}
