//! TIME-WAIT (RFC 9293 §3.10.7.4, §3.6.1; RFC 6191; RFC 1337).

use crate::socket::Shutdown;
use crate::tcp::testing::Script;
use crate::time::Duration;

pub(in crate::tcp::tests) fn in_time_wait(s: &mut Script, options: &str, suffix: &str) {
    let id = s.established(options);
    s.shutdown(id, Shutdown::Write);
    s.out();
    s.inject(&format!(". 1:1(0) ack 2 {suffix}"));
    s.inject(&format!("F. 1:1(0) ack 2 {suffix}"));
    assert_eq!(s.out(), [". 2:2(0) ack 2"]);
    s.close(id);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
    assert_eq!(s.tcp.occupancy().sockets, 0);
}

#[test]
fn a_repeated_fin_is_acknowledged_and_the_time_starts_anew() {
    let mut s = Script::plain();
    in_time_wait(&mut s, "mss 1000", "");
    s.wait(Duration::from_secs(40));
    s.inject("F. 1:1(0) ack 2");
    assert_eq!(s.out(), [". 2:2(0) ack 2"]);
    s.wait(Duration::from_secs(40));
    assert_eq!(s.tcp.occupancy().time_wait, 1);
    s.wait(Duration::from_secs(21));
    assert!(s.is_empty());
}

#[test]
fn the_port_of_time_wait_can_be_bound_with_reuseaddr_only() {
    let mut s = Script::plain();
    let listener = s.socket();
    s.options(listener, |o| o.reuse_address = true);
    s.bind(listener, 80).unwrap();
    s.listen(listener, 8).unwrap();
    s.inject("S 0:0(0) mss 1000");
    s.out();
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    s.close(listener);
    s.close(id);
    s.out();
    s.inject(". 1:1(0) ack 2");
    s.inject("F. 1:1(0) ack 2");
    s.out();
    assert_eq!(s.tcp.occupancy().time_wait, 1);
    let plain = s.socket();
    assert_eq!(s.bind(plain, 80), Err(crate::error::Error::AddressInUse));
    let reusing = s.socket();
    s.options(reusing, |o| o.reuse_address = true);
    assert_eq!(s.bind(reusing, 80), Ok(()));
}

#[test]
fn rfc_9293_3_10_7_4_whatever_else_comes_is_acknowledged_or_dropped() {
    let ack: &[&str] = &[". 2:2(0) ack 2"];
    for (segment, answer) in [
        ("F. 1:1(0) ack 2", ack),
        ("P. 2:12(10) ack 2", ack),
        ("P. 900000:900010(10) ack 2", ack),
        (". 1:1(0) ack 2", ack),
        ("S. 0:0(0) ack 1", ack),
        (". 2:2(0) ack 2", &[]),
        ("P 2:12(10)", &[]),
        ("R 2:2(0)", &[]),
        ("R. 2:2(0) ack 2", &[]),
    ] {
        let mut s = Script::plain();
        in_time_wait(&mut s, "mss 1000", "");
        s.inject(segment);
        assert_eq!(s.out(), answer, "{segment}");
        assert_eq!(s.tcp.occupancy().time_wait, 1, "{segment}");
    }
}
