//! RFC 6298: the retransmission timer.

use super::super::recovery::sending;

#[test]
fn rfc_6298_a_timeout_sends_the_first_segment_and_backs_off() {
    let (mut s, id) = sending("mss 1000", 4);
    let before = s.tcp.info(id, s.now).unwrap();
    assert_eq!(before.rtt / 1000, 20);
    let seen = s.wait_ms(400);
    assert_eq!(seen, [". 1001:2001(1000) ack 1"]);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.snd_cwnd, info.ca_state, info.backoff), (1, 4, 1));
    assert_eq!(s.wait_ms(450), [". 1001:2001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 5001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.backoff, info.unacked, info.lost), (0, 0, 0, 0));
}

#[test]
fn rfc_6298_what_a_retransmission_released_is_no_round_trip() {
    let (mut s, id) = sending("mss 1000", 4);
    s.wait_ms(900);
    // The first was lost, the others have waited at the peer all the while.
    s.inject(". 1:1(0) ack 5001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.rtt / 1000, info.backoff), (20, 0));
}

#[test]
fn rfc_6298_5_2_nothing_in_flight_no_timer() {
    let (mut s, _) = sending("mss 1000", 4);
    s.inject(". 1:1(0) ack 5001");
    s.out();
    let seen = s.wait(crate::time::Duration::from_secs(600));
    assert_eq!(seen, [""; 0]);
    assert_eq!(s.counters.timeouts, 0);
}

#[test]
fn rfc_6298_5_3_an_acknowledgment_of_something_new_starts_it_anew() {
    let (mut s, _) = sending("mss 1000", 4);
    for n in 2..5 {
        assert_eq!(s.wait_ms(150), [""; 0], "the floor is 200 ms");
        s.inject(&format!(". 1:1(0) ack {n}001"));
    }
    assert_eq!(s.counters.timeouts, 0);
}

#[test]
fn rfc_6298_5_5_every_timeout_doubles_it_up_to_the_ceiling() {
    let (mut s, id) = sending("mss 1000", 1);
    let mut at = Vec::new();
    let begun = s.now;
    while s.state(id) == crate::tcp::State::Established && at.len() < 13 {
        if !s.wait_ms(10).is_empty() {
            at.push((s.now - begun).as_millis() as i64);
        }
    }
    let gaps: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for pair in gaps.windows(2) {
        let doubled = (2 * pair[0]).min(120_000);
        assert!((pair[1] - doubled).abs() <= 40, "{gaps:?}");
    }
    assert_eq!(*gaps.last().unwrap() / 1000, 120);
}
