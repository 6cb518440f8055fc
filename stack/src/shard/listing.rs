//! What can be seen of a shard: addresses, routes, neighbors, sockets, counters, table sizes; and what
//! an operator may change of it, the MTU and our Ethernet address.

use super::{Counters, Shard, SocketId, tcp_context};
use crate::addr::{Cidr, MacAddr};
use crate::device::Device;
use crate::ip::{RouteInfo, Routes};
use crate::neighbor::NeighborInfo;
use crate::tcp::{self, State};
use crate::time::Instant;
use crate::udp;
use core::net::{IpAddr, SocketAddr};

/// One socket, for `onwire ss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSummary {
    /// The socket; `None` for embryonic connections and TIME-WAIT.
    pub id: Option<SocketId>,
    /// What `set_owner` was told.
    pub owner: u64,
    /// TCP's state; `None` for UDP.
    pub state: Option<State>,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's, if there is one.
    pub remote: Option<SocketAddr>,
    /// Octets received and not read.
    pub receive_queue: u32,
    /// Octets not yet acknowledged.
    pub send_queue: u32,
    /// The program has closed it, TCP is not done.
    pub orphaned: bool,
    /// Datagrams dropped because its receive buffer was full.
    pub drops: u64,
    /// What TCP waits for.
    pub timer: Option<tcp::TimerSummary>,
}

/// How full the tables are. All but neighbors return to zero when everything is closed and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// TCP's tables.
    pub tcp: tcp::Occupancy,
    /// UDP's tables.
    pub udp: udp::Occupancy,
    /// Neighbors known.
    pub neighbors: usize,
    /// Packets waiting for neighbors.
    pub unresolved_packets: usize,
    /// Fragments waiting for others.
    pub fragments: usize,
    /// Frames that the device has not taken.
    pub backlog: usize,
    /// Packets on their way to ourselves.
    pub loopback: usize,
}

impl Occupancy {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        let Occupancy { tcp, udp, neighbors, unresolved_packets, fragments, backlog, loopback } =
            other;
        self.tcp.add(tcp);
        self.udp.add(udp);
        self.neighbors += neighbors;
        self.unresolved_packets += unresolved_packets;
        self.fragments += fragments;
        self.backlog += backlog;
        self.loopback += loopback;
    }
}

impl<D: Device> Shard<D> {
    /// The sockets of the TCP connections between these ends, looked for as for a burst of frames.
    pub fn connections_between<'a>(
        &'a self,
        flows: &'a [tcp::Flow],
    ) -> impl Iterator<Item = Option<SocketId>> + 'a {
        if flows.len() > 1 && self.tcp.is_cold() {
            self.tcp.prefetch_keys(flows.iter().copied());
        }
        flows.iter().map(|flow| self.tcp.connection_between(*flow).map(SocketId::Tcp))
    }

    /// Our addresses on the link.
    #[must_use]
    pub fn addresses(&self) -> &[Cidr] {
        self.ip.addresses()
    }

    /// The largest IP packet we send on the link, in octets.
    #[must_use]
    pub const fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The device takes packets of `mtu` octets from now on; a buffer must have room for them. Routes
    /// and connections follow.
    pub fn set_mtu(&mut self, now: Instant, mtu: u16) {
        self.mtu = mtu;
        self.piece = self.piece.max(mtu);
        self.ip.set_mtu(mtu);
        self.last_route = None;
        self.tcp.set_mtu(tcp_context!(self, now), mtu);
    }

    /// Our Ethernet address.
    #[must_use]
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The device is at `mac` from now on. No frame is made before it is sent, so nothing keeps the
    /// old address but what the device has not taken yet; our neighbors are told at once, and again.
    pub fn set_mac(&mut self, now: Instant, mac: MacAddr) {
        self.mac = mac;
        self.neighbors.announce_anew(now);
        if self.neighbors.poll_announcement(now) && self.share.is_first() {
            self.announce(now);
        }
        self.send_frames();
    }

    /// Whether `address` is assigned to us.
    #[inline]
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.ip.is_local(address)
    }

    /// The way to `destination`, if the stack has one.
    #[must_use]
    pub fn route_to(&self, destination: IpAddr) -> Option<RouteInfo> {
        self.ip.route(destination).ok()
    }

    /// The routes, longest prefix first.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        self.ip.routes()
    }

    /// Every counter.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Every neighbor.
    pub fn neighbors(&self, now: Instant) -> impl Iterator<Item = NeighborInfo> {
        self.neighbors.iter(now)
    }

    /// Calls `each` with every socket.
    pub fn sockets(&self, mut each: impl FnMut(SocketSummary)) {
        self.tcp.sockets(|socket| {
            let connected = socket.remote.port() != 0;
            each(SocketSummary {
                id: socket.id.map(SocketId::Tcp),
                owner: socket.owner,
                state: Some(socket.state),
                local: socket.local,
                remote: connected.then_some(socket.remote),
                receive_queue: socket.receive_queue,
                send_queue: socket.send_queue,
                orphaned: socket.orphaned,
                drops: 0,
                timer: socket.timer,
            });
        });
        self.udp.sockets(|socket| {
            each(SocketSummary {
                id: Some(SocketId::Udp(socket.id)),
                owner: socket.owner,
                state: None,
                local: socket.local,
                remote: socket.remote,
                receive_queue: socket.receive_queue,
                send_queue: 0,
                orphaned: false,
                drops: socket.drops,
                timer: None,
            });
        });
    }

    /// How full the tables are.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let (neighbors, unresolved_packets) = self.neighbors.occupancy();
        Occupancy {
            tcp: self.tcp.occupancy(),
            udp: self.udp.occupancy(),
            neighbors,
            unresolved_packets,
            fragments: self.reassembly.occupancy(),
            backlog: self.backlog.len(),
            loopback: self.loopback.len(),
        }
    }
}
