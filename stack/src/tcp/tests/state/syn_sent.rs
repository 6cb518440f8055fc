//! SYN-SENT (RFC 9293 §3.10.7.3).

use crate::error::Error;
use crate::tcp::testing::Script;
use crate::tcp::{State, TcpId};

fn connecting() -> (Script, TcpId) {
    let mut s = Script::plain();
    let id = s.connecting();
    (s, id)
}

#[test]
fn rfc_9293_3_10_7_3_first_an_acknowledgment_of_something_else_is_reset() {
    for (segment, reset) in [
        (". 0:0(0) ack 0", "R 0:0(0)"),
        (". 0:0(0) ack 2", "R 2:2(0)"),
        ("S. 0:0(0) ack 2", "R 2:2(0)"),
        ("S. 0:0(0) ack -5", "R -5:-5(0)"),
    ] {
        let (mut s, id) = connecting();
        s.inject(segment);
        assert_eq!(s.out(), [reset], "{segment}");
        assert_eq!(s.state(id), State::SynSent, "{segment}");
    }
}

#[test]
fn rfc_9293_3_10_7_3_second_a_reset_must_acknowledge_our_syn() {
    for segment in ["R 0:0(0)", "R. 0:0(0) ack 0", "R. 0:0(0) ack 2"] {
        let (mut s, id) = connecting();
        s.inject(segment);
        assert_eq!((s.out().len(), s.state(id)), (0, State::SynSent), "{segment}");
    }
    let (mut s, id) = connecting();
    s.inject("R. 12345:12345(0) ack 1");
    assert_eq!((s.out().len(), s.state(id)), (0, State::Closed));
    assert_eq!(s.tcp.take_error(id), Some(Error::ConnectionRefused));
}

#[test]
fn rfc_9293_3_10_7_3_fourth_a_syn_ack_establishes() {
    let (mut s, id) = connecting();
    s.inject("S. 0:0(0) ack 1 mss 1000");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn rfc_9293_3_10_7_3_fourth_a_syn_alone_is_a_simultaneous_open() {
    let (mut s, id) = connecting();
    s.inject("S 0:0(0) mss 1000");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(s.state(id), State::SynReceived);
    s.inject(". 1:1(0) ack 1");
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn rfc_9293_3_10_7_3_fifth_anything_else_is_dropped() {
    for segment in ["F 0:0(0)", "P 0:10(10)", "_ 0:0(0)", ". 0:0(0) ack 1", "F. 0:0(0) ack 1"] {
        let (mut s, id) = connecting();
        s.inject(segment);
        assert_eq!((s.out().len(), s.state(id)), (0, State::SynSent), "{segment}");
    }
}
