//! RFC 5961: blind attacks. What each tries is in `attack/`; here is what holds for all: how often
//! we answer.

use crate::config::TcpConfig;
use crate::tcp::State;
use crate::tcp::testing::Script;
use crate::time::Duration;

/// `count` connections, from ports 6000 on.
fn connections(limit: u32, count: u16) -> Script {
    let config = TcpConfig { challenge_acks_per_second: limit, ..TcpConfig::default() };
    let mut s = Script::with(&TcpConfig { timestamps: false, ..config });
    let listener = s.listener(80, 300);
    for port in 0..count {
        for text in ["S 0:0(0) mss 1000", ". 1:1(0) ack 1"] {
            let (mut header, _) = s.parse(text);
            header.source_port = 6000 + port;
            s.inject_header(&header, b"");
            s.out();
        }
        s.accept(listener).unwrap();
    }
    s
}

/// Someone sends a SYN into each of them; how many challenges that is worth.
fn challenged(s: &mut Script, count: u16) -> usize {
    for port in 0..count {
        let (mut syn, _) = s.parse("S 1:1(0)");
        syn.source_port = 6000 + port;
        s.inject_header(&syn, b"");
    }
    s.out().len()
}

#[test]
fn rfc_5961_7_challenges_have_a_budget_for_all_connections_together() {
    let mut s = connections(40, 150);
    let sent = challenged(&mut s, 150);
    assert!((20..=60).contains(&sent), "40 a second, blurred by a half: {sent}");
    assert_eq!(sent as u64, s.counters.challenge_acks);
    assert_eq!(s.counters.challenge_acks_suppressed, 150 - sent as u64);
    s.now += Duration::from_secs(1);
    assert!(challenged(&mut s, 150) > 0, "a new second, a new budget");
}

#[test]
fn rfc_5961_7_the_budget_cannot_be_measured_from_outside() {
    // CVE-2016-5696: an exact count tells whether a guess on another connection hit.
    let mut s = connections(40, 150);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        seen.insert(challenged(&mut s, 150));
        s.now += Duration::from_secs(1);
    }
    assert!(seen.len() > 2, "{seen:?}");
}

#[test]
fn rfc_5961_10_one_connection_cannot_spend_the_budget_of_all() {
    let mut s = connections(40, 2);
    let mut answers = 0;
    for _ in 0..100 {
        answers += challenged(&mut s, 1);
    }
    assert_eq!(answers, 1, "once in 500 ms");
    let (mut syn, _) = s.parse("S 1:1(0)");
    syn.source_port = 6001;
    s.inject_header(&syn, b"");
    assert_eq!(s.out().len(), 1, "another is challenged all the same");
}

#[test]
fn rfc_5961_3_2_4_2_5_2_a_challenge_says_where_we_are() {
    for text in ["R 5:5(0)", "S 900:900(0)", "P. 1:2(1) ack 99999"] {
        let mut s = Script::plain();
        let id = s.established("mss 1000");
        s.send(id, &[0; 10]).unwrap();
        s.out();
        s.inject(text);
        assert_eq!(s.out(), [". 11:11(0) ack 1"], "{text}");
        assert_eq!(s.state(id), State::Established, "{text}");
    }
}
