//! ECN (RFC 3168).

use crate::config::{EcnPolicy, TcpConfig};
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::info::{OPTION_ECN, OPTION_ECN_SEEN};
use crate::tcp::testing::Script;
use crate::time::Duration;

const RTT: Duration = Duration::from_millis(20);

fn config(ecn: EcnPolicy) -> TcpConfig {
    TcpConfig {
        timestamps: false,
        congestion: CongestionAlgorithm::Reno,
        ecn,
        ..TcpConfig::default()
    }
}

/// A connection that the peer opened with ECN, over a round trip of 20 ms.
fn agreed() -> (Script, TcpId) {
    let mut s = Script::with(&config(EcnPolicy::WhenAsked));
    let listener = s.listener(80, 8);
    s.inject("SEW 0:0(0) mss 1000 sackok");
    assert_eq!(s.out(), ["SE. 0:0(0) ack 1"]);
    s.now += RTT;
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    s.close(listener);
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (1 << 20, true, true);
    });
    (s, id)
}

#[test]
fn rfc_3168_6_1_1_granted_when_asked() {
    let (mut s, id) = agreed();
    assert_eq!(s.tcp.info(id, s.now).unwrap().options & OPTION_ECN, OPTION_ECN);
    s.send(id, &[0; 500]).unwrap();
    assert_eq!(s.out(), ["P. 1:501(500) ack 1 ect0"]);
    let seen = s.wait_ms(250);
    assert_eq!(seen, ["P. 1:501(500) ack 1"], "a retransmission is not ECN-capable (§6.1.5)");
    s.inject("P. 1:11(10) ack 501 ect0");
    assert_eq!(s.out(), [". 501:501(0) ack 11"], "nor is an acknowledgment (§6.1.4)");
    assert_eq!(s.tcp.info(id, s.now).unwrap().options & OPTION_ECN_SEEN, OPTION_ECN_SEEN);
}

#[test]
fn rfc_3168_6_1_1_not_granted_when_off_or_to_a_capable_syn() {
    let mut s = Script::with(&config(EcnPolicy::Never));
    s.listener(80, 8);
    s.inject("SEW 0:0(0) mss 1000");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    let mut s = Script::with(&config(EcnPolicy::WhenAsked));
    s.listener(80, 8);
    s.inject("SEW 0:0(0) mss 1000 ect0");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    let mut s = Script::with(&config(EcnPolicy::WhenAsked));
    s.listener(80, 8);
    s.inject("SE 0:0(0) mss 1000");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"], "ECE alone asks for nothing");
}

fn connect(s: &mut Script) -> TcpId {
    let id = s.socket();
    let peer =
        core::net::SocketAddr::new(crate::tcp::testing::PEER, crate::tcp::testing::PEER_PORT);
    s.connect(id, peer).unwrap();
    s.port = s.tcp.local_address(id).unwrap().port();
    id
}

#[test]
fn rfc_3168_6_1_1_asked_for_when_on() {
    let mut s = Script::with(&config(EcnPolicy::Always));
    let id = connect(&mut s);
    assert_eq!(s.out(), ["SEW 0:0(0)"]);
    s.inject("SE. 0:0(0) ack 1 mss 1000");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    s.send(id, &[0; 10]).unwrap();
    assert_eq!(s.out(), ["P. 1:11(10) ack 1 ect0"]);
    // A SYN-ACK that reflects both bits comes from somebody who does not know them.
    let mut s = Script::with(&config(EcnPolicy::Always));
    let id = connect(&mut s);
    s.out();
    s.inject("SEW. 0:0(0) ack 1 mss 1000");
    s.out();
    s.send(id, &[0; 10]).unwrap();
    assert_eq!(s.out(), ["P. 1:11(10) ack 1"]);
}

#[test]
fn rfc_3168_6_1_1_1_a_syn_that_is_not_answered_is_sent_again_without() {
    let mut s = Script::with(&config(EcnPolicy::Always));
    connect(&mut s);
    assert_eq!(s.out(), ["SEW 0:0(0)"]);
    assert_eq!(s.wait_ms(1_100), ["S 0:0(0)"]);
}

#[test]
fn rfc_3168_6_1_3_a_mark_is_echoed_until_the_peer_has_reduced() {
    let (mut s, id) = agreed();
    s.inject(". 1:1001(1000) ack 1 ect0");
    assert_eq!(s.out(), [". 1:1(0) ack 1001"]);
    s.inject(". 1001:2001(1000) ack 1 ce");
    assert_eq!(s.out(), ["E. 1:1(0) ack 2001"]);
    s.inject(". 2001:3001(1000) ack 1 ect0");
    assert_eq!(s.out(), ["E. 1:1(0) ack 3001"]);
    s.send(id, &[0; 10]).unwrap();
    assert_eq!(s.out(), ["PE. 1:11(10) ack 3001 ect0"]);
    s.inject("W. 3001:4001(1000) ack 11 ect0");
    assert_eq!(s.out(), [". 11:11(0) ack 4001"]);
    assert_eq!(s.counters.ce_received, 1);
}

#[test]
fn rfc_3168_6_1_2_the_window_is_reduced_once_per_round_trip() {
    let (mut s, id) = agreed();
    s.send(id, &[0; 60_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    s.now += RTT;
    s.inject("E. 1:1(0) ack 2001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.snd_ssthresh), (2, 5));
    let mut seen = s.out();
    for n in 3..=10 {
        s.inject(&format!("E. 1:1(0) ack {n}001"));
        seen.extend(s.out());
    }
    assert!(seen[0].starts_with("W. 10001:11001"), "CWR on the first new data: {seen:?}");
    assert_eq!(seen.iter().filter(|line| line.starts_with('W')).count(), 1);
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_ssthresh, 5);
    assert_eq!((s.counters.ecn_reductions, s.counters.retransmitted), (1, 0));
    // The receiver has seen CWR: the next mark is a new one.
    s.now += RTT;
    s.inject(". 1:1(0) ack 12001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.snd_cwnd, info.delivered_ce), (0, 5, 10));
    s.inject("E. 1:1(0) ack 13001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_ssthresh, 2);
    assert_eq!(s.counters.ecn_reductions, 2);
}

#[test]
fn rfc_3168_6_1_2_a_loss_tells_the_peer_of_the_reduction_too() {
    let (mut s, id) = agreed();
    s.send(id, &[0; 60_000]).unwrap();
    s.out();
    s.now += RTT;
    s.inject(". 1:1(0) ack 1 sack 1001:4001");
    let mut seen = s.out();
    assert_eq!(seen[0], ". 1:1001(1000) ack 1", "the retransmission is not ECN-capable");
    s.now += RTT;
    s.inject(". 1:1(0) ack 10001");
    seen.extend(s.out());
    let new: Vec<_> = seen.iter().filter(|line| line.contains(" ect0")).collect();
    assert_eq!(new[0], "W. 10001:11001(1000) ack 1 ect0");
    assert!(new[1..].iter().all(|line| !line.starts_with('W')));
}

#[test]
fn a_peer_without_ecn_gets_none() {
    let mut s = Script::with(&config(EcnPolicy::WhenAsked));
    let id = s.established("mss 1000");
    s.inject("E. 1:1001(1000) ack 1 ce");
    assert_eq!(s.out(), [". 1:1(0) ack 1001"]);
    s.send(id, &[0; 10]).unwrap();
    assert_eq!(s.out(), ["P. 1:11(10) ack 1001"]);
    assert_eq!(s.counters.ecn_reductions, 0);
}
