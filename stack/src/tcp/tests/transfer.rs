//! Data: RFC 9293 §3.7, §3.8, RFC 1122 §4.2.3, RFC 2018, RFC 7323, urgent data, and events.

use crate::error::Error;
use crate::readiness::Readiness;
use crate::socket::{ReceiveFlags, SendFlags};
use crate::tcp::testing::{PEER_ISS, Script};
use crate::time::Duration;

#[test]
fn data_arrives_in_order_and_is_acknowledged() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.inject("P. 1:1001(1000) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 1001"], "at once while the connection is young");
    let ready = s.events();
    assert_eq!(ready.len(), 1);
    assert!(ready[0].1.contains(Readiness::READABLE));
    assert_eq!(s.tcp.receive_available(id), Ok(1000));
    assert_eq!(s.receive(id, 600).unwrap(), Script::stream(1, 600));
    assert_eq!(s.receive(id, 600).unwrap(), Script::stream(601, 400));
    assert_eq!(s.receive(id, 600), Err(Error::WouldBlock));
    assert_eq!(s.events(), []);
}

#[test]
fn every_arrival_is_an_event() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    for i in 0..3 {
        s.inject(&format!("P. {}:{}(1) ack 1", 1 + i, 2 + i));
        assert_eq!(s.events().len(), 1, "for edge-triggered readers");
    }
    assert_eq!(s.receive(id, 10).unwrap().len(), 3);
}

#[test]
fn rfc_1122_4_2_3_2_acknowledgments_are_delayed_40_ms_or_every_second_segment() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    // A program that answers: acknowledgments ride on the answers.
    for i in 0..20u32 {
        s.inject(&format!("P. {}:{}(10) ack {}", 1 + 10 * i, 11 + 10 * i, 1 + i));
        s.receive(id, 10).unwrap();
        s.send(id, b"x").unwrap();
        let seen = s.out();
        assert!(seen.last().unwrap().starts_with("P."), "{seen:?}");
        s.wait_ms(1);
    }
    s.inject("P. 201:211(10) ack 21");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.wait_ms(39), [""; 0]);
    assert_eq!(s.wait_ms(2), [". 21:21(0) ack 211"]);
}

#[test]
fn nagle_holds_a_second_small_segment_back() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, b"one").unwrap();
    assert_eq!(s.out(), ["P. 1:4(3) ack 1"]);
    s.send(id, b"two").unwrap();
    s.send(id, b"three").unwrap();
    assert_eq!(s.out(), [""; 0]);
    s.inject(". 1:1(0) ack 4");
    assert_eq!(s.out(), ["P. 4:12(8) ack 1"], "small writes have joined");
}

#[test]
fn the_last_of_several_segments_sent_at_once_is_pushed() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[1; 20_000]).unwrap();
    let pushed: Vec<bool> = s.out().iter().map(|line| line.starts_with('P')).collect();
    let mut expected = [false; 10];
    (expected[4], expected[9]) = (true, true);
    assert_eq!(pushed, expected, "as Linux, which leaves the cutting to the device, in two parts");
    s.inject(". 1:1(0) ack 1001");
    let seen = s.out();
    assert_eq!(seen, [". 10001:11001(1000) ack 1", "P. 11001:12001(1000) ack 1"]);
}

#[test]
fn a_long_write_is_pushed_where_more_than_half_the_window_went_without() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 10000");
    s.send(id, &[1; 30_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    let mut pushed = Vec::new();
    for acked in (1..=20).map(|n| n * 1_000 + 1) {
        s.inject(&format!(". 1:1(0) ack {acked} win 10000"));
        let seen = s.out();
        assert_eq!(seen.len(), 1);
        pushed.extend(seen.into_iter().filter(|line| line.starts_with('P')));
    }
    assert_eq!(pushed, ["P. 19001:20001(1000) ack 1", "P. 29001:30001(1000) ack 1"]);
}

#[test]
fn several_segments_of_one_burst_that_are_sent_again_together_are_pushed() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.send(id, &[1; 10_000]).unwrap();
    assert_eq!(s.out().len(), 10, "in bursts of five");
    s.inject(". 1:1(0) ack 3001 sack 5001:6001 sack 8001:10001");
    assert_eq!(
        s.out(),
        [
            ". 3001:4001(1000) ack 1",
            "P. 4001:5001(1000) ack 1",
            ". 6001:7001(1000) ack 1",
            ". 7001:8001(1000) ack 1"
        ]
    );
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.send(id, &[1; 10_000]).unwrap();
    s.out();
    s.inject(". 1:1(0) ack 4001 sack 5001:10001");
    assert_eq!(s.out(), [". 4001:5001(1000) ack 1"], "of its burst it alone");
}

#[test]
fn a_write_takes_what_linux_takes() {
    // (SO_SNDBUF, TCP_NOTSENT_LOWAT, octets taken of 61000), with ten segments in flight.
    for (buffer, low_water, taken) in
        [(42_000, 0, 60_000), (50_000, 0, 60_000), (200_000, 4_000, 35_000)]
    {
        let mut s = Script::plain();
        let id = s.established("mss 1000 win 50000");
        s.options(id, |o| {
            o.send_buffer = buffer;
            o.send_buffer_locked = true;
            o.not_sent_low_water = low_water;
        });
        assert_eq!(s.send(id, &[1; 61_000]), Ok(taken), "{buffer} {low_water}");
    }
}

#[test]
fn a_small_window_makes_a_small_buffer_hold_less_as_on_linux() {
    let mut s = Script::plain();
    let id = s.established("mss 988 win 2000");
    s.options(id, |o| {
        o.send_buffer = 4_608;
        o.send_buffer_locked = true;
    });
    assert_eq!(s.send(id, &[1; 10_000]), Ok(2_964));
    assert_eq!(s.out(), [". 1:989(988) ack 1", "P. 989:1977(988) ack 1"]);
    s.inject(". 1:1(0) ack 1977 win 2000");
    assert_eq!(s.out(), ["P. 1977:2965(988) ack 1"]);
    s.inject(". 1:1(0) ack 2965 win 2000");
    assert_eq!(s.send(id, &[1; 10_000]), Ok(2_964), "all was given back");
}

#[test]
fn msg_more_is_not_pushed_and_no_delay_sends_what_is_corked() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    let more = SendFlags { more: true, ..SendFlags::default() };
    s.send_flags(id, &[1; 40], more).unwrap();
    assert_eq!(s.out(), [""; 0]);
    s.options(id, |o| o.no_delay = true);
    assert_eq!(s.out(), [". 1:41(40) ack 1"]);
    s.options(id, |o| o.cork = true);
    s.send(id, &[1; 40]).unwrap();
    assert_eq!(s.out(), [""; 0]);
    s.options(id, |o| o.no_delay = true);
    assert_eq!(s.out(), ["P. 41:81(40) ack 1"], "asking again pushes again");
    s.send(id, &[1; 40]).unwrap();
    assert_eq!(s.out(), [""; 0], "what comes later is corked again");
}

#[test]
fn sends_without_copying_report_their_numbers() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    let flags = SendFlags { zero_copy: true, ..SendFlags::default() };
    s.send_flags(id, &[1; 40], flags).unwrap();
    assert_eq!(s.tcp.receive_completions(id), Err(Error::WouldBlock), "not asked for");
    s.options(id, |o| o.zero_copy = true);
    s.events();
    s.send_flags(id, &[1; 40], flags).unwrap();
    s.send_flags(id, &[1; 40], flags).unwrap();
    assert!(s.events()[0].1.contains(Readiness::ERROR));
    assert_eq!(s.tcp.receive_completions(id), Ok((0, 1)));
    assert_eq!(s.tcp.receive_completions(id), Err(Error::WouldBlock));
    s.send_flags(id, &[1; 40], flags).unwrap();
    assert_eq!(s.tcp.receive_completions(id), Ok((2, 2)));
}

#[test]
fn what_is_left_to_read_counts_the_end() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("FP. 1:101(100) ack 1");
    assert_eq!(s.tcp.receive_hint(id), Ok(101));
    s.receive(id, 100).unwrap();
    assert_eq!(s.tcp.receive_hint(id), Ok(1), "tcp(7): TCP_INQ");
    assert_eq!(s.tcp.receive_available(id), Ok(0));
}

#[test]
fn minshall_sends_a_small_segment_behind_full_ones() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[1; 2500]).unwrap();
    let seen = s.out();
    assert_eq!(
        seen,
        [". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1", "P. 2001:2501(500) ack 1"]
    );
}

#[test]
fn nodelay_sends_at_once() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, b"one").unwrap();
    s.out();
    s.send(id, b"two").unwrap();
    assert_eq!(s.out(), [""; 0]);
    s.options(id, |o| o.no_delay = true);
    assert_eq!(s.out(), ["P. 4:7(3) ack 1"]);
    s.send(id, b"three").unwrap();
    assert_eq!(s.out(), ["P. 7:12(5) ack 1"]);
}

#[test]
fn msg_more_waits_for_the_next_send() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send_flags(id, b"head", SendFlags { more: true, ..Default::default() }).unwrap();
    assert_eq!(s.out(), [""; 0]);
    s.send(id, b"body").unwrap();
    assert_eq!(s.out(), ["P. 1:9(8) ack 1"]);
}

#[test]
fn the_peers_window_is_respected_and_probed() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 1500");
    s.send(id, &[1; 3000]).unwrap();
    assert_eq!(s.out(), ["P. 1:1001(1000) ack 1"], "no half segment");
    s.inject(". 1:1(0) ack 1001 win 0");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.wait_ms(190), [""; 0]);
    assert_eq!(s.wait_ms(30), [". 1000:1000(0) ack 1"], "a zero-window probe");
    s.inject(". 1:1(0) ack 1001 win 0");
    assert_eq!(s.wait_ms(380), [""; 0], "backed off");
    assert_eq!(s.wait_ms(40), [". 1000:1000(0) ack 1"]);
    s.inject(". 1:1(0) ack 1001 win 5000");
    assert_eq!(s.out(), ["P. 1001:2001(1000) ack 1", "P. 2001:3001(1000) ack 1"]);
}

#[test]
fn our_window_closes_and_opens() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    let mut seq = 1;
    let mut window = u32::from(u16::MAX);
    for _ in 0..200 {
        s.inject(&format!(". {seq}:{}(1000) ack 1", seq + 1000));
        if !s.out().is_empty() {
            window = u32::from(s.last.window);
            seq = s.last.ack.0.wrapping_sub(PEER_ISS);
        }
        if window == 0 {
            break;
        }
    }
    assert_eq!(window, 0);
    assert!(seq > 60_000, "{seq}");
    // A probe of the closed window is answered, its octet not taken.
    s.inject(&format!(". {seq}:{}(1) ack 1", seq + 1));
    assert_eq!(s.out(), [format!(". 1:1(0) ack {seq}")]);
    while s.receive(id, 4000).is_ok() {}
    assert_eq!(s.out().len(), 1, "a window update");
    assert!(s.last.window > 30_000, "{}", s.last.window);
}

#[test]
fn tiny_segments_join_and_cannot_exhaust_the_pool() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    for i in 0..2000u32 {
        s.inject(&format!(". {}:{}(1) ack 1", 1 + i, 2 + i));
        s.out();
    }
    assert!(s.tcp.occupancy().segments <= 2, "{}", s.tcp.occupancy().segments);
    assert_eq!(s.receive(id, 4000).unwrap(), Script::stream(1, 2000));
    for i in (0..2000u32).step_by(2) {
        let at = 2001 + i + 1;
        s.inject(&format!(". {at}:{}(1) ack 1", at + 1));
        s.out();
    }
    let charged = s.tcp.occupancy().segments;
    assert!(charged <= 60, "out of order too: bounded by the receive buffer ({charged})");
}

#[test]
fn peeking_leaves_the_data_and_truncating_throws_it_away() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("P. 1:11(10) ack 1");
    let peek = ReceiveFlags { peek: true, ..Default::default() };
    assert_eq!(s.receive_flags(id, 4, peek).unwrap(), Script::stream(1, 4));
    s.options(id, |o| o.peek_offset = 4);
    assert_eq!(s.receive_flags(id, 4, peek).unwrap(), Script::stream(5, 4));
    assert_eq!(s.receive_flags(id, 4, peek).unwrap(), Script::stream(9, 2));
    let truncate = ReceiveFlags { truncate: true, ..Default::default() };
    assert_eq!(s.receive_flags(id, 6, truncate).unwrap(), [0; 6]);
    assert_eq!(s.receive(id, 10).unwrap(), Script::stream(7, 4));
}

#[test]
fn writable_comes_back_at_a_third_free_and_only_after_being_missed() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    let mut sent = 0;
    while let Ok(n) = s.send(id, &[0; 1000]) {
        sent += n;
    }
    assert!(sent >= 16_000, "{sent}");
    assert!(!s.tcp.readiness(id).contains(Readiness::WRITABLE));
    let segments = s.out().len();
    assert_eq!(segments, 10, "RFC 6928");
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.events(), []);
    s.out();
    for i in 2..=10 {
        s.inject(&format!(". 1:1(0) ack {}001", i));
        s.out();
    }
    let events = s.events();
    assert_eq!(events.len(), 1);
    assert!(events[0].1.contains(Readiness::WRITABLE));
}

#[test]
fn a_pool_that_runs_dry_blocks_and_wakes() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.pool.left = 10;
    assert_eq!(s.send(id, b"x"), Err(Error::WouldBlock));
    assert!(!s.tcp.readiness(id).contains(Readiness::WRITABLE), "it would fail again");
    assert!(s.tcp.next_timeout().is_some());
    s.wait_ms(5);
    assert_eq!(s.events(), []);
    s.pool.left = 1000;
    s.wait_ms(5);
    assert_eq!(s.events().len(), 1);
    assert_eq!(s.send(id, b"x"), Ok(1));
}

#[test]
fn without_buffers_nothing_is_lost() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("P. 1:11(10) ack 1");
    s.pool.left = 0;
    assert_eq!(s.out(), [""; 0]);
    s.pool.left = 100;
    s.wait_ms(5);
    assert_eq!(s.receive(id, 10).unwrap().len(), 10);
}

#[test]
fn low_water_marks_hold_readiness_back() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.receive_low_water = 10);
    s.inject("P. 1:6(5) ack 1");
    assert!(!s.tcp.readiness(id).contains(Readiness::READABLE));
    s.inject("P. 6:11(5) ack 1");
    assert!(s.tcp.readiness(id).contains(Readiness::READABLE));
    s.options(id, |o| o.not_sent_low_water = 1000);
    s.inject(". 11:11(0) ack 1 win 0");
    s.send(id, &[0; 2000]).unwrap();
    assert!(!s.tcp.readiness(id).contains(Readiness::WRITABLE));
}

#[test]
fn the_receive_buffer_grows_with_what_is_read() {
    let mut s = Script::new();
    let id = s.established("mss 1460 sackok ts 1 0 wscale 7");
    let (mut seq, mut edge) = (1u32, 65_160u32);
    let mut now = 10;
    for _ in 0..12 {
        let end = edge;
        while seq + 1448 <= end {
            let echo = s.host.now.as_millis() as u32;
            let _ = echo;
            let value = s.last.timestamps.map_or(0, |ts| ts.value) as i32;
            s.inject(&format!(". {seq}:{}(1448) ack 1 ts {now} {value}", seq + 1448));
            seq += 1448;
            s.out();
            while s.receive(id, 65_536).is_ok() {}
            s.out();
            let ack = s.last.ack.0.wrapping_sub(PEER_ISS);
            edge = edge.max(ack + (u32::from(s.last.window) << 7));
        }
        now += 20;
        s.wait(Duration::from_millis(20));
    }
    assert!(edge - seq > 300_000, "{}", edge - seq);
}
