//! What an acknowledgment costs while much is in flight and some of it lost: as much as it reports,
//! whatever the window.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::rng::Rng;
use crate::tcp::TcpId;
use crate::tcp::segment::{Header, SackBlock};
use crate::tcp::send::scoreboard::take_steps;
use crate::tcp::socket::Kind;
use crate::tcp::testing::Script;
use crate::time::Duration;

const MSS: u32 = 1_200;

/// A peer that reports what it has: segments by their numbers.
struct Peer {
    next: u32,
    /// Runs beyond `next`, the one that changed last in front.
    runs: Vec<(u32, u32)>,
}

impl Peer {
    /// Segment `n` arrives; what it answers.
    fn take(&mut self, n: u32) -> (u32, Vec<(u32, u32)>) {
        if n >= self.next && !self.runs.iter().any(|(a, b)| (*a..*b).contains(&n)) {
            let (mut from, mut to) = (n, n + 1);
            self.runs.retain(|(a, b)| {
                let touches = *b == from || *a == to;
                if touches {
                    (from, to) = (from.min(*a), to.max(*b));
                }
                !touches
            });
            self.runs.insert(0, (from, to));
        }
        while let Some(at) = self.runs.iter().position(|(a, _)| *a <= self.next) {
            self.next = self.next.max(self.runs.remove(at).1);
        }
        (self.next, self.runs.iter().take(4).copied().collect())
    }
}

fn sending(window: u32) -> (Script, TcpId) {
    let congestion = CongestionAlgorithm::Reno;
    let config = TcpConfig { slow_start_after_idle: false, congestion, ..TcpConfig::default() };
    let mut s = Script::with(&TcpConfig { timestamps: false, ..config });
    let id = s.established_in("mss 1200 sackok wscale 10", Duration::from_millis(20));
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (64 << 20, true, true);
    });
    let socket = s.tcp.sockets.get_mut(id.0).unwrap();
    let Kind::Connected(c) = &mut socket.kind else { panic!("it is connected") };
    (c.window.cwnd, c.send.limit) = (window, 64 << 20);
    let n = s.send(id, &vec![0; (window * MSS) as usize]).unwrap();
    assert_eq!(n as u32, window * MSS);
    (s, id)
}

/// The numbers of the segments that leave now.
fn leaving(s: &mut Script) -> Vec<u32> {
    let lines = s.out();
    let first = |line: &String| line.split([' ', ':']).nth(1).unwrap().parse::<u32>().unwrap();
    lines.iter().map(|line| (first(line) - 1) / MSS).collect()
}

/// A window of segments, of which `lost` says which are lost the first time (and one in ten of what
/// is sent again is lost again). The acknowledgments it takes, and the segments looked at for them:
/// in all, and at most for one.
fn cost(window: u32, lost: impl Fn(u32) -> bool) -> (u64, u64, u64) {
    let (mut s, id) = sending(window);
    let mut rng = Rng::new([7; 32]);
    let mut peer = Peer { next: 0, runs: Vec::new() };
    let mut flying: Vec<u32> = leaving(&mut s);
    assert_eq!(flying.len() as u32, window);
    flying.retain(|n| !lost(*n));
    take_steps();
    let (mut answers, mut steps, mut most) = (0, 0, 0);
    for _ in 0..200 {
        s.now += Duration::from_millis(20);
        for n in core::mem::take(&mut flying) {
            let (ack, runs) = peer.take(n);
            let seq = |n: u32| s.iss + 1 + n * MSS;
            let block = |(a, b): &(u32, u32)| SackBlock { start: seq(*a), end: seq(*b) };
            let (header, _) = s.parse(". 1:1(0) ack 1");
            let sack = runs.iter().map(block).collect();
            s.inject_header(&Header { ack: seq(ack), sack, ..header }, b"");
            flying.extend(leaving(&mut s).into_iter().filter(|_| rng.below(10) > 0));
            let taken = take_steps();
            (answers, steps, most) = (answers + 1, steps + taken, most.max(taken));
        }
        if peer.next == window {
            let info = s.tcp.info(id, s.now).unwrap();
            assert_eq!((info.unacked, info.sacked, info.lost, info.retrans), (0, 0, 0, 0));
            assert_eq!(s.tcp.rare.boards.len(), 0, "nothing is remembered any more");
            return (answers, steps, most);
        }
        if flying.is_empty() {
            s.run_timers();
            s.wait_ms(1_000);
            flying.extend(leaving(&mut s));
        }
    }
    panic!("it does not end: {} of {window}", peer.next);
}

/// `lost` on a window of 840 kB and on one of 8.4 MB: the latter's acknowledgments cost no more.
fn stays_flat(lost: impl Fn(u32, u32) -> bool) {
    let mean = |window: u32| {
        let (answers, steps, most) = cost(window, |n| lost(n, window));
        (steps as f64 / answers as f64, most)
    };
    let (small, large) = (mean(700), mean(7_000));
    assert!(large.0 < small.0 * 1.5 + 2.0, "{small:?} and {large:?} segments per acknowledgment");
    assert!(large.0 < 12.0, "{large:?}");
}

#[test]
fn one_in_a_hundred_lost() {
    stays_flat(|n, _| n % 100 == 50);
}

#[test]
fn every_second_lost() {
    stays_flat(|n, _| n % 2 == 1);
}

#[test]
fn a_quarter_lost_at_once() {
    stays_flat(|n, window| (1..window / 4).contains(&n));
}

#[test]
fn the_first_lost_and_then_one_in_twenty() {
    stays_flat(|n, _| n == 0 || n % 20 == 7);
}

#[test]
fn a_peer_that_reports_what_it_acknowledges_later_in_part_corrupts_nothing() {
    let (mut s, id) = sending(40);
    s.out();
    let blocks = [(3, 9), (12, 20), (2, 30)];
    s.now += Duration::from_millis(20);
    for (a, b) in blocks {
        let line = format!(". 1:1(0) ack 1 sack {}:{}", 1 + a * MSS, 1 + b * MSS);
        s.inject(&line);
        s.out();
    }
    // The middle of the run, bit by bit, with reports from before and behind.
    for n in 3..30 {
        let (at, end) = (1 + n * MSS, 1 + 35 * MSS);
        s.inject(&format!(". 1:1(0) ack {at} sack {}:{end}", 1 + (n + 1) * MSS));
        s.out();
        s.now += Duration::from_millis(3);
        s.run_timers();
        s.out();
    }
    s.inject(&format!(". 1:1(0) ack {}", 1 + 40 * MSS));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.unacked, info.sacked, info.lost, info.retrans), (0, 0, 0, 0));
}
