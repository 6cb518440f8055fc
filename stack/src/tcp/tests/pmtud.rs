//! Path MTU discovery: RFC 1191, and whom to believe (RFC 5927).

use crate::options::PathMtuDiscovery;
use crate::tcp::State;
use crate::tcp::testing::Script;

#[test]
fn rfc_1191_what_was_too_large_is_sent_again_at_once_in_smaller_segments() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 2920]).unwrap();
    assert_eq!(s.out(), [". 1:1461(1460) ack 1", "P. 1461:2921(1460) ack 1"]);
    let cwnd = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    let (port, iss) = (s.port, s.iss);
    assert!(s.too_big(port, iss + 1, 1_040));
    assert_eq!(
        s.out(),
        [
            ". 1:1001(1000) ack 1",
            ". 1001:1461(460) ack 1",
            ". 1461:2461(1000) ack 1",
            "P. 2461:2921(460) ack 1"
        ]
    );
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.snd_cwnd, info.snd_mss, info.pmtu), (cwnd, 1_000, 1_040));
    s.inject(". 1:1(0) ack 2921");
    s.send(id, &[7; 1500]).unwrap();
    assert_eq!(s.out(), [". 2921:3921(1000) ack 1", "P. 3921:4421(500) ack 1"]);
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn rfc_5927_an_error_about_what_is_not_in_flight_is_not_believed() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 1460]).unwrap();
    s.out();
    let (port, iss) = (s.port, s.iss);
    for seq in [iss, iss + 1_461, iss + 100_000] {
        assert!(!s.too_big(port, seq, 1_040));
    }
    assert!(!s.too_big(port + 1, iss + 1, 1_040));
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_mss, 1_460);
    assert_eq!(s.counters.icmp_out_of_window, 4);
    assert!(s.too_big(port, iss + 1, 1_500), "nothing new");
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn where_fragments_are_allowed_nothing_changes() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.options(id, |o| o.path_mtu_discovery = PathMtuDiscovery::Dont);
    s.send(id, &[7; 1460]).unwrap();
    s.out();
    let (port, iss) = (s.port, s.iss);
    s.too_big(port, iss + 1, 1_040);
    assert_eq!(s.out(), [""; 0]);
}
