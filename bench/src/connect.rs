//! `onwire bench connect`: short connections per second, one at a time: connect, an octet there, an
//! octet back, the end from the server.

use crate::bench::{Bench, Common, PATIENCE};
use crate::figures::Figures;
use crate::histogram::Histogram;
use crate::latency::{Stack, address, parse_seconds};
use crate::machine::Machine;
use crate::namespaces::Side;
use crate::page::Page;
use crate::plot::{Axis, Series, lines};
use crate::role::{Outcome, Served};
use crate::ways::{Way, Ways, in_turns, with_stack};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 7010;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ways: Ways,
    /// Seconds to measure each way in each round
    #[arg(long, default_value_t = 1.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Milliseconds of warm-up before each of these
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=60_000))]
    warmup: u64,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let onwire = args.ways.onwire(&args.common)?;
    let mut machine = Machine::look();
    let mut bench = Bench::set_up(&args.common)?;
    bench.end_time_wait_soon();
    let ways = &args.ways.only;
    let mut figures =
        Figures::new("short connections, one at a time, a core for each end", "per second", ways);
    let mut times = Vec::new();
    for _ in ways {
        times.push(Histogram::new()?);
    }
    in_turns(
        &bench,
        args.common.rounds,
        ways,
        |way| way.name().to_owned(),
        |&way| {
            with_stack(&bench, onwire.as_ref(), (way, args.ways.link), |stack| {
                measure(&bench, stack, way, args)
            })
        },
        |&way, measured| {
            let index =
                ways.iter().position(|one| *one == way).context("a way that is not there")?;
            figures.add(way, measured.count() as f64 / args.seconds);
            times[index].merge(&measured);
            Ok(())
        },
    )?;
    machine.cores_apart = Some(bench.apart().borrow().clone());
    figures.compare(true);
    let series: Vec<Series> = ways
        .iter()
        .zip(&times)
        .map(|(way, times)| Series { name: way.name().to_owned(), points: times.cdf_us() })
        .collect();
    let x = Axis { label: "from connect to the end, µs", logarithmic: true };
    let y = Axis { label: "%", logarithmic: false };
    let plots = vec![lines("Duration of a short connection (CDF)", x, y, &series)?];
    let summaries: Vec<_> = times.iter().map(Histogram::summary).collect();
    let mut text = figures.table();
    text += "\nduration of one, µs       median      p99    p99.9\n";
    for (way, s) in ways.iter().zip(&summaries) {
        let us = |nanos: u64| nanos as f64 / 1e3;
        text += &format!(
            "{:22} {:9.1} {:8.1} {:8.1}\n",
            way.name(),
            us(s.median_ns),
            us(s.p99_ns),
            us(s.p999_ns)
        );
    }
    let json = json!({
        "machine": machine, "on": bench.on(), "rates": figures, "durations": summaries,
    });
    let page = Page { title: "onwire bench connect".to_owned(), text, plots, on: bench.on(), json };
    page.publish(&args.common, &machine)?;
    Ok(ExitCode::SUCCESS)
}

fn measure(bench: &Bench, stack: Stack<'_>, way: Way, args: &Args) -> Result<Histogram> {
    let at = SocketAddr::new(address(stack, Side::Server), PORT).to_string();
    let waiting = way.waiting().name();
    let milliseconds = ((args.seconds * 1000.0) as u64).to_string();
    let warmup = args.warmup.to_string();
    let (mut server, mut client) = bench.start_pair(
        stack,
        &["short-serve", waiting, &at],
        &["short", waiting, &at, &warmup, &milliseconds],
    )?;
    let patience = PATIENCE + Duration::from_secs_f64(args.seconds);
    let outcome: Outcome = client.message(patience)?;
    let Served { served } = server.message(patience)?;
    // The last one, which ends the server, is not among the client's.
    ensure!(served == outcome.sent + 1, "{} were asked, {served} were served", outcome.sent);
    if let Some((onwire, _)) = stack {
        onwire.require(bench, server.pid(), &[("tcp.passive_opens", served)]).context("server")?;
        onwire.require(bench, client.pid(), &[("tcp.active_opens", served)]).context("client")?;
    }
    // The server first: the link goes down with its first end.
    for mut program in [server, client] {
        program.go_on()?;
        program.finish(PATIENCE)?;
    }
    let mut times = Histogram::new()?;
    times.add(&outcome.times);
    Ok(times)
}
