//! The client of a latency measurement in an open loop: messages leave by the clock, whether or not
//! the last reply has come, and each is timed from when it should have left. A stall is thus seen by
//! every message that it delays, which a closed loop would not even have sent (coordinated omission).

use super::echo::{STOP_LEN, again};
use super::ping::{Outcome, SEQUENCE_LEN};
use super::{Protocol, meet, say, wait_for_harness};
use crate::histogram::Histogram;
use anyhow::{Context, Result, bail, ensure};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long replies may take after the last message has left.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// What is sent, how often and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// Octets per message.
    pub size: usize,
    /// Messages per second.
    pub rate: u32,
    /// Messages that should leave during this time are not counted.
    pub warmup_ms: u64,
    /// Then they are counted for this long.
    pub milliseconds: u64,
}

/// A socket that never blocks: how much of what was handed over it took or filled.
trait Pipe {
    fn send(&mut self, data: &[u8]) -> std::io::Result<usize>;
    fn receive(&mut self, data: &mut [u8]) -> std::io::Result<usize>;
    /// Whether messages stay apart and may be lost.
    const DATAGRAMS: bool;
}

impl Pipe for TcpStream {
    fn send(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.write(data)
    }
    fn receive(&mut self, data: &mut [u8]) -> std::io::Result<usize> {
        match self.read(data) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            other => other,
        }
    }
    const DATAGRAMS: bool = false;
}

impl Pipe for UdpSocket {
    fn send(&mut self, data: &[u8]) -> std::io::Result<usize> {
        UdpSocket::send(self, data)
    }
    fn receive(&mut self, data: &mut [u8]) -> std::io::Result<usize> {
        self.recv(data)
    }
    const DATAGRAMS: bool = true;
}

/// Measures against an echo at `address`.
pub fn run(protocol: Protocol, address: SocketAddr, plan: &Plan) -> Result<()> {
    ensure!(plan.size >= SEQUENCE_LEN, "messages have at least {SEQUENCE_LEN} octets");
    meet()?;
    match protocol {
        Protocol::Tcp => {
            let mut stream = TcpStream::connect(address)
                .with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            say(&measure(plan, &mut stream)?)?;
            wait_for_harness()?;
        }
        Protocol::Udp => {
            let mut socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
            socket.connect(address).with_context(|| format!("cannot connect to {address}"))?;
            socket.set_nonblocking(true)?;
            say(&measure(plan, &mut socket)?)?;
            wait_for_harness()?;
            for _ in 0..3 {
                let _ = UdpSocket::send(&socket, &[0; STOP_LEN]);
            }
        }
    }
    wait_for_harness()
}

/// When each message should leave.
struct Schedule {
    start: Instant,
    interval_ns: f64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos((number as f64 * self.interval_ns) as u64)
    }
}

fn measure<P: Pipe>(plan: &Plan, pipe: &mut P) -> Result<Outcome> {
    let start = Instant::now() + Duration::from_millis(1);
    let schedule = Schedule { start, interval_ns: 1e9 / f64::from(plan.rate) };
    let count_from = start + Duration::from_millis(plan.warmup_ms);
    let total = u64::from(plan.rate) * (plan.warmup_ms + plan.milliseconds) / 1000;
    let mut times = Histogram::new()?;
    let mut message = vec![0; plan.size];
    let mut reply = vec![0; plan.size];
    // How much of the message that leaves has left, and of the reply that comes has come.
    let (mut leaving, mut filled) = (0, 0);
    let (mut sent, mut answered) = (0u64, 0u64);
    let mut last = Instant::now();
    while answered < total {
        let now = Instant::now();
        if sent < total && (leaving > 0 || now >= schedule.due(sent)) {
            message[..SEQUENCE_LEN].copy_from_slice(&sent.to_le_bytes());
            match pipe.send(&message[leaving..]) {
                Ok(n) => leaving += n,
                Err(e) if again(e.kind()) => {}
                Err(e) => return Err(e).context("cannot send"),
            }
            if leaving == message.len() {
                (leaving, sent, last) = (0, sent + 1, now);
            }
        }
        match pipe.receive(&mut reply[filled..]) {
            Ok(n) => filled += n,
            Err(e) if again(e.kind()) => {}
            Err(e) => return Err(e).context("cannot receive"),
        }
        if filled == reply.len() {
            filled = 0;
            let number = number_of(&reply)?;
            ensure!(number < sent, "a reply to message {number} of {sent}");
            ensure!(P::DATAGRAMS || number == answered, "message {answered} came as {number}");
            answered += 1;
            let due = schedule.due(number);
            if due >= count_from {
                times.record(Instant::now().saturating_duration_since(due).as_nanos() as u64);
            }
        } else if P::DATAGRAMS && sent == total && now > last + LOST_AFTER {
            break;
        } else if now > last + Duration::from_secs(20) {
            bail!("{answered} of {sent} replies came, and no more for 20 s");
        }
    }
    ensure!(times.count() > 0, "not a single reply came ({sent} sent)");
    Ok(Outcome { times: times.counts(), sent, lost: sent - answered, on: None })
}

fn number_of(message: &[u8]) -> Result<u64> {
    let bytes = message.get(..SEQUENCE_LEN).context("a short reply")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}
