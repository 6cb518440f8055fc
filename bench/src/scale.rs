//! `onwire bench scale`: what idle connections cost: memory each, and the round trip of an active
//! one beside them.

use crate::bench::{Bench, Common, PATIENCE};
use crate::figures::{Figures, median};
use crate::histogram::Histogram;
use crate::latency::{Stack, address, parse_seconds};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::namespaces::Side;
use crate::page::Page;
use crate::plot::{Axis, Series, lines};
use crate::role::{Echoed, Held, Outcome};
use crate::ways::{Way, Ways, in_turns, with_stack};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// The first of the server's ports.
const PORT: u16 = 7100;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ways: Ways,
    /// Idle connections, several numbers with commas between them; 0 is always measured
    #[arg(long, value_delimiter = ',', default_value = "1000,10000",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    connections: Vec<u32>,
    /// Seconds to measure the active connection in each round
    #[arg(long, default_value_t = 1.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Octets per message of the active connection
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=1400))]
    size: u32,
}

/// What one measurement found.
struct Found {
    times: Histogram,
    memory: Memory,
}

/// What a number of connections costs in one way, over all rounds.
#[derive(Debug, Default, Serialize)]
struct Cost {
    /// Medians of the active connection's round trip, a round each, in µs.
    round_trips_us: Vec<f64>,
    /// Octets of the region (or of kernel slabs) for each connection, a round each.
    octets_each: Vec<f64>,
    /// Octets of the kernel's slabs for each connection, beneath onwire too.
    slab_octets_each: Vec<f64>,
}

type Costs = BTreeMap<(usize, u32), Cost>;

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let onwire = args.ways.onwire(&args.common)?;
    let mut machine = Machine::look();
    let mut bench = Bench::set_up(&args.common)?;
    // A socket for each and one for each being opened; tables are reserved, not touched.
    let most = args.connections.iter().max().copied().unwrap_or(0);
    bench.set("ONWIRE_CAPACITY_TCP_SOCKETS", (2 * most + 4096).max(65_536));
    let mut counts = args.connections.clone();
    counts.push(0);
    counts.sort_unstable();
    counts.dedup();
    let ways = &args.ways.only;
    let modes: Vec<(usize, u32)> =
        counts.iter().flat_map(|&count| (0..ways.len()).map(move |way| (way, count))).collect();
    let mut costs = Costs::new();
    let name = |&(way, count): &(usize, u32)| format!("{}, {count} idle", ways[way].name());
    let measure = |&(way, count): &(usize, u32)| {
        let carried = (ways[way], args.ways.link);
        with_stack(&bench, onwire.as_ref(), carried, |stack| {
            measure(&bench, stack, ways[way], count, args)
        })
    };
    in_turns(&bench, args.common.rounds, &modes, name, measure, |&(way, count), found| {
        let cost = costs.entry((way, count)).or_default();
        cost.round_trips_us.push(found.times.median() as f64 / 1e3);
        if count > 0 {
            let each = |octets: i64| octets as f64 / f64::from(count);
            let own =
                if ways[way].profile().is_some() { found.memory.region } else { found.memory.slab };
            cost.octets_each.push(each(own));
            cost.slab_octets_each.push(each(found.memory.slab));
        }
        Ok(())
    })?;
    machine.cores_apart = Some(bench.apart().borrow().clone());
    let json = json!({
        "machine": machine,
        "on": bench.on(),
        "size": args.size,
        "results": costs.iter().map(|((way, count), cost)| json!({
            "way": ways[*way], "connections": count, "cost": cost,
        })).collect::<Vec<_>>(),
    });
    let page = Page {
        on: bench.on(),
        title: "onwire bench scale".to_owned(),
        text: tables(&counts, ways, &costs),
        plots: plots(ways, &costs)?,
        json,
    };
    page.publish(&args.common, &machine)?;
    Ok(ExitCode::SUCCESS)
}

fn tables(counts: &[u32], ways: &[Way], costs: &Costs) -> String {
    let mut text = String::new();
    for &count in counts {
        let title = format!("round trip of an active connection beside {count} idle ones");
        let mut figures = Figures::new(title, "µs", ways);
        for (index, &way) in ways.iter().enumerate() {
            for value in costs.get(&(index, count)).into_iter().flat_map(|c| &c.round_trips_us) {
                figures.add(way, *value);
            }
        }
        figures.compare(false);
        text += &format!("{}\n", figures.table());
    }
    let _ = writeln!(
        text,
        "{:18} {:>12} {:>14} {:>18} {:>18}",
        "", "connections", "×none", "octets each", "kernel slab each"
    );
    for (&(way, count), cost) in costs.iter().filter(|((_, count), _)| *count > 0) {
        // The ratio of the same round: the machine's pace changes between them.
        let none = costs.get(&(way, 0)).map_or(&[][..], |cost| &cost.round_trips_us);
        let ratios: Vec<f64> = cost.round_trips_us.iter().zip(none).map(|(a, b)| a / b).collect();
        let _ = writeln!(
            text,
            "{:18} {count:>12} {:>14.2} {:>18.0} {:>18.0}",
            ways[way].name(),
            median(&ratios),
            median(&cost.octets_each),
            median(&cost.slab_octets_each)
        );
    }
    text += "octets each: of onwire's region, at the server; of kernel slabs, half of what both \
             ends take, for the kernel.\nThe kernel socket beneath each of onwire's is in the slab \
             column.\n";
    text
}

fn plots(ways: &[Way], costs: &Costs) -> Result<Vec<String>> {
    let series = |value: &dyn Fn(&Cost) -> f64| -> Vec<Series> {
        let of = |index: usize, way: &Way| Series {
            name: way.name().to_owned(),
            points: costs
                .iter()
                .filter(|((way, count), _)| *way == index && *count > 0)
                .map(|((_, count), cost)| (f64::from(*count), value(cost)))
                .collect(),
        };
        ways.iter().enumerate().map(|(index, way)| of(index, way)).collect()
    };
    let x = Axis { label: "idle connections", logarithmic: true };
    let octets = Axis { label: "octets each", logarithmic: false };
    let time = Axis { label: "round trip, µs", logarithmic: true };
    Ok(vec![
        lines("Memory of an idle connection", x, octets, &series(&|c| median(&c.octets_each)))?,
        lines(
            "Round trip beside idle connections",
            x,
            time,
            &series(&|c| median(&c.round_trips_us)),
        )?,
    ])
}

fn measure(bench: &Bench, stack: Stack<'_>, way: Way, count: u32, args: &Args) -> Result<Found> {
    let at = SocketAddr::new(address(stack, Side::Server), PORT).to_string();
    let (waiting, connections, size) =
        (way.waiting().name(), count.to_string(), args.size.to_string());
    let milliseconds = ((args.seconds * 1000.0) as u64).to_string();
    let (mut server, mut client) = bench.start_pair(
        stack,
        &["hold-serve", waiting, &at, &connections, &size],
        &["hold", waiting, &at, &connections, &size, "100", &milliseconds],
    )?;
    let before = Memory::look(server.pid());
    // A millisecond each is ten times what it takes, on any of the stacks.
    let patience = PATIENCE + Duration::from_millis(u64::from(count));
    let held: Held = client.message(patience)?;
    let Held { held: accepted } = server.message(PATIENCE)?;
    ensure!(held.held == accepted, "{} were opened, {accepted} accepted", held.held);
    let memory = Memory::look(server.pid()).since(&before);
    client.go_on()?;
    let outcome: Outcome = client.message(PATIENCE + Duration::from_secs_f64(args.seconds))?;
    if let Some((onwire, _)) = stack {
        let wanted =
            [("tcp.passive_opens", u64::from(count) + 1), ("tcp.segments_in", outcome.sent)];
        onwire.require(bench, server.pid(), &wanted).context("the server")?;
    }
    client.go_on()?;
    let Echoed { echoed } = server.message(PATIENCE)?;
    ensure!(echoed >= outcome.sent, "{} were sent, {echoed} echoed", outcome.sent);
    // The link goes down with its first end, and what closes its connections needs it.
    for mut program in [server, client] {
        program.go_on()?;
        program.finish(patience)?;
    }
    let mut times = Histogram::new()?;
    times.add(&outcome.times);
    Ok(Found { times, memory })
}
