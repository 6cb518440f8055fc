//! RFC 1337: hazards of TIME-WAIT.

use super::super::state::time_wait::in_time_wait;
use crate::tcp::testing::Script;

#[test]
fn rfc_1337_a_reset_does_not_cut_it_short() {
    let mut s = Script::plain();
    in_time_wait(&mut s, "mss 1000", "");
    s.inject("R 2:2(0)");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
}

#[test]
fn rfc_1337_2_old_data_and_old_acknowledgments_do_no_harm() {
    let mut s = Script::plain();
    in_time_wait(&mut s, "mss 1000", "");
    for text in ["P. -500:-490(10) ack 1", ". 1:1(0) ack -5", "P. 5000:5010(10) ack 2"] {
        s.inject(text);
        let out = s.out();
        assert!(out.iter().all(|line| *line == ". 2:2(0) ack 2"), "{text}: {out:?}");
        assert_eq!(s.tcp.occupancy().time_wait, 1, "{text}");
    }
}
