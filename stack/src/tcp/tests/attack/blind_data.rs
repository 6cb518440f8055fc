//! Data from someone who guesses (RFC 5961 §5).

use crate::tcp::testing::Script;

#[test]
fn rfc_5961_5_2_acknowledgments_of_the_unsent_and_the_too_old_are_challenged() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 5000");
    s.inject("P. 1:11(10) ack 100");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    assert_eq!(s.tcp.receive_available(id), Ok(0));
    s.wait_ms(600);
    s.inject("P. 1:11(10) ack -99999");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    assert_eq!(s.tcp.receive_available(id), Ok(0));
    assert_eq!(s.counters.bad_ack, 2);
}

#[test]
fn blind_data_outside_the_window_is_answered_not_taken() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("P. 200000:200010(10) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    assert_eq!(s.tcp.receive_available(id), Ok(0));
}

#[test]
fn rfc_5961_5_2_data_with_a_guessed_acknowledgment_is_rarely_taken() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 5000");
    let mut taken = 0;
    // The sequence number is right; of the acknowledgments, only those of the last window count.
    for n in 0..4_000u32 {
        let ack = i64::from(n) * 1_000_003 - 2_000_000_000;
        s.inject(&format!("P. 1:2(1) ack {ack}"));
        taken += s.receive(id, 10).map_or(0, |data| data.len());
        s.out();
    }
    assert_eq!(taken, 0);
}
