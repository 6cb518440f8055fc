//! The two ends of a throughput measurement: one TCP stream of a known pattern.

use super::{Ready, meet, say, wait_for_harness};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The stream repeats this many octets: a prime, so that no block size hides a displacement.
const PERIOD: usize = 65_521;
/// Octets per read.
const READ: usize = 256 * 1024;

/// What the receiving end found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Received {
    /// Octets received, all of them as sent.
    pub octets: u64,
    /// From the first octet to the end of the stream.
    pub nanoseconds: u64,
}

/// What the sending end did.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Octets sent.
    pub sent: u64,
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (((i % PERIOD) * 31) >> 3) as u8).collect()
}

/// Receives one stream to its end.
pub fn sink(address: SocketAddr) -> Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let expected = pattern(READ + PERIOD);
    say(&Ready { ready: address.to_string() })?;
    let (mut stream, _) = listener.accept().context("cannot accept")?;
    let mut block = vec![0; READ];
    let mut octets = 0u64;
    let mut first = None;
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                first.get_or_insert_with(Instant::now);
                let at = (octets % PERIOD as u64) as usize;
                // The ends of each block: enough to notice every displacement, cheap enough not
                // to be what is measured.
                let edge = n.min(64);
                let front_good = block[..edge] == expected[at..at + edge];
                let back_good = block[n - edge..n] == expected[at + n - edge..at + n];
                ensure!(front_good && back_good, "the stream is damaged after {octets} octets");
                octets += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("cannot receive"),
        }
    }
    let Some(first) = first else { bail!("not a single octet came") };
    say(&Received { octets, nanoseconds: first.elapsed().as_nanos() as u64 })?;
    wait_for_harness()
}

/// Sends for a while, then waits for the other end to have everything.
pub fn source(address: SocketAddr, milliseconds: u64, block: usize) -> Result<()> {
    let blocks = pattern(block + PERIOD);
    meet()?;
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let until = Instant::now() + Duration::from_millis(milliseconds);
    let mut sent = 0u64;
    while Instant::now() < until {
        let at = (sent % PERIOD as u64) as usize;
        match stream.write(&blocks[at..at + block]) {
            Ok(n) => sent += n as u64,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("cannot send"),
        }
    }
    stream.shutdown(Shutdown::Write).context("cannot end the stream")?;
    say(&Sent { sent })?;
    wait_for_harness()
}
