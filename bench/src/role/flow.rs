//! The two ends of a transfer over a bad path: one TCP stream of a known pattern, every octet of
//! which is compared, and how long the receiver waited at worst.

use super::{Ready, Sent, meet, say, wait_for_harness};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The stream repeats this many octets: a prime, so that no block size hides a displacement.
const PERIOD: usize = 65_521;
/// Octets per read and write.
const BLOCK: usize = 64 * 1024;
/// A connection that does not move for so long is stuck.
const STUCK: Duration = Duration::from_secs(15);

/// What the receiving end found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arrived {
    /// Octets received, all of them as sent.
    pub octets: u64,
    /// Those that came within the time that counts.
    pub in_time: u64,
    /// The longest time without any, in microseconds.
    pub longest_wait_us: u64,
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (((i % PERIOD) * 31) >> 3) as u8).collect()
}

/// Receives one stream to its end; counts what comes within `milliseconds` of the first octet.
pub fn receive(address: SocketAddr, milliseconds: u64, congestion: &str) -> Result<()> {
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // The last transfer of this namespace may not be quite over.
    listener.set_reuse_address(true)?;
    listener.bind(&address.into()).with_context(|| format!("cannot bind to {address}"))?;
    listener.set_tcp_congestion(congestion.as_bytes()).context("no such congestion control")?;
    listener.listen(8).with_context(|| format!("cannot listen on {address}"))?;
    let expected = pattern(BLOCK + PERIOD);
    say(&Ready { ready: address.to_string() })?;
    let (stream, _) = listener.accept().context("cannot accept")?;
    let mut stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(STUCK))?;
    let counts = Duration::from_millis(milliseconds);
    let mut block = vec![0; BLOCK];
    let mut arrived = Arrived { octets: 0, in_time: 0, longest_wait_us: 0 };
    let mut first = None;
    let mut last = Instant::now();
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                let now = Instant::now();
                let first = *first.get_or_insert(now);
                let at = (arrived.octets % PERIOD as u64) as usize;
                ensure!(block[..n] == expected[at..at + n], "damage after {}", arrived.octets);
                arrived.octets += n as u64;
                if now - first <= counts {
                    arrived.in_time = arrived.octets;
                }
                if arrived.octets > n as u64 {
                    let waited = (now - last).as_micros() as u64;
                    arrived.longest_wait_us = arrived.longest_wait_us.max(waited);
                }
                last = now;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(e).with_context(|| format!("stopped after {}", arrived.octets));
            }
        }
    }
    drop(stream);
    say(&arrived)?;
    wait_for_harness()
}

/// Sends for `milliseconds`, then waits until the other end has closed as well.
pub fn send(address: SocketAddr, milliseconds: u64, congestion: &str) -> Result<()> {
    let blocks = pattern(BLOCK + PERIOD);
    meet()?;
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    SockRef::from(&stream)
        .set_tcp_congestion(congestion.as_bytes())
        .context("no such congestion control")?;
    stream.set_write_timeout(Some(STUCK))?;
    stream.set_read_timeout(Some(STUCK))?;
    let until = Instant::now() + Duration::from_millis(milliseconds);
    let mut sent = 0u64;
    while Instant::now() < until {
        let at = (sent % PERIOD as u64) as usize;
        match stream.write(&blocks[at..at + BLOCK]) {
            Ok(n) => sent += n as u64,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).with_context(|| format!("stopped after {sent}")),
        }
    }
    stream.shutdown(Shutdown::Write).context("cannot end the stream")?;
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Ok(_) => bail!("the receiving end sent something"),
        Err(e) => return Err(e).context("the end was not acknowledged"),
    }
    say(&Sent { sent })?;
    wait_for_harness()
}
