//! RFC 7323: window scaling, timestamps, PAWS.

use crate::tcp::testing::Script;

#[test]
fn rfc_7323_timestamps_are_echoed_and_old_ones_rejected() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1000 0");
    s.inject("P. 1:11(10) ack 1 ts 1005 1");
    s.out();
    assert_eq!(s.last.timestamps.unwrap().echo, 1005);
    s.inject("P. 11:21(10) ack 1 ts 900 1");
    assert_eq!(s.out(), [". 1:1(0) ack 11"]);
    assert_eq!(s.counters.paws_rejected, 1);
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
}

#[test]
fn a_duplicate_acknowledgment_that_was_overtaken_is_no_old_one() {
    let mut s = Script::new();
    let id = s.established("mss 1012 sackok ts 1000 0");
    s.send(id, &[0; 8_000]).unwrap();
    s.out();
    let sacked = |s: &Script| s.tcp.info(id, s.now).unwrap().sacked;
    s.inject(". 1:1(0) ack 1 ts 1005 1 sack 5001:6001");
    assert_eq!((sacked(&s), s.counters.paws_rejected), (1, 0));
    s.inject(". 1:1(0) ack 1 ts 1004 1 sack 3001:4001");
    assert_eq!((sacked(&s), s.counters.paws_rejected), (2, 0));
    s.inject(". 1:1(0) ack 1 ts -100000 1 sack 2001:3001");
    assert_eq!((sacked(&s), s.counters.paws_rejected), (2, 1), "older than a timeout");
    s.inject("P. 1:11(10) ack 1 ts 1003 1");
    assert_eq!(s.counters.paws_rejected, 2, "data");
}

#[test]
fn a_timestamp_one_tick_behind_is_not_old() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1000 0");
    s.inject("P. 1:11(10) ack 1 ts 1005 1");
    s.inject("P. 11:21(10) ack 1 ts 1004 1");
    assert_eq!((s.tcp.receive_available(id), s.counters.paws_rejected), (Ok(20), 0));
    s.wait_ms(50);
    assert_eq!(s.last.timestamps.unwrap().echo, 1005, "and not TS.Recent either");
}

#[test]
fn data_that_a_retransmission_has_overtaken_is_no_old_one() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1000 0");
    s.inject(". 1:101(100) ack 1 ts 1005 1");
    // The second is lost, the fourth late: the gap opens at 1005.
    s.inject(". 201:301(100) ack 1 ts 1010 1");
    s.inject(". 401:501(100) ack 1 ts 1012 1");
    s.out();
    s.inject(". 101:201(100) ack 1 ts 1040 1");
    s.out();
    assert_eq!(s.last.timestamps.unwrap().echo, 1040);
    assert_eq!(s.tcp.receive_available(id), Ok(300));
    s.inject(". 301:401(100) ack 1 ts 1011 1");
    assert_eq!((s.tcp.receive_available(id), s.counters.paws_rejected), (Ok(500), 0));
    assert_eq!(s.out(), [". 1:1(0) ack 501"]);
    assert_eq!(s.last.timestamps.unwrap().echo, 1040);
    // Nothing is missing any more: what is old now is from long ago.
    s.inject(". 501:601(100) ack 1 ts 1013 1");
    assert_eq!((s.tcp.receive_available(id), s.counters.paws_rejected), (Ok(500), 1));
}

#[test]
fn rfc_7323_5_3_what_was_sent_before_the_gap_opened_is_old_beside_it_too() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1000 0");
    s.inject(". 1:101(100) ack 1 ts 1005 1");
    s.inject(". 201:301(100) ack 1 ts 1010 1");
    s.inject(". 101:151(50) ack 1 ts 900 1");
    assert_eq!((s.tcp.receive_available(id), s.counters.paws_rejected), (Ok(100), 1));
}

#[test]
fn rfc_7323_2_3_windows_are_scaled() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 wscale 2 win 500");
    s.send(id, &[0; 4000]).unwrap();
    assert_eq!(s.out().len(), 2, "500 << 2 = 2000");
}

#[test]
fn rfc_7323_2_2_the_windows_of_syns_are_not_scaled() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 wscale 14 win 2");
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_wnd, 2 << 14, "the final ACK's is");
    let mut s = Script::new();
    let id = s.connecting();
    assert_eq!(s.last.window_scale, Some(7));
    s.inject("S. 0:0(0) ack 1 mss 1000 wscale 7 win 3000");
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_wnd, 3000, "the SYN-ACK's is not");
}

#[test]
fn rfc_7323_2_3_a_shift_beyond_14_is_14() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 wscale 15 win 1");
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_wscale, 14);
}

#[test]
fn rfc_7323_2_2_without_the_peers_option_neither_side_scales() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 500");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.snd_wscale, info.rcv_wscale, info.snd_wnd), (0, 0, 500));
    assert_eq!(s.last.window_scale, None);
}

#[test]
fn rfc_7323_4_3_what_came_out_of_order_is_not_echoed() {
    let mut s = Script::new();
    s.established("mss 1000 sackok ts 1000 0");
    s.inject("P. 1:11(10) ack 1 ts 1005 1");
    s.out();
    s.inject("P. 21:31(10) ack 1 ts 1009 1");
    s.out();
    assert_eq!(s.last.timestamps.unwrap().echo, 1005, "the gap's echo is of what is before it");
    s.inject("P. 11:21(10) ack 1 ts 1007 1");
    s.out();
    assert_eq!(s.last.timestamps.unwrap().echo, 1007, "what filled it");
}

#[test]
fn rfc_7323_5_2_a_reset_is_not_subject_to_paws() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1000 0");
    s.inject("R 1:1(0) ts 5 0");
    assert_eq!(s.state(id), crate::tcp::State::Closed);
}

#[test]
fn rfc_7323_5_5_after_24_days_of_silence_any_timestamp_is_new() {
    for (days, taken) in [(23, 0), (25, 10)] {
        let mut s = Script::new();
        let id = s.established("mss 1000 sackok ts 1000 0");
        s.wait(crate::time::Duration::from_secs(days * 24 * 3_600));
        s.inject("P. 1:11(10) ack 1 ts 900 0");
        assert_eq!(s.tcp.receive_available(id), Ok(taken), "{days} days");
    }
}

#[test]
fn rfc_7323_3_2_every_segment_has_them_once_agreed() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1000 0");
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_mss, 1000 - 12);
    s.send(id, &[0; 3000]).unwrap();
    s.out();
    assert!(s.last.timestamps.is_some());
    s.close(id);
    s.wait_ms(1_000);
    assert!(s.last.timestamps.is_some());
}
