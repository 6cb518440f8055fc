//! The client of a latency measurement: one message out, the same message back, in a closed loop.

use super::echo::{STOP_LEN, again, send_all};
use super::{Protocol, Waiting, meet, say, wait_for_harness};
use crate::histogram::{Counts, Histogram};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// What is sent, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// Octets per message, at least [`SEQUENCE_LEN`].
    pub size: usize,
    /// Round trips during this time are not counted.
    pub warmup_ms: u64,
    /// Then round trips are counted for this long.
    pub milliseconds: u64,
}

/// A message starts with its number.
pub const SEQUENCE_LEN: usize = 8;

/// How long a reply may take before it counts as lost (datagrams and frames only).
pub const LOST_AFTER: Duration = Duration::from_millis(200);

/// What a client found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Round-trip times.
    pub times: Counts,
    /// Messages sent, those of the warm-up included.
    pub sent: u64,
    /// Messages whose reply never came.
    pub lost: u64,
    /// What it ran on, if that is worth telling.
    pub on: Option<String>,
}

/// What became of one message.
pub enum Reply {
    /// It came back.
    Came,
    /// It did not.
    Lost,
}

/// Measures against an echo at `address`.
pub fn run(protocol: Protocol, waiting: Waiting, address: SocketAddr, plan: &Plan) -> Result<()> {
    meet()?;
    match protocol {
        Protocol::Tcp => {
            let stream = TcpStream::connect(address)
                .with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(waiting == Waiting::Spin)?;
            // Close with a reset: a TIME-WAIT would make the next round's start slower.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            let outcome = measure(plan, |sent, back| stream_exchange(&stream, sent, back))?;
            say(&outcome)?;
            wait_for_harness()?;
            drop(stream);
        }
        Protocol::Udp => {
            let any = SocketAddr::from(([0, 0, 0, 0], 0));
            let socket = UdpSocket::bind(any).context("cannot bind")?;
            socket.connect(address).with_context(|| format!("cannot connect to {address}"))?;
            socket.set_nonblocking(waiting == Waiting::Spin)?;
            if waiting == Waiting::Block {
                socket.set_read_timeout(Some(LOST_AFTER))?;
            }
            let outcome =
                measure(plan, |sent, back| datagram_exchange(&socket, waiting, sent, back))?;
            say(&outcome)?;
            wait_for_harness()?;
            for _ in 0..3 {
                let _ = socket.send(&[0; STOP_LEN]);
            }
        }
    }
    // The link goes down with its first end: not before the server has ended.
    wait_for_harness()
}

/// Runs the closed loop: `exchange` sends its first argument and fills its second with the reply.
pub fn measure(
    plan: &Plan,
    mut exchange: impl FnMut(&[u8], &mut [u8]) -> Result<Reply>,
) -> Result<Outcome> {
    ensure!(plan.size >= SEQUENCE_LEN, "messages have at least {SEQUENCE_LEN} octets");
    let mut message: Vec<u8> = (0..plan.size).map(|i| (i * 7) as u8).collect();
    let mut back = vec![0; plan.size];
    let mut times = Histogram::new()?;
    let (mut sent, mut lost) = (0u64, 0u64);
    let start = Instant::now();
    let measure_from = start + Duration::from_millis(plan.warmup_ms);
    let measure_until = measure_from + Duration::from_millis(plan.milliseconds);
    loop {
        sent += 1;
        message[..SEQUENCE_LEN].copy_from_slice(&sent.to_le_bytes());
        let asked = Instant::now();
        // On a busy machine the first one may last longer than was wanted.
        if asked >= measure_until && (times.count() > 0 || lost > 0) {
            break;
        }
        let reply = exchange(&message, &mut back)?;
        let answered = Instant::now();
        match reply {
            Reply::Came if back == message => {}
            Reply::Came => bail!("message {sent} came back changed"),
            Reply::Lost => {
                lost += 1;
                continue;
            }
        }
        if asked >= measure_from {
            times.record((answered - asked).as_nanos() as u64);
        }
    }
    ensure!(times.count() > 0, "not a single reply came ({sent} sent, {lost} lost)");
    Ok(Outcome { times: times.counts(), sent: sent - 1, lost, on: None })
}

/// One message out and back on a stream.
pub fn stream_exchange(mut stream: &TcpStream, sent: &[u8], back: &mut [u8]) -> Result<Reply> {
    send_all(stream, sent)?;
    let mut filled = 0;
    while filled < back.len() {
        match stream.read(&mut back[filled..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(n) => filled += n,
            Err(e) if again(e.kind()) => {}
            Err(e) => return Err(e).context("cannot receive"),
        }
    }
    Ok(Reply::Came)
}

fn datagram_exchange(
    socket: &UdpSocket,
    waiting: Waiting,
    sent: &[u8],
    back: &mut [u8],
) -> Result<Reply> {
    let mut tries = 0u32;
    let mut since = None;
    while let Err(e) = socket.send(sent) {
        ensure!(again(e.kind()), "cannot send: {e}");
    }
    loop {
        match socket.recv(back) {
            // A reply to a message that was given up already is not this one's.
            Ok(n) if n == sent.len() && back[..SEQUENCE_LEN] != sent[..SEQUENCE_LEN] => {}
            Ok(n) => {
                ensure!(n == sent.len(), "a reply has {n} octets instead of {}", sent.len());
                return Ok(Reply::Came);
            }
            Err(e) if again(e.kind()) && waiting == Waiting::Block => return Ok(Reply::Lost),
            Err(e) if again(e.kind()) => {
                tries += 1;
                // Reading the clock at every try would be part of what is measured.
                if tries.is_multiple_of(4096)
                    && since.get_or_insert_with(Instant::now).elapsed() > LOST_AFTER
                {
                    return Ok(Reply::Lost);
                }
            }
            Err(e) => return Err(e).context("cannot receive"),
        }
    }
}
