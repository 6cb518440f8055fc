//! Sequence numbers that wrap while a connection uses them: at 0, and at the half where "before"
//! turns into "after"; ours and the peer's.

use crate::tcp::TcpId;
use crate::tcp::testing::{PEER_ISS, Script};
use crate::time::Duration;

/// Octets from the initial sequence numbers to the boundary.
const AHEAD: [u32; 6] = [0, 1, 2, 499, 500, 2_500];
/// The boundaries.
const AT: [u32; 2] = [0, 1 << 31];

/// A connection whose peer begins at `peer`, and we within `slack` of `ours`.
fn established(ours: u32, peer: u32, slack: u32) -> (Script, TcpId) {
    let mut s = Script::plain();
    s.peer_iss = peer;
    let listener = s.listener(80, 8);
    // Our numbers follow the clock (RFC 6528): see where it stands, and wait until it is there.
    s.inject("S 0:0(0) mss 500 sackok");
    s.out();
    s.inject("R 1:1(0)");
    let (first, began) = (s.iss, s.now);
    s.now += Duration::from_secs(1);
    s.inject("S 0:0(0) mss 500 sackok");
    s.out();
    s.inject("R 1:1(0)");
    let per_second = s.iss.0.wrapping_sub(first.0);
    let left = u64::from(ours.wrapping_sub(s.iss.0));
    s.now += Duration::from_nanos(left * 1_000_000_000 / u64::from(per_second));
    assert!(s.now > began);
    s.inject("S 0:0(0) mss 500 sackok");
    s.out();
    assert!(s.iss.0.wrapping_sub(ours.wrapping_sub(slack)) <= 2 * slack, "{:?}", s.iss);
    s.now += Duration::from_millis(10);
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    (s, id)
}

/// The peer sends 6000 octets in segments, some of them lost at first, others twice.
fn receives(s: &mut Script, id: TcpId) {
    for start in (1..6_001).step_by(500) {
        if start % 1_500 != 1 {
            s.inject(&format!(". {start}:{}(500) ack 1", start + 500));
        }
    }
    s.out();
    for start in (1..6_001).step_by(500) {
        s.inject(&format!(". {start}:{}(500) ack 1", start + 500));
    }
    assert!(s.out().last().is_some_and(|line| line.starts_with(". 1:1(0) ack 6001")));
    assert_eq!(s.receive(id, 10_000), Ok(Script::stream(1, 6_000)));
}

/// We send 6000 octets of which the second segment is lost.
fn sends(s: &mut Script, id: TcpId) {
    s.options(id, |o| {
        o.send_buffer = 1 << 20;
        o.send_buffer_locked = true;
    });
    s.send(id, &[7; 6_000]).unwrap();
    assert_eq!(s.out().len(), 10);
    s.now += Duration::from_millis(10);
    s.inject(". 6001:6001(0) ack 501");
    let mut sent = s.out();
    s.inject(". 6001:6001(0) ack 501 sack 1001:3001");
    sent.extend(s.out());
    s.now += Duration::from_millis(10);
    s.inject(". 6001:6001(0) ack 501 sack 1001:5001");
    sent.extend(s.out());
    let again = sent.iter().filter(|line| line.contains(" 501:1001(500)")).count();
    assert_eq!(again, 1, "the lost segment, and it alone, once: {sent:?}");
    assert!(
        sent.iter().all(|l| l.contains(" 501:") || l.contains(" 5001:") || l.contains(" 5501:"))
    );
    s.now += Duration::from_millis(10);
    s.inject(". 6001:6001(0) ack 6001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.unacked, info.sacked, info.lost, info.retrans), (0, 0, 0, 0));
}

#[test]
fn the_peers_numbers_wrap() {
    for at in AT {
        for ahead in AHEAD {
            let mut s = Script::plain();
            s.peer_iss = at.wrapping_sub(ahead);
            let id = s.established("mss 500 sackok");
            receives(&mut s, id);
            s.inject("F. 6001:6001(0) ack 1");
            assert_eq!(s.receive(id, 10), Ok(vec![]), "at {at:#x}, {ahead} ahead");
        }
    }
}

#[test]
fn our_numbers_wrap() {
    for at in AT {
        for ahead in AHEAD {
            let (mut s, id) = established(at.wrapping_sub(ahead + 200), PEER_ISS, 200);
            receives(&mut s, id);
            sends(&mut s, id);
            s.close(id);
            assert_eq!(s.out(), ["F. 6001:6001(0) ack 6001"]);
            s.inject("F. 6001:6001(0) ack 6002");
            assert_eq!(s.out(), [". 6002:6002(0) ack 6002"], "at {at:#x}, {ahead} ahead");
        }
    }
}

#[test]
fn rfc_5961_the_window_holds_across_the_wrap() {
    for at in AT {
        for ahead in AHEAD {
            let mut s = Script::plain();
            s.peer_iss = at.wrapping_sub(ahead);
            let id = s.established("mss 500");
            for seq in [-1_000_000, 1_000_000, i64::from(i32::MAX), i64::from(i32::MIN)] {
                s.inject(&format!("R {seq}:{seq}(0)"));
                s.inject(&format!("P. {seq}:{}(5) ack 1", seq + 5));
            }
            assert_eq!(s.tcp.receive_available(id), Ok(0), "at {at:#x}, {ahead} ahead");
            assert_eq!(s.state(id), crate::tcp::State::Established);
        }
    }
}
