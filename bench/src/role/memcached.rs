//! A loader for memcached: as many connections as wanted, each with one `get` under way.

use super::ping::Outcome;
use super::{meet, say, wait_for_harness};
use crate::histogram::Histogram;
use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const GET: &[u8] = b"get key\r\n";
const STORED: &[u8] = b"STORED\r\n";

/// Asks for a value of `size` octets on every connection, again as soon as it has come.
pub fn run(address: SocketAddr, connections: usize, size: usize, milliseconds: u64) -> Result<()> {
    meet()?;
    let value = vec![b'v'; size];
    store(address, &value)?;
    let mut answer = format!("VALUE key 0 {size}\r\n").into_bytes();
    answer.extend_from_slice(&value);
    answer.extend_from_slice(b"\r\nEND\r\n");

    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut lanes = Vec::new();
    for index in 0..connections {
        let lane = Lane::open(address)?;
        epoll.add(&lane.stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        lanes.push(lane);
    }
    for lane in &mut lanes {
        lane.ask()?;
    }
    let mut times = Histogram::new()?;
    let mut sent = connections as u64;
    let until = Instant::now() + Duration::from_millis(milliseconds);
    let mut events = vec![EpollEvent::empty(); 64];
    let mut block = vec![0; answer.len().max(16 * 1024)];
    while Instant::now() < until {
        let found = match epoll.wait(&mut events, EpollTimeout::from(1000u16)) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.context("epoll_wait")?,
        };
        ensure!(found > 0, "memcached says nothing for a second");
        for event in &events[..found] {
            let lane = &mut lanes[event.data() as usize];
            if lane.hear(&mut block, &answer)? {
                times.record(lane.asked.elapsed().as_nanos() as u64);
                lane.ask()?;
                sent += 1;
            }
        }
    }
    say(&Outcome { times: times.counts(), sent, lost: 0, on: None })?;
    wait_for_harness()
}

fn store(address: SocketAddr, value: &[u8]) -> Result<()> {
    let mut stream = connect_patiently(address)?;
    write!(stream, "set key 0 0 {}\r\n", value.len())?;
    stream.write_all(value)?;
    stream.write_all(b"\r\n")?;
    let mut stored = [0; STORED.len()];
    stream.read_exact(&mut stored)?;
    ensure!(stored == STORED, "memcached stores nothing");
    Ok(())
}

/// The server does not say when it listens.
fn connect_patiently(address: SocketAddr) -> Result<TcpStream> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e).with_context(|| format!("cannot connect to {address}")),
        }
    }
}

/// One connection.
struct Lane {
    stream: TcpStream,
    asked: Instant,
    /// How much of the answer has come.
    come: usize,
}

impl Lane {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = connect_patiently(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Lane { stream, asked: Instant::now(), come: 0 })
    }

    fn ask(&mut self) -> Result<()> {
        self.asked = Instant::now();
        self.come = 0;
        let n = self.stream.write(GET).context("cannot ask")?;
        ensure!(n == GET.len(), "a question was cut");
        Ok(())
    }

    /// Reads; whether the answer is whole, which must be as expected.
    fn hear(&mut self, block: &mut [u8], answer: &[u8]) -> Result<bool> {
        match self.stream.read(block) {
            Ok(0) => anyhow::bail!("memcached ended a connection"),
            Ok(n) => {
                let wanted = answer.get(self.come..self.come + n).context("a longer answer")?;
                ensure!(block[..n] == *wanted, "a wrong answer");
                self.come += n;
            }
            Err(e) if super::echo::again(e.kind()) => {}
            Err(e) => return Err(e).context("cannot hear"),
        }
        Ok(self.come == answer.len())
    }
}
