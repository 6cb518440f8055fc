//! The two ends of a throughput measurement: TCP streams of a known pattern, a thread for each.

use super::{Ready, meet, say, wait_for_harness};
use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The stream repeats this many octets: a prime, so that no block size hides a displacement.
const PERIOD: usize = 65_521;
/// Octets per read.
const READ: usize = 256 * 1024;

/// Which end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flow {
    /// This one.
    Send,
    /// The other.
    Receive,
}

/// What to carry, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// Who sends.
    pub flow: Flow,
    /// Where the listener is.
    pub address: SocketAddr,
    /// Streams at once.
    pub connections: usize,
    /// How long to send.
    pub milliseconds: u64,
    /// Octets per write.
    pub block: usize,
}

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

/// The end that listens.
pub fn listen(plan: &Plan) -> Result<()> {
    let address = plan.address;
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    say(&Ready { ready: address.to_string() })?;
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        streams.push(listener.accept().context("cannot accept")?.0);
    }
    carry(plan, streams)
}

/// The end that connects.
pub fn connect(plan: &Plan) -> Result<()> {
    meet()?;
    let address = plan.address;
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(address);
        streams.push(stream.with_context(|| format!("cannot connect to {address}"))?);
    }
    carry(plan, streams)
}

fn carry(plan: &Plan, streams: Vec<TcpStream>) -> Result<()> {
    match plan.flow {
        Flow::Send => {
            let sent = each(streams, |stream| send(stream, plan.milliseconds, plan.block))?;
            say(&Sent { sent: sent.iter().sum() })?;
        }
        Flow::Receive => {
            let got = each(streams, receive)?;
            // From the first octet on any of them to the end of the last.
            let first = got.iter().map(|one| one.first).min().context("no stream")?;
            let last = got.iter().map(|one| one.last).max().context("no stream")?;
            let octets = got.iter().map(|one| one.octets).sum();
            say(&Received { octets, nanoseconds: (last - first).as_nanos() as u64 })?;
        }
    }
    wait_for_harness()
}

/// Runs `work` on a thread for each stream; the only stream needs none.
fn each<R: Send>(
    mut streams: Vec<TcpStream>,
    work: impl Fn(TcpStream) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if streams.len() == 1 {
        return streams.pop().map(&work).into_iter().collect();
    }
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(move || work(stream))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|end| end.unwrap_or_else(|_| Err(anyhow!("a stream's thread failed")))).collect()
    })
}

/// One stream that has come to its end.
struct Got {
    octets: u64,
    first: Instant,
    last: Instant,
}

fn receive(mut stream: TcpStream) -> Result<Got> {
    let expected = pattern(READ + PERIOD);
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
    let first = first.context("not a single octet came")?;
    Ok(Got { octets, first, last: Instant::now() })
}

fn send(mut stream: TcpStream, milliseconds: u64, block: usize) -> Result<u64> {
    let blocks = pattern(block + PERIOD);
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
    // Until the other end has everything.
    let _ = stream.read(&mut [0]);
    Ok(sent)
}
