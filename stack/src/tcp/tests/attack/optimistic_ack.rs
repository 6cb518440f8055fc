//! Acknowledging what has not arrived, to be sent more sooner.

use crate::tcp::testing::Script;

#[test]
fn rfc_5961_5_2_what_was_never_sent_cannot_be_acknowledged() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[0; 100_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    let before = s.tcp.info(id, s.now).unwrap();
    for ack in (10_002..200_000).step_by(777) {
        s.inject(&format!(". 1:1(0) ack {ack}"));
    }
    let after = s.tcp.info(id, s.now).unwrap();
    assert_eq!((before.snd_cwnd, before.unacked), (after.snd_cwnd, after.unacked));
    assert!(s.out().len() <= 1, "a challenge, once");
    assert!(s.counters.bad_ack > 200);
}

#[test]
fn sack_of_what_was_never_sent_counts_for_nothing() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.send(id, &[0; 10_000]).unwrap();
    s.out();
    for end in (11_000..50_000).step_by(1000) {
        s.inject(&format!(". 1:1(0) ack 1 sack 10001:{end}"));
        s.inject(&format!(". 1:1(0) ack 1 sack 2001:{end}"));
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.sacked, info.lost, info.retrans), (0, 0, 0));
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn a_receiver_that_takes_back_what_sack_said_gets_it_again() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.send(id, &[0; 10_000]).unwrap();
    s.out();
    s.inject(". 1:1(0) ack 1 sack 1001:10001");
    assert_eq!(s.out(), [". 1:1001(1000) ack 1"]);
    //= RFC 2018 §8: after a timeout, what SACK said is forgotten if the receiver reneged.
    s.inject(". 1:1(0) ack 1001");
    s.wait_ms(5000);
    assert!(s.last.seq.since(s.iss) >= 1001, "{:?}", s.last);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.sacked, 0, "reneging was noticed");
}
