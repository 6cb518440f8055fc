//! RFC 2018: what a receiver reports.

use crate::tcp::testing::Script;

#[test]
fn rfc_2018_blocks_are_reported_most_recent_first() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.inject(". 1001:2001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 1001:2001"]);
    s.inject(". 3001:4001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 3001:4001 sack 1001:2001"]);
    s.inject(". 2001:3001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 1001:4001"]);
    s.inject(". 1:1001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 4001"]);
    assert_eq!(s.receive(id, 5000).unwrap(), Script::stream(1, 4000));
}

#[test]
fn rfc_2018_3_no_more_blocks_than_fit_beside_timestamps() {
    let mut s = Script::new();
    s.established("mss 1000 sackok ts 1 0");
    for n in 0..6 {
        let at = 1001 + n * 2000;
        s.inject(&format!(". {at}:{}(0) ack 1 ts 2 0", at + 1000));
        s.out();
        let blocks = s.last.sack.len();
        assert_eq!(blocks as u32, (n + 1).min(3));
    }
    assert!(s.last.len() <= 60);
}

#[test]
fn rfc_2018_8_a_peer_that_threw_away_what_it_had_reported_gets_it_again() {
    let (mut s, id) = super::super::recovery::sending("mss 1000 sackok", 4);
    s.inject(". 1:1(0) ack 1001 sack 2001:5001");
    s.out();
    // The first comes, and yet the second, which was reported, is not acknowledged.
    s.inject(". 1:1(0) ack 2001");
    let sent = s.wait(crate::time::Duration::from_secs(5));
    assert!(sent.iter().any(|line| line.starts_with(". 2001:3001(1000)")), "{sent:?}");
    assert_eq!(s.tcp.info(id, s.now).unwrap().sacked, 0);
}
