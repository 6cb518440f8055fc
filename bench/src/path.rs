//! `onwire bench path`: the goodput of one TCP stream over lossy, long and reordering paths, for the
//! kernel, for onwire, and for each talking to the other, in turns.
//!
//! Both ends of a path are TAPs of the impairment box ([`crate::impair`]): the kernel has an address
//! on its TAP, onwire drives its own through an `af_packet` port. In each round all four pairs meet
//! the same seed, so the same packets (by number) are lost. The rate is far below what a core
//! carries: what differs is TCP's doing.

mod cell;
mod network;
mod table;

use crate::children::{Program, check_interrupted, end_cleanly_on_signals, output};
use crate::impair::{Passed, duration};
use crate::machine::Machine;
use crate::onwire::Onwire;
use crate::role::{Arrived, Ready, Sent};
use anyhow::{Context, Result, ensure};
use cell::Cell;
use network::{Network, ROUTER_QUEUE};
use serde::Serialize;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use table::{Report, Row};

const PORT: u16 = 7011;
/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(25);

/// The options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Paths to measure, as LOSS:RTT or LOSS:RTT:REORDER with percentages, as in 1:20ms
    /// [default: 0.1, 1 and 3 % loss and 5 % reordering at 1, 20 and 100 ms]
    #[arg(long = "cell", value_name = "CELL")]
    cells: Vec<Cell>,
    /// Congestion control of both ends; may be repeated
    #[arg(long, default_values = ["cubic"])]
    congestion: Vec<String>,
    /// Rounds; in each, every pair is measured once on every path
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each transfer sends
    #[arg(long, default_value = "5s", value_parser = duration)]
    time: Duration,
    /// Megabits per second of the path
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Frames that the path's queue holds
    #[arg(long, default_value_t = ROUTER_QUEUE)]
    queue: usize,
    /// How much later a reordered packet comes [default: a fifth of the round trip]
    #[arg(long, value_parser = duration)]
    reorder_by: Option<Duration>,
    /// The first round's seed; each round has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Transfers at the same time, each on a path of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Exit with status 1 if a median ratio to the kernel is below this
    #[arg(long, value_name = "RATIO")]
    check: Option<f64>,
    /// Keep what the ends sent and received in this directory (tcpdump must be installed)
    #[arg(long, value_name = "DIRECTORY")]
    capture: Option<std::path::PathBuf>,
    /// Run both ends with the real-time policy SCHED_RR (for busy machines)
    #[arg(long)]
    realtime: bool,
    /// The onwire command [default: the one beside this program, or on the PATH]
    #[arg(long, value_name = "PATH")]
    onwire: Option<std::path::PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Whose TCP one end runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tcp {
    /// Linux's.
    Kernel,
    /// Ours.
    Onwire,
}

/// Sender and receiver, the reference first.
const PAIRS: [(Tcp, Tcp); 4] = [
    (Tcp::Kernel, Tcp::Kernel),
    (Tcp::Onwire, Tcp::Onwire),
    (Tcp::Onwire, Tcp::Kernel),
    (Tcp::Kernel, Tcp::Onwire),
];

/// One transfer.
#[derive(Debug, Clone, Serialize)]
pub struct Transfer {
    round: u32,
    megabits_per_second: f64,
    longest_wait_ms: f64,
    passed: Passed,
}

/// All four pairs on one path in one round.
#[derive(Debug, Clone, Copy)]
struct Turn {
    row: usize,
    round: u32,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    end_cleanly_on_signals()?;
    let onwire = Onwire::find(args.onwire.as_deref())?;
    let machine = Machine::look();
    let cells = if args.cells.is_empty() { cell::all() } else { args.cells.clone() };
    let mut rows = Vec::new();
    for congestion in &args.congestion {
        rows.extend(cells.iter().map(|cell| Row::new(congestion, *cell)));
    }
    let mut turns = VecDeque::new();
    for round in 0..args.rounds {
        turns.extend((0..rows.len()).map(|row| Turn { row, round }));
    }
    let (turns, rows) = (Mutex::new(turns), Mutex::new(rows));
    std::thread::scope(|scope| {
        let work = |number| work(args, &onwire, number, &turns, &rows);
        let workers: Vec<_> =
            (0..args.jobs).map(|number| scope.spawn(move || work(number))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("a worker panicked")),
        })
    })?;
    let rows = rows.into_inner().unwrap_or_default();
    let report = Report { machine, rate: args.rate, queue: args.queue, rows };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    let verdicts = report.verdicts(args.check);
    for verdict in &verdicts {
        eprintln!("check: NOT MET: {verdict}");
    }
    Ok(if verdicts.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes turns until none is left. A transfer that fails is a result: it is written down.
fn work(
    args: &Args,
    onwire: &Onwire,
    number: u32,
    turns: &Mutex<VecDeque<Turn>>,
    rows: &Mutex<Vec<Row>>,
) -> Result<()> {
    let mut network = Network::create(number, args.realtime)?;
    loop {
        let turn = turns.lock().ok().and_then(|mut turns| turns.pop_front());
        let Some(turn) = turn else { return Ok(()) };
        let Some((cell, congestion)) = rows.lock().ok().map(|rows| rows[turn.row].what()) else {
            return Ok(());
        };
        for step in 0..PAIRS.len() {
            check_interrupted()?;
            // Nobody is always the first.
            let pair = (step + turn.round as usize) % PAIRS.len();
            let done = transfer(args, onwire, &mut network, &cell, &congestion, pair, turn.round);
            check_interrupted()?;
            if let Ok(mut rows) = rows.lock() {
                eprintln!("{}", rows[turn.row].add(pair, turn.round, done));
            }
        }
    }
}

/// One transfer of `PAIRS[pair]` on `cell`'s path.
fn transfer(
    args: &Args,
    onwire: &Onwire,
    network: &mut Network,
    cell: &Cell,
    congestion: &str,
    pair: usize,
    round: u32,
) -> Result<Transfer> {
    let (sender, receiver) = PAIRS[pair];
    let mut path = cell.options(args.rate, args.queue, args.reorder_by);
    path.extend(["--seed".to_owned(), (args.seed + u64::from(round)).to_string()]);
    let mut wire = network.path(&path, [sender, receiver])?;
    let _captures = match &args.capture {
        Some(directory) => {
            let name = format!("{}-{congestion}-{pair}-{round}", cell.file_name());
            network.capture(directory, &name)?
        }
        None => Vec::new(),
    };
    let at = format!("{}:{PORT}", Network::address(1));
    let time = args.time.as_millis().to_string();
    let words = |role: &str| [role, &at, &time, congestion].map(str::to_owned);
    let mut server = network.start(1, receiver, onwire, &words("flow-in"))?;
    let _: Ready = server.message(PATIENCE).context("the receiver")?;
    let mut client = network.start(0, sender, onwire, &words("flow-out"))?;
    let _: Ready = client.message(PATIENCE).context("the sender")?;
    client.go_on()?;
    let patience = args.time + PATIENCE;
    let both = finish(&mut client, &mut server, patience);
    let (sent, arrived) = both?;
    ensure!(sent == arrived.octets, "{sent} octets were sent, {} arrived", arrived.octets);
    for (tcp, program) in [(sender, &client), (receiver, &server)] {
        if tcp == Tcp::Onwire {
            onwire.require_frames_in(network.run_directory(), program.pid(), sent / 1460 / 4)?;
        }
    }
    for mut program in [client, server] {
        program.go_on()?;
        program.finish(PATIENCE)?;
    }
    let passed = wire.finish()?;
    Ok(Transfer {
        round,
        megabits_per_second: arrived.in_time as f64 * 8.0 / args.time.as_secs_f64() / 1e6,
        longest_wait_ms: arrived.longest_wait_us as f64 / 1000.0,
        passed,
    })
}

fn finish(
    client: &mut Program,
    server: &mut Program,
    patience: Duration,
) -> Result<(u64, Arrived)> {
    let sent: Result<Sent> = client.message(patience).context("the sender");
    let arrived: Result<Arrived> = server.message(PATIENCE).context("the receiver");
    match (sent, arrived) {
        (Ok(sent), Ok(arrived)) => Ok((sent.sent, arrived)),
        (Err(one), Err(other)) => Err(one.context(format!("{other:#}"))),
        (Err(one), _) | (_, Err(one)) => Err(one),
    }
}

/// Runs `ip` with these words.
fn ip(words: &[&str]) -> Result<()> {
    output(std::process::Command::new("ip").args(words)).map(drop)
}
