//! `onwire bench start`: what it costs a program that opens no socket to have the library loaded.

use crate::children::{check_interrupted, end_cleanly_on_signals};
use crate::histogram::{Histogram, Summary};
use crate::machine::Machine;
use crate::onwire::Onwire;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// What starting may cost more, in nanoseconds.
const LIMIT_NS: i64 = 4_000_000;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each way of starting is tried, in turns
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    starts: u32,
    /// The program
    #[arg(long, default_value = "/bin/true")]
    program: PathBuf,
    /// The onwire command [default: the one beside this program, or on the PATH]
    #[arg(long, value_name = "PATH")]
    onwire: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Exit with status 1 unless the library costs at most 4 ms
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    program: PathBuf,
    plain: Summary,
    preloaded: Summary,
    preload_costs_ns: i64,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    end_cleanly_on_signals()?;
    let library = Onwire::find(args.onwire.as_deref())?.library()?;
    let (mut plain, mut preloaded) = (Histogram::new()?, Histogram::new()?);
    let time = |preload: bool| -> Result<u64> {
        check_interrupted()?;
        let mut command = Command::new(&args.program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        if preload {
            command.env("LD_PRELOAD", &library);
        }
        let before = Instant::now();
        let status =
            command.status().with_context(|| format!("cannot start {}", args.program.display()))?;
        let nanos = before.elapsed().as_nanos() as u64;
        ensure!(status.success(), "{} failed ({status})", args.program.display());
        Ok(nanos)
    };
    // The first pair brings everything into the page cache.
    for counted in std::iter::once(false).chain((0..args.starts).map(|_| true)) {
        let (without, with) = (time(false)?, time(true)?);
        if counted {
            plain.record(without);
            preloaded.record(with);
        }
    }
    let cost = preloaded.median().cast_signed() - plain.median().cast_signed();
    let report = Report {
        machine: Machine::look(),
        program: args.program.clone(),
        plain: plain.summary(),
        preloaded: preloaded.summary(),
        preload_costs_ns: cost,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}\n", report.machine.lines());
        let line = |name: &str, s: &Summary| {
            let ms = |nanos: u64| nanos as f64 / 1e6;
            println!(
                "{name:24} median {:6.2} ms   p90 {:6.2} ms   min {:6.2} ms   ({} starts)",
                ms(s.median_ns),
                ms(s.p90_ns),
                ms(s.min_ns),
                s.count
            );
        };
        line(&args.program.display().to_string(), &report.plain);
        line("  with libonwire.so", &report.preloaded);
        println!("difference of the medians {:.2} ms", cost as f64 / 1e6);
    }
    if args.check {
        let met = cost <= LIMIT_NS;
        let word = if met { "met" } else { "NOT MET" };
        eprintln!("check: {word}: the library costs {:.2} ms (at most 4)", cost as f64 / 1e6);
        return Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(ExitCode::SUCCESS)
}
