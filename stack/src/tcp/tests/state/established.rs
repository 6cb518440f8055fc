//! ESTABLISHED.

use super::{obeys_the_common_rules, reach};
use crate::error::Error;
use crate::tcp::State;
use crate::tcp::testing::Script;

#[test]
fn rfc_9293_3_10_7_4_the_common_rules() {
    obeys_the_common_rules(State::Established);
}

#[test]
fn rfc_9293_3_10_7_4_seventh_text_is_taken_and_what_overlaps_is_cut() {
    let (mut s, id) = reach(State::Established);
    s.inject("P. 5:21(16) ack 11");
    assert_eq!(s.receive(id, 100), Ok(Script::stream(11, 10)));
    assert_eq!(s.out(), [". 11:11(0) ack 21"]);
}

#[test]
fn rfc_9293_3_10_7_4_seventh_text_beyond_the_window_is_cut() {
    let (mut s, id) = reach(State::Established);
    let edge = 11 + s.tcp.info(id, s.now).unwrap().rcv_wnd;
    for start in (11..edge).step_by(1000) {
        s.inject(&format!(". {start}:{}(0) ack 11", (start + 1000).min(edge)));
    }
    s.out();
    let full = s.tcp.receive_available(id).unwrap();
    s.inject(&format!("F. {edge}:{}(9) ack 11", edge + 9));
    assert_eq!(s.tcp.receive_available(id), Ok(full), "not an octet more");
    assert_eq!(s.state(id), State::Established, "nor the FIN behind them");
}

#[test]
fn rfc_9293_3_10_7_4_eighth_fin() {
    let (mut s, id) = reach(State::Established);
    s.inject("F. 11:16(5) ack 11");
    assert_eq!(s.out(), [". 11:11(0) ack 17"]);
    assert_eq!(s.state(id), State::CloseWait);
    assert_eq!(s.receive(id, 100).unwrap().len(), 5);
    assert_eq!(s.receive(id, 100), Ok(vec![]));
}

#[test]
fn rfc_9293_3_10_7_4_second_a_reset_is_told_to_the_program() {
    let (mut s, id) = reach(State::Established);
    s.inject("R. 11:11(0) ack 11");
    assert_eq!(s.receive(id, 1), Err(Error::ConnectionReset));
}

#[test]
fn rfc_9293_3_10_7_4_fifth_an_old_acknowledgment_does_not_move_the_window() {
    let (mut s, id) = reach(State::Established);
    s.send(id, &[0; 1000]).unwrap();
    s.out();
    s.inject(". 11:11(0) ack 1011 win 2000");
    //= RFC 9293 §3.10.7.4: SND.WL2 guards against old segments.
    s.inject(". 11:11(0) ack 500 win 60000");
    s.send(id, &[0; 5000]).unwrap();
    assert_eq!(s.out(), [". 1011:2011(1000) ack 11", "P. 2011:3011(1000) ack 11"]);
}
