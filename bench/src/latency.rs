//! `onwire bench latency`: the round trip of one message, every way there is, in turns.

use crate::bench::{Bench, Common, Link, PATIENCE, Wire};
use crate::children::Program;
use crate::distance::in_one_place;
use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::namespaces::{Namespaces, Side};
use crate::onwire::Onwire;
use crate::report::{LatencyReport, RAW_FACTOR, Row};
use crate::role::{Echoed, Outcome, Protocol, Ready, Waiting};
use crate::sockperf;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// The link (may be given several times)
    #[arg(long, value_enum, default_value = "vhost")]
    pub link: Vec<Link>,
    /// Octets per message, several with commas between them
    #[arg(long, value_delimiter = ',', default_value = "64",
          value_parser = clap::value_parser!(u32).range(16..=1400))]
    pub size: Vec<u32>,
    /// Messages per second, several with commas between them: an open loop, in which each is timed
    /// from when it should have left [default: a closed loop, the next leaves when one has come]
    #[arg(long, value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Vec<u32>,
    /// Seconds to measure each mode in each round
    #[arg(long, default_value_t = 1.0, value_parser = parse_seconds)]
    pub seconds: f64,
    /// Milliseconds of warm-up before each of these
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub warmup: u64,
    /// Which groups to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kernel,raw,onwire")]
    only: Vec<Group>,
    /// Also run an unmodified sockperf, on the kernel and on onwire
    #[arg(long)]
    sockperf: bool,
    /// Also measure onwire's default profile, balanced, which sleeps when nothing comes
    #[arg(long)]
    balanced: bool,
    /// Exit with status 1 unless onwire's TCP median is at most 3 times the raw frame's and below
    /// half of the kernel's spinning sockets
    #[arg(long)]
    check: bool,
    /// What `--check` allows of the raw frame's round trip, instead of 3 times
    #[arg(long, default_value_t = RAW_FACTOR, requires = "check")]
    raw_factor: f64,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// The kernel's TCP and UDP over a veth pair
    Kernel,
    /// Frames over the link, without a stack
    Raw,
    /// onwire's TCP and UDP over the link
    Onwire,
}

/// Who carries the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// The kernel over a veth pair.
    Kernel,
    /// Nobody: frames over the link.
    Raw,
    /// onwire over the link.
    Onwire,
}

/// What sends the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// This program's sockets.
    Sockets(Protocol, Waiting),
    /// This program's frames.
    Frames,
    /// The same where onwire waits by its balanced profile.
    Balanced(Protocol),
    /// sockperf.
    Sockperf(Waiting),
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Who carries the message.
    pub carrier: Carrier,
    /// Over which link; the kernel's is always a veth pair.
    pub link: Option<Link>,
    /// What sends it.
    pub load: Load,
    /// Octets per message.
    pub size: u32,
}

/// What one measurement of one mode found.
pub struct Measured {
    /// Round-trip times.
    pub times: Histogram,
    /// Messages whose reply never came.
    pub lost: u64,
    /// What it ran on, if that is worth telling.
    pub on: Option<String>,
}

/// How long.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Uncounted time.
    pub warmup: Duration,
    /// Counted time.
    pub time: Duration,
}

/// A duration on the command line.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 3600 is expected".to_owned()),
    }
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.rate.is_empty() {
        return crate::load::run(args);
    }
    let modes = choose_modes(args);
    let effort = Effort {
        warmup: Duration::from_millis(args.warmup),
        time: Duration::from_secs_f64(args.seconds),
    };
    let needs_onwire = modes.iter().any(|mode| mode.carrier == Carrier::Onwire);
    let onwire = needs_onwire.then(|| Onwire::find(args.common.onwire.as_deref())).transpose()?;
    if args.sockperf {
        crate::bench::find_on_path("sockperf").context("--sockperf")?;
    }
    let mut machine = Machine::look();
    let bench = Bench::set_up(&args.common)?;
    let mut rows: Vec<Row> = Vec::new();
    for &mode in &modes {
        rows.push(Row::new(mode)?);
    }
    for round in 1..=args.common.rounds {
        for row in &mut rows {
            eprintln!("round {round} of {}: {}", args.common.rounds, row.mode.name());
            let mode = row.mode;
            let measured = in_one_place(&bench, || measure(&bench, onwire.as_ref(), mode, effort))
                .with_context(|| format!("{}, round {round}", row.mode.name()))?;
            row.add(&measured);
        }
    }
    machine.cores_apart = Some(bench.apart().borrow().clone());
    let cores = (bench.core(Side::Server), bench.core(Side::Client));
    drop(bench);
    let report = LatencyReport::new(machine, cores, effort, args.common.rounds, rows);
    report.page()?.publish(&args.common, &report.machine)?;
    if args.check {
        let verdict = report.check(args.raw_factor);
        eprintln!("{}", verdict.text);
        return Ok(if verdict.met { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(ExitCode::SUCCESS)
}

fn choose_modes(args: &Args) -> Vec<Mode> {
    args.size.iter().flat_map(|&size| modes_of(args, size)).collect()
}

fn modes_of(args: &Args, size: u32) -> Vec<Mode> {
    let has = |group| args.only.contains(&group);
    let mut modes = Vec::new();
    let mut add = |carrier, link, load| modes.push(Mode { carrier, link, load, size });
    if has(Group::Kernel) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for waiting in [Waiting::Block, Waiting::Spin] {
                add(Carrier::Kernel, None, Load::Sockets(protocol, waiting));
            }
        }
        if args.sockperf {
            add(Carrier::Kernel, None, Load::Sockperf(Waiting::Spin));
        }
    }
    for (index, &link) in args.link.iter().enumerate() {
        if args.link[..index].contains(&link) {
            continue;
        }
        // There are no frames between a program and a kernel.
        if has(Group::Raw) && link != Link::Tap {
            add(Carrier::Raw, Some(link), Load::Frames);
        }
        if has(Group::Onwire) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for waiting in [Waiting::Block, Waiting::Spin] {
                    add(Carrier::Onwire, Some(link), Load::Sockets(protocol, waiting));
                }
            }
            if args.balanced {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    add(Carrier::Onwire, Some(link), Load::Balanced(protocol));
                }
            }
            if args.sockperf {
                add(Carrier::Onwire, Some(link), Load::Sockperf(Waiting::Block));
            }
        }
    }
    modes
}

impl Mode {
    /// For people.
    pub fn name(&self) -> String {
        let carrier = match self.carrier {
            Carrier::Kernel => "kernel",
            Carrier::Raw => "raw frames",
            Carrier::Onwire => "onwire",
        };
        let link = self.link.map_or("veth", Link::name);
        let size = if self.size == 64 { String::new() } else { format!(", {} octets", self.size) };
        let name = match self.load {
            Load::Frames => format!("{carrier} over {link}"),
            Load::Sockets(protocol, waiting) => {
                let waiting = match waiting {
                    Waiting::Block => "blocking",
                    Waiting::Spin => "spinning",
                };
                format!("{carrier} {} {waiting} over {link}", protocol.name().to_uppercase())
            }
            Load::Balanced(protocol) => {
                format!("{carrier} {} balanced over {link}", protocol.name().to_uppercase())
            }
            Load::Sockperf(Waiting::Spin) => {
                format!("{carrier} sockperf --tcp --nonblocked over {link}")
            }
            Load::Sockperf(Waiting::Block) => format!("{carrier} sockperf --tcp over {link}"),
        };
        name + &size
    }
}

fn measure(bench: &Bench, onwire: Option<&Onwire>, mode: Mode, effort: Effort) -> Result<Measured> {
    match (mode.load, mode.link) {
        (Load::Frames, Some(link)) => frames(bench, &bench.wire(link), mode.size, effort),
        (Load::Frames, None) => anyhow::bail!("frames need a link"),
        (Load::Sockets(protocol, waiting), link) => {
            let wire = link.map(|link| bench.wire(link));
            let stack = onwire.filter(|_| mode.carrier == Carrier::Onwire).zip(wire.as_ref());
            sockets(bench, stack, (protocol, waiting, mode.size), effort)
        }
        (Load::Balanced(protocol), link) => {
            let wire = link.map(|link| bench.wire(link).with_profile("balanced"));
            sockets(bench, onwire.zip(wire.as_ref()), (protocol, Waiting::Block, mode.size), effort)
        }
        (Load::Sockperf(waiting), link) => {
            let wire = link.map(|link| bench.wire(link));
            let stack = onwire.filter(|_| mode.carrier == Carrier::Onwire).zip(wire.as_ref());
            sockperf::measure(bench, stack, (waiting, mode.size), effort)
        }
    }
}

/// The command and the wire of a program that runs on onwire; `None` for the kernel.
pub type Stack<'a> = Option<(&'a Onwire, &'a Wire)>;

/// The address at which one side is reached, by the stack that carries it.
pub fn address(stack: Stack<'_>, side: Side) -> IpAddr {
    match stack {
        Some(_) => Onwire::address(side).into(),
        None => Namespaces::address(side).into(),
    }
}

/// The port of echo servers.
const PORT: u16 = 7007;

fn sockets(
    bench: &Bench,
    stack: Stack<'_>,
    (protocol, waiting, size): (Protocol, Waiting, u32),
    effort: Effort,
) -> Result<Measured> {
    let at = SocketAddr::new(address(stack, Side::Server), PORT).to_string();
    let size = size.to_string();
    let (protocol, waiting) = (protocol.name(), waiting.name());
    let [warmup, time] = [effort.warmup, effort.time].map(|t| t.as_millis().to_string());
    let (server, mut client) = bench.start_pair(
        stack,
        &["echo", protocol, waiting, &at, &size],
        &["ping", protocol, waiting, &at, &size, &warmup, &time],
    )?;
    let outcome: Outcome = client.message(PATIENCE + effort.warmup + effort.time)?;
    let mut on = None;
    if let Some((onwire, wire)) = stack {
        on = onwire.describe(bench, server.pid()).ok();
        // Both ends stand still now: their counters must account for every message both ways.
        let ends = [(&server, "server"), (&client, "client")];
        for (program, name) in ends.into_iter().take(if wire.has_kernel_client() { 1 } else { 2 }) {
            onwire
                .require_frames(bench, program.pid(), outcome.sent - outcome.lost)
                .with_context(|| format!("the {name} was not on the stack"))?;
        }
    }
    let measured = finish(client, server, &outcome)?;
    Ok(Measured { on, ..measured })
}

fn frames(bench: &Bench, wire: &Wire, size: u32, effort: Effort) -> Result<Measured> {
    let echo = bench.role(&["raw-echo", &wire.device(Side::Server)]);
    let mut server = bench.start("the frame echo", Side::Server, &echo)?;
    let _: Ready = server.message(PATIENCE)?;
    let size = size.to_string();
    let [warmup, time] = [effort.warmup, effort.time].map(|t| t.as_millis().to_string());
    let ping = bench.role(&["raw-ping", &wire.device(Side::Client), &size, &warmup, &time]);
    let mut client = bench.start("the frame client", Side::Client, &ping)?;
    let outcome: Outcome = client.message(PATIENCE + effort.warmup + effort.time)?;
    finish(client, server, &outcome)
}

/// Lets both ends go, and believes the client only if the server echoed as much.
pub fn finish(mut client: Program, mut server: Program, outcome: &Outcome) -> Result<Measured> {
    client.go_on()?;
    let Echoed { echoed } = server.message(PATIENCE)?;
    let answered = outcome.sent - outcome.lost;
    ensure!(
        (answered..=outcome.sent).contains(&echoed),
        "the client sent {} messages and got {answered} replies, the server echoed {echoed}",
        outcome.sent
    );
    server.finish(PATIENCE)?;
    client.go_on()?;
    client.finish(PATIENCE)?;
    let mut times = Histogram::new()?;
    times.add(&outcome.times);
    Ok(Measured { times, lost: outcome.lost, on: outcome.on.clone() })
}
