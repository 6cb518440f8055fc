//! CLOSE-WAIT: the peer's FIN is here, we may still send.

use super::{obeys_the_common_rules, reach};
use crate::socket::Shutdown;
use crate::tcp::State;

#[test]
fn rfc_9293_3_10_7_4_the_common_rules() {
    obeys_the_common_rules(State::CloseWait);
}

#[test]
fn rfc_9293_3_10_7_4_fifth_what_we_send_is_acknowledged() {
    let (mut s, id) = reach(State::CloseWait);
    s.send(id, &[0; 2000]).unwrap();
    assert_eq!(s.out(), [". 11:1011(1000) ack 12", "P. 1011:2011(1000) ack 12"]);
    s.inject(". 12:12(0) ack 2011");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 0);
    assert_eq!(s.state(id), State::CloseWait);
}

#[test]
fn rfc_9293_3_10_7_4_seventh_text_behind_a_fin_does_not_exist() {
    let (mut s, id) = reach(State::CloseWait);
    s.inject("P. 12:22(10) ack 11");
    assert_eq!(s.tcp.receive_available(id), Ok(0));
    assert_eq!(s.receive(id, 100), Ok(vec![]));
    assert_eq!(s.state(id), State::CloseWait);
}

#[test]
fn rfc_9293_3_10_7_4_eighth_a_repeated_fin_is_acknowledged() {
    let (mut s, id) = reach(State::CloseWait);
    s.inject("F. 11:11(0) ack 11");
    assert_eq!(s.out(), [". 11:11(0) ack 12"]);
    assert_eq!(s.state(id), State::CloseWait);
}

#[test]
fn closing_goes_to_last_ack() {
    let (mut s, id) = reach(State::CloseWait);
    s.shutdown(id, Shutdown::Write);
    assert_eq!(s.out(), ["F. 11:11(0) ack 12"]);
    assert_eq!(s.state(id), State::LastAck);
}
