//! Loss recovery that no single RFC demands: giving up, and the bench for the RFCs' scripts.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

pub(super) fn config() -> TcpConfig {
    TcpConfig { timestamps: false, congestion: CongestionAlgorithm::Reno, ..TcpConfig::default() }
}

/// A connection with a round trip of 20 ms, `n` segments of 1000 octets just sent.
pub(super) fn sending(options: &str, n: u32) -> (Script, TcpId) {
    let mut s = Script::with(&config());
    let id = s.established_in(options, Duration::from_millis(20));
    s.options(id, |o| {
        o.send_buffer = 1 << 20;
        o.send_buffer_locked = true;
        o.no_delay = true;
    });
    s.send(id, &[0; 1000]).unwrap();
    assert_eq!(s.out().len(), 1);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001");
    s.out();
    s.send(id, &vec![0; 1000 * n as usize]).unwrap();
    assert_eq!(s.out().len(), n.min(10) as usize);
    (s, id)
}

#[test]
fn a_silent_peer_is_given_up_after_about_15_minutes() {
    let (mut s, id) = sending("mss 1000", 1);
    s.wait(Duration::from_secs(900));
    assert_eq!(s.tcp.take_error(id), None);
    s.wait(Duration::from_secs(130));
    assert_eq!(s.tcp.take_error(id), Some(crate::error::Error::TimedOut));
}

#[test]
fn an_acknowledgment_that_was_overtaken_still_reports_with_sack() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    s.send(id, &[7; 10_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    s.wait_ms(10);
    s.inject(". 1:1(0) ack 1 sack 1001:3001 sack 8001:9001");
    assert!(s.out().contains(&". 1:1001(1000) ack 1".to_owned()));
    s.wait_ms(10);
    s.inject(". 1:1(0) ack 4001 sack 8001:9001");
    s.out();
    let sacked = |s: &Script| s.tcp.info(id, s.now).unwrap().sacked;
    assert_eq!(sacked(&s), 1);
    s.inject(". 1:1(0) ack 3001 sack 5001:7001");
    assert_eq!(sacked(&s), 3);
    s.inject(". 1:1(0) ack 3001");
    assert_eq!((sacked(&s), s.tcp.info(id, s.now).unwrap().unacked), (3, 6));
}

/// Forty segments fill the peer's window, and the first is lost; the congestion window when that is mended,
/// with `more` octets behind them, and how many segments leave then.
fn after_recovery(more: usize) -> (u32, usize) {
    let mut s = Script::with(&config());
    let id = s.established_in("mss 1000 sackok win 40000", Duration::from_millis(20));
    s.options(id, |o| {
        o.send_buffer = 1 << 20;
        o.send_buffer_locked = true;
        o.no_delay = true;
    });
    let mut sent = 1;
    for round in [10, 20, 40] {
        s.send(id, &vec![0; round * 1_000]).unwrap();
        assert_eq!(s.out().len(), round);
        if round < 40 {
            sent += round as u32 * 1_000;
            s.now += Duration::from_millis(20);
            s.inject(&format!(". 1:1(0) ack {sent} win 40000"));
        }
    }
    s.send(id, &vec![0; more]).unwrap();
    assert_eq!(s.out().len(), 0, "the peer's window is full");
    s.now += Duration::from_millis(20);
    let (first, end) = (sent + 1_000, sent + 40_000);
    s.inject(&format!(". 1:1(0) ack {sent} win 40000 sack {first}:{end}"));
    assert_eq!(s.out(), [format!(". {sent}:{first}(1000) ack 1")], "the first again");
    s.now += Duration::from_millis(20);
    s.inject(&format!(". 1:1(0) ack {end} win 40000"));
    (s.tcp.info(id, s.now).unwrap().snd_cwnd, s.out().len())
}

#[test]
fn rfc_6582_3_2_what_waited_for_the_peers_window_does_not_leave_all_at_once() {
    // Ten, and one by the acknowledgment that ended it.
    assert_eq!(after_recovery(30_000), (11, 11));
}

#[test]
fn where_nothing_waits_the_window_is_kept_after_recovery() {
    assert_eq!(after_recovery(0), (20, 0));
}
