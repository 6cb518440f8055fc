//! RFC 5681: slow start, and what idleness does to the window.

use super::super::recovery::sending;
use crate::time::Duration;

#[test]
fn rfc_5681_4_1_an_idle_connection_starts_slowly_again() {
    let (mut s, id) = sending("mss 1000", 11);
    s.now += Duration::from_millis(20);
    let mut acked = 1001;
    for _ in 0..6 {
        acked += 10_000;
        s.inject(&format!(". 1:1(0) ack {}", acked.min(12_001)));
        s.send(id, &[0; 40_000]).unwrap();
        let n = s.out().len() as u32;
        s.now += Duration::from_millis(20);
        let _ = n;
        let info = s.tcp.info(id, s.now).unwrap();
        acked = 1 + info.bytes_acked as u32;
        let outstanding = info.unacked * 1000;
        s.inject(&format!(". 1:1(0) ack {}", acked + outstanding));
    }
    loop {
        s.out();
        let info = s.tcp.info(id, s.now).unwrap();
        if info.unacked == 0 {
            break;
        }
        s.now += Duration::from_millis(20);
        s.inject(&format!(
            ". 1:1(0) ack {}",
            1 + info.bytes_acked + u64::from(info.unacked) * 1000
        ));
    }
    assert!(s.tcp.info(id, s.now).unwrap().snd_cwnd > 20);
    s.now += Duration::from_secs(30);
    s.send(id, &[0; 100_000]).unwrap();
    assert_eq!(s.out().len(), 10);
}

#[test]
fn slow_start_doubles_per_round_trip() {
    let (mut s, id) = sending("mss 1000", 11);
    s.send(id, &[0; 100_000]).unwrap();
    s.out();
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.now += Duration::from_millis(20);
    for i in 2..=12u32 {
        s.inject(&format!(". 1:1(0) ack {i}001"));
    }
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_cwnd, before * 2);
}
