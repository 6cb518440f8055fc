//! A congestion window that is not used means nothing (RFC 7661, RFC 2861, RFC 5681 §4.1), as
//! Linux has it (`tcp_slow_start_after_idle`).

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

/// A connection whose window has grown to 40 packets, all acknowledged.
fn grown(slow_start_after_idle: bool) -> (Script, TcpId, u32) {
    let congestion = CongestionAlgorithm::Reno;
    let config =
        TcpConfig { timestamps: false, congestion, slow_start_after_idle, ..TcpConfig::default() };
    let mut s = Script::with(&config);
    let id = s.established_in("mss 1000 sackok wscale 7", Duration::from_millis(20));
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (1 << 20, true, true);
    });
    let mut acked = 1;
    for flight in [10, 20, 40] {
        s.send(id, &vec![0; flight * 1000]).unwrap();
        assert_eq!(s.out().len(), flight);
        s.now += Duration::from_millis(20);
        for _ in 0..flight {
            acked += 1000;
            s.inject(&format!(". 1:1(0) ack {acked}"));
        }
    }
    let cwnd = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    assert!((40..=80).contains(&cwnd), "{cwnd}");
    (s, id, acked)
}

#[test]
fn an_unused_window_decays_towards_what_is_used() {
    let (mut s, id, mut acked) = grown(true);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    // Two packets at a time for seconds, never idle for as long as a timeout.
    for _ in 0..40 {
        s.send(id, &[0; 2_000]).unwrap();
        s.out();
        s.wait_ms(20);
        acked += 2_000;
        s.inject(&format!(". 1:1(0) ack {acked}"));
        s.wait_ms(80);
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert!((10..before / 2).contains(&info.snd_cwnd), "{} after {before}", info.snd_cwnd);
    assert!(info.snd_ssthresh >= before * 3 / 4, "slow start brings it back");
}

#[test]
fn a_trickle_does_not_let_the_window_grow() {
    let (mut s, id, mut acked) = grown(false);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    for _ in 0..100 {
        s.send(id, &[0; 1_000]).unwrap();
        s.out();
        s.wait_ms(20);
        acked += 1_000;
        s.inject(&format!(". 1:1(0) ack {acked}"));
    }
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_cwnd, before);
}

#[test]
fn without_slow_start_after_idle_the_window_stays() {
    let (mut s, id, _) = grown(false);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.wait(Duration::from_secs(60));
    s.send(id, &vec![0; 200_000]).unwrap();
    assert_eq!(s.out().len() as u32, before);
}
