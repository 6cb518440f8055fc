//! FIN-WAIT-2: our FIN is acknowledged, the peer may still send.

use super::{obeys_the_common_rules, reach};
use crate::socket::Shutdown;
use crate::tcp::State;
use crate::time::Duration;

#[test]
fn rfc_9293_3_10_7_4_the_common_rules() {
    obeys_the_common_rules(State::FinWait2);
}

#[test]
fn rfc_9293_3_10_7_4_seventh_text_is_received_and_acknowledged() {
    let (mut s, id) = reach(State::FinWait2);
    for start in (11..5011).step_by(1000) {
        s.inject(&format!(". {start}:{}(1000) ack 12", start + 1000));
    }
    assert!(s.out().contains(&". 12:12(0) ack 5011".to_owned()));
    assert_eq!(s.receive(id, 10_000).unwrap().len(), 5000);
}

#[test]
fn rfc_9293_3_10_7_4_eighth_fin() {
    let (mut s, id) = reach(State::FinWait2);
    s.inject("F. 11:11(0) ack 12");
    assert_eq!(s.out(), [". 12:12(0) ack 12"]);
    assert_eq!((s.state(id), s.tcp.occupancy().time_wait), (State::Closed, 1));
    s.close(id);
    s.wait(Duration::from_secs(61));
    assert!(s.is_empty());
}

#[test]
fn rfc_9293_3_10_7_4_eighth_a_fin_that_comes_before_its_text_waits_for_it() {
    let (mut s, id) = reach(State::FinWait2);
    s.inject("F. 21:21(0) ack 12");
    assert_eq!(s.out(), [". 12:12(0) ack 11"]);
    assert_eq!(s.state(id), State::FinWait2);
    s.inject("P. 11:21(10) ack 12");
    assert_eq!(s.out(), [". 12:12(0) ack 22"]);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
}

#[test]
fn rfc_1122_4_2_2_13_text_for_a_closed_socket_is_reset() {
    let (mut s, id) = reach(State::FinWait2);
    s.shutdown(id, Shutdown::Both);
    s.close(id);
    s.inject("P. 11:21(10) ack 12");
    assert_eq!(s.out(), ["R 12:12(0)"]);
    assert!(s.is_empty());
}
