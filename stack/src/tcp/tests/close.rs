//! Closing: RFC 9293 §3.6, §3.10.4, §3.10.7.4, and what close(2) and shutdown(2) do on Linux.

use crate::error::Error;
use crate::options::Linger;
use crate::readiness::Readiness;
use crate::socket::Shutdown;
use crate::tcp::State;
use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn rfc_9293_3_6_we_close_first() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.shutdown(id, Shutdown::Write);
    assert_eq!(s.out(), ["F. 1:1(0) ack 1"]);
    assert_eq!(s.state(id), State::FinWait1);
    assert_eq!(s.send(id, b"x"), Err(Error::BrokenPipe));
    s.inject(". 1:1(0) ack 2");
    assert_eq!(s.state(id), State::FinWait2);
    s.inject("P. 1:11(10) ack 2");
    assert_eq!(s.receive(id, 100).unwrap().len(), 10, "half closed: we still receive");
    s.out();
    s.inject("F. 11:11(0) ack 2");
    assert_eq!(s.out(), [". 2:2(0) ack 12"]);
    assert_eq!(s.receive(id, 100).unwrap().len(), 0);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
    assert_eq!(s.state(id), State::Closed);
    assert!(s.tcp.readiness(id).contains(Readiness::HANGUP | Readiness::READ_HANGUP));
    s.close(id);
    s.wait(Duration::from_secs(61));
    assert!(s.is_empty());
}

#[test]
fn the_peer_closes_first() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.inject("FP. 1:6(5) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 7"]);
    assert_eq!(s.state(id), State::CloseWait);
    let expected = Readiness::READABLE
        | Readiness::READ_NORMAL
        | Readiness::READ_HANGUP
        | Readiness::WRITABLE
        | Readiness::WRITE_NORMAL;
    assert_eq!(s.tcp.readiness(id), expected);
    assert_eq!(s.receive(id, 100).unwrap().len(), 5);
    assert_eq!(s.receive(id, 100).unwrap().len(), 0);
    s.send(id, b"bye").unwrap();
    assert_eq!(s.out(), ["P. 1:4(3) ack 7"]);
    s.inject(". 7:7(0) ack 4");
    s.close(id);
    assert_eq!(s.out(), ["F. 4:4(0) ack 7"]);
    s.inject(". 7:7(0) ack 5");
    assert!(s.is_empty());
}

#[test]
fn rfc_9293_3_6_simultaneous_close() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.shutdown(id, Shutdown::Write);
    s.out();
    s.inject("F. 1:1(0) ack 1");
    assert_eq!(s.state(id), State::Closing);
    assert_eq!(s.out(), [". 2:2(0) ack 2"]);
    s.inject(". 2:2(0) ack 2");
    assert_eq!(s.tcp.occupancy().time_wait, 1);
    s.close(id);
}

#[test]
fn the_fin_goes_with_the_last_data() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, b"hello").unwrap();
    s.close(id);
    assert_eq!(s.out(), ["FP. 1:6(5) ack 1"]);
    s.inject("F. 1:1(0) ack 7");
    assert_eq!(s.out(), [". 7:7(0) ack 2"]);
    assert_eq!(s.tcp.occupancy().sockets, 0);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.close(id);
    assert_eq!(s.out(), ["F. 1:1(0) ack 1"]);
    assert_eq!(s.wait_ms(1100)[0], "F. 1:1(0) ack 1");
    s.inject(". 1:1(0) ack 2");
    s.inject("F. 1:1(0) ack 2");
    assert_eq!(s.out(), [". 2:2(0) ack 2"]);
}

#[test]
fn a_fin_before_what_goes_before_it_waits() {
    let mut s = Script::plain();
    let id = s.established("mss 1460 sackok");
    s.inject("F. 11:11(0) ack 1");
    assert_eq!(s.state(id), State::Established);
    s.out();
    s.inject("P. 1:11(10) ack 1");
    assert_eq!(s.out(), [". 1:1(0) ack 12"]);
    assert_eq!(s.state(id), State::CloseWait);
}

#[test]
fn rfc_2525_2_17_closing_with_unread_data_resets() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.inject("P. 1:11(10) ack 1");
    s.out();
    s.close(id);
    assert_eq!(s.out(), ["R. 1:1(0) ack 11"]);
    assert!(s.is_empty());
}

#[test]
fn linger_zero_resets() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.send(id, b"never mind").unwrap();
    s.options(id, |o| o.linger = Linger::Reset);
    s.close(id);
    assert_eq!(s.out(), ["R. 1:1(0) ack 1"]);
    assert!(s.is_empty());
}

#[test]
fn data_for_an_orphan_is_reset() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.close(id);
    s.out();
    s.inject(". 1:1(0) ack 2");
    s.inject("P. 1:11(10) ack 2");
    assert_eq!(s.out(), ["R 2:2(0)"]);
    assert!(s.is_empty());
    assert_eq!(s.counters.data_after_close, 1);
}

#[test]
fn an_orphan_in_fin_wait_2_has_its_time() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.close(id);
    s.out();
    s.inject(". 1:1(0) ack 2");
    s.wait(Duration::from_secs(59));
    assert_eq!(s.tcp.occupancy().sockets, 1);
    s.wait(Duration::from_secs(2));
    assert!(s.is_empty());
    assert_eq!(s.counters.orphans_timed_out, 1);
}

#[test]
fn fin_wait_2_with_a_program_waits_for_ever() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.shutdown(id, Shutdown::Write);
    s.out();
    s.inject(". 1:1(0) ack 2");
    s.wait(Duration::from_secs(600));
    assert_eq!(s.state(id), State::FinWait2);
}

#[test]
fn a_reset_is_told_once_and_what_came_before_can_be_read() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.inject("P. 1:11(10) ack 1");
    s.out();
    s.inject("R 11:11(0)");
    assert_eq!(s.state(id), State::Closed);
    let all = Readiness::READABLE
        | Readiness::READ_NORMAL
        | Readiness::READ_HANGUP
        | Readiness::HANGUP
        | Readiness::ERROR
        | Readiness::WRITABLE
        | Readiness::WRITE_NORMAL;
    assert_eq!(s.events(), [(id, all)]);
    assert_eq!(s.receive(id, 100).unwrap().len(), 10);
    assert_eq!(s.receive(id, 100), Err(Error::ConnectionReset));
    assert_eq!(s.receive(id, 100).unwrap().len(), 0);
    assert_eq!(s.send(id, b"x"), Err(Error::BrokenPipe));
    s.close(id);
    assert!(s.is_empty());
}

#[test]
fn a_reset_in_close_wait_is_a_broken_pipe() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.inject("F. 1:1(0) ack 1");
    s.out();
    s.inject("R 2:2(0)");
    assert_eq!(s.send(id, b"x"), Err(Error::BrokenPipe));
}

#[test]
fn shutting_the_reading_side_reads_as_end_of_file() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.shutdown(id, Shutdown::Read);
    assert_eq!(s.receive(id, 10).unwrap().len(), 0);
    assert!(s.tcp.readiness(id).contains(Readiness::READ_HANGUP | Readiness::WRITABLE));
    assert!(!s.tcp.readiness(id).contains(Readiness::HANGUP));
    s.shutdown(id, Shutdown::Write);
    assert!(s.tcp.readiness(id).contains(Readiness::HANGUP));
}

#[test]
fn a_socket_of_an_ended_connection_can_connect_again() {
    let mut s = Script::plain();
    let id = s.connecting();
    s.inject("R. 0:0(0) ack 1");
    assert_eq!(s.tcp.take_error(id), Some(Error::ConnectionRefused));
    let peer = core::net::SocketAddr::new(crate::tcp::testing::PEER, 5000);
    s.connect(id, peer).unwrap();
    assert_eq!(s.out(), ["S 0:0(0)"]);
}

#[test]
fn disconnecting_resets_and_frees_the_socket() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.disconnect(id);
    assert_eq!(s.out(), ["R. 1:1(0) ack 1"]);
    assert_eq!(s.receive(id, 1), Err(Error::NotConnected));
    let peer = core::net::SocketAddr::new(crate::tcp::testing::PEER, 5000);
    assert_eq!(s.connect(id, peer), Ok(()));
    s.close(id);
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}

#[test]
fn resetting_all_leaves_sockets_that_know() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.reset_all();
    assert_eq!(s.out(), ["R. 1:1(0) ack 1"]);
    assert_eq!(s.receive(id, 1), Err(Error::ConnectionReset));
    s.close(id);
    assert!(s.is_empty());
}

#[test]
fn reading_and_writing_go_on_after_the_peers_half_close_until_ours_is_acknowledged() {
    let mut s = Script::plain();
    let id = s.established("mss 1460");
    s.inject("F. 1:1(0) ack 1");
    s.out();
    s.shutdown(id, Shutdown::Both);
    assert_eq!(s.out(), ["F. 1:1(0) ack 2"]);
    assert_eq!(s.state(id), State::LastAck);
    s.inject(". 2:2(0) ack 2");
    assert_eq!(s.state(id), State::Closed);
    assert_eq!(s.tcp.occupancy().time_wait, 0);
    assert_eq!(s.tcp.occupancy().demux, 0);
}

#[test]
fn orphans_are_bounded() {
    let config = crate::config::TcpConfig { max_orphans: 1, ..crate::config::TcpConfig::default() };
    let mut s = Script::with(&config);
    let listener = s.listener(80, 8);
    for (port, answer) in [(6000, "F. 1:1(0) ack 1"), (6001, "R. 1:1(0) ack 1")] {
        let (mut syn, _) = s.parse("S 0:0(0) mss 1460");
        syn.source_port = port;
        s.inject_header(&syn, b"");
        s.out();
        let (mut ack, _) = s.parse(". 1:1(0) ack 1");
        ack.source_port = port;
        s.inject_header(&ack, b"");
        let id = s.accept(listener).unwrap();
        s.close(id);
        assert_eq!(s.out(), [answer]);
    }
    assert_eq!(s.counters.orphans_refused, 1);
}
