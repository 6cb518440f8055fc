//! The programs that are measured: this binary, re-executed, as one end of a measurement.
//!
//! A role talks to the harness in lines of JSON on its standard output: first [`Ready`] (an end
//! that waits for the other) or [`Outcome`] (an end that asks). It never prints while it measures.

mod count;
mod echo;
mod flow;
mod hold;
mod launch;
mod memcached;
mod open_loop;
mod ping;
mod raw;
mod shares;
mod short;
mod stream;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;

pub use count::SIZE as COUNTED_OCTETS;
pub use flow::Arrived;
pub use hold::Held;
pub use ping::Outcome;
pub use short::Served;
pub use stream::{Received, Sent};

/// One end of a measurement.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    role: Role,
}

/// Which end.
#[derive(Debug, Subcommand)]
enum Role {
    /// Pins itself, enters a namespace, and becomes another program.
    Launch(launch::Args),
    /// Sends back what one TCP connection or every datagram brings.
    Echo(EchoArgs),
    /// Measures round trips to an echo.
    Ping(PingArgs),
    /// Sends frames back over a DPDK port.
    RawEcho(RawArgs),
    /// Measures round trips of frames over a DPDK port.
    RawPing(RawPingArgs),
    /// Receives one TCP stream over a bad path.
    FlowIn(FlowArgs),
    /// Sends one TCP stream over a bad path.
    FlowOut(FlowArgs),
    /// Sends or receives TCP streams as the listener.
    StreamListen(stream::Plan),
    /// Sends or receives TCP streams as the one who connects.
    StreamConnect(stream::Plan),
    /// Answers short connections.
    ShortServe(ShortServeArgs),
    /// Opens short connections, one after another.
    Short(ShortArgs),
    /// Holds idle connections and echoes on one.
    HoldServe(HoldServeArgs),
    /// Opens idle connections and measures on one.
    Hold(HoldArgs),
    /// Measures round trips to an echo, at a fixed rate.
    OpenLoop(OpenLoopArgs),
    /// Asks a memcached.
    MemcachedLoad(MemcachedArgs),
    /// Makes echoes whose instructions are counted.
    CountEcho(count::Args),
}

/// Which of libc's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// `SOCK_STREAM`.
    Tcp,
    /// `SOCK_DGRAM`.
    Udp,
}

impl Protocol {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// How a role waits for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Waiting {
    /// Blocking calls.
    Block,
    /// Calls on a nonblocking socket, repeated until there is data.
    Spin,
}

impl Waiting {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Waiting::Block => "block",
            Waiting::Spin => "spin",
        }
    }
}

#[derive(Debug, clap::Args)]
struct EchoArgs {
    protocol: Protocol,
    waiting: Waiting,
    address: SocketAddr,
    /// Octets per message.
    size: usize,
}

#[derive(Debug, clap::Args)]
struct PingArgs {
    protocol: Protocol,
    waiting: Waiting,
    address: SocketAddr,
    #[command(flatten)]
    plan: ping::Plan,
}

#[derive(Debug, clap::Args)]
struct RawArgs {
    device: String,
}

#[derive(Debug, clap::Args)]
struct RawPingArgs {
    device: String,
    #[command(flatten)]
    plan: ping::Plan,
}

#[derive(Debug, clap::Args)]
struct ShortServeArgs {
    waiting: Waiting,
    address: SocketAddr,
}

#[derive(Debug, clap::Args)]
struct ShortArgs {
    waiting: Waiting,
    address: SocketAddr,
    warmup_ms: u64,
    milliseconds: u64,
}

#[derive(Debug, clap::Args)]
struct HoldServeArgs {
    waiting: Waiting,
    address: SocketAddr,
    connections: usize,
    /// Octets per message of the active one.
    size: usize,
}

#[derive(Debug, clap::Args)]
struct HoldArgs {
    waiting: Waiting,
    address: SocketAddr,
    connections: usize,
    #[command(flatten)]
    plan: ping::Plan,
}

#[derive(Debug, clap::Args)]
struct OpenLoopArgs {
    protocol: Protocol,
    address: SocketAddr,
    #[command(flatten)]
    plan: open_loop::Plan,
}

#[derive(Debug, clap::Args)]
struct MemcachedArgs {
    address: SocketAddr,
    connections: usize,
    /// Octets of the value.
    size: usize,
    milliseconds: u64,
}

#[derive(Debug, clap::Args)]
struct FlowArgs {
    address: SocketAddr,
    /// How long to send, and what counts.
    milliseconds: u64,
    /// `TCP_CONGESTION`.
    congestion: String,
}

/// What an end says when the other may start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// What it runs on, for the report.
    pub ready: String,
}

/// What an echo says at its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Echoed {
    /// Messages sent back.
    pub echoed: u64,
}

/// Runs a role.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.role {
        Role::Launch(args) => launch::run(&args)?,
        Role::Echo(a) => echo::run(a.protocol, a.waiting, a.address, a.size)?,
        Role::Ping(a) => ping::run(a.protocol, a.waiting, a.address, &a.plan)?,
        Role::RawEcho(a) => raw::echo(&a.device)?,
        Role::RawPing(a) => raw::ping(&a.device, &a.plan)?,
        Role::FlowIn(a) => flow::receive(a.address, a.milliseconds, &a.congestion)?,
        Role::FlowOut(a) => flow::send(a.address, a.milliseconds, &a.congestion)?,
        Role::StreamListen(plan) => stream::listen(&plan)?,
        Role::StreamConnect(plan) => stream::connect(&plan)?,
        Role::ShortServe(a) => short::serve(a.waiting, a.address)?,
        Role::Short(a) => short::ask(a.waiting, a.address, a.warmup_ms, a.milliseconds)?,
        Role::HoldServe(a) => hold::serve(a.waiting, a.address, a.connections, a.size)?,
        Role::Hold(a) => hold::ping(a.waiting, a.address, a.connections, &a.plan)?,
        Role::CountEcho(a) => count::run(&a)?,
        Role::OpenLoop(a) => open_loop::run(a.protocol, a.address, &a.plan)?,
        Role::MemcachedLoad(a) => {
            memcached::run(a.address, a.connections, a.size, a.milliseconds)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says one line to the harness.
pub fn say(message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line)?;
    Ok(stdout.flush()?)
}

/// Brings the stack up, says so, and waits until the other end is there too: a link in shared
/// memory comes up when both of its ends exist, and only then can anybody listen or connect.
fn meet() -> Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).context("cannot bind")?;
    drop(socket);
    say(&Ready { ready: "the stack is up".to_owned() })?;
    wait_for_harness()
}

/// Waits for the harness to say that it has looked at everything it wanted to look at.
fn wait_for_harness() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
