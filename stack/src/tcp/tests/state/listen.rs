//! LISTEN (RFC 9293 §3.10.7.2).

use crate::tcp::testing::Script;
use crate::tcp::{SeqNumber, State};

/// What a listener answers to `segment`; whether it holds an opening then.
fn answer(segment: &str) -> (Vec<String>, u32) {
    let mut s = Script::plain();
    let listener = s.listener(80, 8);
    s.iss = SeqNumber(0);
    s.inject(segment);
    let answer = s.out();
    let openings = s.tcp.occupancy().openings;
    assert_eq!(s.state(listener), State::Listen);
    s.close(listener);
    (answer, openings as u32)
}

#[test]
fn rfc_9293_3_10_7_2_first_a_reset_is_ignored() {
    assert_eq!(answer("R 5:5(0)"), (vec![], 0));
    assert_eq!(answer("SR 5:5(0)"), (vec![], 0));
}

#[test]
fn rfc_9293_3_10_7_2_second_an_acknowledgment_is_reset() {
    let reset = vec!["R 77:77(0)".to_owned()];
    assert_eq!(answer(". 5:5(0) ack 77"), (reset.clone(), 0));
    assert_eq!(answer("S. 5:5(0) ack 77"), (reset, 0));
}

#[test]
fn rfc_9293_3_10_7_2_third_a_syn_is_answered() {
    assert_eq!(answer("S 5:5(0) mss 1000"), (vec!["S. 0:0(0) ack 6".to_owned()], 1));
}

#[test]
fn rfc_9293_3_10_7_2_fourth_anything_else_is_dropped() {
    assert_eq!(answer("F 5:5(0)"), (vec![], 0));
    assert_eq!(answer("P 5:15(10)"), (vec![], 0));
    assert_eq!(answer("U 5:5(0)"), (vec![], 0));
    assert_eq!(answer("_ 5:5(0)"), (vec![], 0));
}

#[test]
fn a_syn_with_fin_opens_nothing() {
    // Linux drops it: no stack sends it, scanners do.
    assert_eq!(answer("SF 5:5(0) mss 1000"), (vec![], 0));
}
