//! TCP Fast Open (RFC 7413), both sides, as Linux does it.

use crate::config::{FastOpenKey, TcpConfig};
use crate::error::Error;
use crate::readiness::Readiness;
use crate::socket::Shutdown;
use crate::tcp::info::OPTION_SYN_DATA;
use crate::tcp::opening::fast_open::{Cookie, Form, cookie};
use crate::tcp::segment::Header;
use crate::tcp::testing::{OURS, PEER, PEER_PORT, Script};
use crate::tcp::{State, TcpId};
use crate::time::Duration;
use core::net::SocketAddr;

const KEY: FastOpenKey = FastOpenKey { primary: [9; 16], backup: Some([8; 16]) };

fn both_sides(setting: u32) -> Script {
    Script::with(&TcpConfig {
        fast_open: setting,
        fast_open_key: Some(KEY),
        timestamps: false,
        ..TcpConfig::default()
    })
}

impl Script {
    fn fast_listener(&mut self, queue: u32) -> TcpId {
        let id = self.listener(80, 8);
        self.options(id, |o| o.fast_open_queue = queue);
        id
    }

    /// A SYN with a cookie and data.
    fn inject_fast(&mut self, text: &str, cookie: Option<Cookie>) {
        let (header, payload) = self.parse(text);
        self.inject_header(&Header { fast_open: cookie, ..header }, &payload);
    }

    fn connect_fast(&mut self, id: TcpId, data: &[u8]) -> Result<usize, Error> {
        self.connect_fast_flags(id, data, false)
    }

    fn connect_fast_flags(
        &mut self,
        id: TcpId,
        data: &[u8],
        zero_copy: bool,
    ) -> Result<usize, Error> {
        let n = self.host.connect_fast(id, SocketAddr::new(PEER, PEER_PORT), data, zero_copy);
        self.port = self.host.tcp.local_address(id).map_or(self.port, |local| local.port());
        n
    }

    /// A client that has a cookie of the peer's.
    fn with_cookie() -> (Self, Cookie) {
        let mut s = both_sides(1);
        let id = s.socket();
        assert_eq!(s.connect_fast(id, b"hello"), Ok(0), "no cookie, no data");
        assert_eq!(s.out(), ["S 0:0(0)"]);
        assert_eq!(s.last.fast_open, Some(Cookie::new()), "a request");
        let cookie: Cookie = [1, 2, 3, 4, 5, 6, 7, 8].into_iter().collect();
        s.inject_fast("S. 0:0(0) ack 1 mss 1460", Some(cookie.clone()));
        assert_eq!(s.out(), [". 1:1(0) ack 1"]);
        s.abort(id);
        s.out();
        (s, cookie)
    }
}

fn ours() -> Cookie {
    cookie(KEY.primary, PEER, OURS)
}

#[test]
fn rfc_7413_4_1_2_a_request_gets_a_cookie_with_the_syn_ack() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    s.inject_fast("S 0:0(0) mss 1460", Some(Cookie::new()));
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(s.last.fast_open, Some(ours()));
    s.inject(". 1:1(0) ack 1");
    assert!(s.accept(listener).is_ok());
}

#[test]
fn rfc_7413_4_2_2_the_data_of_a_syn_is_there_before_the_handshake_is_done() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    s.inject_fast("S 0:1000(1000) mss 1460", Some(ours()));
    assert_eq!(s.out(), ["S. 0:0(0) ack 1001"]);
    assert_eq!(s.last.fast_open, None);
    let id = s.accept(listener).unwrap();
    assert_eq!(s.state(id), State::SynReceived);
    assert_eq!(s.receive(id, 2000).unwrap(), Script::stream(0, 1000));
    s.send(id, &[7; 3000]).unwrap();
    assert_eq!(s.out().len(), 3, "data follows the SYN-ACK at once");
    s.inject(". 1001:1001(0) ack 3001 win 5000");
    assert_eq!((s.state(id), s.tcp.occupancy().openings), (State::Established, 0));
    assert_ne!(s.tcp.info(id, s.now).unwrap().options & OPTION_SYN_DATA, 0);
    assert_eq!(s.counters.fast_open_passive, 1);
    s.inject("P. 1001:1011(10) ack 3001 win 5000");
    assert_eq!(s.receive(id, 2000).unwrap().len(), 10);
    s.close(id);
    s.close(listener);
    assert_eq!(s.out(), ["F. 3001:3001(0) ack 1011"]);
    s.inject("F. 1011:1011(0) ack 3002");
    s.out();
    s.wait(Duration::from_secs(61));
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}

#[test]
fn a_wrong_cookie_gets_a_right_one_and_its_data_is_not_taken() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    let wrong: Cookie = [5; 8].into_iter().collect();
    s.inject_fast("S 0:10(10) mss 1460", Some(wrong));
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    assert_eq!(s.last.fast_open, Some(ours()));
    assert!(s.accept(listener).is_err());
    assert_eq!(s.counters.fast_open_passive_fail, 1);
}

#[test]
fn the_former_key_is_good_and_brings_a_cookie_of_the_present_one() {
    let mut s = both_sides(2);
    s.fast_listener(5);
    s.inject_fast("S 0:10(10) mss 1460", Some(cookie([8; 16], PEER, OURS)));
    assert_eq!(s.out(), ["S. 0:0(0) ack 11"]);
    assert_eq!(s.last.fast_open, Some(ours()));
}

#[test]
fn a_listener_can_have_a_key_of_its_own() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    let own = FastOpenKey { primary: [3; 16], backup: None };
    s.tcp.set_fast_open_key(listener, own).unwrap();
    s.inject_fast("S 0:10(10) mss 1460", Some(cookie([3; 16], PEER, OURS)));
    assert_eq!(s.out(), ["S. 0:0(0) ack 11"]);
    assert_eq!(s.tcp.fast_open_key(listener), own);
    s.close(listener);
    assert_eq!(s.tcp.fast_open_key(listener), KEY, "it went with its listener");
}

#[test]
fn the_setting_and_the_queue_decide() {
    for (setting, queue) in [(1, 5), (2, 0), (0, 5)] {
        let mut s = both_sides(setting);
        s.fast_listener(queue);
        s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
        assert_eq!(s.out(), ["S. 0:0(0) ack 1"], "{setting} {queue}");
        assert_eq!(s.last.fast_open, None);
    }
    for setting in [0x2 | 0x200, 0x2 | 0x200 | 0x400] {
        let mut s = both_sides(setting);
        s.fast_listener(if setting & 0x400 == 0 { 1 } else { 0 });
        s.inject("S 0:10(10) mss 1460");
        assert_eq!(s.out(), ["S. 0:0(0) ack 11"], "no cookie needed");
    }
}

#[test]
fn rfc_7413_5_1_no_more_than_the_queue_holds() {
    let mut s = both_sides(2);
    s.fast_listener(1);
    s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
    assert_eq!(s.out(), ["S. 0:0(0) ack 11"]);
    let (header, payload) = s.parse("S 0:10(10) mss 1460");
    let other = Header { source_port: 6000, fast_open: Some(ours()), ..header };
    s.inject_header(&other, &payload);
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"], "an ordinary handshake");
    assert_eq!(s.counters.fast_open_overflow, 1);
    // A reset does not make room at once: the SYN may have been forged.
    let (reset, _) = s.parse("R 11:11(0)");
    s.inject_header(&reset, b"");
    s.inject_header(&Header { source_port: 6001, ..other.clone() }, &payload);
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
    s.wait(Duration::from_secs(61));
    s.inject_header(&Header { source_port: 6002, ..other }, &payload);
    assert_eq!(s.out(), ["S. 0:0(0) ack 11"]);
}

#[test]
fn the_syn_ack_is_sent_again_and_at_last_the_connection_given_up() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
    s.out();
    let id = s.accept(listener).unwrap();
    s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
    assert_eq!(s.out(), ["S. 0:0(0) ack 11"], "the SYN came again");
    assert_eq!(s.wait_ms(1_100), ["S. 0:0(0) ack 11"]);
    assert_eq!(s.wait(Duration::from_secs(130)).len(), 5);
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
    s.close(id);
    assert_eq!(s.tcp.occupancy().openings, 0);
}

#[test]
fn closed_before_the_final_ack_it_ends_in_order() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
    let id = s.accept(listener).unwrap();
    s.receive(id, 100).unwrap();
    s.send(id, b"answer").unwrap();
    s.shutdown(id, Shutdown::Write);
    assert_eq!(s.out(), ["S. 0:0(0) ack 11", "FP. 1:7(6) ack 11"]);
    s.inject(". 11:11(0) ack 8 win 1000");
    assert_eq!(s.state(id), State::FinWait2);
}

#[test]
fn rfc_7413_4_2_1_a_client_with_a_cookie_sends_data_with_its_syn() {
    let (mut s, cookie) = Script::with_cookie();
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 2000]), Ok(1420));
    assert_eq!(s.out(), ["S 0:1420(1420)"]);
    assert_eq!(s.last.fast_open, Some(cookie));
    s.inject("S. 0:0(0) ack 1421 mss 1460");
    assert_eq!(s.out(), [". 1421:1421(0) ack 1"]);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.options & OPTION_SYN_DATA, info.fastopen_client_fail), (OPTION_SYN_DATA, 0));
    assert_eq!(s.send(id, b"more"), Ok(4));
    assert_eq!(s.out(), ["P. 1421:1425(4) ack 1"]);
    s.inject(". 1:1(0) ack 1425");
    s.abort(id);
    s.out();
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}

#[test]
fn data_that_the_syn_ack_does_not_acknowledge_is_sent_again_at_once() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 100]), Ok(100));
    assert_eq!(s.out(), ["S 0:100(100)"]);
    s.inject("S. 0:0(0) ack 1 mss 1460");
    assert_eq!(s.out(), ["P. 1:101(100) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().fastopen_client_fail, 2);
    s.inject(". 1:1(0) ack 101");
    s.abort(id);
    s.out();
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}

#[test]
fn a_lost_syn_with_data_is_sent_again_without_and_the_path_left_alone() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 100]), Ok(100));
    s.out();
    assert_eq!(s.wait_ms(1_100), ["S 0:0(0)"]);
    assert_eq!(s.last.fast_open, None);
    s.inject("S. 0:0(0) ack 1 mss 1460");
    assert_eq!(s.out(), ["P. 1:101(100) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().fastopen_client_fail, 3);
    s.abort(id);
    s.out();
    let again = s.socket();
    assert_eq!(s.connect_fast(again, b"x"), Ok(0));
    assert_eq!(s.out(), ["S 0:0(0)"]);
    assert_eq!(s.last.fast_open, None, "not even asked");
}

#[test]
fn a_syn_with_data_that_fails_leaves_nothing_behind() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    s.connect_fast(id, b"abc").unwrap();
    assert_eq!(s.out(), ["S 0:3(3)"]);
    s.inject("R. 0:0(0) ack 4");
    assert_eq!(s.tcp.take_error(id), Some(Error::ConnectionRefused));
    s.close(id);
    let id = s.socket();
    s.connect_fast(id, b"abc").unwrap();
    s.close(id);
    s.out();
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}

#[test]
fn fastopen_connect_waits_for_the_first_data() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    s.options(id, |o| o.fast_open_connect = true);
    s.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
    s.port = s.tcp.local_address(id).unwrap().port();
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.wait(Duration::from_secs(10)), [""; 0]);
    assert!(s.tcp.readiness(id).contains(Readiness::WRITABLE));
    assert_eq!(s.connect(id, SocketAddr::new(PEER, PEER_PORT)), Err(Error::IsConnected));
    assert_eq!(s.send(id, b"hello"), Err(Error::InProgress), "the SYN is to carry it");
    assert_eq!(s.connect_fast(id, b"hello"), Ok(5));
    assert_eq!(s.out(), ["S 0:5(5)"]);
    assert_eq!(s.connect_fast(id, b"x"), Err(Error::Already));
    assert_eq!(s.send(id, b"x"), Err(Error::WouldBlock));
    s.inject("S. 0:0(0) ack 6 mss 1460");
    assert_eq!(s.out(), [". 6:6(0) ack 1"]);
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn without_a_cookie_fastopen_connect_asks_for_one() {
    let mut s = both_sides(1);
    let id = s.socket();
    s.options(id, |o| o.fast_open_connect = true);
    s.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
    assert_eq!(s.out(), ["S 0:0(0)"]);
    assert_eq!(s.last.fast_open, Some(Cookie::new()));
}

#[test]
fn switched_off_a_client_says_so() {
    let mut s = both_sides(2);
    let id = s.socket();
    assert_eq!(s.connect_fast(id, b"x"), Err(Error::OperationNotSupported));
    let mut s = both_sides(1 | 4);
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[1; 2000]), Ok(1420), "no MSS known: as much as we would take");
    assert_eq!(s.out(), ["S 0:1420(1420)"]);
    assert_eq!(s.last.fast_open, None);
    // A cookie that nobody asked for is not kept.
    s.inject_fast("S. 0:0(0) ack 1421 mss 1000", Some([7; 8].into_iter().collect()));
    s.out();
    s.abort(id);
    s.out();
    s.tcp.set_config(&TcpConfig { fast_open: 1, timestamps: false, ..TcpConfig::default() });
    let id = s.socket();
    assert_eq!(s.connect_fast(id, b"x"), Ok(0));
    assert_eq!(s.out(), ["S 0:0(0)"]);
    assert_eq!(s.last.fast_open, Some(Cookie::new()));
}

#[test]
fn the_data_of_a_syn_fits_what_the_program_allows() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    s.options(id, |o| o.max_segment = 1040);
    assert_eq!(s.connect_fast(id, &[7; 2000]), Ok(1000));
    assert_eq!(s.out(), ["S 0:1000(1000)"]);
    assert_eq!(s.last.mss, Some(1040));
}

#[test]
fn fastopen_connect_can_be_refused() {
    let mut s = both_sides(0);
    let id = s.socket();
    assert_eq!(s.tcp.set_fast_open_connect(id, true), Err(Error::OperationNotSupported));
    let mut s = both_sides(1);
    let id = s.connecting();
    assert_eq!(s.tcp.set_fast_open_connect(id, true), Err(Error::InvalidArgument));
}

#[test]
fn data_sent_again_after_the_syn_does_not_hold_up_what_follows() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 2000]), Ok(1420));
    s.out();
    // A smaller MSS, and a part of the data: the rest is retransmitted in two segments.
    s.inject("S. 0:0(0) ack 101 mss 1000");
    assert_eq!(s.out(), [". 101:1101(1000) ack 1", "P. 1101:1421(320) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().retrans, 2);
    // Nagle does not count it as a small segment that waits.
    assert_eq!(s.send(id, &[7; 1300]), Ok(1300));
    assert_eq!(s.out(), [". 1421:2421(1000) ack 1", "P. 2421:2721(300) ack 1"]);
    s.inject(". 1:1(0) ack 2721");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.retrans, info.unacked, info.snd_cwnd), (0, 0, 10));
}

#[test]
fn a_syn_too_large_for_the_path_goes_again_without_its_data() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 2000]), Ok(1420));
    s.out();
    let (port, iss) = (s.port, s.iss);
    assert!(s.too_big(port, iss, 840));
    assert_eq!(s.out(), ["S 0:0(0)"]);
    assert_eq!((s.last.mss, s.last.fast_open.clone()), (Some(800), None));
    assert!(s.too_big(port, iss, 840));
    assert_eq!(s.out(), [""; 0], "only once");
    s.inject("S. 0:0(0) ack 1 mss 1460");
    assert_eq!(s.out(), [". 1:801(800) ack 1", "P. 801:1421(620) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().fastopen_client_fail, 3);
}

#[test]
fn both_ends_can_send_data_with_their_syns() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 1000]), Ok(1000));
    s.out();
    s.inject("S 0:500(500) mss 1040 sackok");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1"], "without the peer's data");
    s.inject("S. 0:0(0) ack 1001 mss 940 sackok");
    assert_eq!(s.out(), [". 1001:1001(0) ack 1 sack 0:1"], "ours is acknowledged");
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn a_syn_ack_that_echoes_a_strange_timestamp_is_refused() {
    let mut s = Script::new();
    let id = s.connecting();
    let ours = s.last.timestamps.unwrap().value;
    s.inject(&format!("S. 0:0(0) ack 1 mss 1460 ts 7 {}", ours.wrapping_add(5_000)));
    assert_eq!(s.out(), ["R 1:1(0)"]);
    assert_eq!(s.state(id), State::SynSent);
    s.inject(&format!("S. 0:0(0) ack 1 mss 1460 ts 7 {ours}"));
    assert_eq!(s.state(id), State::Established);
}

#[test]
fn syncnt_counts_for_a_syn_that_is_out() {
    let mut s = both_sides(1);
    let id = s.connecting();
    s.options(id, |o| o.syn_count = 1);
    assert_eq!(s.wait(Duration::from_secs(4)), ["S 0:0(0)"]);
    assert_eq!(s.tcp.take_error(id), Some(Error::TimedOut));
}

#[test]
fn zero_copy_is_reported_for_the_data_of_a_syn() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    s.options(id, |o| o.zero_copy = true);
    assert_eq!(s.connect_fast_flags(id, b"abc", true), Ok(3));
    assert_eq!(s.tcp.receive_completions(id), Ok((0, 0)));
}

#[test]
fn what_a_waiting_program_sends_next_acknowledges_the_syn_ack() {
    let (mut s, _) = Script::with_cookie();
    let id = s.socket();
    s.waits = true;
    assert_eq!(s.connect_fast(id, &[7; 2000]), Ok(1420));
    s.out();
    s.inject("S. 0:0(0) ack 1421 mss 1460");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.send(id, &[7; 580]), Ok(580));
    assert_eq!(s.out(), ["P. 1421:2001(580) ack 1"]);
    s.inject("P. 1:501(500) ack 2001");
    assert_eq!(s.out(), [""; 0], "they talk in turns");
    assert_eq!(s.wait_ms(210), [". 2001:2001(0) ack 501"]);
    // One that thinks better of it acknowledges all the same.
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 2000]), Ok(1420));
    s.out();
    s.inject("S. 0:0(0) ack 1421 mss 1460");
    assert_eq!(s.wait_ms(210), [". 1421:1421(0) ack 1"]);
}

#[test]
fn a_lost_syn_with_data_but_without_the_option_says_nothing_about_the_option() {
    let mut s = both_sides(1 | 4);
    let id = s.socket();
    assert_eq!(s.connect_fast(id, &[7; 100]), Ok(100));
    s.out();
    assert_eq!(s.wait_ms(1_100), ["S 0:0(0)"]);
    s.inject("S. 0:0(0) ack 1 mss 1460");
    s.out();
    s.abort(id);
    s.out();
    s.tcp.set_config(&TcpConfig { fast_open: 1, timestamps: false, ..TcpConfig::default() });
    let id = s.socket();
    assert_eq!(s.connect_fast(id, b"x"), Ok(0));
    s.out();
    assert_eq!(s.last.fast_open, Some(Cookie::new()));
}

#[test]
fn icmp_ends_a_connection_with_early_data_that_nobody_has_accepted() {
    let mut s = both_sides(2);
    let listener = s.fast_listener(5);
    s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
    s.out();
    let (port, iss) = (s.port, s.iss);
    s.unreachable(port, iss + 5_000, Error::HostUnreachable, false);
    assert_eq!(s.counters.icmp_out_of_window, 1);
    s.unreachable(port, iss, Error::HostUnreachable, false);
    let id = s.accept(listener).unwrap();
    assert_eq!(s.receive(id, 100).unwrap().len(), 10, "what came with the SYN is there");
    assert_eq!(s.receive(id, 100), Err(Error::HostUnreachable));
    assert_eq!(s.send(id, b"x"), Err(Error::BrokenPipe));
    s.inject(". 11:11(0) ack 1");
    assert_eq!(s.out(), ["R 1:1(0)"]);
    // Once accepted it is a connection like any other.
    s.inject_fast("S 0:10(10) mss 1460", Some(ours()));
    let (id, iss) = (s.accept(listener).unwrap(), s.iss);
    s.out();
    s.unreachable(port, iss, Error::HostUnreachable, false);
    assert_eq!(s.state(id), State::SynReceived);
}

impl Script {
    /// A connect with data to a server whose SYN-ACK has this option; what our SYN had.
    fn ask_for_cookie(&mut self, answer: Option<(&Cookie, Form)>) -> (Option<Cookie>, Form) {
        let id = self.socket();
        let _ = self.connect_fast(id, &[7; 100]);
        self.out();
        let asked = (self.last.fast_open.clone(), self.last.fast_open_form);
        let (header, _) = self.parse("S. 0:0(0) ack 1 mss 1460");
        let (fast_open, form) = answer.map_or((None, Form::Registered), |(c, f)| (Some(c), f));
        let (fast_open, fast_open_form) = (fast_open.cloned(), form);
        self.inject_header(&Header { fast_open, fast_open_form, ..header }, &[]);
        self.out();
        self.abort(id);
        self.out();
        asked
    }
}

#[test]
fn a_server_that_gives_no_cookie_is_asked_once_in_the_experimental_form() {
    let mut s = both_sides(1);
    let request = Some(Cookie::new());
    let forms = [Form::Registered, Form::Experimental, Form::Registered, Form::Registered];
    for form in forms {
        assert_eq!(s.ask_for_cookie(None), (request.clone(), form));
    }
    s.tcp.forget_servers();
    assert_eq!(s.ask_for_cookie(None), (request.clone(), Form::Registered));
    // One that knows it by its older name.
    let old: Cookie = [1, 2, 3, 4].into_iter().collect();
    assert_eq!(s.ask_for_cookie(Some((&old, Form::Experimental))), (request, Form::Experimental));
    let new: Cookie = [5, 6, 7, 8].into_iter().collect();
    let answer = Some((&new, Form::Registered));
    assert_eq!(s.ask_for_cookie(answer), (Some(old), Form::Experimental));
    assert_eq!(s.ask_for_cookie(None), (Some(new), Form::Registered));
}
