//! A peer that takes its window back (RFC 9293 §3.8.6: it must not, and we must bear it).

use crate::rng::Rng;
use crate::tcp::State;
use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn rfc_9293_3_8_6_nothing_new_goes_beyond_the_smaller_window() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 8000");
    s.send(id, &[0; 16_000]).unwrap();
    assert_eq!(s.out().len(), 8);
    s.inject(". 1:1(0) ack 1001 win 1000");
    s.inject(". 1:1(0) ack 2001 win 500");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 6);
    s.inject(". 1:1(0) ack 8001 win 3000");
    assert_eq!(s.out().len(), 3, "and it goes on when the window is back");
}

#[test]
fn rfc_9293_3_8_6_what_is_beyond_the_window_now_is_not_lost() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 8000 sackok");
    s.send(id, &[0; 8_000]).unwrap();
    s.out();
    // The window closes on all that is in flight; only the first segment is repeated to probe.
    s.inject(". 1:1(0) ack 1 win 0");
    let seen = s.wait(Duration::from_secs(5));
    assert!(!seen.is_empty() && seen.iter().all(|line| line.contains(" 1:1001(1000)")), "{seen:?}");
    s.inject(". 1:1(0) ack 1001 win 8000");
    let mut acked = 1001;
    for _ in 0..100 {
        s.out();
        acked = acked.max(1 + s.last.seq.since(s.iss) - 1 + 1000).min(8001);
        s.inject(&format!(". 1:1(0) ack {acked} win 8000"));
        s.wait_ms(1000);
        if acked == 8001 {
            break;
        }
    }
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 0, "{acked}");
}

#[test]
fn a_window_that_opens_and_closes_at_random_makes_no_storm() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 8000");
    let mut rng = Rng::new([3; 32]);
    let mut sent = 0;
    for _ in 0..2_000 {
        let _ = s.send(id, &[0; 3_000]);
        sent += s.wait_ms(1).len();
        let window = rng.below(3) * rng.below(4_000);
        s.inject(&format!(". 1:1(0) ack 1 win {window}"));
        sent += s.out().len();
    }
    assert_eq!(s.state(id), State::Established);
    assert!(sent < 100, "{sent} segments while nothing was ever acknowledged");
}

#[test]
fn silly_windows_do_not_make_silly_segments() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 8000");
    s.send(id, &[0; 8_000]).unwrap();
    assert_eq!(s.out().len(), 8);
    s.send(id, &[0; 8_000]).unwrap();
    let mut sizes = Vec::new();
    for n in 1..=200u32 {
        //= RFC 9293 §3.8.6.2.1: a window of a few octets is not used up at once.
        s.inject(&format!(". 1:1(0) ack {} win {}", 8_001, n % 7));
        sizes.extend(s.out());
    }
    assert_eq!(sizes, [""; 0]);
}
