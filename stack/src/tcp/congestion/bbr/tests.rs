//! BBR against a path that is a number: a bottleneck of a fixed rate with a queue.

use super::*;
use crate::tcp::congestion::{DeliveryRate, Newest, Snapshot};
use crate::tcp::seq::SeqNumber;
use crate::time::Duration;
use std::collections::VecDeque;

const MSS: u32 = 1_000;

/// A sender by BBR, and a path of one packet per `gap` with a round trip of `delay`.
struct Path {
    bbr: Bbr,
    window: Window,
    rate: DeliveryRate,
    now: Instant,
    gap: Duration,
    delay: Duration,
    /// When the bottleneck is free again.
    free_at: Instant,
    /// When the pacer lets the next packet go.
    next_at: Instant,
    /// When each packet's acknowledgment arrives; when it was sent, and what it remembers.
    flight: VecDeque<(Instant, Instant, Snapshot)>,
    sent: u32,
    acked: u32,
    srtt_us: u32,
    most_in_flight: u32,
}

impl Path {
    fn new(gap_us: u64, delay_ms: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let mut bbr = Bbr::new();
        bbr.begin(now, Window::INITIAL, delay_ms as u32 * 1_000, MSS);
        Path {
            bbr,
            window: Window::INITIAL,
            rate: DeliveryRate::new(now),
            now,
            gap: Duration::from_micros(gap_us),
            delay: Duration::from_millis(delay_ms),
            free_at: now,
            next_at: now,
            flight: VecDeque::new(),
            sent: 0,
            acked: 0,
            srtt_us: delay_ms as u32 * 1_000,
            most_in_flight: 0,
        }
    }

    fn send(&mut self) {
        let snapshot = self.rate.snapshot(self.now, self.flight.is_empty());
        self.free_at = self.free_at.max(self.now) + self.gap;
        self.flight.push_back((self.free_at + self.delay, self.now, snapshot));
        self.sent += 1;
        let gap_ns = u64::from(MSS) * 1_000_000_000 / self.bbr.pacing_rate().max(1);
        self.next_at = self.next_at.max(self.now) + Duration::from_nanos(gap_ns);
    }

    fn acknowledge(&mut self) {
        let prior = self.flight.len() as u32;
        let Some((_, sent_at, snapshot)) = self.flight.pop_front() else { return };
        self.acked += 1;
        self.rate.count(1, false, self.now);
        let mut newest = Newest::default();
        newest.on_delivered(sent_at, SeqNumber(self.acked), &snapshot, false);
        let rtt_us = (self.now - sent_at).as_micros() as u32;
        self.srtt_us = self.srtt_us / 8 * 7 + rtt_us / 8;
        let event = AckEvent {
            now: self.now,
            una: SeqNumber(self.acked * MSS),
            nxt: SeqNumber(self.sent * MSS),
            mss: MSS,
            delivered: 1,
            lost: 0,
            total_delivered: self.rate.delivered,
            total_ce: 0,
            prior_in_flight: prior,
            in_flight: self.flight.len() as u32,
            rtt_us,
            srtt_us: self.srtt_us,
            sample: self.rate.sample(&newest, self.now, rtt_us),
            mending: Mending::Nothing,
            limited_by_window: true,
        };
        self.window = self.bbr.on_ack(&event, self.window);
    }

    /// Sends without end for `ms`; returns packets delivered meanwhile.
    fn run(&mut self, ms: u64) -> u32 {
        let end = self.now + Duration::from_millis(ms);
        let before = self.acked;
        self.most_in_flight = 0;
        loop {
            let may_send = (self.flight.len() as u32) < self.window.cwnd;
            let send_at = if may_send { self.next_at.max(self.now) } else { Instant::FAR_FUTURE };
            let ack_at = self.flight.front().map_or(Instant::FAR_FUTURE, |first| first.0);
            let at = send_at.min(ack_at);
            if at > end {
                self.now = end;
                return self.acked - before;
            }
            self.now = at;
            if ack_at <= send_at {
                self.acknowledge()
            } else {
                self.send()
            }
            self.most_in_flight = self.most_in_flight.max(self.flight.len() as u32);
        }
    }
}

#[test]
fn startup_fills_the_pipe_and_drain_empties_the_queue() {
    // 10,000 packets a second, 50 ms: the product is 500 packets.
    let mut path = Path::new(100, 50);
    path.run(2_000);
    assert_eq!(path.bbr.mode, Mode::ProbeBandwidth);
    let bandwidth = rate(path.bbr.model.bandwidth(), UNIT, MSS);
    assert!((9_600_000..=10_000_000).contains(&bandwidth), "{bandwidth} octets per second");
    assert!(
        (50_000..=51_000).contains(&path.bbr.model.min_rtt_us),
        "{}",
        path.bbr.model.min_rtt_us
    );
    let delivered = path.run(3_000);
    assert!(delivered >= 29_000, "the bottleneck is busy: {delivered} of 30000");
    assert!(path.most_in_flight < 700, "its queue is short: {}", path.most_in_flight);
}

#[test]
fn more_bandwidth_is_found_and_less_is_noticed() {
    let mut path = Path::new(100, 20);
    path.run(2_000);
    path.gap = Duration::from_micros(50);
    path.run(3_000);
    assert!(path.run(1_000) >= 18_500, "twice the bandwidth");
    path.gap = Duration::from_micros(200);
    path.run(3_000);
    path.run(1_000);
    assert!(path.most_in_flight < 350, "no standing queue: {}", path.most_in_flight);
}

#[test]
fn every_ten_seconds_the_round_trip_is_looked_at() {
    let mut path = Path::new(100, 20);
    path.run(2_000);
    // The path got longer: what was the least is never seen again.
    path.delay = Duration::from_millis(40);
    path.run(8_000);
    let mut looked = 0;
    for _ in 0..60 {
        path.run(50);
        if path.bbr.mode == Mode::ProbeRoundTrip {
            looked += 1;
            assert!(path.window.cwnd <= LEAST_WINDOW);
        }
    }
    assert!((3..=9).contains(&looked), "200 ms and a round: {looked} times 50 ms");
    assert!(
        (40_000..=42_000).contains(&path.bbr.model.min_rtt_us),
        "{}",
        path.bbr.model.min_rtt_us
    );
    assert!(path.run(1_000) >= 9_500, "and back to speed");
}

#[test]
fn recovery_conserves_packets_for_a_round_then_restores_the_window() {
    let mut path = Path::new(100, 20);
    path.run(2_000);
    let before = path.window.cwnd;
    path.window.ssthresh = path.bbr.on_loss(path.window);
    let mut event = AckEvent {
        now: path.now,
        una: SeqNumber(0),
        nxt: SeqNumber(0),
        mss: MSS,
        delivered: 1,
        lost: 5,
        total_delivered: path.rate.delivered,
        total_ce: 0,
        prior_in_flight: 200,
        in_flight: 190,
        rtt_us: 0,
        srtt_us: 20_000,
        sample: None,
        mending: Mending::Loss,
        limited_by_window: true,
    };
    path.window = path.bbr.on_ack(&event, path.window);
    assert_eq!(path.window.cwnd, 191, "one for one");
    (event.lost, event.mending) = (0, Mending::Nothing);
    path.window = path.bbr.on_ack(&event, path.window);
    assert!(path.window.cwnd >= before.min(path.bbr.quantized(path.bbr.model.product(512), MSS)));
}
