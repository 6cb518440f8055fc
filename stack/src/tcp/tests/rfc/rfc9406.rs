//! RFC 9406 (HyStart++) on a connection: slow start ends before packets are lost. Its rounds are
//! tested beside it.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

/// A connection with CUBIC and much to send, and a first round trip of 40 ms.
fn starting() -> (Script, TcpId) {
    let congestion = CongestionAlgorithm::Cubic;
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let id = s.established_in("mss 1000 sackok wscale 7", Duration::from_millis(40));
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (8 << 20, true, true);
    });
    s.send(id, &vec![0; 6_000_000]).unwrap();
    (s, id)
}

/// All that is in flight is acknowledged after `ms`; the window before and after.
fn round(s: &mut Script, id: TcpId, ms: u64) -> (u32, u32) {
    s.out();
    let info = s.tcp.info(id, s.now).unwrap();
    let mut acked = 1 + info.bytes_acked as u32;
    s.now += Duration::from_millis(ms);
    for _ in 0..info.unacked {
        acked += 1000;
        s.inject(&format!(". 1:1(0) ack {acked}"));
    }
    (info.snd_cwnd, s.tcp.info(id, s.now).unwrap().snd_cwnd)
}

#[test]
fn rfc_9406_4_2_a_steady_round_trip_lets_it_double() {
    let (mut s, id) = starting();
    for _ in 0..6 {
        let (before, after) = round(&mut s, id, 40);
        assert_eq!(after, 2 * before);
    }
    assert!(s.tcp.info(id, s.now).unwrap().snd_ssthresh > 1 << 24, "no end in sight");
}

#[test]
fn rfc_9406_4_2_a_rise_slows_it_down_and_ends_it_after_five_rounds() {
    let (mut s, id) = starting();
    for _ in 0..3 {
        round(&mut s, id, 40);
    }
    // A queue grows: an eighth more.
    let (before, after) = round(&mut s, id, 46);
    assert!(after < 2 * before, "{before} to {after}");
    for _ in 0..2 {
        let (before, after) = round(&mut s, id, 46);
        assert!(after > before && after <= before + before / 4 + 1, "{before} to {after}");
    }
    for _ in 0..4 {
        round(&mut s, id, 46);
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert!(info.snd_ssthresh < 1_000, "slow start has ended: {}", info.snd_ssthresh);
    assert_eq!(info.total_retrans, 0);
}

#[test]
fn rfc_9406_4_2_a_passing_rise_does_not() {
    let (mut s, id) = starting();
    for ms in [40, 40, 40, 48, 40] {
        round(&mut s, id, ms);
    }
    let (before, after) = round(&mut s, id, 40);
    assert_eq!(after, 2 * before, "it doubles again");
}
