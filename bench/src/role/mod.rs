//! The programs that are measured: this binary, re-executed, as one end of a measurement.
//!
//! A role talks to the harness in lines of JSON on its standard output: first [`Ready`] (an end
//! that waits for the other) or [`Outcome`] (an end that asks). It never prints while it measures.

mod echo;
mod flow;
mod launch;
mod ping;
mod raw;
mod stream;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;

pub use flow::Arrived;
pub use ping::Outcome;
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
    /// Receives one TCP stream and checks it.
    Sink(SinkArgs),
    /// Sends one TCP stream.
    Source(SourceArgs),
    /// Receives one TCP stream over a bad path.
    FlowIn(FlowArgs),
    /// Sends one TCP stream over a bad path.
    FlowOut(FlowArgs),
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
struct SinkArgs {
    address: SocketAddr,
}

#[derive(Debug, clap::Args)]
struct SourceArgs {
    address: SocketAddr,
    /// How long to send.
    milliseconds: u64,
    /// Octets per write.
    block: usize,
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
        Role::Sink(a) => stream::sink(a.address)?,
        Role::Source(a) => stream::source(a.address, a.milliseconds, a.block)?,
        Role::FlowIn(a) => flow::receive(a.address, a.milliseconds, &a.congestion)?,
        Role::FlowOut(a) => flow::send(a.address, a.milliseconds, &a.congestion)?,
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
