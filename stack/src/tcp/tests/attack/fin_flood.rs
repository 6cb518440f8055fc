//! FINs by the thousand.

use crate::tcp::State;
use crate::tcp::testing::Script;
use crate::time::Duration;

#[test]
fn fins_for_nobody_cost_nothing() {
    let mut s = Script::plain();
    s.listener(80, 8);
    let held = s.tcp.occupancy();
    for port in 1..2_000u16 {
        let (mut fin, _) = s.parse("F 5:5(0)");
        fin.source_port = port;
        s.inject_header(&fin, b"");
    }
    assert_eq!(s.out(), [""; 0], "a listener drops them");
    assert_eq!(s.tcp.occupancy(), held);
}

#[test]
fn fins_at_every_place_but_the_right_one_end_nothing() {
    let mut s = Script::plain();
    let id = s.established("mss 1000 sackok");
    for n in 0..10_000u32 {
        let seq = i64::from(n) * 37 - 100_000;
        if seq != 1 {
            s.inject(&format!("F. {seq}:{seq}(0) ack 1"));
            s.out();
        }
    }
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.tcp.receive_available(id), Ok(0));
    assert_eq!(s.tcp.occupancy().segments, 0, "a FIN takes no memory");
}

#[test]
fn a_thousand_fins_of_one_connection_are_one() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    for _ in 0..1_000 {
        s.inject("F. 1:1(0) ack 1");
    }
    assert_eq!(s.state(id), State::CloseWait);
    assert_eq!(s.receive(id, 10).unwrap().len(), 0);
    s.send(id, b"still here").unwrap();
    assert!(s.out().contains(&"P. 1:11(10) ack 2".to_owned()));
}

#[test]
fn connections_that_end_leave_no_more_than_the_table_of_time_wait_holds() {
    let mut s = Script::plain();
    let listener = s.listener(80, 8);
    for port in 1_000..1_300u16 {
        for text in ["S 0:0(0) mss 1000", ". 1:1(0) ack 1"] {
            let (mut header, _) = s.parse(text);
            header.source_port = port;
            s.inject_header(&header, b"");
            s.out();
        }
        let id = s.accept(listener).unwrap();
        s.close(id);
        s.out();
        for text in [". 1:1(0) ack 2", "F. 1:1(0) ack 2"] {
            let (mut header, _) = s.parse(text);
            header.source_port = port;
            s.inject_header(&header, b"");
            s.out();
        }
        assert!(s.tcp.occupancy().time_wait <= 64);
        assert_eq!(s.tcp.occupancy().connections, 0);
    }
    s.close(listener);
    s.wait(Duration::from_secs(61));
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}
