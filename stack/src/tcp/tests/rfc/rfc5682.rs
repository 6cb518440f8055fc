//! F-RTO (RFC 5682, with SACK).

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

/// Ten segments of 1000 octets are out, and 20 more are waiting; then the timer runs out.
fn timed_out(options: &str) -> (Script, TcpId) {
    let congestion = CongestionAlgorithm::Reno;
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let id = s.established_in(options, Duration::from_millis(20));
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (1 << 20, true, true);
    });
    s.send(id, &[0; 30_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    // The probe of the tail, then the timeout.
    let mut seen = s.wait_ms(700);
    let last = seen.pop().unwrap_or_default();
    assert!(last.starts_with(". 1:1001(1000)"), "{seen:?} {last}");
    assert_eq!(s.tcp.info(id, s.now).unwrap().ca_state, 4);
    (s, id)
}

#[test]
fn rfc_5682_3_1_a_delay_is_found_out_by_new_data() {
    let (mut s, id) = timed_out("mss 1000");
    // The originals were only late: the first's acknowledgment allows two new segments.
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 10001:11001(1000) ack 1", ". 11001:12001(1000) ack 1"]);
    // The second acknowledgment advances: spurious.
    s.inject(". 1:1(0) ack 2001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.lost, info.snd_cwnd >= 10), (0, 0, true));
    assert_eq!(s.counters.undos, 1);
    let seen = s.out();
    assert!(seen.iter().all(|line| !line.starts_with(". 2001:")), "{seen:?}");
}

#[test]
fn rfc_5682_3_1_a_loss_is_mended_as_ever() {
    let (mut s, id) = timed_out("mss 1000");
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out().len(), 2, "new data");
    // Duplicates: what was sent before the timeout is gone.
    s.inject(". 1:1(0) ack 1001");
    let seen = s.out();
    assert!(seen[0].starts_with(". 1001:2001(1000)"), "{seen:?}");
    assert_eq!((s.tcp.info(id, s.now).unwrap().ca_state, s.counters.undos), (4, 0));
}

#[test]
fn rfc_5682_appendix_sack_of_an_original_is_enough() {
    let (mut s, id) = timed_out("mss 1000 sackok");
    // The second of the first transmission was late, and has not been sent again.
    s.inject(". 1:1(0) ack 1 sack 1001:2001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state < 3, s.counters.undos), (true, 1));
}

#[test]
fn without_new_data_recovery_is_conventional() {
    let congestion = CongestionAlgorithm::Reno;
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let id = s.established_in("mss 1000", Duration::from_millis(20));
    s.send(id, &[0; 4_000]).unwrap();
    s.out();
    s.wait_ms(400);
    s.inject(". 1:1(0) ack 1001");
    let seen = s.out();
    assert_eq!(seen[0], ". 1001:2001(1000) ack 1");
    assert_eq!(s.tcp.info(id, s.now).unwrap().ca_state, 4);
}
