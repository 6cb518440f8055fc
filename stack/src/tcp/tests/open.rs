//! Opening: RFC 9293 §3.5, §3.10.7.1 to §3.10.7.3, and how Linux's listeners behave.

use crate::config::TcpConfig;
use crate::error::Error;
use crate::readiness::Readiness;
use crate::tcp::testing::{PEER, PEER_PORT, Script};
use crate::tcp::{SeqNumber, State};
use crate::time::Duration;
use core::net::SocketAddr;

#[test]
fn rfc_9293_3_5_a_three_way_handshake_to_a_listener() {
    let mut s = Script::new();
    let listener = s.listener(80, 8);
    assert_eq!(s.tcp.readiness(listener), Readiness::empty());
    s.inject("S 0:0(0) mss 1460 sackok ts 100 0 wscale 7");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(s.last.window, 65_160);
    assert_eq!((s.last.mss, s.last.window_scale), (Some(1460), Some(7)));
    assert!(s.last.sack_permitted);
    assert_eq!(s.last.timestamps.map(|ts| ts.echo), Some(100));
    assert_eq!(s.accept(listener), Err(Error::WouldBlock));
    let echo = s.last.timestamps.unwrap().value as i32;
    s.inject(&format!(". 1:1(0) ack 1 ts 101 {echo}"));
    let readable = Readiness::READABLE | Readiness::READ_NORMAL;
    assert_eq!(s.events(), [(listener, readable)]);
    let id = s.accept(listener).unwrap();
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.tcp.remote_address(id), Ok(SocketAddr::new(PEER, PEER_PORT)));
    assert_eq!(s.tcp.readiness(id), Readiness::WRITABLE | Readiness::WRITE_NORMAL);
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn the_syn_of_connect_looks_like_that_of_linux() {
    let mut s = Script::new();
    let id = s.connecting();
    assert_eq!((s.last.window, s.last.mss, s.last.window_scale), (64_240, Some(1460), Some(7)));
    assert!(s.last.sack_permitted && s.last.timestamps.is_some());
    assert_eq!(s.tcp.readiness(id), Readiness::empty());
    s.inject("S. 0:0(0) ack 1 mss 1000 win 1000");
    assert_eq!(s.out(), [". 1:1(0) ack 1"]);
    assert_eq!(s.last.timestamps, None, "the peer did not want them");
    assert_eq!(s.state(id), State::Established);
    let writable = Readiness::WRITABLE | Readiness::WRITE_NORMAL;
    assert_eq!(s.events(), [(id, writable)]);
}

#[test]
fn only_what_the_peer_offers_is_answered() {
    let mut s = Script::new();
    s.listener(80, 8);
    s.inject("S 0:0(0)");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(
        (s.last.window_scale, s.last.timestamps, s.last.sack_permitted),
        (None, None, false)
    );
    assert_eq!(s.last.window, 64_240);
}

#[test]
fn rfc_9293_3_5_simultaneous_open() {
    let mut s = Script::new();
    let id = s.connecting();
    s.inject("S 0:0(0) mss 1460 sackok");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(s.state(id), State::SynReceived);
    s.inject("S. 0:0(0) ack 1 mss 1460 sackok");
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.out(), [". 1:1(0) ack 1 sack 0:1"], "RFC 2883");
    s.send(id, b"hello").unwrap();
    assert_eq!(s.out(), ["P. 1:6(5) ack 1"]);
}

#[test]
fn rfc_9293_3_10_7_1_a_segment_for_nobody_is_reset() {
    let mut s = Script::new();
    s.inject("S 0:0(0)");
    assert_eq!(s.out(), ["R. 0:0(0) ack 1"]);
    s.iss = SeqNumber(0);
    s.inject(". 5:15(10) ack 77");
    assert_eq!(s.out(), ["R 77:77(0)"]);
    s.inject("R 5:5(0)");
    assert_eq!(s.out(), [""; 0]);
    assert!(s.is_empty());
}

#[test]
fn rfc_9293_3_10_7_2_an_ack_to_a_listener_is_reset() {
    let mut s = Script::new();
    s.listener(80, 8);
    s.inject(". 5:5(0) ack 77");
    assert_eq!(s.out(), ["R 77:77(0)"]);
}

#[test]
fn rfc_9293_3_10_7_3_refused() {
    let mut s = Script::new();
    let id = s.connecting();
    s.inject("R. 0:0(0) ack 5");
    assert_eq!(s.state(id), State::SynSent, "a reset that does not acknowledge our SYN");
    s.inject(". 0:0(0) ack 5");
    assert_eq!(s.out(), ["R 5:5(0)"]);
    s.inject("R. 0:0(0) ack 1");
    assert_eq!(s.state(id), State::Closed);
    let ready = s.tcp.readiness(id);
    assert!(ready.contains(Readiness::ERROR | Readiness::HANGUP | Readiness::WRITABLE));
    assert_eq!(s.tcp.take_error(id), Some(Error::ConnectionRefused));
    assert_eq!(s.tcp.take_error(id), None);
    // Linux goes on telling the port, though it is free.
    assert_ne!(s.tcp.local_address(id).unwrap().port(), 0);
    s.close(id);
    assert!(s.is_empty());
}

#[test]
fn the_syn_is_sent_again_after_1_2_4_seconds_and_given_up() {
    let mut s = Script::new();
    let id = s.connecting();
    let mut at = s.now;
    for wait in [1, 2, 4, 8, 16, 32] {
        at += Duration::from_secs(wait);
        let short = (at - s.now) - Duration::from_millis(2);
        assert_eq!(s.wait(short), [""; 0]);
        assert_eq!(s.wait_ms(4), ["S 0:0(0)"]);
    }
    assert_eq!(s.state(id), State::SynSent);
    assert_eq!(s.wait(Duration::from_secs(65)), [""; 0]);
    assert_eq!(s.state(id), State::Closed);
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

#[test]
fn icmp_ends_an_opening() {
    let mut s = Script::new();
    let id = s.connecting();
    let (port, iss) = (s.port, s.iss);
    s.unreachable(port, iss + 99, Error::ConnectionRefused, true);
    assert_eq!(s.state(id), State::SynSent, "about a segment we never sent");
    s.unreachable(port, iss, Error::HostUnreachable, false);
    assert_eq!(s.tcp.take_error(id), Some(Error::HostUnreachable));
}

#[test]
fn the_syn_ack_is_sent_again_and_the_opening_forgotten() {
    let mut s = Script::new();
    let listener = s.listener(80, 8);
    s.inject("S 0:0(0) mss 1460");
    assert_eq!(s.out().len(), 1);
    assert_eq!(s.wait(Duration::from_secs(70)).len(), 5);
    assert_eq!(s.tcp.occupancy().openings, 0);
    s.close(listener);
    assert!(s.is_empty());
}

#[test]
fn a_repeated_syn_gives_the_final_ack_its_full_time() {
    let mut s = Script::plain();
    let listener = s.listener(80, 4);
    s.inject("S 0:0(0) win 1000");
    s.out();
    s.wait_ms(62_900);
    s.inject("S 0:0(0) win 1000");
    s.wait_ms(1_000);
    s.inject(". 1:1(0) ack 1");
    assert!(s.accept(listener).is_ok());
}

#[test]
fn a_repeated_syn_gets_the_same_syn_ack() {
    let mut s = Script::new();
    s.listener(80, 8);
    s.inject("S 0:0(0) mss 1460");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    s.inject("S 0:0(0) mss 1460");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
}

#[test]
fn a_reset_ends_an_embryonic_connection() {
    let mut s = Script::new();
    s.listener(80, 8);
    s.inject("S 0:0(0) mss 1460");
    s.out();
    s.inject("R 1:1(0)");
    assert_eq!(s.tcp.occupancy().openings, 0);
}

#[test]
fn an_ack_of_something_else_is_refused() {
    let mut s = Script::new();
    s.listener(80, 8);
    s.inject("S 0:0(0) mss 1460");
    s.out();
    s.inject(". 1:1(0) ack 7");
    assert_eq!(s.out(), ["R 7:7(0)"]);
    assert_eq!(s.tcp.occupancy().openings, 1);
}

#[test]
fn data_with_the_final_ack_is_kept() {
    let mut s = Script::new();
    let listener = s.listener(80, 8);
    s.inject("S 0:0(0) mss 1460");
    s.out();
    s.inject("P. 1:11(10) ack 1");
    let id = s.accept(listener).unwrap();
    assert_eq!(s.receive(id, 100).unwrap(), Script::stream(1, 10));
}

#[test]
fn the_accept_queue_holds_one_more_than_the_backlog() {
    let mut s = Script::new();
    let listener = s.listener(80, 1);
    for port in 0..4u16 {
        let (mut syn, _) = s.parse("S 0:0(0) mss 1460");
        syn.source_port = 6000 + port;
        s.inject_header(&syn, b"");
        let answered = !s.out().is_empty();
        assert_eq!(answered, port < 2, "a full accept queue drops SYNs");
        let (mut ack, _) = s.parse(". 1:1(0) ack 1");
        ack.source_port = 6000 + port;
        if answered {
            s.inject_header(&ack, b"");
        }
    }
    assert_eq!(s.counters.accept_queue_full, 2);
    let a = s.accept(listener).unwrap();
    let b = s.accept(listener).unwrap();
    assert_eq!(s.accept(listener), Err(Error::WouldBlock));
    s.close(a);
    s.close(b);
}

#[test]
fn a_final_ack_that_finds_the_queue_full_waits_for_the_syn_ack_again() {
    let mut s = Script::new();
    let listener = s.listener(80, 1);
    // Two are accepted but not taken; the third is in the SYN queue when the last place goes.
    let mut isns = Vec::new();
    for port in [6000u16, 6001] {
        s.open_from(port);
        isns.push((port, s.iss));
    }
    let (mut ack, _) = s.parse(". 1:1(0) ack 1");
    for (port, iss) in isns.iter().take(1) {
        (ack.source_port, ack.ack) = (*port, *iss + 1);
        s.inject_header(&ack, b"");
    }
    s.open_from(6002);
    let third = s.iss;
    (ack.source_port, ack.ack) = (isns[1].0, isns[1].1 + 1);
    s.inject_header(&ack, b"");
    (ack.source_port, ack.ack) = (6002, third + 1);
    s.inject_header(&ack, b"");
    assert_eq!((s.tcp.occupancy().openings, s.out().len()), (1, 0));
    let first = s.accept(listener).unwrap();
    assert_eq!(s.wait_ms(1100), ["S. 0:0(0) ack 1"]);
    s.inject_header(&ack, b"");
    assert_eq!(s.tcp.occupancy().openings, 0);
    assert!(s.accept(listener).is_ok() && s.accept(listener).is_ok());
    s.close(first);
}

#[test]
fn with_abort_on_overflow_a_final_ack_that_finds_the_queue_full_is_reset() {
    let mut s = Script::with(&TcpConfig { abort_on_overflow: true, ..TcpConfig::default() });
    s.listener(80, 1);
    let mut acks = Vec::new();
    for port in [6000u16, 6001] {
        s.open_from(port);
        acks.push((port, s.iss + 1));
    }
    let (mut ack, _) = s.parse(". 1:1(0) ack 1");
    (ack.source_port, ack.ack) = acks[0];
    s.inject_header(&ack, b"");
    s.open_from(6002);
    let third = s.iss + 1;
    (ack.source_port, ack.ack) = acks[1];
    s.inject_header(&ack, b"");
    (ack.source_port, ack.ack) = (6002, third);
    s.inject_header(&ack, b"");
    assert_eq!(s.out(), ["R 1:1(0)"]);
    assert_eq!((s.tcp.occupancy().openings, s.counters.accept_queue_full), (0, 1));
}

impl Script {
    /// A peer's SYN from `port`, and our answer.
    fn open_from(&mut self, port: u16) {
        let (mut syn, _) = self.parse("S 0:0(0) mss 1460");
        syn.source_port = port;
        self.inject_header(&syn, b"");
        assert_eq!(self.out(), ["S. 0:0(0) ack 1"]);
    }
}

#[test]
fn defer_accept_waits_for_data() {
    let mut s = Script::new();
    let listener = s.listener(80, 8);
    s.options(listener, |o| o.defer_accept = Duration::from_secs(3).into());
    s.inject("S 0:0(0) mss 1460");
    s.out();
    s.inject(". 1:1(0) ack 1");
    assert_eq!(s.accept(listener), Err(Error::WouldBlock));
    assert_eq!(s.wait_ms(2000), [""; 0], "the peer has answered: no SYN-ACK");
    s.inject("P. 1:5(4) ack 1");
    let id = s.accept(listener).unwrap();
    assert_eq!(s.receive(id, 10).unwrap().len(), 4);
}

#[test]
fn closing_a_listener_resets_what_nobody_accepted() {
    let mut s = Script::new();
    let listener = s.listener(80, 8);
    s.inject("S 0:0(0) mss 1460");
    s.out();
    s.inject(". 1:1(0) ack 1");
    s.close(listener);
    assert_eq!(s.out(), ["R. 1:1(0) ack 1"]);
    assert!(s.is_empty());
}

#[test]
fn a_child_inherits_its_listeners_options() {
    let mut s = Script::new();
    let listener = s.listener(80, 8);
    s.options(listener, |o| {
        o.no_delay = true;
        o.keepalive = true;
        o.traffic_class = 0x10;
    });
    s.inject("S 0:0(0) mss 1460");
    s.out();
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    let options = *s.tcp.options(id).unwrap();
    assert!(options.no_delay && options.keepalive && options.traffic_class == 0x10);
}

#[test]
fn a_syn_of_a_peer_with_a_tiny_mss_is_met_with_a_sane_one() {
    let mut s = Script::with(&TcpConfig { timestamps: false, ..TcpConfig::default() });
    let id = s.established("mss 1");
    s.send(id, &[1; 100]).unwrap();
    assert_eq!(s.out(), [". 1:49(48) ack 1", ". 49:97(48) ack 1", "P. 97:101(4) ack 1"]);
}

#[test]
fn calls_in_the_wrong_state_say_what_linux_says() {
    let mut s = Script::new();
    let id = s.socket();
    assert_eq!(s.send(id, b"x"), Err(Error::BrokenPipe));
    assert_eq!(s.receive(id, 1), Err(Error::NotConnected));
    assert_eq!(s.accept(id), Err(Error::InvalidArgument));
    assert_eq!(s.tcp.remote_address(id), Err(Error::NotConnected));
    let hangup = Readiness::HANGUP | Readiness::WRITABLE | Readiness::WRITE_NORMAL;
    assert_eq!(s.tcp.readiness(id), hangup);
    s.listen(id, 1).unwrap();
    assert_eq!(s.receive(id, 1), Err(Error::NotConnected));
    assert_eq!(s.send(id, b"x"), Err(Error::BrokenPipe));
    let connecting = s.connecting();
    assert_eq!(s.send(connecting, b"x"), Err(Error::WouldBlock));
    assert_eq!(s.connect(connecting, SocketAddr::new(PEER, 1)), Err(Error::Already));
    s.inject("S. 0:0(0) ack 1");
    assert_eq!(s.connect(connecting, SocketAddr::new(PEER, 1)), Err(Error::IsConnected));
    s.close(id);
    assert_eq!(s.send(id, b"x"), Err(Error::BadDescriptor));
}
