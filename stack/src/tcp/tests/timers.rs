//! Keepalive (RFC 1122 §4.2.3.6) and window probes (RFC 9293 §3.8.6.1).

use crate::error::Error;
use crate::tcp::testing::Script;
use crate::tcp::{State, TimerKind};
use crate::time::Duration;

#[test]
fn a_keepalive_of_the_peer_is_answered() {
    let mut s = Script::plain();
    s.established("mss 1000");
    s.inject(". 0:0(0) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    s.inject(". 0:1(1) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
}

#[test]
fn a_window_that_never_opens_is_probed_until_the_peer_is_silent() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 1000");
    s.send(id, &[0; 2000]).unwrap();
    s.out();
    s.inject(". 1:1(0) ack 1001 win 0");
    for _ in 0..30 {
        let probes = s.wait(Duration::from_secs(125));
        assert!(!probes.is_empty());
        s.inject(". 1:1(0) ack 1001 win 0");
    }
    assert_eq!(s.state(id), State::Established, "answered probes keep it alive");
    s.wait(Duration::from_secs(3600));
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

#[test]
fn a_window_too_small_for_a_segment_is_used_when_the_probe_is_due() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 600");
    s.send(id, &[0; 2000]).unwrap();
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.wait_ms(1500)[0], "P. 1:601(600) ack 1");
}

#[test]
fn each_state_tells_what_it_waits_for() {
    let mut s = Script::plain();
    let timer = |s: &Script| {
        let mut found = None;
        s.tcp.sockets(|socket| found = socket.timer.or(found));
        found.map(|timer| (timer.kind, (timer.at - s.now).as_millis(), timer.times))
    };
    let id = s.established("mss 1000");
    assert_eq!(timer(&s), None);
    s.options(id, |o| o.keepalive = true);
    assert_eq!(timer(&s), Some((TimerKind::Keepalive, 7_200_000, 0)));
    s.send(id, &[1; 10]).unwrap();
    s.out();
    assert!(matches!(timer(&s), Some((TimerKind::On, 1.., 0))));
    s.wait_ms(2_000);
    assert!(matches!(timer(&s), Some((TimerKind::On, 1.., 1..))));
    s.inject(". 1:1(0) ack 11 win 0");
    s.send(id, &[1; 10]).unwrap();
    assert_eq!(s.out(), [""; 0]);
    assert!(matches!(timer(&s), Some((TimerKind::Persist, 1.., 0))));
    s.inject(". 1:1(0) ack 11 win 1000");
    s.out();
    s.close(id);
    s.out();
    s.inject("F. 1:1(0) ack 22");
    s.out();
    assert_eq!(timer(&s), Some((TimerKind::TimeWait, 60_000, 0)));
}
