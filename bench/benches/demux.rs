//! What it costs to find a segment's connection, from one connection to a million: the lookup alone
//! (`lookup`), those of the 32 connections of a burst (`lookups`), a bare acknowledgment for a
//! connection chosen at random, from the frame in to the end of its handling (`segment`), and 32 of
//! them for as many connections in one burst (`burst`), beside smoltcp 0.14, which asks one socket
//! after the other. For `lookups` and `burst` the rate says what each of the 32 takes.
//!
//! The tables get huge pages when they are full, as the engine's do; `ONWIRE_DEMUX_SMALL_PAGES=1` leaves
//! them as they are. `ONWIRE_DEMUX_MEMORY=1` prints instead how much memory a connection takes.

#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smoltcp::iface::{Config as SmolConfig, Interface, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use stack::addr::{Cidr, MacAddr};
use stack::config::{Capacity, Config, Route};
use stack::device::BURST;
use stack::packet::{Buffer, RxChecksum};
use stack::rng::Rng;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::Family;
use stack::tcp::Flow;
use stack::tcp::footprint::IDLE_CONNECTION;
use stack::testing::TestDevice;
use stack::time::Instant;
use std::array;
use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORTS_EACH: u32 = 50_000;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// The frame of peer `n`: without checksums, which the device is said to have looked at.
fn frame(n: u32, our_port: u16, seq: u32, ack: u32, flags: u8) -> [u8; 54] {
    let address = 0x0b00_0000 + n / PORTS_EACH;
    let port = 10_000 + (n % PORTS_EACH) as u16;
    let mut frame = [0; 54];
    frame[..6].copy_from_slice(&OUR_MAC);
    frame[6..12].copy_from_slice(&ROUTER_MAC);
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    frame[26..30].copy_from_slice(&address.to_be_bytes());
    frame[30..34].copy_from_slice(&OURS.octets());
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&our_port.to_be_bytes());
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    frame[46..50].copy_from_slice(&[0x50, flags, 0xff, 0xff]);
    frame
}

/// The sequence number of the SYN-ACK in `frame`, if it is one.
fn isn(frame: &[u8]) -> Option<u32> {
    let tcp = frame.get(34..54)?;
    (frame[12..14] == [8, 0] && tcp[13] & SYN != 0)
        .then(|| u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]))
}

/// An answer of the router to a request for its address.
fn arp_reply() -> Vec<u8> {
    let mut frame = [OUR_MAC, ROUTER_MAC].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(ROUTER_MAC);
    frame.extend(ROUTER.octets());
    frame.extend(OUR_MAC);
    frame.extend(OURS.octets());
    frame
}

/// A shard with established connections.
struct Onwire {
    shard: Shard<TestDevice>,
    now: Instant,
    isns: Vec<u32>,
}

impl Onwire {
    fn new(connections: u32) -> Self {
        let config = Config {
            addresses: vec![Cidr::new(OURS.into(), 24).expect("24 is a prefix length")],
            routes: vec![Route {
                destination: "0.0.0.0/0".parse().expect("a network"),
                gateway: Some(ROUTER.into()),
            }],
            capacity: Capacity {
                tcp_sockets: connections as usize + 16,
                capture_octets: 65_536,
                ..Capacity::default()
            },
            ..Config::default()
        };
        let device = TestDevice::new(MacAddr(OUR_MAC), 1_500, 4_096);
        let shard = Shard::new(&config, device, [7; 32]);
        let mut this = Onwire { shard, now: Instant::from_millis(1_000), isns: Vec::new() };
        let listener = this.listener();
        for n in 0..connections {
            this.establish(listener, n);
        }
        this
    }

    fn listener(&mut self) -> SocketId {
        let listener = self.shard.socket(SocketKind::Tcp, Family::V4).expect("a socket");
        let at = SocketAddr::new(OURS.into(), 80);
        self.shard.bind(self.now, listener, at).expect("a free port");
        self.shard.listen(self.now, listener, 64).expect("a bound socket listens");
        listener
    }

    fn establish(&mut self, listener: SocketId, n: u32) {
        self.deliver(&frame(n, 80, 0, 0, SYN));
        // The first SYN-ACK waits for the router's link address.
        let ours = self.sent_isn().or_else(|| {
            self.deliver(&arp_reply());
            self.sent_isn()
        });
        let ours = ours.expect("a SYN-ACK");
        self.isns.push(ours);
        self.deliver(&frame(n, 80, 1, ours.wrapping_add(1), ACK));
        self.shard.accept(self.now, listener).expect("a connection");
        while self.shard.poll_event().is_some() {}
    }

    fn sent_isn(&mut self) -> Option<u32> {
        let mut found = None;
        while let Some(sent) = self.shard.device_mut().sent() {
            found = isn(sent.data()).or(found);
        }
        found
    }

    fn deliver(&mut self, frame: &[u8]) {
        self.shard.device_mut().inject(frame, RxChecksum::Good);
        self.shard.poll(self.now);
    }

    fn acknowledge(&mut self, n: u32) {
        self.inject(n);
        self.shard.poll(self.now);
    }

    /// An acknowledgment of peer `n` arrives.
    fn inject(&mut self, n: u32) {
        let ours = self.isns[n as usize];
        let frame = frame(n, 80, 1, ours.wrapping_add(1), ACK);
        self.shard.device_mut().inject(&frame, RxChecksum::Good);
    }

    /// How many of these connections are found.
    fn look_up(&self, flows: &[Flow]) -> usize {
        self.shard.connections_between(flows).flatten().count()
    }
}

/// Both ends of peer `n`'s connection.
fn flow(n: u32) -> Flow {
    let remote = Ipv4Addr::from_bits(0x0b00_0000 + n / PORTS_EACH);
    Flow { local: OURS, remote, ports: (80, 10_000 + (n % PORTS_EACH) as u16) }
}

/// A device of smoltcp's that trusts all checksums.
#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;
    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }
    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        let mut checksum = ChecksumCapabilities::ignored();
        checksum.tcp = Checksum::None;
        capabilities.checksum = checksum;
        capabilities
    }
}

/// An interface of smoltcp's with established connections.
struct Smoltcp {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    isns: Vec<u32>,
}

impl Smoltcp {
    fn new(connections: u32) -> Self {
        let mut wire = Wire::default();
        let mac = smoltcp::wire::EthernetAddress(OUR_MAC);
        let config = SmolConfig::new(HardwareAddress::Ethernet(mac));
        let now = smoltcp::time::Instant::from_millis(1_000);
        let mut interface = Interface::new(config, &mut wire, now);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(OURS), 24)).expect("room for one");
        });
        interface.routes_mut().add_default_ipv4_route(ROUTER).expect("room for one");
        let mut this =
            Smoltcp { wire, interface, sockets: SocketSet::new(Vec::new()), isns: Vec::new() };
        this.deliver(&arp_reply());
        for n in 0..connections {
            this.establish(n);
        }
        this
    }

    fn establish(&mut self, n: u32) {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(80).expect("a free socket listens");
        self.sockets.add(socket);
        self.deliver(&frame(n, 80, 0, 0, SYN));
        let ours = self.wire.tx.drain(..).find_map(|sent| isn(&sent)).expect("a SYN-ACK");
        self.isns.push(ours);
        self.acknowledge(n);
    }

    fn deliver(&mut self, frame: &[u8]) {
        self.wire.rx.push_back(frame.to_vec());
        let now = smoltcp::time::Instant::from_millis(1_000);
        // Only what comes in: smoltcp looks at every socket once more to see what is to be sent.
        self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        if self.isns.len() < self.sockets.iter().count() {
            self.interface.poll_egress(now, &mut self.wire, &mut self.sockets);
        }
    }

    fn acknowledge(&mut self, n: u32) {
        let ours = self.isns[n as usize];
        self.wire.rx.push_back(frame(n, 80, 1, ours.wrapping_add(1), ACK).to_vec());
        let now = smoltcp::time::Instant::from_millis(1_000);
        self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
    }
}

/// Gives this process's memory huge pages where it is in use, as the keeper gives them to the region.
#[allow(unsafe_code)]
fn join_pages() {
    const HUGE: usize = 2 << 20;
    const MADV_COLLAPSE: i32 = 25;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (range, rest) in maps.lines().filter_map(|line| line.split_once(' ')) {
        let ends = range.split_once('-').map(|(from, to)| {
            [from, to].map(|end| usize::from_str_radix(end, 16).unwrap_or_default())
        });
        let Some([start, end]) = ends.filter(|_| rest.starts_with("rw-p")) else { continue };
        for at in (start.next_multiple_of(HUGE)..end & !(HUGE - 1)).step_by(HUGE) {
            // SAFETY: no content changes. What cannot be joined stays as it is.
            unsafe { nix::libc::madvise(at as *mut _, HUGE, MADV_COLLAPSE) };
        }
    }
}

/// How long `run` takes, `rounds` times, on what `prepare` makes: that is not timed, for it misses
/// caches of its own.
fn timed<T>(
    rounds: u64,
    host: &mut Onwire,
    mut prepare: impl FnMut(&mut Onwire) -> T,
    mut run: impl FnMut(&mut Onwire, &T),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let work = prepare(host);
        let began = std::time::Instant::now();
        run(host, &work);
        total += began.elapsed();
    }
    total
}

fn demux(criterion: &mut Criterion) {
    if std::env::var_os("ONWIRE_DEMUX_MEMORY").is_some() {
        return memory();
    }
    let mut group = criterion.benchmark_group("demux");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for connections in [1, 1_000, 100_000, 1_000_000] {
        let mut host = Onwire::new(connections);
        if std::env::var_os("ONWIRE_DEMUX_SMALL_PAGES").is_none() {
            join_pages();
        }
        let mut rng = Rng::new([1; 32]);
        assert!((0..connections).step_by(997).all(|n| host.look_up(&[flow(n)]) == 1));
        group.bench_function(BenchmarkId::new("lookup", connections), |bencher| {
            bencher.iter(|| host.look_up(&[flow(black_box(rng.below(connections)))]));
        });
        group.bench_function(BenchmarkId::new("segment", connections), |bencher| {
            bencher.iter(|| host.acknowledge(black_box(rng.below(connections))));
        });
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::new("lookups", connections), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(
                    rounds,
                    &mut host,
                    |_| array::from_fn::<_, BURST, _>(|_| flow(rng.below(connections))),
                    |host, flows: &[Flow; BURST]| {
                        black_box(host.look_up(flows));
                    },
                )
            });
        });
        group.bench_function(BenchmarkId::new("burst", connections), |bencher| {
            bencher.iter_custom(|rounds| {
                let inject = |host: &mut Onwire| {
                    for _ in 0..BURST {
                        host.inject(rng.below(connections));
                    }
                };
                timed(rounds, &mut host, inject, |host, ()| {
                    host.shard.poll(host.now);
                })
            });
        });
        group.throughput(Throughput::Elements(1));
    }
    for connections in [1, 100, 10_000] {
        let mut host = Smoltcp::new(connections);
        let mut rng = Rng::new([1; 32]);
        group.bench_function(BenchmarkId::new("smoltcp", connections), |bencher| {
            bencher.iter(|| host.acknowledge(black_box(rng.below(connections))));
        });
    }
    group.finish();
}

/// How much memory the stack touches for a connection that is idle.
fn memory() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or_default() * 4_096
    };
    let config = 200_000;
    let mut host = Onwire::new(0);
    drop(host);
    let before = resident();
    host = Onwire::new(config);
    // The list of initial sequence numbers is the bench's own.
    let own = host.isns.capacity() as u64 * 4;
    let each = (resident() - before).saturating_sub(own) / u64::from(config);
    let sum: usize = IDLE_CONNECTION.iter().map(|(_, octets)| octets).sum();
    println!("{each} octets for each of {config} idle connections; {sum} by the sum of");
    for (part, octets) in IDLE_CONNECTION {
        println!("{octets:6} {part}");
    }
}

criterion_group!(benches, demux);
criterion_main!(benches);
