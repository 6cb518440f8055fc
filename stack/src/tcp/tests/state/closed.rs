//! CLOSED: nobody is there (RFC 9293 §3.10.7.1).

use crate::tcp::SeqNumber;
use crate::tcp::testing::Script;

/// What answers `segment`; sequence numbers of ours count from 0.
fn answer(segment: &str) -> Vec<String> {
    let mut s = Script::plain();
    s.iss = SeqNumber(0);
    s.inject(segment);
    let answer = s.out();
    assert!(s.is_empty());
    answer
}

#[test]
fn rfc_9293_3_10_7_1_a_reset_is_not_answered() {
    assert_eq!(answer("R 5:5(0)"), [""; 0]);
    assert_eq!(answer("R. 5:5(0) ack 7"), [""; 0]);
}

#[test]
fn rfc_9293_3_10_7_1_a_reset_takes_the_number_from_an_acknowledgment() {
    assert_eq!(answer(". 5:5(0) ack 77"), ["R 77:77(0)"]);
    assert_eq!(answer("S. 5:5(0) ack 77"), ["R 77:77(0)"]);
    assert_eq!(answer("F. 5:9(4) ack 77"), ["R 77:77(0)"]);
}

#[test]
fn rfc_9293_3_10_7_1_else_a_reset_acknowledges_what_came() {
    assert_eq!(answer("S 0:0(0)"), ["R. 0:0(0) ack 1"]);
    assert_eq!(answer("F 5:5(0)"), ["R. 0:0(0) ack 6"]);
    assert_eq!(answer("SF 5:5(0)"), ["R. 0:0(0) ack 7"]);
    assert_eq!(answer("P 5:9(4)"), ["R. 0:0(0) ack 9"]);
    assert_eq!(answer("_ 5:5(0)"), ["R. 0:0(0) ack 5"], "no flag at all");
}
