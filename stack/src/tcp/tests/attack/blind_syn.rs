//! SYNs into a connection (RFC 5961 §4).

use crate::tcp::State;
use crate::tcp::testing::Script;

#[test]
fn rfc_5961_4_2_a_syn_is_challenged() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("S 1:1(0)");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    s.inject("S 1:1(0)");
    assert_eq!(s.out(), [""; 0], "not more often than every 500 ms");
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn rfc_5961_4_2_wherever_the_syn_is() {
    for seq in [-70_000, -1, 0, 1, 2, 100, 64_000, 200_000] {
        for kind in ["S", "S.", "SF.", "SP."] {
            let mut s = Script::plain();
            let id = s.established("mss 1000");
            s.inject(&format!("{kind} {seq}:{seq}(0) ack 1"));
            assert_eq!(s.out(), [". 1:1(0) ack 1"], "{kind} {seq}");
            assert_eq!(s.state(id), State::Established, "{kind} {seq}");
        }
    }
}

#[test]
fn rfc_5961_4_2_a_peer_that_restarted_gets_through_by_its_reset() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("S 99999:99999(0) mss 1000");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    // It knows of no connection, and resets with the number that we acknowledged.
    s.inject("R 1:1(0)");
    assert_eq!(s.state(id), State::Closed);
}

#[test]
fn a_syn_with_data_brings_no_data() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("SP. 1:11(10) ack 1");
    assert_eq!(s.tcp.receive_available(id), Ok(0));
}
