//! The short way of `plain.rs` beside the general one: two pairs of hosts live through the same
//! random story, one pair without the short way. Every segment and its time, every answer to the
//! program and all that `TCP_INFO` tells must be equal.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::packet::{Buffer, HeapBuffer, IpMeta, Transmit};
use crate::rng::Rng;
use crate::socket::{SendFlags, Shutdown};
use crate::tcp::plain::TAKEN;
use crate::tcp::testing::{Host, OURS, PEER, Script};
use crate::tcp::{State, TcpId};
use crate::time::{Duration, Instant};
use core::net::SocketAddr;

/// Two connected hosts and what is under way between them.
struct Pair {
    hosts: [Host; 2],
    ends: [TcpId; 2],
    sent: [u32; 2],
    wire: Vec<(Instant, usize, IpMeta, Vec<u8>)>,
    rng: Rng,
    loss: u32,
    delay: Duration,
    /// All that happened.
    log: Vec<String>,
    /// Segments that took the short way.
    short: usize,
}

impl Pair {
    fn new(seed: u8, config: &TcpConfig, loss: u32, delay: Duration) -> Self {
        let mut hosts = [Host::new(OURS, seed, config), Host::new(PEER, seed ^ 0x55, config)];
        let listener = hosts[1].listener(80, 16);
        let client = hosts[0].socket();
        hosts[0].connect(client, SocketAddr::new(PEER, 80)).unwrap();
        let ends = [client, listener];
        let (rng, wire, log) = (Rng::new([seed; 32]), Vec::new(), Vec::new());
        let mut pair = Pair { hosts, ends, sent: [0; 2], wire, rng, loss: 0, delay, log, short: 0 };
        while pair.hosts[1].tcp.state(pair.ends[1]) != State::Established {
            pair.pass(delay);
            if let Ok(server) = pair.hosts[1].accept(listener) {
                pair.ends[1] = server;
            }
        }
        pair.loss = loss;
        pair
    }

    fn put(&mut self, from: usize, transmit: &Transmit<HeapBuffer>) {
        let octets = transmit.packet.data().to_vec();
        self.log.push(format!("{:?} {from} sends {octets:?}", self.hosts[0].now));
        if self.rng.below(1000) < self.loss {
            return;
        }
        let Transmit { source, destination, traffic_class, hop_limit, .. } = *transmit;
        let meta = IpMeta { source, destination, traffic_class, hop_limit };
        self.wire.push((self.hosts[0].now + self.delay, 1 - from, meta, octets));
    }

    fn drain(&mut self) {
        for from in 0..2 {
            while let Some(transmit) = self.hosts[from].transmit() {
                self.put(from, &transmit);
            }
            let events = self.hosts[from].events();
            if !events.is_empty() {
                self.log.push(format!("{from} hears {events:?}"));
            }
        }
    }

    /// Time passes; what arrives and what is due happens in order.
    fn pass(&mut self, duration: Duration) {
        let end = self.hosts[0].now + duration;
        loop {
            self.drain();
            let arrival = self.wire.iter().map(|packet| packet.0).min();
            let timeout = self.hosts.iter().filter_map(|host| host.tcp.next_timeout()).min();
            let next = [arrival, timeout].into_iter().flatten().min().filter(|next| *next <= end);
            let now = next.unwrap_or(end).max(self.hosts[0].now + Duration::from_nanos(1));
            for host in &mut self.hosts {
                host.now = now;
                host.run_timers();
            }
            self.drain();
            while let Some(at) = self.wire.iter().position(|packet| packet.0 <= now) {
                let (_, to, meta, octets) = self.wire.remove(at);
                self.hosts[to].deliver(meta, HeapBuffer::from_bytes(&octets));
                self.drain();
            }
            if next.is_none() {
                return;
            }
        }
    }

    fn send(&mut self, side: usize, len: usize, flags: SendFlags) {
        let (id, data) = (self.ends[side], Script::stream(self.sent[side], len));
        let taken = match self.hosts[side].send_at_once(id, &data, flags) {
            Some(transmit) => {
                self.short += 1;
                self.put(side, &transmit);
                Ok(len)
            }
            None => self.hosts[side].send_flags(id, &data, flags),
        };
        self.sent[side] += taken.unwrap_or(0) as u32;
        self.drain();
        self.log.push(format!("{side} queues {taken:?}"));
    }

    fn act(&mut self) {
        let side = self.rng.below(2) as usize;
        let id = self.ends[side];
        match self.rng.below(40) {
            0..=13 => {
                let len = self.rng.below(600) as usize + 1;
                self.send(side, len, SendFlags::default());
            }
            14 => {
                let len = [1448, 1449, 5_000, 20_000][self.rng.below(4) as usize];
                self.send(side, len, SendFlags::default());
            }
            15 => self.send(side, 30, SendFlags { more: true, ..SendFlags::default() }),
            16 => self.send(side, 30, SendFlags { urgent: true, ..SendFlags::default() }),
            17 => self.hosts[side].options(id, |options| options.no_delay = !options.no_delay),
            18 => self.hosts[side].options(id, |options| options.cork = !options.cork),
            19..=29 => {
                let max = [64, 700, 100_000][self.rng.below(3) as usize];
                let data = self.hosts[side].receive(id, max);
                self.log.push(format!("{side} reads {data:?}"));
            }
            30..=37 => {
                let us = [10, 300, 3_000, 20_000][self.rng.below(4) as usize];
                self.pass(Duration::from_micros(us));
            }
            _ => {
                let ms = [45, 250, 1_500][self.rng.below(3) as usize];
                self.pass(Duration::from_millis(ms));
            }
        }
        self.drain();
        for side in 0..2 {
            let info = self.hosts[side].tcp.info(self.ends[side], self.hosts[side].now);
            self.log.push(format!("{info:?} {:?}", self.hosts[side].counters));
        }
    }
}

/// The log of a story, and how many segments took the short way.
fn story(seed: u8, short_way: bool) -> (Vec<String>, usize) {
    TAKEN.set(short_way);
    let congestion = [CongestionAlgorithm::Cubic, CongestionAlgorithm::Reno][seed as usize % 2];
    let config = TcpConfig {
        congestion,
        timestamps: !seed.is_multiple_of(3),
        sack: !seed.is_multiple_of(5),
        ..TcpConfig::default()
    };
    let loss = if seed.is_multiple_of(4) { 20 } else { 0 };
    let delay = Duration::from_micros([50, 2_000, 30_000][seed as usize % 3]);
    let mut pair = Pair::new(seed, &config, loss, delay);
    for _ in 0..250 {
        pair.act();
    }
    let ends = pair.ends;
    pair.hosts[0].try_shutdown(ends[0], Shutdown::Write);
    pair.pass(Duration::from_secs(5));
    pair.hosts[1].close(ends[1]);
    pair.pass(Duration::from_secs(200));
    TAKEN.set(true);
    (pair.log, pair.short)
}

#[test]
fn the_short_way_does_what_the_general_one_does() {
    let mut short_segments = 0;
    for seed in 0..120 {
        let (general, none) = story(seed, false);
        let (short, some) = story(seed, true);
        assert_eq!(none, 0);
        for (at, (general, short)) in general.iter().zip(&short).enumerate() {
            assert_eq!(general, short, "seed {seed}, line {at}");
        }
        assert_eq!(general.len(), short.len(), "seed {seed}");
        short_segments += some;
    }
    assert!(short_segments > 1_000, "{short_segments} took the short way");
}
