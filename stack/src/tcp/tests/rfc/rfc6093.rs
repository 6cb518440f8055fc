//! RFC 6093: urgent data, as Linux has it (`tcp_stdurg` off).

use crate::error::Error;
use crate::readiness::Readiness;
use crate::socket::{ReceiveFlags, SendFlags};
use crate::tcp::testing::Script;

#[test]
fn urgent_data_as_linux_has_it() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("PU. 1:4(3) ack 1 urg 3");
    let (_, ready) = s.events()[0];
    assert!(ready.contains(Readiness::PRIORITY | Readiness::READABLE));
    assert_eq!(s.tcp.receive_available(id), Ok(2));
    let urgent = ReceiveFlags { urgent: true, ..Default::default() };
    assert_eq!(s.receive_flags(id, 1, urgent).unwrap(), [Script::octet(3)]);
    assert_eq!(s.receive_flags(id, 1, urgent), Err(Error::InvalidArgument));
    assert_eq!(s.receive(id, 10).unwrap(), Script::stream(1, 2));
    assert_eq!(s.tcp.at_urgent_mark(id), Ok(true));
    s.inject("P. 4:6(2) ack 1");
    assert_eq!(s.receive(id, 10).unwrap(), Script::stream(4, 2), "the urgent octet is passed over");
    assert_eq!(s.tcp.at_urgent_mark(id), Ok(false));
}

#[test]
fn urgent_data_inline() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.options(id, |o| o.oob_inline = true);
    s.inject("PU. 1:4(3) ack 1 urg 3");
    assert_eq!(s.receive(id, 10).unwrap(), Script::stream(1, 2), "reads stop at the mark");
    assert_eq!(s.tcp.at_urgent_mark(id), Ok(true));
    assert_eq!(s.receive(id, 10).unwrap(), Script::stream(3, 1));
    let urgent = ReceiveFlags { urgent: true, ..Default::default() };
    assert_eq!(s.receive_flags(id, 1, urgent), Err(Error::InvalidArgument));
}

#[test]
fn sending_urgent_data_points_behind_it() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send_flags(id, b"abc", SendFlags { urgent: true, ..Default::default() }).unwrap();
    assert_eq!(s.out(), ["PU. 1:4(3) ack 1 urg 3"]);
    s.inject(". 1:1(0) ack 4");
    s.send(id, b"d").unwrap();
    assert_eq!(s.out(), ["P. 4:5(1) ack 1"]);
}

#[test]
fn rfc_6093_3_2_a_second_mark_replaces_the_first() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("PU. 1:4(3) ack 1 urg 3");
    s.inject("PU. 4:7(3) ack 1 urg 3");
    let urgent = ReceiveFlags { urgent: true, ..Default::default() };
    assert_eq!(s.receive_flags(id, 1, urgent).unwrap(), [Script::octet(6)]);
    let mut read = Vec::new();
    while s.tcp.receive_available(id) != Ok(0) {
        read.extend(s.receive(id, 10).unwrap());
    }
    assert_eq!(read, Script::stream(1, 5), "the former urgent octet is data now");
}

#[test]
fn rfc_6093_a_mark_ahead_of_its_octet_is_told_at_once() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.inject("PU. 1:4(3) ack 1 urg 5");
    assert!(s.events()[0].1.contains(Readiness::READABLE));
    let urgent = ReceiveFlags { urgent: true, ..Default::default() };
    assert_eq!(s.receive_flags(id, 1, urgent), Err(Error::WouldBlock), "it is still to come");
    s.inject("P. 4:7(3) ack 1");
    assert_eq!(s.receive_flags(id, 1, urgent).unwrap(), [Script::octet(5)]);
}
