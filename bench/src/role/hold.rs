//! The two ends of many connections, all of them idle but one.

use super::ping::{Plan, measure, stream_exchange};
use super::{Ready, Waiting, echo, meet, say, shares, wait_for_harness};
use anyhow::{Context, Result};
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
    let mut listeners = Vec::new();
    for index in 0..PORTS {
        let at = port_of(address, index);
        listeners.push(TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?);
    }
    say(&Ready { ready: address.to_string() })?;
    let held = shares::hold(connections, |index| {
        Ok(listeners[index % PORTS].accept().context("cannot accept")?.0)
    })?;
    let (active, _) = listeners[connections % PORTS].accept().context("cannot accept")?;
    active.set_nodelay(true)?;
    active.set_nonblocking(waiting == Waiting::Spin)?;
    say(&Held { held: connections })?;
    let echoed = echo::serve_stream(&active, size)?;
    say(&super::Echoed { echoed })?;
    wait_for_harness()?;
    held.end()
}

/// Opens `connections`, then measures on one more.
pub fn ping(waiting: Waiting, address: SocketAddr, connections: usize, plan: &Plan) -> Result<()> {
    meet()?;
    let held = shares::hold(connections, |index| connect(port_of(address, index)))?;
    let active = connect(port_of(address, connections))?;
    active.set_nodelay(true)?;
    active.set_nonblocking(waiting == Waiting::Spin)?;
    say(&Held { held: connections })?;
    wait_for_harness()?;
    let outcome = measure(plan, |sent, back| stream_exchange(&active, sent, back))?;
    say(&outcome)?;
    wait_for_harness()?;
    drop(active);
    held.end()?;
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
