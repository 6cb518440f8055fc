//! The two ends of short connections: an octet there, an octet back, and the server ends it.

use super::echo::{again, send_all};
use super::ping::Outcome;
use super::{Ready, Waiting, meet, say, wait_for_harness};
use crate::histogram::Histogram;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What asks for an answer, and what for an answer and the server's end.
const ASK: u8 = b'a';
const LAST: u8 = b'z';

/// What the server found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Served {
    /// Connections answered.
    pub served: u64,
}

/// Answers one connection after another until one is the last.
pub fn serve(waiting: Waiting, address: SocketAddr) -> Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(waiting == Waiting::Spin)?;
    say(&Ready { ready: address.to_string() })?;
    let mut served = 0;
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if again(e.kind()) => continue,
            Err(e) => return Err(e).context("cannot accept"),
        };
        stream.set_nonblocking(waiting == Waiting::Spin)?;
        let asked = receive(&stream)?.context("a connection asked nothing")?;
        send_all(&stream, &[asked])?;
        served += 1;
        if asked == LAST {
            break;
        }
    }
    say(&Served { served })?;
    wait_for_harness()
}

/// Opens one connection after another for a while.
pub fn ask(waiting: Waiting, address: SocketAddr, warmup_ms: u64, milliseconds: u64) -> Result<()> {
    meet()?;
    let mut times = Histogram::new()?;
    let from = Instant::now() + Duration::from_millis(warmup_ms);
    let until = from + Duration::from_millis(milliseconds);
    let mut sent = 0;
    loop {
        let asked = Instant::now();
        // On a busy machine the first one may last longer than was wanted.
        if asked >= until && times.count() > 0 {
            break;
        }
        exchange(waiting, address, ASK)?;
        sent += 1;
        let ended = Instant::now();
        if asked >= from {
            times.record((ended - asked).as_nanos() as u64);
        }
    }
    exchange(waiting, address, LAST)?;
    ensure!(times.count() > 0, "not a single connection ended in time");
    say(&Outcome { times: times.counts(), sent, lost: 0, on: None })?;
    wait_for_harness()
}

fn exchange(waiting: Waiting, address: SocketAddr, what: u8) -> Result<()> {
    let stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nonblocking(waiting == Waiting::Spin)?;
    send_all(&stream, &[what])?;
    ensure!(receive(&stream)? == Some(what), "the answer is wrong");
    ensure!(receive(&stream)?.is_none(), "there is more than the answer");
    Ok(())
}

/// The next octet, or `None` at the end.
fn receive(mut stream: &TcpStream) -> Result<Option<u8>> {
    let mut octet = [0];
    loop {
        match stream.read(&mut octet) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(octet[0])),
            Err(e) if again(e.kind()) => {}
            Err(e) => bail!("cannot receive: {e}"),
        }
    }
}
