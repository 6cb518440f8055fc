//! Segment arrival (RFC 9293 §3.10.7), a file per state: what is common to the synchronized states
//! is here, as one list of questions that every one of them answers.

mod close_wait;
mod closed;
mod closing;
mod established;
mod fin_wait_1;
mod fin_wait_2;
mod last_ack;
mod listen;
mod syn_received;
mod syn_sent;
pub(super) mod time_wait;

use crate::socket::Shutdown;
use crate::tcp::testing::Script;
use crate::tcp::{State, TcpId};
use crate::time::Duration;

/// A connection in `state`, no segment of it in flight except our FIN where the state says so.
/// Ten octets went each way before.
fn reach(state: State) -> (Script, TcpId) {
    let mut s = Script::plain();
    let id = s.established("mss 1000 win 5000");
    s.send(id, &[0; 10]).unwrap();
    s.out();
    s.inject("P. 1:11(10) ack 11 win 5000");
    s.receive(id, 10).unwrap();
    s.wait_ms(200);
    match state {
        State::Established => {}
        State::FinWait1 | State::FinWait2 => {
            s.shutdown(id, Shutdown::Write);
            assert_eq!(s.out(), ["F. 11:11(0) ack 11"]);
            if state == State::FinWait2 {
                s.inject(". 11:11(0) ack 12 win 5000");
            }
        }
        State::CloseWait => s.inject("F. 11:11(0) ack 11 win 5000"),
        State::LastAck => {
            s.inject("F. 11:11(0) ack 11 win 5000");
            s.shutdown(id, Shutdown::Write);
        }
        State::Closing => {
            s.shutdown(id, Shutdown::Write);
            s.out();
            s.inject("F. 11:11(0) ack 11 win 5000");
        }
        _ => panic!("{state:?} is not synchronized, or has a file that gets there by itself"),
    }
    s.out();
    s.events();
    assert_eq!(s.state(id), state);
    (s, id)
}

/// Our next sequence number and the peer's, in `state`.
fn numbers(state: State) -> (u32, u32) {
    match state {
        State::Established => (11, 11),
        State::FinWait1 | State::FinWait2 => (12, 11),
        State::CloseWait => (11, 12),
        State::LastAck | State::Closing => (12, 12),
        _ => panic!("{state:?}"),
    }
}

/// What RFC 9293 and RFC 5961 ask of every synchronized state.
fn obeys_the_common_rules(state: State) {
    let (snd, rcv) = numbers(state);
    let ack = format!(". {snd}:{snd}(0) ack {rcv}");
    let nothing: [&str; 0] = [];
    let ask = |segment: &str, answer: &[&str], why: &str| {
        let (mut s, id) = reach(state);
        let held = s.tcp.occupancy();
        s.inject(segment);
        assert_eq!(s.out(), answer, "{state:?}: {why}: {segment}");
        assert_eq!(s.state(id), state, "{why}: {segment}");
        assert_eq!(s.tcp.receive_available(id), Ok(0), "{why}: {segment}");
        assert_eq!(s.tcp.occupancy(), held, "{why}: {segment}");
    };
    let far = rcv + 500_000;
    let old = rcv - 10;
    let end = far + 5;

    // First: sequence number. (//= RFC 9293 §3.10.7.4)
    ask(&format!("P. {far}:{end}(5) ack {snd}"), &[&ack], "beyond the window");
    ask(&format!(". {far}:{far}(0) ack {snd}"), &[&ack], "beyond the window, empty");
    ask(&format!("P. 1:6(5) ack {snd}"), &[&ack], "before the window");
    ask(&format!("F. {old}:{old}(0) ack {snd}"), &[&ack], "a FIN before the window");
    ask(&format!("S {far}:{far}(0)"), &[&ack], "a SYN beyond the window");

    // Second: RST. (//= RFC 5961 §3.2)
    ask(&format!("R {far}:{far}(0)"), &nothing, "a reset beyond the window");
    ask("R 1:1(0)", &nothing, "a reset before the window");
    let within = rcv + 5;
    ask(&format!("R {within}:{within}(0)"), &[&ack], "a reset within the window");

    // Fourth: SYN. (//= RFC 5961 §4.2)
    ask(&format!("S {rcv}:{rcv}(0)"), &[&ack], "a SYN");
    ask(&format!("S. {rcv}:{rcv}(0) ack {snd}"), &[&ack], "a SYN-ACK");

    // Fifth: ACK.
    ask(&format!("P {rcv}:{within}(5)"), &nothing, "no acknowledgment at all");
    let unsent = snd + 1;
    ask(&format!("P. {rcv}:{within}(5) ack {unsent}"), &[&ack], "what was never sent");
    ask(&format!("P. {rcv}:{within}(5) ack -6000"), &[&ack], "far too old");

    a_reset_ends_it(state, rcv);
    strangers_cannot_make_us_talk(state, rcv);
}

fn a_reset_ends_it(state: State, rcv: u32) {
    let (mut s, id) = reach(state);
    s.inject(&format!("R {rcv}:{rcv}(0)"));
    assert_eq!(s.out(), [""; 0], "{state:?}: a reset is not answered");
    assert_eq!(s.state(id), State::Closed, "{state:?}");
    s.close(id);
    assert!(s.is_empty(), "{state:?}: {:?}", s.tcp.occupancy());

    let (mut s, id) = reach(state);
    s.close(id);
    s.out();
    if s.tcp.occupancy().sockets > 0 {
        s.inject(&format!("R {rcv}:{rcv}(0)"));
    }
    assert!(s.is_empty(), "{state:?}: an orphan is reset too: {:?}", s.tcp.occupancy());
}

/// Answers to what is outside the window come every half second at most.
fn strangers_cannot_make_us_talk(state: State, rcv: u32) {
    let (mut s, _) = reach(state);
    let mut answers = 0;
    for n in 0..1000 {
        let kind = ["S", "R", "S."][n % 3];
        let seq = rcv + 1 + n as u32;
        s.inject(&format!("{kind} {seq}:{seq}(0) ack 1"));
        answers += s.out().len();
        s.now += Duration::from_millis(1);
    }
    assert!((1..=3).contains(&answers), "{state:?}: {answers} answers in a second");
}
