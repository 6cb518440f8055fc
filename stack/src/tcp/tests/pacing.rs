//! Pacing: `SO_MAX_PACING_RATE`, and BBR's.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

const RTT: Duration = Duration::from_millis(20);

fn established(congestion: CongestionAlgorithm) -> (Script, TcpId) {
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let id = s.established_in("mss 1000 sackok", RTT);
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (1 << 20, true, true);
    });
    (s, id)
}

/// Past the first packets, which are never paced, with everything acknowledged.
fn warm(s: &mut Script, id: TcpId) -> u32 {
    let mut acked = 1;
    for _ in 0..3 {
        s.send(id, &[0; 10_000]).unwrap();
        while s.tcp.info(id, s.now).unwrap().unacked < 10 {
            s.out();
            s.wait_ms(1);
        }
        s.now += RTT;
        acked += 10_000;
        s.inject(&format!(". 1:1(0) ack {acked}"));
        s.out();
    }
    acked
}

#[test]
fn unpaced_connections_send_what_the_window_takes() {
    let (mut s, id) = established(CongestionAlgorithm::Cubic);
    warm(&mut s, id);
    s.send(id, &[0; 10_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.max_pacing_rate, u64::MAX);
    let window = u64::from(info.snd_cwnd) * 1000 * 1_000_000 / u64::from(info.rtt);
    assert!(info.pacing_rate.abs_diff(window * 2) <= 2, "tcp_pacing_ss_ratio");
}

#[test]
fn max_pacing_rate_is_kept_to() {
    let (mut s, id) = established(CongestionAlgorithm::Reno);
    warm(&mut s, id);
    // A packet every 10 ms.
    s.options(id, |o| o.max_pacing_rate = 100_000);
    assert_eq!(s.tcp.info(id, s.now).unwrap().pacing_rate, 100_000);
    s.wait_ms(1_000);
    s.send(id, &[0; 10_000]).unwrap();
    let mut sent = s.out().len();
    assert!((1..=3).contains(&sent), "a pair at once: {sent}");
    for _ in 0..10 {
        sent += s.wait_ms(5).len();
    }
    assert!((5..=8).contains(&sent), "50 ms: {sent}");
    sent += s.wait_ms(50).len();
    assert_eq!(sent, 10);
}

#[test]
fn the_rate_is_met_though_the_timer_is_coarse() {
    let (mut s, id) = established(CongestionAlgorithm::Reno);
    let mut acked = u64::from(warm(&mut s, id));
    // 100 Mbit/s: a packet every 80 µs, less than the timer's grain.
    s.options(id, |o| o.max_pacing_rate = 12_500_000);
    s.wait_ms(1_000);
    let start = s.now;
    let mut sent = 0;
    while s.now < start + Duration::from_millis(200) {
        let _ = s.send(id, &[0; 100_000]);
        sent += s.out().len() + s.wait(Duration::from_millis(1)).len();
        let info = s.tcp.info(id, s.now).unwrap();
        acked = 1 + info.bytes_acked + u64::from(info.unacked) * 1000;
        s.inject(&format!(". 1:1(0) ack {acked}"));
        sent += s.out().len();
    }
    assert!(acked > 1_000_000);
    assert!((2_300..=2_600).contains(&sent), "200 ms of 12.5 packets a millisecond: {sent}");
}

#[test]
fn bbr_paces_and_its_rate_is_shown() {
    let (mut s, id) = established(CongestionAlgorithm::Bbr);
    let info = s.tcp.info(id, s.now).unwrap();
    // The initial window per round trip, times 2.89, less one percent.
    let initial = 10 * 1000 * 50;
    assert!((initial * 28 / 10..initial * 29 / 10).contains(&info.pacing_rate));
    warm(&mut s, id);
    s.send(id, &[0; 40_000]).unwrap();
    let at_once = s.out().len();
    assert!(at_once < 10, "not the whole window at once: {at_once}");
    let sent = at_once + s.wait_ms(20).len();
    // 2.89 times ten packets in 20 ms.
    assert!((26..=32).contains(&sent), "{sent} in a round trip");
}

#[test]
fn so_max_pacing_rate_binds_bbr_too() {
    let (mut s, id) = established(CongestionAlgorithm::Bbr);
    s.options(id, |o| o.max_pacing_rate = 200_000);
    assert_eq!(s.tcp.info(id, s.now).unwrap().pacing_rate, 200_000);
}
