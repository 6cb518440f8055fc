//! A peer that wants its data in crumbs, to make us keep and send a header for each
//! (CVE-2019-11477 to 11479).

use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn no_segment_is_smaller_than_linux_would_make_it() {
    for mss in [0, 1, 8, 47] {
        let mut s = Script::plain();
        let id = s.established(&format!("mss {mss}"));
        s.send(id, &[1; 480]).unwrap();
        assert_eq!(s.out()[0], ". 1:49(48) ack 1", "mss {mss}");
    }
}

#[test]
fn crumbs_are_charged_for_the_memory_that_they_take() {
    let mut s = Script::plain();
    let id = s.established("mss 1 wscale 7 sackok");
    s.options(id, |o| {
        o.send_buffer = 1 << 20;
        o.send_buffer_locked = true;
    });
    while s.send(id, &[0; 65_536]).is_ok_and(|n| n > 0) {}
    let segments = s.tcp.occupancy().segments;
    assert!(segments * 2_304 <= (1 << 20) + 2_304, "{segments} segments in a megabyte");
}

#[test]
fn sack_cannot_cut_what_is_queued_into_crumbs() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.send(id, &[0; 10_000]).unwrap();
    s.out();
    let held = s.tcp.occupancy().segments;
    for n in 0..5_000u32 {
        let start = 2 + n * 2;
        s.inject(&format!(". 1:1(0) ack 1 sack {start}:{}", start + 1));
        s.out();
    }
    assert_eq!(s.tcp.occupancy().segments, held);
    s.wait(Duration::from_secs(1));
    s.inject(". 1:1(0) ack 10001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 0);
}
