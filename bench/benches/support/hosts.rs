//! Two whole stacks on the two ends of a wire that loses nothing.

use crate::buffers::{Pool, PoolBuffer};
use stack::addr::{Cidr, MacAddr};
use stack::config::{Capacity, Config};
use stack::device::{Burst, Device, Offloads};
use stack::packet::Allocator;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::{Family, ReceiveFlags, SendFlags};
use stack::time::Instant;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

type Direction = Rc<RefCell<VecDeque<PoolBuffer>>>;

/// One end of the wire.
#[derive(Debug)]
pub struct WireEnd {
    mac: MacAddr,
    incoming: Direction,
    outgoing: Direction,
}

impl Allocator for WireEnd {
    type Buffer = PoolBuffer;
    fn allocate(&mut self) -> Option<PoolBuffer> {
        Pool.allocate()
    }
    fn available(&self) -> usize {
        Pool.available()
    }
}

impl Device for WireEnd {
    fn mac(&self) -> MacAddr {
        self.mac
    }
    fn mtu(&self) -> u16 {
        1_500
    }
    fn offloads(&self) -> Offloads {
        Offloads::default()
    }
    fn rx_burst(&mut self, frames: &mut Burst<PoolBuffer>) {
        let mut incoming = self.incoming.borrow_mut();
        while !frames.is_full() {
            let Some(frame) = incoming.pop_front() else { break };
            frames.push(frame);
        }
    }
    fn tx_burst(&mut self, frames: &mut Burst<PoolBuffer>) {
        self.outgoing.borrow_mut().extend(frames.drain(..));
    }
}

/// Two stacks, a connected pair of sockets, and the time.
pub struct Hosts {
    /// The one that asks.
    pub client: Shard<WireEnd>,
    /// The one that answers.
    pub server: Shard<WireEnd>,
    /// The hand-moved clock.
    pub now: Instant,
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

impl Hosts {
    /// Two stacks that know nothing of each other yet.
    pub fn new() -> Self {
        Self::with_sockets(1_024)
    }

    /// The same with room for so many sockets.
    pub fn with_sockets(sockets: usize) -> Self {
        let (there, back) = (Direction::default(), Direction::default());
        let shard = |address: Ipv4Addr, incoming: &Direction, outgoing: &Direction| {
            let device = WireEnd {
                mac: MacAddr([2, 0, 0, 0, 0, address.octets()[3]]),
                incoming: Rc::clone(incoming),
                outgoing: Rc::clone(outgoing),
            };
            let config = Config {
                addresses: vec![Cidr::new(address.into(), 24).expect("24 is a prefix length")],
                capacity: Capacity { tcp_sockets: sockets, ..Capacity::default() },
                ..Config::default()
            };
            Shard::new(&config, device, [address.octets()[3]; 32])
        };
        Hosts {
            client: shard(CLIENT, &back, &there),
            server: shard(SERVER, &there, &back),
            now: Instant::from_millis(1_000),
        }
    }

    /// Polls both until neither has anything to do.
    pub fn settle(&mut self) {
        while self.client.poll(self.now) + self.server.poll(self.now) > 0 {}
        while self.client.poll_event().is_some() || self.server.poll_event().is_some() {}
    }

    /// A TCP connection: the client's end and the server's.
    pub fn connect_tcp(&mut self) -> (SocketId, SocketId) {
        let listener = self.listen(7);
        self.connect(listener, 7)
    }

    /// A listener at the server.
    pub fn listen(&mut self, port: u16) -> SocketId {
        let listener = self.server.socket(SocketKind::Tcp, Family::V4).expect("a socket");
        let at = SocketAddr::new(SERVER.into(), port);
        self.server.bind(self.now, listener, at).expect("a free port");
        self.server.listen(self.now, listener, 8).expect("a bound socket listens");
        listener
    }

    /// A TCP connection to `listener`, which listens on `port`: the client's end and the server's.
    pub fn connect(&mut self, listener: SocketId, port: u16) -> (SocketId, SocketId) {
        let client = self.client.socket(SocketKind::Tcp, Family::V4).expect("a socket");
        let at = SocketAddr::new(SERVER.into(), port);
        self.client.connect(self.now, client, at).expect("connect begins");
        self.settle();
        let (server, _) = self.server.accept(self.now, listener).expect("the connection");
        (client, server)
    }

    /// Two UDP sockets connected to each other.
    pub fn connect_udp(&mut self) -> (SocketId, SocketId) {
        let [there, back] = [(SERVER, 7), (CLIENT, 8)].map(|(a, p)| SocketAddr::new(a.into(), p));
        let client = self.client.socket(SocketKind::Udp, Family::V4).expect("a socket");
        let server = self.server.socket(SocketKind::Udp, Family::V4).expect("a socket");
        self.client.bind(self.now, client, back).expect("a free port");
        self.server.bind(self.now, server, there).expect("a free port");
        self.client.connect(self.now, client, there).expect("a route");
        self.server.connect(self.now, server, back).expect("a route");
        // The first datagram waits until the neighbor is known.
        send(&mut self.client, self.now, client, &[0]);
        self.settle();
        receive(&mut self.server, self.now, server, &mut [0]);
        (client, server)
    }

    /// One message there and back, as two programs would do it that spin.
    pub fn round_trip(&mut self, client: SocketId, server: SocketId, message: &mut [u8]) {
        self.now += Duration::from_micros(2);
        let now = self.now;
        send(&mut self.client, now, client, message);
        receive(&mut self.server, now, server, message);
        send(&mut self.server, now, server, message);
        receive(&mut self.client, now, client, message);
    }
}

/// Sends all of `message`.
pub fn send(shard: &mut Shard<WireEnd>, now: Instant, id: SocketId, message: &[u8]) {
    let sent = shard.send(now, id, &[IoSlice::new(message)], SendFlags::default());
    assert_eq!(sent, Ok(message.len()));
}

/// Polls until there is nothing, and receives what fills `message`.
pub fn receive(shard: &mut Shard<WireEnd>, now: Instant, id: SocketId, message: &mut [u8]) {
    while shard.poll(now) > 0 {}
    while shard.poll_event().is_some() {}
    let len = message.len();
    let into = &mut [IoSliceMut::new(message)];
    let received = shard.receive(now, id, into, ReceiveFlags::default());
    assert_eq!(received.map(|received| received.len), Ok(len));
}
