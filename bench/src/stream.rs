//! `onwire bench stream`: the throughput of one or many TCP streams in both directions, kernel and
//! onwire in turns.

use crate::bench::{Bench, Common, PATIENCE};
use crate::figures::Figures;
use crate::latency::{Stack, address};
use crate::machine::Machine;
use crate::namespaces::Side;
use crate::page::Page;
use crate::role::{Received, Sent};
use crate::ways::{Way, Ways, in_turns, with_stack};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 7009;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ways: Ways,
    /// Octets per write
    #[arg(
        long,
        default_value_t = 131_072,
        value_parser = clap::value_parser!(u32).range(1..=1_048_576)
    )]
    block: u32,
    /// Streams at once, a thread of each end for each; several numbers with commas between them
    #[arg(long, value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: Vec<u32>,
    /// Who sends
    #[arg(long, value_enum, value_delimiter = ',', default_value = "to-server,to-client")]
    direction: Vec<Direction>,
    /// Seconds to send in each round
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// No segments leave as units or are joined on either side: frames of the MTU, one by one
    #[arg(long)]
    no_segmentation: bool,
    /// Leave the kernel out
    #[arg(long)]
    onwire_only: bool,
}

/// Which way the octets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    /// The end that connected sends.
    ToServer,
    /// The end that listened sends.
    ToClient,
}

/// What one line of figures is about.
#[derive(Debug, Clone, Copy)]
struct Work {
    connections: u32,
    direction: Direction,
}

impl Work {
    fn title(self) -> String {
        let direction = match self.direction {
            Direction::ToServer => "to the server",
            Direction::ToClient => "to the client",
        };
        match self.connections {
            1 => format!("one stream {direction}"),
            n => format!("{n} streams {direction}"),
        }
    }
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let onwire = args.ways.onwire(&args.common)?;
    let mut machine = Machine::look();
    let mut bench = Bench::set_up(&args.common)?;
    if args.no_segmentation {
        bench.end_segmentation()?;
    }
    // A stream's ends block: there is one way of the kernel's.
    let wanted = |way: &&Way| match way {
        Way::KernelBlocking => !args.onwire_only,
        Way::KernelSpinning => false,
        Way::Onwire | Way::OnwireBalanced => true,
    };
    let ways: Vec<Way> = args.ways.only.iter().filter(wanted).copied().collect();
    let mut works = Vec::new();
    for &connections in &args.connections {
        works.extend(args.direction.iter().map(|&direction| Work { connections, direction }));
    }
    let mut all: Vec<Figures> =
        works.iter().map(|work| Figures::new(work.title(), "Gbit/s", &ways)).collect();
    let modes: Vec<(usize, Way)> =
        (0..works.len()).flat_map(|work| ways.iter().map(move |&way| (work, way))).collect();
    let name = |&(work, way): &(usize, Way)| format!("{}, {}", way.name(), works[work].title());
    let measure = |&(work, way): &(usize, Way)| {
        with_stack(&bench, onwire.as_ref(), (way, args.ways.link), |stack| {
            stream(&bench, stack, works[work], args)
        })
    };
    in_turns(&bench, args.common.rounds, &modes, name, measure, |&(work, way), rate| {
        all[work].add(way, rate);
        Ok(())
    })?;
    machine.cores_apart = Some(bench.apart().borrow().clone());
    all.iter_mut().for_each(|figures| figures.compare(true));
    let frames = if args.no_segmentation { ", no segmentation offload" } else { "" };
    let mut text = format!("writes of {} octets{frames}\n\n", args.block);
    text.extend(all.iter().map(|figures| figures.table() + "\n"));
    let page = Page {
        on: bench.on(),
        title: "onwire bench stream".to_owned(),
        text,
        plots: Vec::new(),
        json: json!({ "machine": machine, "on": bench.on(), "block": args.block, "results": all }),
    };
    page.publish(&args.common, &machine)?;
    Ok(ExitCode::SUCCESS)
}

fn stream(bench: &Bench, stack: Stack<'_>, work: Work, args: &Args) -> Result<f64> {
    let at = SocketAddr::new(address(stack, Side::Server), PORT).to_string();
    let (milliseconds, block) = ((args.seconds * 1000).to_string(), args.block.to_string());
    let connections = work.connections.to_string();
    let [server_flow, client_flow] = match work.direction {
        Direction::ToServer => ["receive", "send"],
        Direction::ToClient => ["send", "receive"],
    };
    let plan = [at.as_str(), &connections, &milliseconds, &block];
    let (mut server, mut client) = bench.start_pair(
        stack,
        &[&["stream-listen", server_flow], &plan[..]].concat(),
        &[&["stream-connect", client_flow], &plan[..]].concat(),
    )?;
    let patience = PATIENCE + Duration::from_secs(args.seconds);
    let (sender, receiver) = match work.direction {
        Direction::ToServer => (&mut client, &mut server),
        Direction::ToClient => (&mut server, &mut client),
    };
    let Received { octets, nanoseconds } = receiver.message(patience)?;
    let Sent { sent } = sender.message(patience)?;
    ensure!(sent == octets, "{sent} octets were sent, {octets} arrived");
    if let Some((onwire, _)) = stack {
        // Even with the largest segments and windows there is a frame each way for a megabyte.
        onwire.require_frames(bench, sender.pid(), octets >> 20).context("the sender")?;
    }
    for mut program in [server, client] {
        program.go_on()?;
        program.finish(PATIENCE)?;
    }
    Ok(octets as f64 * 8.0 / nanoseconds as f64)
}
