//! Two TCP layers that hand each other their segments.

use crate::buffers::{Pool, PoolBuffer};
use stack::config::{BufferLimits, Capacity, TcpConfig};
use stack::packet::IpMeta;
use stack::rng::Rng;
use stack::socket::{Family, ReceiveFlags, SendFlags};
use stack::tcp::{Context, Tcp, TcpCounters, TcpId};
use stack::time::Instant;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A packet on its way from one layer to the other.
pub type Packet = (IpMeta, PoolBuffer);

/// One TCP layer with what it needs of the world.
pub struct Host {
    /// The layer.
    pub tcp: Tcp<PoolBuffer>,
    rng: Rng,
    counters: TcpCounters,
}

/// The server listens on this many ports from [`FIRST_PORT`] on.
const PORTS: u16 = 64;
const FIRST_PORT: u16 = 1_000;

/// The server's address.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

impl Host {
    /// A layer with room for `connections`.
    pub fn new(connections: usize, seed: u8) -> Self {
        let mut rng = Rng::new([seed; 32]);
        let config = TcpConfig {
            receive_buffer: BufferLimits { min: 4_096, default: 131_072, max: 131_072 },
            send_buffer: BufferLimits { min: 4_096, default: 131_072, max: 131_072 },
            ..TcpConfig::default()
        };
        let capacity =
            Capacity { tcp_sockets: connections + 2 * usize::from(PORTS), ..Capacity::default() };
        let tcp = Tcp::new(&config, &capacity, (1_024, 65_535), 1_500, &mut rng);
        Host { tcp, rng, counters: TcpCounters::default() }
    }

    /// Calls the layer at `now`.
    pub fn call<R>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Tcp<PoolBuffer>, &mut Context<'_, Pool>) -> R,
    ) -> R {
        let mut cx =
            Context { now, rng: &mut self.rng, allocator: &mut Pool, counters: &mut self.counters };
        call(&mut self.tcp, &mut cx)
    }

    /// Takes out what is to be sent.
    pub fn transmit(&mut self, now: Instant, into: &mut Vec<Packet>) {
        self.call(now, |tcp, cx| {
            while let Some(packet) = tcp.poll_transmit(cx) {
                let meta = IpMeta {
                    source: packet.source,
                    destination: packet.destination,
                    traffic_class: packet.traffic_class,
                    hop_limit: packet.hop_limit,
                };
                into.push((meta, packet.packet));
            }
        });
    }

    /// Hands in what was received.
    pub fn deliver(&mut self, now: Instant, packets: &mut Vec<Packet>) {
        self.call(now, |tcp, cx| {
            for (meta, packet) in packets.drain(..) {
                tcp.on_packet(cx, meta, None, packet);
            }
            while tcp.poll_event(|_| true).is_some() {}
        });
    }

    /// Sends `data`, all of it.
    pub fn send(&mut self, now: Instant, id: TcpId, data: &[u8]) {
        let sent =
            self.call(now, |tcp, cx| tcp.send(cx, id, &[IoSlice::new(data)], SendFlags::default()));
        assert_eq!(sent, Ok(data.len()));
    }

    /// Receives exactly `into.len()` octets.
    pub fn receive(&mut self, now: Instant, id: TcpId, into: &mut [u8]) {
        let len = into.len();
        let received = self.call(now, |tcp, cx| {
            tcp.receive(cx, id, &mut [IoSliceMut::new(into)], ReceiveFlags::default())
        });
        assert_eq!(received, Ok(len));
    }
}

/// Two layers and the time.
pub struct Pair {
    /// The one that connects.
    pub client: Host,
    /// The one that listens.
    pub server: Host,
    /// The hand-moved clock.
    pub now: Instant,
    listeners: Vec<TcpId>,
    packets: Vec<Packet>,
    made: u32,
}

impl Pair {
    /// Two layers with room for `connections`, the second one listening.
    pub fn new(connections: usize) -> Self {
        let mut pair = Pair {
            client: Host::new(connections, 1),
            server: Host::new(connections, 2),
            now: Instant::from_millis(1_000),
            listeners: Vec::new(),
            packets: Vec::new(),
            made: 0,
        };
        for port in FIRST_PORT..FIRST_PORT + PORTS {
            let id = pair.server.tcp.socket(Family::V4).expect("room for a listener");
            pair.server.call(pair.now, |tcp, cx| {
                tcp.bind(cx, id, SocketAddr::new(SERVER, port)).expect("a free port");
                tcp.listen(cx, id, 128).expect("a bound socket listens");
            });
            pair.listeners.push(id);
        }
        pair
    }

    /// Moves time on.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Carries packets until neither side has any.
    pub fn settle(&mut self) {
        let mut packets = std::mem::take(&mut self.packets);
        loop {
            self.client.transmit(self.now, &mut packets);
            let from_client = packets.len();
            self.server.deliver(self.now, &mut packets);
            self.server.transmit(self.now, &mut packets);
            if from_client == 0 && packets.is_empty() {
                break;
            }
            self.client.deliver(self.now, &mut packets);
        }
        self.packets = packets;
    }

    /// A new connection: the client's end and the server's.
    pub fn connect(&mut self) -> (TcpId, TcpId) {
        let which = (self.made % u32::from(PORTS)) as u16;
        // A source address for every 16384 connections keeps ports free.
        let source = Ipv4Addr::from_bits(0x0a00_0100 + self.made / 16_384);
        self.made += 1;
        let client = self.client.tcp.socket(Family::V4).expect("room for a socket");
        let remote = SocketAddr::new(SERVER, FIRST_PORT + which);
        self.client.call(self.now, |tcp, cx| {
            tcp.connect(cx, client, source.into(), remote, 1_500).expect("connect begins");
        });
        self.settle();
        let listener = self.listeners[usize::from(which)];
        let (server, _) = self
            .server
            .call(self.now, |tcp, cx| tcp.accept(cx, listener))
            .expect("the connection is there");
        (client, server)
    }

    /// Ends a connection with a reset.
    pub fn abort(&mut self, client: TcpId, server: TcpId) {
        self.client.call(self.now, |tcp, cx| tcp.abort(cx, client));
        self.settle();
        self.server.call(self.now, |tcp, cx| tcp.close(cx, server));
        self.settle();
    }
}
