//! Many acknowledgments for one segment, to make the window grow faster (RFC 3465 §2.3).

use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn rfc_3465_2_3_parts_of_a_segment_count_for_nothing() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[0; 10_000]).unwrap();
    s.out();
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    for ack in 2..=1000 {
        s.inject(&format!(". 1:1(0) ack {ack}"));
    }
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_cwnd, before);
}

#[test]
fn rfc_3465_2_3_a_window_in_ten_thousand_pieces_grows_like_one_in_ten() {
    let grown = |step: usize| {
        let mut s = Script::plain();
        let id = s.established_in("mss 1000", Duration::from_millis(10));
        s.send(id, &[0; 10_000]).unwrap();
        assert_eq!(s.out().len(), 10);
        s.now += Duration::from_millis(10);
        for ack in (1..=10_001).step_by(step).skip(1) {
            s.inject(&format!(". 1:1(0) ack {ack}"));
        }
        s.tcp.info(id, s.now).unwrap().snd_cwnd
    };
    assert_eq!((grown(1000), grown(1)), (20, 20));
}

#[test]
fn duplicates_of_one_acknowledgment_do_not_grow_the_window() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[0; 10_000]).unwrap();
    s.out();
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    // "DupACK spoofing": each would let a segment go by RFC 5681's inflation.
    let mut sent = 0;
    for _ in 0..1000 {
        s.inject(". 1:1(0) ack 1");
        sent += s.out().len();
    }
    assert!(s.tcp.info(id, s.now).unwrap().snd_cwnd <= before);
    assert!(sent <= 20, "{sent} segments for 1000 duplicates");
}
