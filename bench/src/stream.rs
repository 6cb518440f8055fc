//! `onwire bench stream`: the throughput of one TCP stream, kernel and onwire in turns.

use crate::bench::{Bench, Common, Link, PATIENCE};
use crate::latency::{Stack, address};
use crate::machine::Machine;
use crate::namespaces::Side;
use crate::onwire::Onwire;
use crate::role::{Received, Sent};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 7009;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The link
    #[arg(long, value_enum, default_value = "vhost")]
    link: Link,
    /// Octets per write
    #[arg(
        long,
        default_value_t = 131_072,
        value_parser = clap::value_parser!(u32).range(1..=1_048_576)
    )]
    block: u32,
    /// Seconds to send in each round
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Leave the kernel out
    #[arg(long)]
    onwire_only: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    block: u32,
    results: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// The median of the rounds.
    gigabits_per_second: f64,
    rounds: Vec<f64>,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let onwire = Onwire::find(args.common.onwire.as_deref())?;
    let machine = Machine::look();
    let bench = Bench::set_up(&args.common)?;
    let line = |name: String| Line { name, gigabits_per_second: 0.0, rounds: Vec::new() };
    let mut kernel = line("kernel over veth".to_owned());
    let mut ours = line(format!("onwire over {}", args.link.name()));
    for round in 1..=args.common.rounds {
        if !args.onwire_only {
            eprintln!("round {round} of {}: {}", args.common.rounds, kernel.name);
            kernel.rounds.push(stream(&bench, None, args).context("kernel")?);
        }
        eprintln!("round {round} of {}: {}", args.common.rounds, ours.name);
        let wire = bench.wire(args.link);
        ours.rounds.push(stream(&bench, Some((&onwire, &wire)), args).context("onwire")?);
    }
    let mut results = vec![kernel, ours];
    results.retain(|line| !line.rounds.is_empty());
    for line in &mut results {
        let mut sorted = line.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        line.gigabits_per_second = sorted[sorted.len() / 2];
    }
    let report = Report { machine, block: args.block, results };
    if args.common.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}\none stream, writes of {} octets\n", report.machine.lines(), report.block);
    for line in &report.results {
        let low = line.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let high = line.rounds.iter().copied().fold(0.0, f64::max);
        println!(
            "{:32} {:7.2} Gbit/s   (rounds {low:.2}–{high:.2})",
            line.name, line.gigabits_per_second
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn stream(bench: &Bench, stack: Stack<'_>, args: &Args) -> Result<f64> {
    let at = SocketAddr::new(address(stack, Side::Server), PORT).to_string();
    let milliseconds = (args.seconds * 1000).to_string();
    let (mut server, mut client) = bench.start_pair(
        stack,
        &["sink", &at],
        &["source", &at, &milliseconds, &args.block.to_string()],
    )?;
    let patience = PATIENCE + Duration::from_secs(args.seconds);
    let Sent { sent } = client.message(patience)?;
    let Received { octets, nanoseconds } = server.message(patience)?;
    ensure!(sent == octets, "{sent} octets were sent, {octets} arrived");
    if let Some((onwire, _)) = stack {
        // Even with the largest segments and windows there is a frame each way for a megabyte.
        onwire.require_frames(bench, server.pid(), octets >> 20)?;
    }
    for mut program in [client, server] {
        program.go_on()?;
        program.finish(PATIENCE)?;
    }
    Ok(octets as f64 * 8.0 / nanoseconds as f64)
}
