//! Resets from someone who guesses (RFC 5961 §3).

use crate::tcp::State;
use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn rfc_5961_3_2_a_reset_must_be_exact() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("R 100:100(0)");
    assert_eq!(s.out(), [". 1:1(0) ack 1"], "a challenge ACK");
    assert_eq!(s.state(id), State::Established);
    s.inject("R 100000:100000(0)");
    assert_eq!(s.out(), [""; 0], "outside the window: silence");
    s.inject("R 1:1(0)");
    assert_eq!(s.state(id), State::Closed);
}

#[test]
fn rfc_5961_3_a_million_guesses_hit_nothing() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    let mut answers = 0;
    for guess in (2..4_000_000_000u32).step_by(1_000_003) {
        s.inject(&format!("R {guess}:{guess}(0)"));
        s.inject(&format!("R. {guess}:{guess}(0) ack 1"));
        answers += s.out().len();
    }
    assert_eq!(s.state(id), State::Established);
    assert!(answers <= 1, "a guess within the window is challenged, once in 500 ms: {answers}");
}

#[test]
fn rfc_5961_3_2_the_true_peer_answers_the_challenge_with_the_exact_number() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    // The peer has forgotten us, and its reset is not where we are.
    s.inject("R 500:500(0)");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    s.inject("R 1:1(0)");
    assert_eq!(s.state(id), State::Closed);
}

#[test]
fn rfc_5961_3_2_the_edges_of_the_window() {
    for (seq, challenged) in [(0, false), (2, true), (64_000, true), (70_000, false)] {
        let mut s = Script::plain();
        let id = s.established("mss 1000");
        s.now += Duration::from_secs(1);
        s.inject(&format!("R {seq}:{seq}(0)"));
        assert_eq!(!s.out().is_empty(), challenged, "{seq}");
        assert_eq!(s.state(id), State::Established, "{seq}");
    }
}

#[test]
fn a_reset_for_an_opening_must_be_exact_too() {
    let mut s = Script::plain();
    s.listener(80, 8);
    s.inject("S 0:0(0) mss 1000");
    s.out();
    for guess in [2, 100, 60_000] {
        s.inject(&format!("R {guess}:{guess}(0)"));
    }
    assert_eq!(s.tcp.occupancy().openings, 1);
}
