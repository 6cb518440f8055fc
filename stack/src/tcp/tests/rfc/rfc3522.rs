//! RFC 3522 and RFC 4015: taking a needless reduction back because of a timestamp (Eifel).

use super::super::recovery::config;
use crate::config::TcpConfig;
use crate::tcp::testing::Script;

#[test]
fn rfc_3522_a_needless_timeout_is_undone() {
    let mut s = Script::with(&TcpConfig { timestamps: true, ..config() });
    let id = s.established("mss 1000 sackok ts 1 0");
    let echo = |s: &Script| s.last.timestamps.unwrap().value as i32;
    s.send(id, &[0; 5000]).unwrap();
    assert_eq!(s.out().len(), 6);
    let original = echo(&s);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    let seen = s.wait_ms(2500);
    assert!(!seen.is_empty());
    s.inject(&format!(". 1:1(0) ack 989 ts 5 {original}"));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.lost), (0, 0));
    assert!(info.snd_cwnd >= before, "{} < {before}", info.snd_cwnd);
    assert_eq!(s.counters.undos, 1);
}
