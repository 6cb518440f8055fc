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
