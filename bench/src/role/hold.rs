//! The two ends of many connections, all of them idle but one.

use super::ping::{Plan, measure, stream_exchange};
use super::{Ready, Waiting, echo, meet, say, wait_for_harness};
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Listeners on as many ports, so that a client's ports last for a million connections.
const PORTS: usize = 64;

/// What an end says when all connections are open.
#[derive(Debug, Serialize, Deserialize)]
pub struct Held {
    /// Idle connections.
    pub held: usize,
}

/// Accepts `connections` and holds them, then echoes on one more.
pub fn serve(waiting: Waiting, address: SocketAddr, connections: usize, size: usize) -> Result<()> {
    allow_descriptors(connections)?;
    let mut listeners = Vec::new();
    for index in 0..PORTS {
        let at = port_of(address, index);
        listeners.push(TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?);
    }
    say(&Ready { ready: address.to_string() })?;
    let mut held = Vec::with_capacity(connections);
    for index in 0..connections {
        held.push(listeners[index % PORTS].accept().context("cannot accept")?.0);
    }
    let (active, _) = listeners[connections % PORTS].accept().context("cannot accept")?;
    active.set_nodelay(true)?;
    active.set_nonblocking(waiting == Waiting::Spin)?;
    say(&Held { held: held.len() })?;
    let echoed = echo::serve_stream(&active, size)?;
    say(&super::Echoed { echoed })?;
    wait_for_harness()
}

/// Opens `connections`, then measures on one more.
pub fn ping(waiting: Waiting, address: SocketAddr, connections: usize, plan: &Plan) -> Result<()> {
    allow_descriptors(connections)?;
    meet()?;
    let mut held = Vec::with_capacity(connections);
    for index in 0..connections {
        held.push(connect(port_of(address, index))?);
    }
    let active = connect(port_of(address, connections))?;
    active.set_nodelay(true)?;
    active.set_nonblocking(waiting == Waiting::Spin)?;
    say(&Held { held: held.len() })?;
    wait_for_harness()?;
    let outcome = measure(plan, |sent, back| stream_exchange(&active, sent, back))?;
    say(&outcome)?;
    wait_for_harness()?;
    drop((active, held));
    // The link goes down with its first end: not before the server has ended.
    wait_for_harness()
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    // A reset at the end: thousands of TIME-WAITs would make the next round's start slower.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

fn port_of(address: SocketAddr, index: usize) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + (index % PORTS) as u16)
}

fn allow_descriptors(connections: usize) -> Result<()> {
    let wanted = connections as u64 + 512;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
            .with_context(|| format!("cannot have {wanted} descriptors"))?;
    }
    ensure!(getrlimit(Resource::RLIMIT_NOFILE)?.0 >= wanted, "too few descriptors");
    Ok(())
}
