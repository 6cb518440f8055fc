//! `SO_TIMESTAMPING`: when octets left, were acknowledged, and came.

use crate::error::Error;
use crate::options::Timestamping;
use crate::readiness::Readiness;
use crate::socket::SendFlags;
use crate::tcp::testing::Script;
use crate::tcp::{SendStamp, Stage, State, TcpId};
use crate::time::Duration;

/// All that can be reported of a send, with numbers.
fn all() -> Timestamping {
    Timestamping::RECORD | Timestamping::SOFTWARE | Timestamping::OPT_ID
}

impl Script {
    fn ask(&mut self, id: TcpId, wanted: Timestamping) {
        self.tcp.set_timestamping(id, wanted).unwrap();
    }

    /// The reports that nobody has read: stage, number, and milliseconds since `begun`.
    fn reports(&mut self, id: TcpId, begun: crate::time::Instant) -> Vec<(Stage, u32, u64)> {
        let mut seen = Vec::new();
        while let Ok(SendStamp { stage, key, at }) = self.tcp.receive_stamp(id) {
            seen.push((stage, key, (at - begun).as_millis() as u64));
        }
        seen
    }
}

#[test]
fn the_last_octet_of_each_send_is_reported_when_it_leaves_and_when_it_is_acknowledged() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, all());
    let begun = s.now;
    s.send(id, &[1; 2000]).unwrap();
    s.out();
    s.send(id, &[1; 2000]).unwrap();
    s.out();
    assert!(s.events().iter().any(|(_, ready)| ready.contains(Readiness::ERROR)));
    s.now += Duration::from_millis(10);
    s.inject(". 1:1(0) ack 2001");
    s.now += Duration::from_millis(10);
    s.inject(". 1:1(0) ack 4001");
    assert!(s.tcp.readiness(id).contains(Readiness::ERROR));
    let expected = [
        (Stage::Scheduled, 1999, 0),
        (Stage::Sent, 1999, 0),
        (Stage::Scheduled, 3999, 0),
        (Stage::Sent, 3999, 0),
        (Stage::Acknowledged, 1999, 10),
        (Stage::Acknowledged, 3999, 20),
    ];
    assert_eq!(s.reports(id, begun), expected);
    assert!(!s.tcp.readiness(id).contains(Readiness::ERROR));
}

#[test]
fn what_waits_for_the_window_is_reported_when_it_leaves() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, all());
    let begun = s.now;
    s.send(id, &[1; 11_000]).unwrap();
    s.out();
    assert_eq!(s.reports(id, begun), []);
    s.now += Duration::from_millis(10);
    s.inject(". 1:1(0) ack 10001");
    s.out();
    assert_eq!(s.reports(id, begun), [(Stage::Scheduled, 10_999, 10), (Stage::Sent, 10_999, 10)]);
    // Sent again it is not reported again; acknowledged in part not yet.
    s.now += Duration::from_millis(990);
    s.wait_ms(0);
    s.inject(". 1:1(0) ack 10501");
    assert_eq!(s.reports(id, begun), []);
    s.inject(". 1:1(0) ack 11001");
    assert_eq!(s.reports(id, begun), [(Stage::Acknowledged, 10_999, 1_000)]);
}

#[test]
fn sends_that_share_a_packet_share_a_number() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, all());
    s.send(id, &[1; 40]).unwrap();
    s.out();
    for _ in 0..3 {
        s.send(id, &[1; 40]).unwrap();
    }
    assert_eq!(s.out(), [""; 0], "Nagle");
    let begun = s.now;
    s.reports(id, begun);
    s.inject(". 1:1(0) ack 41");
    s.out();
    let expected =
        [(Stage::Acknowledged, 39, 0), (Stage::Scheduled, 159, 0), (Stage::Sent, 159, 0)];
    assert_eq!(s.reports(id, begun), expected);
}

#[test]
fn a_send_says_itself_what_to_report() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, Timestamping::SOFTWARE | Timestamping::OPT_ID | Timestamping::OPT_TSONLY);
    let begun = s.now;
    s.send(id, &[1; 10]).unwrap();
    let flags = SendFlags { stamps: Some(Timestamping::TX_SOFTWARE), ..SendFlags::default() };
    s.out();
    s.send_flags(id, &[1; 10], flags).unwrap();
    s.inject(". 1:1(0) ack 11");
    s.out();
    assert_eq!(s.reports(id, begun), [(Stage::Sent, 19, 0)]);
    s.ask(id, all());
    let none = SendFlags { stamps: Some(Timestamping::empty()), ..SendFlags::default() };
    s.send_flags(id, &[1; 10], none).unwrap();
    s.out();
    s.inject(". 1:1(0) ack 31");
    assert_eq!(s.reports(id, begun), []);
}

#[test]
fn a_send_that_waits_for_room_ends_where_all_of_it_is_taken() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| {
        o.send_buffer = 20_000;
        o.send_buffer_locked = true;
    });
    s.ask(id, all());
    let begun = s.now;
    let waits = SendFlags { waits: true, ..SendFlags::default() };
    let first = s.send_flags(id, &[1; 60_000], waits).unwrap();
    assert!(first < 60_000);
    let mut acked = 0;
    while acked < first {
        acked += s.out().len() * 1_000;
        s.inject(&format!(". 1:1(0) ack {}", acked.min(first) + 1));
    }
    assert_eq!(s.reports(id, begun), []);
    s.send_flags(id, &[1; 500], waits).unwrap();
    s.out();
    assert_eq!(s.reports(id, begun)[0], (Stage::Scheduled, first as u32 + 499, 0));
}

#[test]
fn numbers_count_from_when_they_were_asked_for() {
    let mut s = Script::plain();
    let idle = s.socket();
    assert_eq!(s.tcp.set_timestamping(idle, all()), Err(Error::InvalidArgument));
    s.ask(idle, Timestamping::RECORD);
    s.close(idle);
    let id = s.established("mss 1000");
    s.send(id, &[1; 100]).unwrap();
    s.out();
    // 100 octets are written and not acknowledged.
    s.ask(id, all() | Timestamping::OPT_ID_TCP);
    s.send(id, &[1; 1000]).unwrap();
    s.out();
    let begun = s.now;
    assert_eq!(s.reports(id, begun)[0], (Stage::Scheduled, 999, 0));
    s.inject(". 1:1(0) ack 101");
    s.ask(id, Timestamping::RECORD);
    s.ask(id, all());
    s.send(id, &[1; 1000]).unwrap();
    s.out();
    let begun = s.now;
    assert_eq!(s.reports(id, begun).last(), Some(&(Stage::Sent, 1999, 0)));
    s.ask(id, Timestamping::RECORD);
    s.send(id, &[1; 1000]).unwrap();
    s.out();
    assert_eq!(s.reports(id, begun)[0].1, 0, "without numbers");
}

#[test]
fn what_nobody_reads_is_bounded() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, all());
    for n in 1..=100 {
        s.send(id, &[1; 1000]).unwrap();
        s.out();
        s.inject(&format!(". 1:1(0) ack {}", n * 1000 + 1));
    }
    let begun = s.now;
    assert_eq!(s.reports(id, begun).len(), 128);
    assert_eq!(s.counters.stamps_dropped, 300 - 128);
    // Nor do the sends that wait take more than their place.
    s.options(id, |o| {
        o.no_delay = true;
        o.send_buffer = 1 << 20;
        o.send_buffer_locked = true;
    });
    for _ in 0..100 {
        s.send(id, &[1; 1000]).unwrap();
    }
    let mut acked = 100;
    while acked < 200 {
        acked += s.out().len();
        s.inject(&format!(". 1:1(0) ack {}", acked * 1000 + 1));
    }
    assert_eq!(s.reports(id, begun).last(), Some(&(Stage::Acknowledged, 199_999, 0)));
}

#[test]
fn what_a_reset_takes_away_was_not_acknowledged() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, all());
    s.send(id, &[1; 1000]).unwrap();
    s.out();
    let begun = s.now;
    s.reports(id, begun);
    s.inject("R 1:1(0)");
    assert_eq!(s.reports(id, begun), []);
    assert_eq!(s.tcp.take_error(id), Some(Error::ConnectionReset));
    assert_eq!(s.reports(id, begun), []);
    s.close(id);
    assert_eq!(s.tcp.stamps.len(), 0);
}

#[test]
fn what_the_last_acknowledgment_of_all_says_is_reported() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.ask(id, all());
    s.inject("F. 1:1(0) ack 1");
    s.send(id, &[1; 1000]).unwrap();
    s.shutdown(id, crate::socket::Shutdown::Write);
    s.out();
    let begun = s.now;
    s.reports(id, begun);
    s.inject(". 2:2(0) ack 1002");
    assert_eq!(s.state(id), State::Closed);
    assert_eq!(s.reports(id, begun), [(Stage::Acknowledged, 999, 0)]);
    s.close(id);
    assert_eq!(s.tcp.stamps.len(), 0);
}

#[test]
fn what_is_read_has_the_time_at_which_the_last_of_it_came() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    let times = Timestamping::RX_SOFTWARE | Timestamping::SOFTWARE;
    s.inject("P. 1:11(10) ack 1");
    s.ask(id, times);
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
    assert_eq!(s.tcp.received_at(id), None, "it was not asked for in time");
    let begun = s.now;
    for n in 0..3u64 {
        s.now = begun + Duration::from_millis(10 * n);
        s.inject(&format!("P. {}:{}(10) ack 1", 11 + 10 * n, 21 + 10 * n));
    }
    s.now += Duration::from_millis(100);
    for (octets, ms) in [(5, 0), (5, 0), (15, 20), (5, 20)] {
        assert_eq!(s.receive(id, octets).unwrap().len(), octets);
        assert_eq!(s.tcp.received_at(id), Some(begun + Duration::from_millis(ms)), "{octets}");
    }
}

#[test]
fn a_connection_that_comes_in_has_what_its_listener_asked_for() {
    let mut s = Script::plain();
    let listener = s.listener(80, 8);
    s.ask(listener, Timestamping::RECORD | Timestamping::SOFTWARE);
    s.inject("S 0:0(0) mss 1000");
    s.out();
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    s.send(id, &[1; 10]).unwrap();
    s.out();
    let begun = s.now;
    assert_eq!(s.reports(id, begun), [(Stage::Scheduled, 0, 0), (Stage::Sent, 0, 0)]);
    s.abort(id);
    s.close(listener);
    s.out();
    assert_eq!(s.tcp.stamps.len(), 0);
}
