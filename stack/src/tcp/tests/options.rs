//! Socket options that change what a connection does, a script or more for each.

use super::recovery::sending;
use crate::error::Error;
use crate::packet::{HeapBuffer, IpMeta};
use crate::socket::Shutdown;
use crate::tcp::State;
use crate::tcp::testing::{OURS, PEER, PEER_PORT, Script};
use crate::time::Duration;
use core::net::SocketAddr;

#[test]
fn syncnt_bounds_the_retransmissions() {
    let mut s = Script::new();
    let id = s.socket();
    s.options(id, |o| o.syn_count = 1);
    s.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
    assert_eq!(s.out().len(), 1);
    assert_eq!(s.wait(Duration::from_secs(10)).len(), 1);
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

#[test]
fn user_timeout_gives_up_sooner() {
    let (mut s, id) = sending("mss 1000", 1);
    s.options(id, |o| o.user_timeout = Duration::from_secs(3).into());
    s.wait(Duration::from_millis(2900));
    assert_eq!(s.tcp.take_error(id), None);
    s.wait(Duration::from_millis(1500));
    assert_eq!(s.tcp.take_error(id), Some(crate::error::Error::TimedOut));
}

#[test]
fn cork_holds_what_is_not_full_for_200_ms() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.cork = true);
    s.send(id, &[1; 1500]).unwrap();
    assert_eq!(s.out(), [". 1:1001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.wait_ms(190), [""; 0]);
    assert_eq!(s.wait_ms(20), ["P. 1001:1501(500) ack 1"]);
    s.inject(". 1:1(0) ack 1501");
    s.send(id, &[1; 10]).unwrap();
    assert_eq!(s.out(), [""; 0]);
    s.options(id, |o| o.cork = false);
    assert_eq!(s.out(), ["P. 1501:1511(10) ack 1"]);
}

#[test]
fn rfc_1122_4_2_3_6_keepalives_find_a_dead_peer() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| {
        o.keepalive = true;
        o.keepalive_idle = Duration::from_secs(10).into();
        o.keepalive_interval = Duration::from_secs(2).into();
        o.keepalive_count = 3;
    });
    assert_eq!(s.wait(Duration::from_millis(9_900)), [""; 0]);
    assert_eq!(s.wait_ms(200), [". 0:0(0) ack 1"]);
    s.inject(". 1:1(0) ack 1");
    assert_eq!(s.wait(Duration::from_millis(9_900)), [""; 0], "an answer: the peer lives");
    assert_eq!(s.wait(Duration::from_millis(4_500)).len(), 3);
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.wait(Duration::from_secs(2)), ["R. 1:1(0) ack 1"]);
    assert_eq!(s.receive(id, 1), Err(Error::TimedOut));
    s.close(id);
    assert!(s.is_empty());
}

#[test]
fn syncnt_counts_for_one_connect_and_the_default_for_others() {
    let mut s = Script::new();
    let ids = [s.socket(), s.socket()];
    s.options(ids[0], |o| o.syn_count = 2);
    s.connect(ids[0], SocketAddr::new(PEER, PEER_PORT)).unwrap();
    s.connect(ids[1], SocketAddr::new(PEER, PEER_PORT)).unwrap();
    s.wait(Duration::from_secs(8));
    assert_eq!(s.tcp.take_error(ids[0]), Some(Error::TimedOut), "1 + 2 + 4 seconds");
    assert_eq!(s.state(ids[1]), State::SynSent);
}

#[test]
fn user_timeout_bounds_a_window_that_never_opens() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 1000");
    s.options(id, |o| o.user_timeout = Duration::from_secs(5).into());
    s.send(id, &[0; 2000]).unwrap();
    s.out();
    s.inject(". 1:1(0) ack 1001 win 0");
    s.wait(Duration::from_secs(4));
    assert_eq!(s.state(id), State::Established);
    s.wait(Duration::from_secs(8));
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

#[test]
fn user_timeout_bounds_an_opening() {
    let mut s = Script::new();
    let id = s.socket();
    s.options(id, |o| o.user_timeout = Duration::from_secs(2).into());
    s.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
    s.wait(Duration::from_secs(4));
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

#[test]
fn user_timeout_takes_the_place_of_the_count_of_keepalives() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| {
        o.keepalive = true;
        o.keepalive_idle = Duration::from_secs(1).into();
        o.keepalive_interval = Duration::from_secs(1).into();
        o.keepalive_count = 100;
        o.user_timeout = Duration::from_secs(4).into();
    });
    s.wait(Duration::from_millis(3_500));
    assert_eq!(s.state(id), State::Established);
    s.wait(Duration::from_secs(3));
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

/// Our half is closed and acknowledged, and the program gone; how long the rest may take.
fn orphan_in_fin_wait_2(linger2: Option<u64>) -> Script {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.linger2 = linger2.map(|s| Duration::from_secs(s).into()));
    s.close(id);
    assert_eq!(s.out(), ["F. 1:1(0) ack 1"]);
    s.inject(". 1:1(0) ack 2");
    s
}

#[test]
fn linger2_bounds_an_orphan_in_fin_wait_2() {
    let mut s = orphan_in_fin_wait_2(Some(5));
    s.wait(Duration::from_millis(4_900));
    assert!(!s.is_empty());
    s.wait(Duration::from_millis(200));
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
    assert_eq!(s.counters.orphans_timed_out, 1);
}

#[test]
fn linger2_lets_a_peer_that_finishes_in_time_do_so() {
    let mut s = orphan_in_fin_wait_2(Some(5));
    s.wait(Duration::from_secs(4));
    s.inject("F. 1:1(0) ack 2");
    assert_eq!(s.out(), [". 2:2(0) ack 2"]);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
}

#[test]
fn a_negative_linger2_waits_for_nothing() {
    let mut s = orphan_in_fin_wait_2(None);
    assert_eq!(s.out(), ["R. 2:2(0) ack 1"]);
    assert!(s.is_empty());
}

#[test]
fn linger2_does_not_bound_a_half_that_the_program_still_reads() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.linger2 = Some(Duration::from_secs(1).into()));
    s.shutdown(id, Shutdown::Write);
    s.out();
    s.inject(". 1:1(0) ack 2");
    s.wait(Duration::from_secs(600));
    assert_eq!(s.state(id), State::FinWait2);
    s.inject("P. 1:11(10) ack 2");
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
}

#[test]
fn notsent_lowat_bounds_what_waits_not_what_is_in_flight() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked) = (1 << 20, true);
        o.not_sent_low_water = 4_000;
    });
    let mut written = 0;
    while let Ok(n) = s.send(id, &[0; 1_000]) {
        written += n;
        s.out();
        assert!(written < 100_000, "it ends");
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.unacked, 10, "the window is full all the same");
    // Linux looks at the limit before each buffer that it fills, which holds half a window.
    assert!((4_000..=36_000).contains(&info.notsent_bytes), "{}", info.notsent_bytes);
    s.events();
    let mut acked = 1;
    let told = loop {
        acked += 1_000;
        assert!(acked <= 1 + written, "it is told before all has arrived");
        s.inject(&format!(". 1:1(0) ack {acked}"));
        s.out();
        let writable = crate::readiness::Readiness::WRITABLE;
        if s.events().iter().any(|(_, ready)| ready.contains(writable)) {
            break s.tcp.info(id, s.now).unwrap().notsent_bytes;
        }
    };
    assert!(told < 2_000, "once less than half of it waits: {told}");
}

#[test]
fn window_clamp_bounds_what_is_offered() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.window_clamp = 3_000);
    let mut at = 1;
    for _ in 0..100 {
        s.inject(&format!(". {at}:{}(0) ack 1", at + 1000));
        at += 1000;
        s.receive(id, 10_000).unwrap();
        s.wait_ms(50);
    }
    assert!(s.last.window <= 3_000, "{}", s.last.window);
    assert!(s.last.window >= 1_000, "but it goes on: {}", s.last.window);
    assert_eq!(s.tcp.info(id, s.now).unwrap().bytes_received, 100_000);
}

#[test]
fn cork_is_no_reason_to_hold_full_segments_or_the_end() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.cork = true);
    s.send(id, &[1; 2_010]).unwrap();
    assert_eq!(s.out(), [". 1:1001(1000) ack 1", "P. 1001:2001(1000) ack 1"]);
    s.close(id);
    assert_eq!(s.out(), ["FP. 2001:2011(10) ack 1"]);
}

/// Keepalive with its three options, on an idle connection: when the probes go, in seconds.
#[test]
fn the_keepalive_trio_says_when_how_often_and_how_many() {
    for (idle, interval, count) in [(5, 1, 2), (3, 4, 1), (60, 10, 5)] {
        let mut s = Script::plain();
        let id = s.established("mss 1000");
        s.options(id, |o| {
            o.keepalive = true;
            o.keepalive_idle = Duration::from_secs(idle).into();
            o.keepalive_interval = Duration::from_secs(interval).into();
            o.keepalive_count = count;
        });
        let mut probes = Vec::new();
        let mut seconds = 0;
        while s.state(id) == State::Established {
            seconds += 1;
            let out = s.wait_ms(1_000);
            probes.extend(out.iter().filter(|l| l.starts_with(". 0:0")).map(|_| seconds));
            assert!(seconds < 1_000);
        }
        let expected: Vec<u64> = (0..u64::from(count)).map(|n| idle + n * interval).collect();
        let late = |seen: &u64, wanted: &u64| (0..=1).contains(&(*seen as i64 - *wanted as i64));
        assert_eq!(probes.len(), expected.len(), "{probes:?} {expected:?}");
        assert!(probes.iter().zip(&expected).all(|(a, b)| late(a, b)), "{probes:?} {expected:?}");
        assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
    }
}

/// What `text` says, signed as RFC 2385 has it.
fn inject_signed(s: &mut Script, text: &str) {
    let (header, payload) = s.parse(text);
    let mut octets = vec![0; header.len()];
    header.emit(&mut octets);
    octets[12] += 5 << 4;
    octets.extend([19, 18]);
    octets.extend([7; 16]);
    octets.extend([1, 1]);
    octets.extend(payload);
    let meta = IpMeta { source: PEER, destination: OURS, traffic_class: 0, hop_limit: 64 };
    s.deliver(meta, HeapBuffer::from_bytes(&octets));
}

#[test]
fn rfc_2385_what_is_signed_is_dropped_where_there_are_no_keys() {
    let mut s = Script::plain();
    let listener = s.listener(80, 8);
    inject_signed(&mut s, "S 0:0(0) mss 1460");
    assert_eq!(s.out(), [""; 0]);
    s.inject("S 0:0(0) mss 1460");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    inject_signed(&mut s, ". 1:1(0) ack 1");
    assert!(s.accept(listener).is_err(), "not even the final ACK counts");
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    inject_signed(&mut s, "P. 1:6(5) ack 1");
    inject_signed(&mut s, "R 1:1(0)");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.counters.md5_unexpected, 4);
}
