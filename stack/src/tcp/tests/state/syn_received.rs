//! SYN-RECEIVED (RFC 9293 §3.10.7.4), of a listener's opening.

use crate::tcp::testing::Script;
use crate::tcp::{State, TcpId};

fn opening() -> (Script, TcpId) {
    let mut s = Script::plain();
    let listener = s.listener(80, 8);
    s.inject("S 0:0(0) mss 1000 win 5000");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    (s, listener)
}

fn ask(segment: &str, answer: &[&str], openings: usize, why: &str) {
    let (mut s, listener) = opening();
    s.inject(segment);
    assert_eq!(s.out(), answer, "{why}: {segment}");
    assert_eq!(s.tcp.occupancy().openings, openings, "{why}: {segment}");
    assert!(s.accept(listener).is_err(), "{why}: {segment}");
}

#[test]
fn rfc_9293_3_10_7_4_first_what_is_outside_the_window_is_answered() {
    let again = ["S. 0:0(0) ack 1"];
    ask("P. 900000:900005(5) ack 1", &again, 1, "beyond the window");
    ask("P. -50:-40(10) ack 1", &again, 1, "before the window");
    ask("R 900000:900000(0)", &[], 1, "a reset beyond the window");
}

#[test]
fn rfc_9293_3_10_7_4_second_only_the_exact_reset_ends_it() {
    ask("R 1:1(0)", &[], 0, "exact");
    ask("R 100:100(0)", &[], 1, "within the window");
}

#[test]
fn rfc_9293_3_10_7_4_fourth_a_repeated_syn_is_answered_again() {
    ask("S 0:0(0) mss 1000 win 5000", &["S. 0:0(0) ack 1"], 1, "the same SYN");
}

#[test]
fn rfc_9293_3_10_7_4_fifth_an_acknowledgment_of_something_else_is_reset() {
    ask(". 1:1(0) ack 2", &["R 2:2(0)"], 1, "too much");
    ask(". 1:1(0) ack 0", &["R 0:0(0)"], 1, "too little");
    ask("P 1:6(5)", &[], 1, "none");
}

#[test]
fn rfc_9293_3_10_7_4_fifth_the_acknowledgment_of_our_syn_establishes() {
    let (mut s, listener) = opening();
    s.inject(". 1:1(0) ack 1 win 5000");
    let id = s.accept(listener).unwrap();
    assert_eq!((s.state(id), s.out().len()), (State::Established, 0));
}

#[test]
fn rfc_9293_3_10_7_4_eighth_a_fin_with_it_goes_to_close_wait() {
    let (mut s, listener) = opening();
    s.inject("F. 1:11(10) ack 1 win 5000");
    let id = s.accept(listener).unwrap();
    assert_eq!(s.out(), [". 1:1(0) ack 12"]);
    assert_eq!(s.state(id), State::CloseWait);
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
}
