//! RFC 9293 §3.10.7.4: the order of the eight steps. What each does in each state is in `state/`.

use crate::tcp::State;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;

/// A connection with ten octets of ours in flight.
fn ten_in_flight() -> (Script, TcpId) {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[0; 10]).unwrap();
    assert_eq!(s.out(), ["P. 1:11(10) ack 1"]);
    (s, id)
}

#[test]
fn rfc_9293_3_10_7_4_first_what_is_outside_the_window_acknowledges_nothing() {
    let (mut s, id) = ten_in_flight();
    s.inject("P. -100:-90(10) ack 11");
    assert_eq!(s.out(), [". 11:11(0) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 1);
    s.inject("P. 100000:100010(10) ack 11");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 1);
}

#[test]
fn rfc_9293_3_10_7_4_second_a_reset_goes_before_all_that_it_carries() {
    let (mut s, id) = ten_in_flight();
    s.inject("RPF. 1:11(10) ack 11");
    assert_eq!(s.state(id), State::Closed);
    assert_eq!(s.out(), [""; 0], "and is never answered");
    assert_eq!(s.tcp.receive_available(id).unwrap_or(0), 0);
}

#[test]
fn rfc_9293_3_10_7_4_fourth_a_syn_goes_before_the_acknowledgment() {
    let (mut s, id) = ten_in_flight();
    s.inject("SP. 1:11(10) ack 11");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 1);
    assert_eq!(s.tcp.receive_available(id), Ok(0));
}

#[test]
fn rfc_9293_3_10_7_4_fifth_without_ack_nothing_counts() {
    let (mut s, id) = ten_in_flight();
    s.inject("PF 1:11(10)");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!((s.tcp.receive_available(id), s.state(id)), (Ok(0), State::Established));
}

#[test]
fn rfc_9293_3_10_7_4_fifth_to_eighth_in_one_segment() {
    let (mut s, id) = ten_in_flight();
    s.inject("UPF. 1:11(10) ack 11 urg 10");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 0);
    assert_eq!(s.tcp.receive_available(id), Ok(9), "the tenth is urgent");
    assert_eq!(s.state(id), State::CloseWait);
    assert_eq!(s.out(), [". 11:11(0) ack 12"]);
}

#[test]
fn rfc_9293_3_10_7_4_a_closed_window_takes_acknowledgments_and_resets_all_the_same() {
    for reset in [false, true] {
        let mut s = Script::plain();
        let id = s.established("mss 1000");
        s.options(id, |o| (o.receive_buffer, o.receive_buffer_locked) = (4_608, true));
        s.send(id, &[0; 10]).unwrap();
        s.out();
        let mut at = 1;
        while s.last.window > 0 && at < 200_000 {
            s.inject(&format!(". {at}:{}(0) ack 1", at + 1000));
            s.wait_ms(300);
            at = s.last.ack.0.wrapping_sub(s.peer_iss);
        }
        assert_eq!(s.last.window, 0);
        s.inject(&format!(". {at}:{}(0) ack 11", at + 1));
        let info = s.tcp.info(id, s.now).unwrap();
        assert_eq!(info.unacked, 0, "an octet beyond: not taken, but its acknowledgment is");
        if reset {
            s.inject(&format!("R {at}:{at}(0)"));
            assert_eq!(s.state(id), State::Closed);
        }
    }
}
