//! RFC 9438: CUBIC on a connection. Its curve is tested beside it.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A window's worth of segments is in flight, all of 1000 octets; the last was acknowledged up to
/// the returned number.
fn flying(window: u32) -> (Script, TcpId, u32) {
    let congestion = CongestionAlgorithm::Cubic;
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let id = s.established_in("mss 1000 sackok wscale 7", ROUND_TRIP);
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (8 << 20, true, true);
    });
    s.send(id, &vec![0; 1_000_000]).unwrap();
    let mut acked = 1;
    loop {
        let flight = s.out().len() as u32;
        s.now += ROUND_TRIP;
        if flight >= window {
            return (s, id, acked);
        }
        for _ in 0..flight {
            acked += 1000;
            s.inject(&format!(". 1:1(0) ack {acked}"));
        }
    }
}

/// All in flight is acknowledged, one by one; what leaves instead is in flight.
fn round(s: &mut Script, id: TcpId, acked: &mut u32) {
    let flight = s.tcp.info(id, s.now).unwrap().unacked;
    s.send(id, &vec![0; flight as usize * 1000]).unwrap();
    for _ in 0..flight {
        *acked += 1000;
        s.inject(&format!(". 1:1(0) ack {acked}"));
        s.out();
    }
    s.now += ROUND_TRIP;
}

/// The first in flight is lost, and mended.
fn lose_one(s: &mut Script, id: TcpId, acked: &mut u32) {
    let flight = s.tcp.info(id, s.now).unwrap().unacked;
    for n in 2..=flight {
        s.inject(&format!(". 1:1(0) ack {acked} sack {}:{}", *acked + 1000, *acked + n * 1000));
        s.out();
    }
    s.now += ROUND_TRIP;
    *acked += s.tcp.info(id, s.now).unwrap().unacked * 1000;
    s.inject(&format!(". 1:1(0) ack {acked}"));
    s.out();
    let left = s.tcp.info(id, s.now).unwrap();
    assert_eq!(left.ca_state, 0);
    s.now += ROUND_TRIP;
}

#[test]
fn rfc_9438_4_6_a_loss_takes_three_tenths() {
    let (mut s, id, mut acked) = flying(80);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    lose_one(&mut s, id, &mut acked);
    let after = s.tcp.info(id, s.now).unwrap();
    assert_eq!(after.snd_ssthresh, before * 7 / 10);
    assert!(after.snd_cwnd.abs_diff(after.snd_ssthresh) <= 2, "{}", after.snd_cwnd);
}

#[test]
fn rfc_9438_4_the_window_comes_back_after_k_seconds_whatever_the_round_trip() {
    let (mut s, id, mut acked) = flying(100);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    lose_one(&mut s, id, &mut acked);
    // K = cbrt(0.3 W_max / 0.4).
    let k = (f64::from(before) * 0.3 / 0.4).cbrt();
    let begun = s.now;
    let mut back = None;
    for _ in 0..100 {
        round(&mut s, id, &mut acked);
        if back.is_none() && s.tcp.info(id, s.now).unwrap().snd_cwnd >= before {
            back = Some((s.now - begun).as_secs_f64());
        }
    }
    let back = back.expect("it comes back");
    assert!((0.6 * k..1.2 * k).contains(&back), "after {back} s, K is {k} s");
}

#[test]
fn rfc_9438_4_8_a_timeout_leaves_one_segment_and_a_threshold() {
    let (mut s, id, _) = flying(40);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.wait(Duration::from_secs(3));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.snd_ssthresh), (4, before * 7 / 10));
    assert!(info.snd_cwnd <= 2);
}
