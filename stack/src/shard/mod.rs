//! A shard: one queue pair, one stack. The only code that knows two protocols.
//!
//! The packet path reads top-down here: `rx` takes frames from the device through Ethernet and
//! IP into the transports, `tx` takes packets out of the transports through routes and
//! neighbors to the device, `loopback` carries what we send to ourselves, `errors` sends and
//! receives ICMP errors, `quick` is the shorter way of a plain segment, `api` is what socket calls call, `listing` is what `onwire ss` and its
//! like read.
//!
//! Whoever holds the shard's lock calls [`Shard::poll`] with the time; nothing here waits, and
//! nothing allocates after [`Shard::new`].

mod api;
mod arp;
mod backlog;
mod errors;
mod gro;
mod listing;
mod loopback;
mod quick;
mod rx;
mod segmentation;
mod stamps;
#[cfg(test)]
mod tests;
mod tx;

pub use api::Received;
pub use listing::{Occupancy, SocketSummary};

use crate::addr::MacAddr;
use crate::capture::{Capture, CapturedFrame};
use crate::config::Config;
use crate::device::{Burst, Device, Offloads};
use crate::error::Error;
use crate::icmp::Icmp;
use crate::ip::identification::Identification;
use crate::ip::pmtu::PathMtus;
use crate::ip::reassembly::Reassembly;
use crate::ip::{Ip, RouteInfo};
use crate::neighbor::Neighbors;
use crate::packet::Buffer;
use crate::readiness::Readiness;
use crate::rng::Rng;
use crate::stats::{
    CaptureCounters, IcmpCounters, InterfaceCounters, IpCounters, NeighborCounters, UdpCounters,
};
use crate::steering::Share;
use crate::tcp::{Tcp, TcpCounters, TcpId};
use crate::time::Instant;
use crate::udp::{Udp, UdpId};
use backlog::Backlog;
use core::net::IpAddr;
use std::collections::VecDeque;

/// Bursts taken from the device in one turn.
const RX_BURSTS: usize = 4;
/// Frames that the device has not taken: from here on the transports keep their packets.
const BACKLOG_SOFT: usize = 64;
/// Frames that the device has not taken: beyond this, ARP and ICMP are dropped too.
const BACKLOG_HARD: usize = 512;

/// Names a socket of any transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketId {
    /// A TCP socket.
    Tcp(TcpId),
    /// A UDP socket.
    Udp(UdpId),
}

/// Which transport a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// `SOCK_STREAM`.
    Tcp,
    /// `SOCK_DGRAM`.
    Udp,
}

/// Whether [`Shard::next_timeout`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timers {
    /// It has.
    Due,
    /// It has not.
    NotDue,
}

/// A socket became ready for something, or had a new edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The socket.
    pub socket: SocketId,
    /// What `set_owner` was told.
    pub owner: u64,
    /// Everything it is ready for now.
    pub readiness: Readiness,
    /// What is new of it.
    pub edges: Readiness,
}

/// Every counter of a shard, by layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames and octets.
    pub interface: InterfaceCounters,
    /// ARP and neighbors.
    pub neighbor: NeighborCounters,
    /// IPv4.
    pub ip: IpCounters,
    /// ICMP.
    pub icmp: IcmpCounters,
    /// UDP.
    pub udp: UdpCounters,
    /// TCP.
    pub tcp: TcpCounters,
}

impl Counters {
    /// Calls `each` with layer, name and value of every counter, in the tables' order.
    pub fn for_each(&self, mut each: impl FnMut(&'static str, &'static str, u64)) {
        self.interface.for_each(|name, value| each("interface", name, value));
        self.neighbor.for_each(|name, value| each("neighbor", name, value));
        self.ip.for_each(|name, value| each("ip", name, value));
        self.icmp.for_each(|name, value| each("icmp", name, value));
        self.udp.for_each(|name, value| each("udp", name, value));
        self.tcp.for_each(|name, value| each("tcp", name, value));
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        let Counters { interface, neighbor, ip, icmp, udp, tcp } = other;
        self.interface.add(interface);
        self.neighbor.add(neighbor);
        self.ip.add(ip);
        self.icmp.add(icmp);
        self.udp.add(udp);
        self.tcp.add(tcp);
    }

    /// Layer, name and meaning of every counter, in order.
    pub fn table() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        let layers = [
            ("interface", InterfaceCounters::TABLE),
            ("neighbor", NeighborCounters::TABLE),
            ("ip", IpCounters::TABLE),
            ("icmp", IcmpCounters::TABLE),
            ("udp", UdpCounters::TABLE),
            ("tcp", TcpCounters::TABLE),
        ];
        layers.into_iter().flat_map(|(layer, table)| {
            table.iter().map(move |(name, meaning)| (layer, *name, *meaning))
        })
    }
}

/// One stack on one device.
#[derive(Debug)]
pub struct Shard<D: Device> {
    device: D,
    offloads: Offloads,
    /// Segments of one burst that follow each other are joined.
    coalesce: bool,
    mac: MacAddr,
    mtu: u16,
    /// The flows that are ours; the first shard speaks for the host.
    share: Share,
    /// The largest IP packet that one buffer should hold on routes without a smaller MTU.
    piece: u16,
    ip: Ip,
    identification: Identification,
    /// Where the last packet went: the next often goes there too. Forgotten when routes change.
    last_route: Option<(IpAddr, RouteInfo)>,
    /// The number of the packet whose fragments are being sent.
    fragment_id: u16,
    reassembly: Reassembly<D::Buffer>,
    neighbors: Neighbors<D::Buffer>,
    icmp: Icmp,
    path_mtus: PathMtus,
    tcp: Tcp<D::Buffer>,
    udp: Udp<D::Buffer>,
    rng: Rng,
    capture: Capture,
    counters: Counters,
    /// Frames for the device's next burst.
    frames: Burst<D::Buffer>,
    /// Frames that the device had no room for, oldest first.
    backlog: Backlog<D::Buffer>,
    /// IP packets to ourselves.
    loopback: VecDeque<D::Buffer>,
    loopback_limit: usize,
}

/// What TCP gets of the shard for one call.
macro_rules! tcp_context {
    ($shard:expr, $now:expr) => {
        &mut crate::tcp::Context {
            now: $now,
            rng: &mut $shard.rng,
            allocator: &mut $shard.device,
            counters: &mut $shard.counters.tcp,
        }
    };
}

/// What UDP gets of the shard for one call.
macro_rules! udp_context {
    ($shard:expr, $now:expr) => {
        &mut crate::udp::Context {
            now: $now,
            rng: &mut $shard.rng,
            allocator: &mut $shard.device,
            counters: &mut $shard.counters.udp,
        }
    };
}

use {tcp_context, udp_context};

impl<D: Device> Shard<D> {
    /// A stack on `device`, with all the memory it will ever have. `seed` must be unpredictable.
    #[must_use]
    pub fn new(config: &Config, mut device: D, seed: [u8; 32]) -> Self {
        let mut rng = Rng::new(seed);
        let mtu = config.mtu.min(device.mtu());
        let room = device.allocate().map_or(usize::from(mtu), |buffer| buffer.tailroom());
        let piece = u16::try_from(room).unwrap_or(u16::MAX).max(mtu);
        let buffers = device.available();
        let capacity = &config.capacity;
        let loopback_limit = capacity.loopback_frames;
        let offloads = device.offloads();
        let mut tcp = config.tcp;
        tcp.unit_segments = segmentation::unit_segments(config, &offloads);
        let mut shard = Shard {
            offloads,
            coalesce: config.coalesce,
            mac: device.mac(),
            mtu,
            share: config.share,
            piece,
            ip: Ip::new(&config.addresses, &config.routes, config.loopback, mtu),
            identification: Identification::new(&mut rng),
            last_route: None,
            fragment_id: 0,
            reassembly: Reassembly::new(),
            neighbors: Neighbors::new(capacity.neighbors, capacity.unresolved_packets, &mut rng),
            icmp: Icmp::new(),
            path_mtus: PathMtus::new(),
            tcp: Tcp::new(&tcp, capacity, config.ephemeral_ports, mtu, &mut rng),
            udp: Udp::new(config, &mut rng),
            rng,
            capture: Capture::new(capacity.capture_octets),
            counters: Counters::default(),
            frames: Burst::new(),
            backlog: Backlog::new(),
            loopback: VecDeque::with_capacity(loopback_limit),
            loopback_limit,
            device,
        };
        shard.tcp.set_share(config.share);
        shard.tcp.bound_memory(buffers, room);
        shard
    }

    /// One turn: receives (a bounded number of bursts), runs the timers that are due, sends.
    /// Returns how many frames it handled; 0 means that there was nothing to do.
    #[inline]
    pub fn poll(&mut self, now: Instant) -> usize {
        let timers = if self.next_timeout().is_some_and(|due| due <= now) {
            Timers::Due
        } else {
            Timers::NotDue
        };
        self.poll_timers_known(now, timers)
    }

    /// [`Shard::poll`] for who has just asked [`Shard::next_timeout`]: who polls in a loop does
    /// little else.
    #[inline]
    pub fn poll_timers_known(&mut self, now: Instant, timers: Timers) -> usize {
        let received = self.receive_frames(now);
        if timers == Timers::Due {
            self.on_timeouts(now);
        } else if received == 0 && self.backlog.is_empty() {
            return 0; // What calls left to be sent was sent by them.
        }
        received + self.transmit(now)
    }

    /// One look at the device, for who does little else: what is there is handled at the time that
    /// `clock` tells then. Timers, and frames beyond one burst, are left for [`Shard::poll`].
    #[inline]
    pub fn look(&mut self, clock: impl FnOnce() -> Instant) -> usize {
        let mut frames = Burst::new();
        self.device.rx_burst(&mut frames);
        if frames.is_empty() {
            return 0;
        }
        let now = clock();
        let received = frames.len();
        self.handle_burst(now, &mut frames);
        received + self.transmit(now)
    }

    /// Sends what is queued, and delivers what goes to ourselves.
    pub fn flush(&mut self, now: Instant) {
        self.transmit(now);
    }

    fn on_timeouts(&mut self, now: Instant) {
        self.tcp.on_timeouts(tcp_context!(self, now));
        self.neighbors.on_timeouts(now, &mut self.counters.neighbor);
        self.reassembly.on_timeouts(now, &mut self.counters.ip);
        if self.neighbors.poll_announcement(now) && self.share.is_first() {
            self.announce(now);
        }
        self.send_solicits(now);
        self.send_released(now);
    }

    /// When [`Shard::poll`] has something to do though no frame arrives: a lower bound.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.loopback.is_empty() {
            return Some(Instant::ZERO); // The next turn has room at once.
        }
        let earlier = |a: Option<Instant>, b: Option<Instant>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let layers = earlier(self.tcp.next_timeout(), self.neighbors.next_timeout());
        earlier(earlier(layers, self.reassembly.next_timeout()), self.backlog.next_timeout())
    }

    /// The next socket that became readier, or had a new edge; call until `None`.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.poll_event_for(|_| true)
    }

    /// [`Shard::poll_event`] for who knows which owners ask for everything that a socket is ready for;
    /// the others may be told of new data alone.
    #[inline]
    pub fn poll_event_for(&mut self, asks: impl Fn(u64) -> bool) -> Option<Event> {
        if let Some(event) = self.tcp.poll_event(asks) {
            let crate::socket::Event { socket, owner, readiness, edges } = event;
            return Some(Event { socket: SocketId::Tcp(socket), owner, readiness, edges });
        }
        let crate::socket::Event { socket, owner, readiness, edges } = self.udp.poll_event()?;
        Some(Event { socket: SocketId::Udp(socket), owner, readiness, edges })
    }

    /// Whether [`Shard::poll_event`] may have something to tell.
    #[inline]
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.tcp.has_events() || self.udp.has_events()
    }

    /// After the holder of the lock died: nothing half-done can be trusted, so every connection
    /// is reset, and what was waiting to be sent is dropped.
    pub fn reset_all(&mut self, now: Instant) {
        self.end_all(now, Error::ConnectionReset);
    }

    /// The device has gone for good: connections end with `NetworkDown`, and no route is left.
    /// Listeners wait on, as Linux's do when their interface goes.
    pub fn device_gone(&mut self, now: Instant) {
        // While there are routes peers are told.
        self.end_all(now, Error::NetworkDown);
        self.ip.forget_routes();
        self.last_route = None;
    }

    fn end_all(&mut self, now: Instant, error: Error) {
        self.frames.clear();
        self.backlog.clear();
        self.loopback.clear();
        while self.neighbors.drop_waiting().is_some() {}
        self.tcp.reset_all(tcp_context!(self, now), error);
        self.transmit(now);
    }

    /// Starts capturing, keeping the first `snapshot` octets of each frame; 0 keeps all.
    pub fn capture_start(&mut self, snapshot: usize) {
        self.capture.start(snapshot);
    }

    /// Stops capturing.
    pub fn capture_stop(&mut self) {
        self.capture.stop();
    }

    /// Hands every captured frame to `each`, oldest first, and forgets them.
    pub fn capture_read(&mut self, each: impl FnMut(CapturedFrame<'_>)) {
        self.capture.read(each);
    }

    /// How many frames the capture caught and lost.
    #[must_use]
    pub const fn capture_counters(&self) -> &CaptureCounters {
        self.capture.counters()
    }

    /// The device.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// The device, to be changed.
    pub const fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }
}

/// Where the checksum lies in a TCP header.
const TCP_CHECKSUM_AT: usize = 16;
