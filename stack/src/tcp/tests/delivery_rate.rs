//! Delivery rate (draft-cheng-iccrg-delivery-rate-estimation) and what limits the sender, as
//! `TCP_INFO` shows them.

use crate::tcp::testing::Script;
use crate::time::Duration;

const RTT: Duration = Duration::from_millis(20);

#[test]
fn a_window_per_round_trip_is_the_rate() {
    let mut s = Script::plain();
    let id = s.established_in("mss 1000 sackok", RTT);
    assert_eq!(s.tcp.info(id, s.now).unwrap().delivered, 1, "the SYN");
    s.options(id, |o| o.send_buffer = 1 << 20);
    s.send(id, &[0; 20_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    s.now += RTT;
    s.inject(". 1:1(0) ack 10001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.delivered, 11);
    assert_eq!(info.delivery_rate, 10 * 1000 * 50);
}

#[test]
fn what_the_program_did_not_offer_is_app_limited() {
    let mut s = Script::plain();
    let id = s.established_in("mss 1000 sackok", RTT);
    s.options(id, |o| (o.send_buffer, o.send_buffer_locked) = (1 << 20, true));
    // Fills the window for two round trips: that is the path's rate.
    s.send(id, &[0; 40_000]).unwrap();
    s.out();
    for acked in [10_001, 30_001] {
        s.now += RTT;
        s.inject(&format!(". 1:1(0) ack {acked}"));
        s.out();
    }
    s.now += RTT;
    s.inject(". 1:1(0) ack 40001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert!(!info.delivery_rate_app_limited);
    let best = info.delivery_rate;
    // Now one segment per round trip: no news about the path.
    for n in 41..50 {
        s.send(id, &[0; 1000]).unwrap();
        assert_eq!(s.out().len(), 1);
        s.now += RTT;
        s.inject(&format!(". 1:1(0) ack {n}001"));
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.delivery_rate, best);
    assert_eq!(info.delivered, 50);
}

#[test]
fn busy_and_limited_times_are_measured() {
    let mut s = Script::plain();
    let id = s.established_in("mss 1000 sackok win 4000", RTT);
    s.options(id, |o| (o.send_buffer, o.send_buffer_locked) = (1 << 20, true));
    s.now += Duration::from_millis(500);
    s.send(id, &[0; 8_000]).unwrap();
    assert_eq!(s.out().len(), 4, "the peer's window");
    s.now += RTT;
    s.inject(". 1:1(0) ack 4001 win 8000");
    assert_eq!(s.out().len(), 4);
    s.now += RTT;
    s.inject(". 1:1(0) ack 8001 win 8000");
    s.now += Duration::from_millis(500);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.busy_time, info.rwnd_limited, info.sndbuf_limited), (40_000, 20_000, 0));
}
