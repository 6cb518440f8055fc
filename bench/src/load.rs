//! `onwire bench latency --rate …`: the round trip at fixed rates, in an open loop.

use crate::bench::{Bench, PATIENCE};
use crate::histogram::Histogram;
use crate::latency::{Args, Measured, Stack, address, finish};
use crate::machine::Machine;
use crate::namespaces::Side;
use crate::page::Page;
use crate::plot::{Axis, Series, lines};
use crate::report::micros;
use crate::role::{Outcome, Protocol};
use crate::ways::{Way, in_turns, with_stack};
use anyhow::{Context, Result};
use serde_json::json;
use std::cell::RefCell;
use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 7011;

/// How the server is carried; the client never blocks, so that messages leave in time.
const WAYS: [Way; 3] = [Way::KernelBlocking, Way::KernelSpinning, Way::Onwire];

/// One mode and what was found.
struct Row {
    way: Way,
    protocol: Protocol,
    size: u32,
    rate: u32,
    times: Histogram,
    medians: Vec<f64>,
    sent: u64,
    lost: u64,
}

impl Row {
    fn name(&self) -> String {
        let protocol = self.protocol.name().to_uppercase();
        format!("{} {protocol}, {} octets, {}/s", self.way.name(), self.size, self.rate)
    }
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let onwire = crate::onwire::Onwire::find(args.common.onwire.as_deref())?;
    let mut machine = Machine::look();
    let bench = Bench::set_up(&args.common)?;
    let rows = RefCell::new(Vec::new());
    for &size in &args.size {
        for &rate in &args.rate {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for way in WAYS {
                    let (times, medians) = (Histogram::new()?, Vec::new());
                    let row = Row { way, protocol, size, rate, times, medians, sent: 0, lost: 0 };
                    rows.borrow_mut().push(row);
                }
            }
        }
    }
    let link = *args.link.first().context("no link")?;
    let indices: Vec<usize> = (0..rows.borrow().len()).collect();
    in_turns(
        &bench,
        args.common.rounds,
        &indices,
        |&index| rows.borrow()[index].name(),
        |&index| {
            let row = &rows.borrow()[index];
            with_stack(&bench, Some(&onwire), (row.way, link), |stack| {
                measure(&bench, stack, row, args)
            })
        },
        |&index, measured| {
            let row = &mut rows.borrow_mut()[index];
            row.medians.push(micros(measured.times.median()));
            row.times.merge(&measured.times);
            row.lost += measured.lost;
            row.sent += measured.times.count();
            Ok(())
        },
    )?;
    let rows = rows.into_inner();
    machine.cores_apart = Some(bench.apart().borrow().clone());
    let json = json!({
        "machine": machine,
        "on": bench.on(),
        "rounds": args.common.rounds,
        "results": rows.iter().map(|row| json!({
            "way": row.way, "protocol": row.protocol.name(), "size": row.size, "rate": row.rate,
            "medians_us": row.medians, "all": row.times.summary(), "lost": row.lost,
        })).collect::<Vec<_>>(),
    });
    let page = Page {
        on: bench.on(),
        title: "onwire bench latency, open loop".to_owned(),
        text: table(&rows),
        plots: plots(&rows)?,
        json,
    };
    page.publish(&args.common, &machine)?;
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let mut text = "round trip from when a message should have left, µs\n".to_owned();
    let _ = writeln!(
        text,
        "{:42} {:>9} {:>9} {:>9} {:>9} {:>10} {:>6}",
        "", "median", "p90", "p99", "p99.9", "max", "lost"
    );
    for row in rows {
        let s = row.times.summary();
        let _ = writeln!(
            text,
            "{:42} {:9.2} {:9.2} {:9.2} {:9.2} {:10.1} {:>6}",
            row.name(),
            crate::figures::median(&row.medians),
            micros(s.p90_ns),
            micros(s.p99_ns),
            micros(s.p999_ns),
            micros(s.max_ns),
            row.lost
        );
    }
    text
}

fn plots(rows: &[Row]) -> Result<Vec<String>> {
    let mut plots = Vec::new();
    let mut done: Vec<(Protocol, u32)> = Vec::new();
    for row in rows {
        if done.contains(&(row.protocol, row.size)) {
            continue;
        }
        done.push((row.protocol, row.size));
        let of = |way: Way| {
            rows.iter()
                .filter(move |r| (r.way, r.protocol, r.size) == (way, row.protocol, row.size))
        };
        let mut series = Vec::new();
        for way in WAYS {
            for (what, quantile) in [("median", 0.5), ("p99", 0.99)] {
                let at = |r: &Row| (f64::from(r.rate), micros(r.times.at(quantile)));
                let name = format!("{}, {what}", way.name());
                series.push(Series { name, points: of(way).map(at).collect() });
            }
        }
        let title = format!("Latency against load, {}, {} octets", row.protocol.name(), row.size);
        let x = Axis { label: "messages per second", logarithmic: true };
        let y = Axis { label: "round trip, µs", logarithmic: true };
        plots.push(lines(&title, x, y, &series)?);
    }
    Ok(plots)
}

fn measure(bench: &Bench, stack: Stack<'_>, row: &Row, args: &Args) -> Result<Measured> {
    let at = SocketAddr::new(address(stack, Side::Server), PORT).to_string();
    let (protocol, waiting) = (row.protocol.name(), row.way.waiting().name());
    let (size, rate) = (row.size.to_string(), row.rate.to_string());
    let milliseconds = ((args.seconds * 1000.0) as u64).to_string();
    let warmup = args.warmup.to_string();
    let (server, mut client) = bench.start_pair(
        stack,
        &["echo", protocol, waiting, &at, &size],
        &["open-loop", protocol, &at, &size, &rate, &warmup, &milliseconds],
    )?;
    let time = Duration::from_millis(args.warmup) + Duration::from_secs_f64(args.seconds);
    let outcome: Outcome = client.message(PATIENCE + 2 * time)?;
    if let Some((onwire, _)) = stack {
        let answered = outcome.sent - outcome.lost;
        // Segments may carry several messages once the server falls behind.
        let wanted = match row.protocol {
            Protocol::Tcp => [("tcp.segments_in", 2), ("interface.rx_frames", 2)],
            Protocol::Udp => [("udp.in_datagrams", answered), ("interface.rx_frames", answered)],
        };
        for program in [&server, &client] {
            onwire.require(bench, program.pid(), &wanted)?;
        }
    }
    finish(client, server, &outcome)
}
