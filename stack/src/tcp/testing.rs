//! The bench for packet scripts: a host under a hand-moved clock, and a peer whose segments are
//! written as text.
//!
//! A segment reads `FLAGS SEQ:END(LEN) ack N …`, numbers relative to each end's initial sequence
//! number, as in `S. 0:0(0) ack 1 mss 1460` or `P. 1:6(5) ack 1 win 1000 sack 11:21`. Flags are
//! `S F R P U E W` (E for ECE, W for CWR) and `.` for ACK; `ect0` or `ce` at the end is what the
//! packet's IP header says.

use super::demux::Tuple;
use super::segment::{Flags, Header, SackBlock, Timestamps};
use super::{Context, SeqNumber, State, Tcp, TcpCounters, TcpId};
use crate::config::{Capacity, TcpConfig};
use crate::error::Error;
use crate::options::Options;
use crate::packet::{Allocator, Buffer, HeapBuffer, IpMeta, Transmit};
use crate::readiness::Readiness;
use crate::rng::Rng;
use crate::socket::{Family, First, ReceiveFlags, SendFlags, Shutdown};
use crate::time::{Duration, Instant};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io::{IoSlice, IoSliceMut};

pub const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub const PEER_PORT: u16 = 5000;
/// The peer's initial sequence number: close to the wrap on purpose.
pub const PEER_ISS: u32 = u32::MAX - 3000;

/// Buffers from the heap, as many as a test allows.
#[derive(Debug)]
pub struct HeapPool {
    pub left: usize,
}

impl Allocator for HeapPool {
    type Buffer = HeapBuffer;
    fn allocate(&mut self) -> Option<HeapBuffer> {
        (self.left > 0).then(HeapBuffer::new)
    }
    fn available(&self) -> usize {
        self.left
    }
}

/// A host: the layer and its world.
#[derive(Debug)]
pub struct Host {
    pub tcp: Tcp<HeapBuffer>,
    pub rng: Rng,
    pub pool: HeapPool,
    pub counters: TcpCounters,
    pub now: Instant,
    pub address: IpAddr,
    /// Whether the program waits when it connects with data.
    pub waits: bool,
    /// What is known of the path to the peer.
    pub path_mtu: Option<u16>,
}

macro_rules! cx {
    ($host:expr) => {
        &mut Context {
            now: $host.now,
            rng: &mut $host.rng,
            allocator: &mut $host.pool,
            counters: &mut $host.counters,
        }
    };
}

impl Host {
    pub fn new(address: IpAddr, seed: u8, config: &TcpConfig) -> Self {
        let mut rng = Rng::new([seed; 32]);
        let capacity =
            Capacity { tcp_sockets: 256, time_wait: 64, segments: 8192, ..Capacity::default() };
        Host {
            tcp: Tcp::new(config, &capacity, (32_768, 60_999), 1500, &mut rng),
            rng,
            pool: HeapPool { left: 1 << 20 },
            counters: TcpCounters::default(),
            now: Instant::from_millis(10_000),
            address,
            waits: false,
            path_mtu: None,
        }
    }

    pub fn socket(&mut self) -> TcpId {
        self.tcp.socket(Family::V4).unwrap()
    }

    pub fn listener(&mut self, port: u16, backlog: u32) -> TcpId {
        let id = self.socket();
        self.bind(id, port).unwrap();
        self.tcp.listen(cx!(self), id, backlog).unwrap();
        id
    }

    pub fn bind(&mut self, id: TcpId, port: u16) -> Result<(), Error> {
        let local = SocketAddr::new(self.address, port);
        self.tcp.bind(cx!(self), id, local)
    }

    pub fn connect(&mut self, id: TcpId, remote: SocketAddr) -> Result<(), Error> {
        self.tcp.connect(cx!(self), id, self.address, remote, 1500)
    }

    pub fn connect_fast(
        &mut self,
        id: TcpId,
        remote: SocketAddr,
        data: &[u8],
        zero_copy: bool,
    ) -> Result<usize, Error> {
        let first = First { data: &[IoSlice::new(data)], zero_copy, waits: self.waits };
        self.tcp.connect_fast(cx!(self), id, self.address, remote, 1500, Some(first))
    }

    pub fn listen(&mut self, id: TcpId, backlog: u32) -> Result<(), Error> {
        self.tcp.listen(cx!(self), id, backlog)
    }

    pub fn accept(&mut self, id: TcpId) -> Result<TcpId, Error> {
        self.tcp.accept(cx!(self), id).map(|(id, _)| id)
    }

    pub fn send_flags(&mut self, id: TcpId, data: &[u8], flags: SendFlags) -> Result<usize, Error> {
        self.tcp.send(cx!(self), id, &[IoSlice::new(data)], flags)
    }

    pub fn send(&mut self, id: TcpId, data: &[u8]) -> Result<usize, Error> {
        self.send_flags(id, data, SendFlags::default())
    }

    pub fn send_at_once(
        &mut self,
        id: TcpId,
        data: &[u8],
        flags: SendFlags,
    ) -> Option<Transmit<HeapBuffer>> {
        let sent = self.tcp.send_at_once(cx!(self), id, &[IoSlice::new(data)], flags);
        sent.map(|(transmit, sent)| {
            self.tcp.remember_sent(cx!(self), sent);
            transmit
        })
    }

    pub fn receive_flags(
        &mut self,
        id: TcpId,
        max: usize,
        flags: ReceiveFlags,
    ) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; max];
        let into = &mut [IoSliceMut::new(&mut buffer)];
        let n = self.tcp.receive(cx!(self), id, into, flags)?;
        buffer.truncate(n);
        Ok(buffer)
    }

    pub fn receive(&mut self, id: TcpId, max: usize) -> Result<Vec<u8>, Error> {
        self.receive_flags(id, max, ReceiveFlags::default())
    }

    pub fn shutdown(&mut self, id: TcpId, how: Shutdown) {
        self.tcp.shutdown(cx!(self), id, how).unwrap();
    }

    pub fn try_shutdown(&mut self, id: TcpId, how: Shutdown) {
        let _ = self.tcp.shutdown(cx!(self), id, how);
    }

    pub fn disconnect(&mut self, id: TcpId) {
        self.tcp.disconnect(cx!(self), id).unwrap();
    }

    pub fn abort(&mut self, id: TcpId) {
        self.tcp.abort(cx!(self), id);
    }

    pub fn close(&mut self, id: TcpId) {
        self.tcp.close(cx!(self), id);
    }

    pub fn options(&mut self, id: TcpId, change: impl FnOnce(&mut Options)) {
        self.tcp.update_options(cx!(self), id, change).unwrap();
    }

    pub fn deliver(&mut self, meta: IpMeta, packet: HeapBuffer) {
        let known = self.path_mtu;
        self.tcp.on_packet(cx!(self), meta, known, packet);
    }

    pub fn transmit(&mut self) -> Option<Transmit<HeapBuffer>> {
        self.tcp.poll_transmit(cx!(self))
    }

    pub fn run_timers(&mut self) {
        self.tcp.on_timeouts(cx!(self));
    }

    pub fn unreachable(&mut self, local: u16, seq: SeqNumber, error: Error, hard: bool) {
        let local = SocketAddr::new(self.address, local);
        let remote = SocketAddr::new(PEER, PEER_PORT);
        self.tcp.on_unreachable(cx!(self), local, remote, seq, error, hard);
    }

    pub fn too_big(&mut self, local: u16, seq: SeqNumber, mtu: u16) -> bool {
        let local = SocketAddr::new(self.address, local);
        let remote = SocketAddr::new(PEER, PEER_PORT);
        self.tcp.on_packet_too_big(cx!(self), local, remote, seq, mtu)
    }

    pub fn device_mtu(&mut self, mtu: u16) {
        self.tcp.set_mtu(cx!(self), mtu);
    }

    pub fn reset_all(&mut self) {
        self.tcp.reset_all(cx!(self), crate::error::Error::ConnectionReset);
    }

    pub fn events(&mut self) -> Vec<(TcpId, Readiness)> {
        let mut events = Vec::new();
        while let Some(event) = self.tcp.poll_event(|_| true) {
            events.push((event.socket, event.readiness));
        }
        events
    }

    pub fn is_empty(&self) -> bool {
        let o = self.tcp.occupancy();
        o == super::Occupancy::default()
    }
}

/// A host and a scripted peer.
#[derive(Debug)]
pub struct Script {
    pub host: Host,
    /// Our initial sequence number, once our SYN was seen.
    pub iss: SeqNumber,
    pub port: u16,
    /// The peer's initial sequence number.
    pub peer_iss: u32,
    /// The header of the last segment seen.
    pub last: Header,
    pub payload: Vec<u8>,
}

impl core::ops::Deref for Script {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.host
    }
}

impl core::ops::DerefMut for Script {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Script {
    pub fn new() -> Self {
        Self::with(&TcpConfig::default())
    }

    pub fn with(config: &TcpConfig) -> Self {
        Script {
            host: Host::new(OURS, 1, config),
            iss: SeqNumber(0),
            port: 80,
            peer_iss: PEER_ISS,
            last: Header::default(),
            payload: Vec::new(),
        }
    }

    /// Without timestamps and scaling, and a peer that has no SACK unless told.
    pub fn plain() -> Self {
        Self::with(&TcpConfig { timestamps: false, ..TcpConfig::default() })
    }

    /// The clock moves on; what becomes due happens on the way, at its time.
    pub fn wait(&mut self, duration: Duration) -> Vec<String> {
        let end = self.host.now + duration;
        let mut seen = Vec::new();
        while let Some(due) = self.host.tcp.next_timeout() {
            if due > end {
                break;
            }
            self.host.now = due.max(self.host.now + Duration::from_nanos(1));
            self.host.run_timers();
            let at = self.host.now;
            for line in self.out() {
                let _ = at;
                seen.push(line);
            }
        }
        self.host.now = end;
        self.host.run_timers();
        seen.extend(self.out());
        seen
    }

    pub fn wait_ms(&mut self, ms: u64) -> Vec<String> {
        self.wait(Duration::from_millis(ms))
    }

    /// What the host sends now, as text.
    pub fn out(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(transmit) = self.host.transmit() {
            assert_eq!(transmit.destination, PEER);
            let (header, len) = Header::parse(transmit.packet.data()).expect("well formed");
            assert_eq!(len, usize::from(transmit.header_len));
            if header.flags.contains(Flags::SYN) {
                self.iss = header.seq;
            }
            self.payload = transmit.packet.data()[len..].to_vec();
            assert!(transmit.packet.data().len() <= 1480, "fits the path");
            let mut line = self.describe(&header, self.payload.len() as u32);
            line += ["", " ect1", " ect0", " ce"][usize::from(transmit.traffic_class & 3)];
            seen.push(line);
            self.last = header;
            assert!(seen.len() < 10_000, "ends");
        }
        seen
    }

    fn describe(&self, header: &Header, len: u32) -> String {
        let mut text = String::new();
        for (flag, letter) in [
            (Flags::SYN, 'S'),
            (Flags::FIN, 'F'),
            (Flags::RST, 'R'),
            (Flags::PSH, 'P'),
            (Flags::URG, 'U'),
            (Flags::ECE, 'E'),
            (Flags::CWR, 'W'),
            (Flags::ACK, '.'),
        ] {
            if header.flags.contains(flag) {
                text.push(letter);
            }
        }
        let seq = header.seq.0.wrapping_sub(self.iss.0) as i32;
        text += &format!(" {seq}:{}({len})", seq + len as i32);
        if header.flags.contains(Flags::ACK) {
            text += &format!(" ack {}", header.ack.0.wrapping_sub(self.peer_iss));
        }
        if header.flags.contains(Flags::URG) {
            text += &format!(" urg {}", header.urgent);
        }
        for block in &header.sack {
            let start = block.start.0.wrapping_sub(self.peer_iss);
            text += &format!(" sack {start}:{}", block.end.0.wrapping_sub(self.peer_iss));
        }
        text
    }

    /// The peer sends what `text` says.
    pub fn inject(&mut self, text: &str) {
        let (header, payload) = self.parse(text);
        let codepoint = match text.split(' ').next_back() {
            Some("ect1") => 1,
            Some("ect0") => 2,
            Some("ce") => 3,
            _ => 0,
        };
        self.inject_marked(&header, &payload, codepoint);
    }

    pub fn inject_header(&mut self, header: &Header, payload: &[u8]) {
        self.inject_marked(header, payload, 0);
    }

    fn inject_marked(&mut self, header: &Header, payload: &[u8], traffic_class: u8) {
        let mut octets = vec![0; header.len()];
        header.emit(&mut octets);
        octets.extend_from_slice(payload);
        let meta = IpMeta { source: PEER, destination: OURS, traffic_class, hop_limit: 64 };
        self.host.deliver(meta, HeapBuffer::from_bytes(&octets));
    }

    /// Octets that a stream has at relative sequence number `seq`.
    pub fn octet(seq: u32) -> u8 {
        (seq.wrapping_mul(2_654_435_761) >> 24) as u8
    }

    pub fn parse(&self, text: &str) -> (Header, Vec<u8>) {
        let mut words = text.split_whitespace();
        let mut header = Header {
            source_port: PEER_PORT,
            destination_port: self.port,
            window: u16::MAX,
            ..Header::default()
        };
        for letter in words.next().expect("flags").chars() {
            header.flags |= match letter {
                'S' => Flags::SYN,
                'F' => Flags::FIN,
                'R' => Flags::RST,
                'P' => Flags::PSH,
                'U' => Flags::URG,
                'E' => Flags::ECE,
                'W' => Flags::CWR,
                '.' => Flags::ACK,
                _ => Flags::empty(),
            };
        }
        let range = words.next().expect("sequence numbers");
        let (seq, end) = range.split_once(':').expect("SEQ:END(LEN)");
        let seq: i64 = seq.parse().expect("number");
        let end: i64 = end.split('(').next().unwrap_or_default().parse().expect("number");
        header.seq = SeqNumber(self.peer_iss.wrapping_add(seq as u32));
        let payload: Vec<u8> = (seq..end).map(|n| Self::octet(n as u32)).collect();
        fn number(word: Option<&str>) -> u32 {
            word.expect("a number").parse::<i64>().expect("a number") as u32
        }
        while let Some(word) = words.next() {
            match word {
                "ack" => header.ack = self.iss + number(words.next()),
                "win" => header.window = number(words.next()) as u16,
                "urg" => header.urgent = number(words.next()) as u16,
                "mss" => header.mss = Some(number(words.next()) as u16),
                "wscale" => header.window_scale = Some(number(words.next()) as u8),
                "sackok" => header.sack_permitted = true,
                "ts" => {
                    let value = number(words.next());
                    let echo = number(words.next());
                    header.timestamps = Some(Timestamps { value, echo });
                }
                "sack" => {
                    let (a, b) = words.next().expect("A:B").split_once(':').expect("A:B");
                    let (start, end) = (self.iss + number(Some(a)), self.iss + number(Some(b)));
                    header.sack.push(SackBlock { start, end });
                }
                "ect0" | "ect1" | "ce" => {}
                other => panic!("what is {other}?"),
            }
        }
        (header, payload)
    }

    /// A connection that the peer opened, its SYN with `options`; a `win` counts for the final
    /// ACK as well.
    pub fn established(&mut self, options: &str) -> TcpId {
        self.established_in(options, Duration::ZERO)
    }

    /// The same over a path with a round trip of `rtt`.
    pub fn established_in(&mut self, options: &str, rtt: Duration) -> TcpId {
        let listener = self.host.listener(80, 8);
        self.inject(&format!("S 0:0(0) {options}"));
        assert_eq!(self.out(), ["S. 0:0(0) ack 1"]);
        self.host.now += rtt;
        let window = options.split_once("win ").map_or("65535", |(_, window)| window);
        let window = window.split(' ').next().unwrap_or_default();
        self.inject(&format!(". 1:1(0) ack 1 win {window}"));
        let id = self.host.accept(listener).expect("a connection");
        self.host.close(listener);
        assert_eq!(self.out(), [""; 0]);
        assert_eq!(self.host.tcp.state(id), State::Established);
        self.host.events();
        id
    }

    /// Our SYN is out for `id`.
    pub fn connecting(&mut self) -> TcpId {
        let id = self.host.socket();
        self.host.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
        self.port = self.host.tcp.local_address(id).unwrap().port();
        assert_eq!(self.out(), ["S 0:0(0)"]);
        id
    }

    pub fn state(&self, id: TcpId) -> State {
        self.host.tcp.state(id)
    }

    /// Data as the peer would see it: the stream from relative sequence number 1 on.
    pub fn stream(from: u32, len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| Self::octet(from + i)).collect()
    }
}

/// Two hosts and a link between them that does what a seed says.
#[derive(Debug)]
pub struct Link {
    pub hosts: [Host; 2],
    pub now: Instant,
    /// Packets on the way: when they arrive, where.
    wire: Vec<(Instant, u64, usize, IpMeta, Vec<u8>)>,
    sequence: u64,
    rng: Rng,
    pub delay: Duration,
    pub jitter: Duration,
    /// Per mille.
    pub loss: u32,
    pub duplicate: u32,
    pub corrupt_nothing_but_count: u64,
}

impl Link {
    pub fn new(seed: u8, config: &TcpConfig) -> Self {
        Link {
            hosts: [Host::new(OURS, seed, config), Host::new(PEER, seed ^ 0x55, config)],
            now: Instant::from_millis(10_000),
            wire: Vec::new(),
            sequence: 0,
            rng: Rng::new([seed; 32]),
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            corrupt_nothing_but_count: 0,
        }
    }

    fn collect(&mut self) {
        for from in 0..2 {
            while let Some(transmit) = self.hosts[from].transmit() {
                self.corrupt_nothing_but_count += 1;
                let copies = 1 + u32::from(self.rng.below(1000) < self.duplicate);
                for _ in 0..copies {
                    if self.rng.below(1000) < self.loss {
                        continue;
                    }
                    let jitter = self.rng.below(self.jitter.as_micros() as u32 + 1);
                    let at = self.now + self.delay + Duration::from_micros(u64::from(jitter));
                    let meta = IpMeta {
                        source: transmit.source,
                        destination: transmit.destination,
                        traffic_class: 0,
                        hop_limit: 64,
                    };
                    let octets = transmit.packet.data().to_vec();
                    self.sequence += 1;
                    self.wire.push((at, self.sequence, 1 - from, meta, octets));
                }
            }
        }
    }

    /// One step: to the next arrival or timeout. `false` when nothing will ever happen.
    pub fn step(&mut self) -> bool {
        self.collect();
        let arrival = self.wire.iter().map(|p| p.0).min();
        let timeout = self.hosts.iter().filter_map(|h| h.tcp.next_timeout()).min();
        let Some(next) = [arrival, timeout].into_iter().flatten().min() else { return false };
        self.now = next.max(self.now + Duration::from_nanos(1));
        for host in &mut self.hosts {
            host.now = self.now;
            host.run_timers();
        }
        let now = self.now;
        let mut due: Vec<_> = Vec::new();
        self.wire.retain_mut(|p| {
            let arrived = p.0 <= now;
            if arrived {
                due.push((p.0, p.1, p.2, p.3, core::mem::take(&mut p.4)));
            }
            !arrived
        });
        due.sort_by_key(|p| (p.0, p.1));
        for (_, _, to, meta, octets) in due {
            self.hosts[to].deliver(meta, HeapBuffer::from_bytes(&octets));
        }
        true
    }
}

#[allow(dead_code)]
pub fn tuple() -> Tuple {
    Tuple { local: OURS, remote: PEER, local_port: 80, remote_port: PEER_PORT }
}
