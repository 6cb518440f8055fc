//! A program at one end of a connection. It is edge-triggered: after `WouldBlock` it does nothing
//! until the stack has told it, so a wake-up that gets lost stalls it, and the simulation sees.

use crate::device::SimDevice;
use stack::error::Error;
use stack::options::Linger;
use stack::readiness::Readiness;
use stack::shard::{Shard, SocketId};
use stack::socket::{ReceiveFlags, SendFlags, Shutdown};
use stack::time::{Duration, Instant};
use std::io::{IoSlice, IoSliceMut};

/// When an end may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// At once.
    Freely,
    /// When the other has finished.
    AfterEof,
    /// Requests of so many octets, each after the answer (of so many) to the one before.
    Request(u64, u64),
    /// The answers.
    Response(u64, u64),
}

/// How an end leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// FIN when all is sent, close when the other's FIN is in.
    Orderly,
    /// close when all is sent and all that is expected is read, without waiting for EOF.
    CloseWhenDone,
    /// close after so many octets were read, whatever is unread or unsent.
    Abrupt(u64),
    /// The same, with `SO_LINGER` of zero.
    Reset(u64),
}

/// What an end is to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub total: u64,
    pub expected: u64,
    pub order: Order,
    pub leave: Leave,
    pub write: u64,
    pub read: u64,
    /// Pauses between two sends, and two receives.
    pub write_pause: Duration,
    pub read_pause: Duration,
    /// Errors and early ends are no failure: the other end may be abrupt.
    pub tolerant: bool,
    /// A reset before anything was received is no failure: when an answer to a SYN does not find
    /// its neighbor, the listener forgets the opening (as Linux does), though its peer may already
    /// be connected.
    pub forgettable: bool,
    pub no_delay: bool,
    pub more: bool,
    /// `SO_RCVBUF` and `SO_SNDBUF`, 0 for tuned ones.
    pub receive_buffer: u32,
    pub send_buffer: u32,
}

/// Where an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No socket yet.
    Waiting,
    Connecting,
    Open,
    Done,
}

/// One end.
#[derive(Debug)]
pub struct Endpoint {
    pub host: usize,
    pub flow: usize,
    pub plan: Plan,
    pub phase: Phase,
    pub socket: Option<SocketId>,
    pub sent: u64,
    pub received: u64,
    pub eof: bool,
    pub error: Option<Error>,
    /// When it is called next though nothing happens.
    pub alarm: Option<Instant>,
    shut: bool,
    can_read: bool,
    can_write: bool,
    read_at: Instant,
    write_at: Instant,
    /// Tells the streams apart: what is sent, and what is received.
    streams: [u64; 2],
}

/// The octet at `at` of a stream.
fn octet(stream: u64, at: u64) -> u8 {
    let word = (at / 8).wrapping_add(stream << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> (8 * (at % 8))) as u8 ^ at as u8
}

impl Endpoint {
    pub fn new(host: usize, flow: usize, side: u64, plan: Plan) -> Self {
        let stream = 2 * flow as u64;
        Endpoint {
            host,
            flow,
            plan,
            phase: Phase::Waiting,
            socket: None,
            sent: 0,
            received: 0,
            eof: false,
            error: None,
            alarm: None,
            shut: false,
            can_read: true,
            can_write: true,
            read_at: Instant::ZERO,
            write_at: Instant::ZERO,
            streams: [stream + side, stream + 1 - side],
        }
    }

    /// It has a connection.
    pub fn open(&mut self, socket: SocketId) {
        self.socket = Some(socket);
        self.phase = Phase::Open;
        self.can_read = true;
        self.can_write = true;
    }

    /// The stack has told it something.
    pub fn on_event(&mut self, readiness: Readiness) {
        let always = Readiness::ERROR | Readiness::HANGUP;
        self.can_read |= readiness.intersects(Readiness::READABLE | always);
        self.can_write |= readiness.intersects(Readiness::WRITABLE | always);
    }

    /// Does what it can; answers when it wants to be called though nothing happens.
    pub fn drive(&mut self, shard: &mut Shard<SimDevice>, now: Instant) -> Option<Instant> {
        let socket = self.socket?;
        if self.phase != Phase::Open {
            return None;
        }
        self.read(shard, socket, now);
        self.write(shard, socket, now);
        if self.error.is_none() && self.sent == self.plan.total && !self.shut {
            self.finish_writing(shard, socket, now);
        }
        if self.is_through() {
            self.leave(shard, socket, now);
            return None;
        }
        let read_at = self.can_read.then_some(self.read_at);
        let write_at = (self.can_write && self.sent < self.allowed()).then_some(self.write_at);
        [read_at, write_at].into_iter().flatten().filter(|at| *at > now).min()
    }

    fn allowed(&self) -> u64 {
        let most = match self.plan.order {
            Order::Freely => u64::MAX,
            Order::AfterEof if self.eof => u64::MAX,
            Order::AfterEof => 0,
            Order::Request(request, response) => (self.received / response + 1) * request,
            Order::Response(request, response) => self.received / request * response,
        };
        most.min(self.plan.total)
    }

    fn write(&mut self, shard: &mut Shard<SimDevice>, socket: SocketId, now: Instant) {
        while self.error.is_none() && self.can_write && now >= self.write_at {
            let n = self.plan.write.min(self.allowed() - self.sent);
            if n == 0 {
                return;
            }
            let data: Vec<u8> =
                (self.sent..self.sent + n).map(|at| octet(self.streams[0], at)).collect();
            let half = data.len() / 2;
            let slices = [IoSlice::new(&data[..half]), IoSlice::new(&data[half..])];
            let more = self.plan.more && self.sent + n < self.plan.total;
            let flags = SendFlags { more, ..SendFlags::default() };
            match shard.send(now, socket, &slices, flags) {
                Ok(n) => {
                    assert!(n > 0 && n <= data.len(), "send took {n} of {}", data.len());
                    self.sent += n as u64;
                    self.write_at = now + self.plan.write_pause;
                }
                Err(Error::WouldBlock) => self.can_write = false,
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn read(&mut self, shard: &mut Shard<SimDevice>, socket: SocketId, now: Instant) {
        let mut data = vec![0; self.plan.read as usize];
        while !self.eof && self.error.is_none() && self.can_read && now >= self.read_at {
            let into = &mut [IoSliceMut::new(&mut data)];
            match shard.receive(now, socket, into, ReceiveFlags::default()) {
                Ok(received) if received.len == 0 => self.eof = true,
                Ok(received) => {
                    for (n, got) in data[..received.len].iter().enumerate() {
                        let at = self.received + n as u64;
                        let sent = octet(self.streams[1], at);
                        assert_eq!(*got, sent, "octet {at} of flow {} is wrong", self.flow);
                    }
                    self.received += received.len as u64;
                    self.read_at = now + self.plan.read_pause;
                    if self.is_tired() {
                        return;
                    }
                }
                Err(Error::WouldBlock) => self.can_read = false,
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn finish_writing(&mut self, shard: &mut Shard<SimDevice>, socket: SocketId, now: Instant) {
        self.shut = true;
        if self.plan.leave == Leave::Orderly {
            match shard.shutdown(now, socket, Shutdown::Write) {
                Ok(()) => {}
                Err(_) if self.plan.tolerant => {}
                Err(error) => panic!("shutdown of flow {} failed: {error}", self.flow),
            }
        }
    }

    /// It has read as much as it wants to before it leaves abruptly.
    fn is_tired(&self) -> bool {
        match self.plan.leave {
            Leave::Abrupt(after) | Leave::Reset(after) => self.received >= after,
            Leave::Orderly | Leave::CloseWhenDone => false,
        }
    }

    fn is_through(&self) -> bool {
        self.error.is_some()
            || match self.plan.leave {
                // An abrupt end leaves the other without a partner.
                _ if self.plan.tolerant && self.eof && self.sent == self.allowed() => true,
                Leave::Orderly => self.eof && self.shut,
                Leave::CloseWhenDone => {
                    self.shut && (self.eof || self.received == self.plan.expected)
                }
                Leave::Abrupt(_) | Leave::Reset(_) => self.is_tired() || self.eof,
            }
    }

    fn leave(&mut self, shard: &mut Shard<SimDevice>, socket: SocketId, now: Instant) {
        self.check();
        if matches!(self.plan.leave, Leave::Reset(_)) {
            shard
                .update_options(now, socket, |options| options.linger = Linger::Reset)
                .expect("the socket is there");
        }
        shard.close(now, socket);
        self.phase = Phase::Done;
        self.socket = None;
    }

    /// Its peer never knew of the connection.
    pub fn is_forgotten(&self) -> bool {
        let reset = self.error == Some(Error::ConnectionReset);
        self.plan.forgettable && reset && self.received == 0
    }

    fn check(&self) {
        let Endpoint { flow, received, sent, error, plan, .. } = self;
        if self.is_forgotten() {
            return;
        }
        assert!(*received <= plan.expected, "flow {flow} got {received} of {}", plan.expected);
        if plan.tolerant {
            let expected = [
                None,
                Some(Error::ConnectionReset),
                Some(Error::BrokenPipe),
                Some(Error::ConnectionRefused),
                Some(Error::TimedOut),
            ];
            assert!(expected.contains(error), "flow {flow} ended with {error:?}");
            return;
        }
        assert_eq!(*error, None, "flow {flow}: sent {sent}, received {received} of {plan:?}");
        assert_eq!(*sent, plan.total, "flow {flow} left before all was sent");
        assert_eq!(*received, plan.expected, "flow {flow}: end of file too early");
    }
}
