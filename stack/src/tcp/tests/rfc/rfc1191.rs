//! Path MTU discovery: RFC 1191, and whom to believe (RFC 5927); the device's own MTU as it changes.

use crate::config::{SynCookies, TcpConfig};
use crate::options::PathMtuDiscovery;
use crate::tcp::State;
use crate::tcp::testing::Script;
use crate::time::Duration;

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

#[test]
fn rfc_1191_6_3_after_ten_minutes_a_larger_packet_is_tried_again() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 1460]).unwrap();
    s.out();
    let (port, iss) = (s.port, s.iss);
    assert!(s.too_big(port, iss + 1, 1_040));
    assert_eq!(s.out(), [". 1:1001(1000) ack 1", "P. 1001:1461(460) ack 1"]);
    s.inject(". 1:1(0) ack 1461");
    s.wait(Duration::from_secs(599));
    s.send(id, &[7; 1460]).unwrap();
    assert_eq!(s.out(), [". 1461:2461(1000) ack 1", "P. 2461:2921(460) ack 1"]);
    s.inject(". 1:1(0) ack 2921");
    s.wait(Duration::from_secs(2));
    let begun = s.now;
    s.send(id, &[7; 1460]).unwrap();
    assert_eq!(s.out(), ["P. 2921:4381(1460) ack 1"]);
    s.inject(". 1:1(0) ack 4381");
    assert_eq!(s.tcp.info(id, s.now).unwrap().pmtu, 1_500);
    assert_eq!(s.counters.path_mtu_expired, 1);
    s.send(id, &[7; 1460]).unwrap();
    assert_eq!(s.out(), ["P. 4381:5841(1460) ack 1"]);
    // The path is what it was: the router says so again.
    assert!(s.too_big(port, iss + 4_381, 1_040));
    assert_eq!(s.out(), [". 4381:5381(1000) ack 1", "P. 5381:5841(460) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().pmtu, 1_040);
    assert!(s.now - begun < Duration::from_secs(1));
    assert_eq!(s.tcp.rare.paths.len(), 1);
    s.abort(id);
    s.out();
    assert_eq!(s.tcp.rare.paths.len(), 0, "what it remembered goes with it");
}

#[test]
fn rfc_1191_6_3_a_second_smaller_mtu_does_not_hide_the_first() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 1460]).unwrap();
    s.out();
    let (port, iss) = (s.port, s.iss);
    for mtu in [1_400, 1_040] {
        assert!(s.too_big(port, iss + 1, mtu));
        s.out();
    }
    assert_eq!(s.tcp.info(id, s.now).unwrap().pmtu, 1_040);
    s.inject(". 1:1(0) ack 1461");
    s.wait(Duration::from_secs(601));
    s.send(id, &[7; 10]).unwrap();
    s.out();
    assert_eq!(s.tcp.info(id, s.now).unwrap().pmtu, 1_500);
}

#[test]
fn rfc_1191_a_connection_from_a_peer_whose_path_is_known_starts_from_that() {
    let mut s = Script::plain();
    s.path_mtu = Some(1_040);
    let id = s.established("mss 1460");
    assert_eq!(s.last.mss, Some(1_000), "as Linux: nor is the peer to send more");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.snd_mss, info.pmtu), (1_000, 1_040));
    s.send(id, &[7; 1460]).unwrap();
    assert_eq!(s.out(), [". 1:1001(1000) ack 1", "P. 1001:1461(460) ack 1"]);
    s.inject(". 1:1(0) ack 1461");
    //= RFC 1191 §6.3
    s.wait(Duration::from_secs(601));
    s.send(id, &[7; 1460]).unwrap();
    assert_eq!(s.out(), ["P. 1461:2921(1460) ack 1"]);
}

#[test]
fn what_is_known_of_a_path_counts_for_a_syn_cookie_too() {
    let config = TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() };
    let mut s = Script::with(&config);
    let listener = s.listener(80, 8);
    s.path_mtu = Some(1_040);
    s.inject("S 0:0(0) mss 1460");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(s.last.mss, Some(1_000));
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    assert_eq!(s.tcp.info(id, s.now).unwrap().pmtu, 1_040);
}

#[test]
fn what_was_too_large_twice_is_sent_again_twice() {
    let mut s = Script::plain();
    let id = s.established("mss 1460 sackok");
    s.send(id, &[7; 4380]).unwrap();
    assert_eq!(s.out().len(), 3);
    let (port, iss) = (s.port, s.iss);
    for mtu in [1_440, 1_240, 1_040] {
        assert!(s.too_big(port, iss + 1, mtu));
        let most = mtu as usize - 40;
        let out = s.out();
        assert!(!out.is_empty() && out.iter().all(|line| length(line) <= most), "{out:?}");
    }
    // The counts of what is in flight are right in the end.
    s.inject(". 1:1(0) ack 4381");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.unacked, info.retrans, info.lost), (0, 0, 0));
    s.send(id, &[7; 10]).unwrap();
    assert_eq!(s.out(), ["P. 4381:4391(10) ack 1"]);
}

fn length(line: &str) -> usize {
    line.split(['(', ')']).nth(1).unwrap().parse().unwrap()
}

#[test]
fn room_that_is_gone_before_the_program_hears_of_it_is_told_when_it_is_back() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    let mut written = 0;
    while let Ok(n) = s.send(id, &[7; 1460]) {
        written += n as u32;
    }
    let waits = |s: &Script| s.tcp.sockets.get(id.0).unwrap().no_space;
    let mut acked = 1;
    s.out();
    while waits(&s) {
        acked += 1460;
        s.inject(&format!(". 1:1(0) ack {acked}"));
        s.out();
    }
    // Before the program looks, all that is in flight is cut to pieces.
    let (port, iss) = (s.port, s.iss);
    assert!(s.too_big(port, iss + acked, 552));
    let mut sent = s.out();
    assert!(!s.tcp.sockets.get(id.0).unwrap().connection().unwrap().send.is_writable());
    s.events();
    while acked < written {
        let end = |line: &String| line.split([':', '(']).nth(1).unwrap().parse().unwrap();
        acked = sent.iter().map(end).max().expect("it goes on");
        s.inject(&format!(". 1:1(0) ack {acked}"));
        sent = s.out();
    }
    let told = s.events();
    let writable = crate::readiness::Readiness::WRITABLE;
    assert!(told.iter().any(|(_, ready)| ready.contains(writable)), "{told:?}");
}

#[test]
fn when_the_device_takes_less_segments_are_smaller_and_what_is_in_flight_stays() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 2920]).unwrap();
    assert_eq!(s.out(), [". 1:1461(1460) ack 1", "P. 1461:2921(1460) ack 1"]);
    s.device_mtu(1_040);
    assert_eq!(s.out(), [""; 0], "it was sent while it fitted");
    s.inject(". 1:1(0) ack 2921");
    s.send(id, &[7; 1500]).unwrap();
    assert_eq!(s.out(), [". 2921:3921(1000) ack 1", "P. 3921:4421(500) ack 1"]);
    s.inject(". 1:1(0) ack 4421");
    s.device_mtu(1_500);
    s.send(id, &[7; 1460]).unwrap();
    assert_eq!(s.out(), ["P. 4421:5881(1460) ack 1"]);
}

#[test]
fn what_goes_again_after_the_device_takes_less_is_cut() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 1460]).unwrap();
    s.out();
    s.device_mtu(1_040);
    let again = s.wait(Duration::from_millis(1_100));
    assert_eq!(again.first().map(String::as_str), Some(". 1:1001(1000) ack 1"), "{again:?}");
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), ["P. 1001:1461(460) ack 1"]);
}

#[test]
fn a_path_with_an_mtu_of_its_own_keeps_it_when_the_devices_grows() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, &[7; 1460]).unwrap();
    s.out();
    let (port, iss) = (s.port, s.iss);
    assert!(s.too_big(port, iss + 1, 1_040));
    s.out();
    let pmtu = |s: &Script| s.tcp.info(id, s.now).unwrap().pmtu;
    s.device_mtu(1_600);
    assert_eq!(pmtu(&s), 1_040);
    s.device_mtu(1_000);
    assert_eq!(pmtu(&s), 1_000);
    s.device_mtu(1_400);
    s.inject(". 1:1(0) ack 1461");
    s.wait(Duration::from_secs(601));
    s.send(id, &[7; 10]).unwrap();
    s.out();
    assert_eq!(pmtu(&s), 1_400, "what a router said is forgotten after ten minutes");
}
