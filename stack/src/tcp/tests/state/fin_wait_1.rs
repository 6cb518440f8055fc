//! FIN-WAIT-1: our FIN is out.

use super::{obeys_the_common_rules, reach};
use crate::tcp::State;

#[test]
fn rfc_9293_3_10_7_4_the_common_rules() {
    obeys_the_common_rules(State::FinWait1);
}

#[test]
fn rfc_9293_3_10_7_4_fifth_the_acknowledgment_of_our_fin() {
    let (mut s, id) = reach(State::FinWait1);
    s.inject(". 11:11(0) ack 11");
    assert_eq!(s.state(id), State::FinWait1, "not of the FIN");
    s.inject(". 11:11(0) ack 12");
    assert_eq!(s.state(id), State::FinWait2);
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn rfc_9293_3_10_7_4_seventh_text_is_still_received() {
    let (mut s, id) = reach(State::FinWait1);
    s.inject("P. 11:21(10) ack 12");
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
    assert_eq!(s.state(id), State::FinWait2);
}

#[test]
fn rfc_9293_3_10_7_4_eighth_fin_with_the_acknowledgment_of_ours() {
    let (mut s, id) = reach(State::FinWait1);
    s.inject("F. 11:11(0) ack 12");
    assert_eq!(s.out(), [". 12:12(0) ack 12"]);
    assert_eq!((s.state(id), s.tcp.occupancy().time_wait), (State::Closed, 1));
}

#[test]
fn rfc_9293_3_10_7_4_eighth_fin_without_it() {
    let (mut s, id) = reach(State::FinWait1);
    s.inject("F. 11:11(0) ack 11");
    assert_eq!(s.out(), [". 12:12(0) ack 12"]);
    assert_eq!(s.state(id), State::Closing);
}

#[test]
fn rfc_9293_3_10_7_4_eighth_fin_with_text() {
    let (mut s, id) = reach(State::FinWait1);
    s.inject("FP. 11:21(10) ack 12");
    assert_eq!(s.out(), [". 12:12(0) ack 22"]);
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
    assert_eq!(s.receive(id, 100).unwrap().len(), 0);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
}
