//! The golden table: how fast one transfer is, by controller, round trip, loss and queue. It is
//! compared with `tests/golden/throughput.txt`; `UPDATE_GOLDEN=1` rewrites that. A change of the
//! stack that changes it must explain the difference.

use crate::chance::Chance;
use crate::endpoint::{Leave, Order, Plan};
use crate::link::Quality;
use crate::workload::{Flow, Opening, Scenario, scenario};
use crate::world::World;
use stack::config::TcpConfig;
use stack::options::CongestionAlgorithm;
use stack::time::{Duration, Instant};
use std::fmt::Write as _;
use std::path::Path;

/// What the link carries, in bits per second.
const RATE: u64 = 20_000_000;
/// Octets of one transfer, and of a long one.
const OCTETS: u64 = 2_000_000;
const LONG: u64 = 20_000_000;
/// Transfers of which the median counts.
const RUNS: u64 = 3;

const HEADER: &str = "\
# Goodput in Mbit/s of one transfer of 2 MB over 20 Mbit/s, the median of three seeds.
# The last rows are of 20 MB: there the first round trips do not weigh.
# queue: in bandwidth-delay products (at least 15 kB). DCTCP's marks packets from 30 kB on.
# Rewritten by UPDATE_GOLDEN=1 cargo test -p onwire-stack --test simulation golden
controller rtt_ms  loss_%  queue  goodput
";

const REORDERED: &str = "\
# 20 MB over 100 Mbit/s, 5 % of the packets late by a fifth of a round trip, the median of five seeds.
controller rtt_ms  goodput
";

fn plan(total: u64, expected: u64) -> Plan {
    Plan {
        total,
        expected,
        order: Order::Freely,
        leave: Leave::Orderly,
        write: 64_000,
        read: 64_000,
        write_pause: Duration::ZERO,
        read_pause: Duration::ZERO,
        tolerant: false,
        forgettable: false,
        no_delay: false,
        more: false,
        receive_buffer: 0,
        send_buffer: 0,
    }
}

/// What a row is of; the loss in parts per ten thousand, the queue in bandwidth-delay products.
#[derive(Debug, Clone, Copy)]
struct Cell {
    algorithm: CongestionAlgorithm,
    rtt_ms: u64,
    loss: u32,
    queue: f64,
    octets: u64,
}

/// A bulk transfer and nothing else, on ordinary hosts.
fn transfer(cell: Cell) -> Scenario {
    let Cell { algorithm, rtt_ms, loss, queue, octets } = cell;
    let mut scenario = scenario(1);
    let product = RATE as f64 / 8.0 * rtt_ms as f64 / 1_000.0;
    let quality = Quality {
        rate: RATE,
        delay: Duration::from_micros(rtt_ms * 500),
        queue: ((product * queue) as u64).max(15_000),
        loss: 0,
        duplication: 0,
        reordering: 0,
        corruption: 0,
        shuffle: Duration::ZERO,
        exactly: true,
        marking: if algorithm == CongestionAlgorithm::Dctcp { 30_000 } else { 0 },
    };
    scenario.links = [Quality { loss, ..quality }, quality];
    for (config, card) in scenario.configs.iter_mut().zip(&mut scenario.cards) {
        config.tcp = TcpConfig { congestion: algorithm, ..TcpConfig::default() };
        config.capacity.segments = 16_384;
        (card.mtu, card.blocks, card.ring) = (1_500, 16_384, 512);
    }
    (scenario.card_rate, scenario.lag) = (0, Duration::ZERO);
    (scenario.outages, scenario.datagrams) = (Vec::new(), [None; 2]);
    scenario.flows = vec![Flow {
        client: 0,
        opening: Opening::To(1),
        at: Instant::from_millis(1_000),
        plans: [plan(octets, 0), plan(0, octets)],
    }];
    scenario
}

fn goodput(runs: u64, scenario: &Scenario) -> f64 {
    let mut chance = Chance::new(1, 99);
    let octets = scenario.flows[0].plans[0].total;
    let mut runs: Vec<f64> = (0..runs)
        .map(|_| {
            let seed = u64::from(chance.below(u32::MAX));
            let run = World::new(seed, scenario.clone(), false).run();
            octets as f64 * 8.0 / run.virtual_time.as_secs_f64() / 1e6
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// The same at 100 Mbit/s with 256 frames of queue, where one packet in twenty comes a fifth of a round trip
/// later than it should: the paths on which one loss once led to the next.
fn reordered(algorithm: CongestionAlgorithm, rtt_ms: u64) -> Scenario {
    let mut scenario = transfer(Cell { algorithm, rtt_ms, loss: 0, queue: 1.0, octets: LONG });
    for link in &mut scenario.links {
        (link.rate, link.queue) = (100_000_000, 256 * 1_514);
        (link.reordering, link.shuffle) = (500, Duration::from_micros(rtt_ms * 200));
    }
    scenario
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let losses = [0, 10, 100, 300];
    for algorithm in CongestionAlgorithm::ALL.iter().copied() {
        for rtt_ms in [1, 20, 100] {
            for loss in losses {
                let cell = |queue| Cell { algorithm, rtt_ms, loss, queue, octets: OCTETS };
                cells.extend([0.5, 2.0].map(cell));
            }
        }
    }
    let algorithm = CongestionAlgorithm::Bbr;
    for rtt_ms in [20, 100] {
        let cell = |loss| Cell { algorithm, rtt_ms, loss, queue: 0.5, octets: LONG };
        cells.extend([0, 100, 300].map(cell));
    }
    cells
}

fn table() -> String {
    let mut table = String::from(HEADER);
    for cell in cells() {
        let (name, percent) = (cell.algorithm.name(), f64::from(cell.loss) / 100.0);
        let Cell { rtt_ms, queue, .. } = cell;
        let goodput = goodput(RUNS, &transfer(cell));
        let line =
            format_args!("{name:<10} {rtt_ms:>6} {percent:>7.1} {queue:>6.1} {goodput:>8.2}");
        writeln!(table, "{line}").expect("a string takes all");
    }
    table += REORDERED;
    for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Reno] {
        for rtt_ms in [20, 100] {
            let (name, goodput) = (algorithm.name(), goodput(5, &reordered(algorithm, rtt_ms)));
            writeln!(table, "{name:<10} {rtt_ms:>6} {goodput:>8.2}").expect("a string takes all");
        }
    }
    table
}

#[test]
fn golden_throughput() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/throughput.txt");
    let now = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
        std::fs::write(&path, now).expect("the table is written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let mut differences = String::new();
    let (old, new): (Vec<&str>, Vec<&str>) = (golden.lines().collect(), now.lines().collect());
    for n in 0..old.len().max(new.len()) {
        let (old, new) = (old.get(n).unwrap_or(&""), new.get(n).unwrap_or(&""));
        if old != new {
            differences += &format!("- {old}\n+ {new}\n");
        }
    }
    assert!(
        differences.is_empty(),
        "the table of throughput has changed; explain why, and rewrite it with \
         UPDATE_GOLDEN=1:\n{differences}"
    );
}
