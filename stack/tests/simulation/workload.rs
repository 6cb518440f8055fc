//! What a seed stands for: the hosts, the wire between them, and what the programs on them do.

use crate::chance::Chance;
use crate::device::Card;
use crate::endpoint::{Leave, Order, Plan};
use crate::link::Quality;
use stack::addr::MacAddr;
use stack::config::{BufferLimits, Capacity, Config, EcnPolicy, MtuProbing};
use stack::device::Offloads;
use stack::options::CongestionAlgorithm;
use stack::time::{Duration, Instant};

/// How a connection comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// To the listener of this number on the other host.
    To(usize),
    /// Both connect, from this port to the other's same.
    Simultaneous(u16),
}

/// A connection to be made, and what its ends do.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub client: usize,
    pub opening: Opening,
    pub at: Instant,
    /// The client's and the server's.
    pub plans: [Plan; 2],
}

/// A listening program.
#[derive(Debug, Clone, Copy)]
pub struct Acceptor {
    pub host: usize,
    pub port: u16,
    pub backlog: u32,
    /// It accepts one connection, then rests.
    pub pause: Duration,
}

/// Datagrams one way.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams {
    pub count: u32,
    pub largest: u32,
    pub pause: Duration,
}

/// Everything a seed decides.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub configs: [Config; 2],
    pub cards: [Card; 2],
    /// Bits per second that a card sends; 0 is at once.
    pub card_rate: u64,
    /// How late a host looks at what has arrived, at most.
    pub lag: Duration,
    pub links: [Quality; 2],
    /// Which direction is dead from when to when.
    pub outages: Vec<(usize, Instant, Instant)>,
    pub acceptors: Vec<Acceptor>,
    pub flows: Vec<Flow>,
    pub datagrams: [Option<Datagrams>; 2],
}

const SECOND: Duration = Duration::from_secs(1);

/// The scenario of `seed`.
pub fn scenario(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed, 1);
    let c = &mut chance;
    let same = quality(c);
    let links = if c.one_in(3) { [same, quality(c)] } else { [same, same] };
    let congestion = c.pick(CongestionAlgorithm::ALL);
    let congestions = [congestion, c.pick(CongestionAlgorithm::ALL)];
    let scarce = c.one_in(5);
    let mut configs = [0, 1].map(|host| config(c, host, congestions[host], scarce));
    // No dice are thrown for it: what a seed stands for stays as it was otherwise.
    let probing = [MtuProbing::Off, MtuProbing::BlackHole, MtuProbing::Always];
    for (config, n) in configs.iter_mut().zip([seed, seed / 3]) {
        config.tcp.mtu_probing = probing[(n % 3) as usize];
        // A dead wire looks like a black hole; crumbs of 48 octets would take for ever.
        config.tcp.mtu_probe_floor = 500;
    }
    let cards = [0, 1].map(|host| card(c, host, scarce));
    let acceptors = (0..4).map(|n| acceptor(c, n)).collect();
    let outages = if c.one_in(4) { outages(c) } else { Vec::new() };
    let mut budget = c.pick(&[100_000u64, 400_000, 800_000]);
    let mut flows = Vec::new();
    let most = if scarce || c.one_in(4) { 40 } else { 8 };
    for n in 0..c.between(1, most) {
        let flow = flow(c, n, &mut budget);
        flows.push(flow);
    }
    let datagrams = [0, 1].map(|_| {
        c.one_in(4).then(|| Datagrams {
            count: c.between(1, 60),
            largest: c.pick(&[100, 1400, 9_000]),
            pause: Duration::from_millis(u64::from(c.between(1, 200))),
        })
    });
    Scenario {
        configs,
        cards,
        card_rate: c.pick(&[0, 0, 1_000_000_000, 10_000_000_000]),
        lag: Duration::from_micros(c.pick(&[0, 0, 50, 2_000])),
        links,
        outages,
        acceptors,
        flows,
        datagrams,
    }
}

fn quality(c: &mut Chance) -> Quality {
    let clean = c.one_in(4);
    let mut ill = |choices: &[u32]| if clean { 0 } else { c.pick(choices) };
    let (loss, duplication) = (ill(&[0, 0, 10, 100, 300, 1_000]), ill(&[0, 0, 50, 500]));
    let (reordering, corruption) = (ill(&[0, 0, 100, 1_000]), ill(&[0, 0, 10, 200]));
    let rate = c.pick(&[1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000]);
    let queue = u64::from(c.pick(&[8_000u32, 30_000, 100_000, 1_000_000]));
    Quality {
        rate,
        delay: Duration::from_micros(c.pick(&[10, 500, 5_000, 20_000, 100_000])),
        queue,
        marking: if c.one_in(2) { queue / 4 } else { 0 },
        loss,
        duplication,
        reordering,
        corruption,
        shuffle: Duration::from_micros(c.pick(&[100, 3_000, 50_000])),
        exactly: false,
    }
}

fn config(c: &mut Chance, host: usize, congestion: CongestionAlgorithm, scarce: bool) -> Config {
    let mut config = Config {
        addresses: vec![format!("10.0.0.{}/24", host + 1).parse().expect("an address")],
        ephemeral_ports: if c.one_in(4) { (40_000, 40_031) } else { (32_768, 60_999) },
        capacity: Capacity {
            tcp_sockets: 256,
            time_wait: if c.one_in(8) { 4 } else { 256 },
            udp_sockets: 8,
            segments: if scarce { c.pick(&[64, 200, 512]) } else { 4_096 },
            neighbors: 8,
            unresolved_packets: c.pick(&[4, 64]),
            loopback_frames: 16,
            capture_octets: 1_024,
        },
        ..Config::default()
    };
    config.tcp.congestion = congestion;
    config.tcp.ecn = c.pick(&[EcnPolicy::Never, EcnPolicy::Always, EcnPolicy::WhenAsked]);
    config.tcp.slow_start_after_idle = !c.one_in(4);
    config.tcp.timestamps = !c.one_in(4);
    config.tcp.sack = !c.one_in(4);
    config.tcp.window_scaling = !c.one_in(6);
    config.segment = !c.one_in(4);
    config.coalesce = !c.one_in(4);
    // An outage and more losses after it are no reason to give up.
    config.tcp.orphan_retries = 15;
    if c.one_in(3) {
        config.tcp.receive_buffer = BufferLimits { min: 2_304, default: 16_384, max: 65_536 };
    }
    config
}

fn card(c: &mut Chance, host: usize, scarce: bool) -> Card {
    let all = c.one_in(2);
    let tso = all && c.one_in(2);
    Card {
        mac: MacAddr([2, 0, 0, 0, 0, host as u8 + 1]),
        mtu: c.pick(&[1_500, 1_500, 1_500, 576, 1_280]),
        blocks: if scarce { c.pick(&[448, 512, 600]) } else { 8_192 },
        ring: c.pick(&[16, 64, 512]),
        lazy: c.pick(&[0, 8, 32]),
        offloads: Offloads {
            tx_ipv4_checksum: all,
            tx_tcp_checksum: all,
            tx_udp_checksum: all,
            checksum_from: c.pick(&[0, 512]),
            tso,
            max_parts: if tso { c.pick(&[3, 17, 48]) } else { 1 },
            ..Offloads::default()
        },
        piece: c.pick(&[2_048, 2_048, 300]),
    }
}

/// The first two are ordinary, the others are slow.
fn acceptor(c: &mut Chance, n: usize) -> Acceptor {
    let slow = n >= 2;
    Acceptor {
        host: n % 2,
        port: 80 + n as u16,
        backlog: if slow { c.between(0, 3) } else { 128 },
        pause: if slow { Duration::from_millis(c.pick(&[5, 100, 400])) } else { Duration::ZERO },
    }
}

fn outages(c: &mut Chance) -> Vec<(usize, Instant, Instant)> {
    let mut outages = Vec::new();
    let mut at = Instant::from_millis(1_000);
    for _ in 0..c.between(1, 3) {
        at += c.duration(SECOND * 3);
        let length = c.pick(&[Duration::from_millis(300), SECOND * 3, SECOND * 30]);
        let end = at + c.duration(length);
        for direction in c.pick(&[&[0][..], &[1], &[0, 1], &[0, 1]]) {
            outages.push((*direction, at, end));
        }
        at = end;
    }
    outages
}

fn flow(c: &mut Chance, n: u32, budget: &mut u64) -> Flow {
    let client = c.below(2) as usize;
    let opening = match c.below(8) {
        0 => Opening::Simultaneous(1_000 + n as u16),
        1 | 2 => Opening::To(2 + 1 - client),
        _ => Opening::To(1 - client),
    };
    let spread = c.pick(&[10, 500, 5_000]);
    let at = Instant::from_millis(1_000) + c.duration(Duration::from_millis(spread));
    let mut plans = [plan(c), plan(c)];
    let mut take = |c: &mut Chance, bits: u32| {
        let n = c.size(bits).min(*budget);
        *budget -= n;
        n
    };
    match c.below(8) {
        0 | 1 => {
            let (request, response) = (1 + c.size(10), 1 + c.size(13));
            let rounds = (take(c, 17) / (request + response)).clamp(1, 200);
            plans[0].order = Order::Request(request, response);
            plans[1].order = Order::Response(request, response);
            (plans[0].total, plans[1].total) = (rounds * request, rounds * response);
        }
        2 => {
            plans[1].order = Order::AfterEof;
            (plans[0].total, plans[1].total) = (take(c, 18), take(c, 18));
        }
        3 => plans[c.below(2) as usize].total = take(c, 20),
        4 if c.one_in(2) => {
            let total = take(c, 18);
            slow_reader(c, &mut plans, total);
        }
        4 => (plans[0].total, plans[1].total) = (take(c, 12), take(c, 12)),
        _ => (plans[0].total, plans[1].total) = (take(c, 18), take(c, 18)),
    }
    (plans[0].expected, plans[1].expected) = (plans[1].total, plans[0].total);
    if plans[1].order != Order::AfterEof && c.one_in(3) {
        plans[c.below(2) as usize].leave = Leave::CloseWhenDone;
    }
    if c.one_in(6) {
        abrupt(c, &mut plans);
    }
    Flow { client, opening, at, plans }
}

/// The reader lets the window close, and opens it after seconds.
fn slow_reader(c: &mut Chance, plans: &mut [Plan; 2], total: u64) {
    let writer = c.below(2) as usize;
    plans[writer].total = total;
    let reader = &mut plans[1 - writer];
    reader.read = 10_000 + c.size(16);
    reader.read_pause = c.duration(SECOND * 5);
    reader.receive_buffer = c.pick(&[0, 4_608, 20_000]);
}

fn plan(c: &mut Chance) -> Plan {
    let pauses = |c: &mut Chance| match c.below(8) {
        0 => c.duration(Duration::from_millis(300)),
        1 => c.duration(Duration::from_millis(3)),
        _ => Duration::ZERO,
    };
    // A pause with every octet would take for ever.
    let size = |c: &mut Chance, pause: Duration| match pause {
        Duration::ZERO => 1 + c.size(16),
        _ => 4_000 + c.size(16),
    };
    let (write_pause, read_pause) = (pauses(c), pauses(c));
    Plan {
        total: 0,
        expected: 0,
        order: Order::Freely,
        leave: Leave::Orderly,
        write: size(c, write_pause).max(64),
        read: size(c, read_pause).max(64),
        write_pause,
        read_pause,
        tolerant: false,
        forgettable: false,
        no_delay: c.one_in(2),
        more: c.one_in(6),
        receive_buffer: if c.one_in(5) { 4_608 + c.size(16) as u32 } else { 0 },
        send_buffer: if c.one_in(5) { 4_608 + c.size(16) as u32 } else { 0 },
    }
}

fn abrupt(c: &mut Chance, plans: &mut [Plan; 2]) {
    let side = c.below(2) as usize;
    let after = c.size(16).min(plans[side].expected);
    plans[side].leave = if c.one_in(2) { Leave::Abrupt(after) } else { Leave::Reset(after) };
    for plan in plans {
        plan.tolerant = true;
        // An end that leaves abruptly does not say before that it has finished.
        if plan.order == Order::AfterEof {
            plan.order = Order::Freely;
        }
    }
}
