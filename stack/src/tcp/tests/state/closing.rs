//! CLOSING: both FINs crossed, ours is not acknowledged.

use super::{obeys_the_common_rules, reach};
use crate::tcp::State;

#[test]
fn rfc_9293_3_10_7_4_the_common_rules() {
    obeys_the_common_rules(State::Closing);
}

#[test]
fn rfc_9293_3_10_7_4_fifth_the_acknowledgment_of_our_fin() {
    let (mut s, id) = reach(State::Closing);
    s.inject(". 12:12(0) ack 11");
    assert_eq!(s.state(id), State::Closing, "not of the FIN");
    s.inject(". 12:12(0) ack 12");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!((s.state(id), s.tcp.occupancy().time_wait), (State::Closed, 1));
}

#[test]
fn our_fin_is_sent_again() {
    let (mut s, id) = reach(State::Closing);
    assert_eq!(s.wait_ms(700)[0], "F. 11:11(0) ack 12");
    assert_eq!(s.state(id), State::Closing);
}

#[test]
fn rfc_9293_3_10_7_4_eighth_a_repeated_fin_is_acknowledged() {
    let (mut s, id) = reach(State::Closing);
    s.inject("F. 11:11(0) ack 11");
    assert_eq!(s.out(), [". 12:12(0) ack 12"]);
    assert_eq!(s.state(id), State::Closing);
}
