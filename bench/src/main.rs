//! `onwire bench`: what onwire costs and what it saves, measured beside the kernel and beside the
//! bare link in one run on one machine.
//!
//! This process only orchestrates: it makes namespaces and links, starts pairs of programs on one
//! core each (itself, re-executed in a [`role`]), collects their histograms and prints a report.
//! The measured programs are plain users of libc's sockets; onwire gets under them the way it gets
//! under any program, through `onwire run`.

#![deny(unsafe_code)]

mod bench;
mod children;
mod connect;
mod distance;
mod figures;
mod histogram;
mod impair;
mod instructions;
mod latency;
mod load;
mod machine;
mod memory;
mod namespaces;
mod onwire;
mod page;
mod path;
mod plot;
mod report;
mod request;
mod role;
mod scale;
mod sockperf;
mod start;
mod stream;
mod ways;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures onwire beside the kernel and beside the bare link, in one run on this machine.
#[derive(Debug, Parser)]
#[command(name = "onwire bench", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples (as root: namespaces and links are made and removed again):
  onwire bench latency                       the default: kernel, raw vhost/virtio-user, onwire
  onwire bench latency --size 64,512,1400    several sizes
  onwire bench latency --link memif --json   another link, as JSON
  onwire bench latency --check --sockperf    exit status 1 unless onwire keeps its promise
  onwire bench latency --rate 1000,10000,50000 --html load.html
                                             open loop: latency against load, timed from when each
                                             message should have left; a page with plots
  onwire bench stream --connections 8        throughput, both directions
  onwire bench stream --no-segmentation      frames of the MTU, one by one, on both sides
  onwire bench connect                       short connections per second
  onwire bench request                       redis, nginx and memcached under their own loads
  onwire bench request --work redis,nginx-close --clients 100 --seconds 5
  onwire bench scale --connections 1000,100000 --rounds 3
                                             idle connections: memory each, the round trip beside
  onwire bench path                          goodput on bad paths, beside the kernel and mixed
  onwire bench impair a:eth1 b:eth1 --delay 10ms --loss 1
                                             a bad path between two namespaces, for any programs
  onwire bench instructions                  instructions of an echo, beside smoltcp's (valgrind)
  onwire bench start                         what LD_PRELOAD costs /bin/true

Every mode is measured once in each round, in turns; each end has one core (--cores); --realtime
keeps other programs away on a busy machine. Ratios are taken within a round. Each run fails unless
onwire's own counters account for the traffic.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Round-trip time: kernel TCP and UDP, raw frames, onwire TCP and UDP, in turns.
    Latency(latency::Args),
    /// Throughput of one or many streams, in both directions.
    Stream(stream::Args),
    /// Goodput over lossy, long and reordering paths: kernel, onwire, and each with the other.
    Path(path::Args),
    /// A path that delays, loses, reorders, repeats and damages packets, between two TAPs.
    Impair(impair::Args),
    /// Short connections per second.
    Connect(connect::Args),
    /// Requests per second of unmodified redis, nginx and memcached under their own loads.
    Request(request::Args),
    /// Idle connections: memory of each, and the round trip of an active one beside them.
    Scale(scale::Args),
    /// Instructions of user space for an echo at one side, beside smoltcp's (needs valgrind).
    Instructions(instructions::Args),
    /// What it costs a short program to start with the library loaded.
    Start(start::Args),
    /// One end of a measurement (started by the other commands).
    #[command(hide = true)]
    Role(role::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Latency(args) => latency::run(&args),
        Command::Stream(args) => stream::run(&args),
        Command::Path(args) => path::run(&args),
        Command::Impair(args) => impair::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Request(args) => request::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Start(args) => start::run(&args),
        Command::Role(args) => role::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("onwire bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
