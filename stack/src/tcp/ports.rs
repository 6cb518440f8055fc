//! Local ports: who may bind which (Linux's rules), and the choice of ephemeral ones (RFC 6056).

use super::demux::{Target, Tuple};
use super::free_ports::FreePorts;
use super::opening::isn;
use super::option_sets::OptionSets;
use super::socket::{Binding, Kind, Socket};
use super::{Tcp, TcpId};
use crate::collections::IndexBuckets;
use crate::error::Error;
use crate::packet::Buffer;
use crate::rng::Rng;
use crate::socket::Family;
use crate::steering::Share;
use crate::time::Instant;
use core::net::{IpAddr, SocketAddr};

const PORTS: usize = 65_536;

/// The sockets of each port.
#[derive(Debug)]
pub(crate) struct Ports {
    /// Every socket with a port, whatever its state.
    pub bound: IndexBuckets,
    /// Listeners.
    pub listening: IndexBuckets,
    /// TIME-WAIT entries per port.
    pub time_waits: Vec<u32>,
    /// Those that connect looks at first.
    pub free: FreePorts,
    /// Ephemeral ports, inclusive.
    pub ephemeral: (u16, u16),
    /// Moves on with every choice, per bucket of destinations (RFC 6056 §3.3.4).
    pub counters: [u32; 16],
    /// The flows that are this shard's.
    pub share: Share,
}

impl Ports {
    pub fn new(sockets: usize, ephemeral: (u16, u16)) -> Self {
        Ports {
            bound: IndexBuckets::new(PORTS, sockets),
            listening: IndexBuckets::new(PORTS, sockets),
            time_waits: vec![0; PORTS],
            free: FreePorts::new(),
            ephemeral: (ephemeral.0.max(1), ephemeral.1.max(ephemeral.0).max(1)),
            counters: [0; 16],
            share: Share::ALL,
        }
    }

    /// A socket or an entry of TIME-WAIT has the port no longer.
    #[inline]
    pub fn give_back(&mut self, port: u16) {
        if self.time_waits.get(usize::from(port)) == Some(&0) {
            self.free.give_back(port);
        }
    }

    fn count(&self) -> u32 {
        u32::from(self.ephemeral.1 - self.ephemeral.0) + 1
    }

    /// The `i`th candidate: every other port first, so that bind and connect keep apart.
    fn candidate(&self, offset: u32, i: u32, odd: u32) -> u16 {
        let count = self.count();
        let half = count.div_ceil(2);
        let (round, step) = (i / half, i % half);
        let parity = (odd + round) % 2;
        let position = ((offset + step) % half) * 2 + parity;
        self.ephemeral.0 + (position % count) as u16
    }
}

/// Ports of each half, that seem to be free, at which connect looks before all others.
const LOOKS: u32 = 64;

/// Whether a socket bound to `a` and one bound to `b` would take each other's connections.
fn overlap(a: &Socket, b: &Socket, sets: &OptionSets) -> bool {
    let any = |s: &Socket| s.local.is_unspecified();
    let both_families = |s: &Socket| any(s) && s.local.is_ipv6() && !sets.get(s.options).v6_only;
    if a.local.is_ipv4() != b.local.is_ipv4() {
        return both_families(a) || both_families(b);
    }
    any(a) || any(b) || a.local == b.local
}

impl<B: Buffer> Tcp<B> {
    /// bind(2).
    pub(super) fn bind_socket(
        &mut self,
        rng: &mut Rng,
        id: TcpId,
        address: SocketAddr,
    ) -> Result<(), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let address = match socket.family {
            Family::V6 => super::socket::canonical(address),
            Family::V4 => address,
        };
        if socket.family == Family::V4 && address.is_ipv6() {
            return Err(Error::AddressFamilyNotSupported);
        }
        if socket.binding != Binding::None || !matches!(socket.kind, Kind::Idle) {
            return Err(Error::InvalidArgument);
        }
        socket.local = address.ip();
        if address.port() == 0 && self.option_sets.get(socket.options).bind_address_no_port {
            socket.binding = Binding::Address;
            return Ok(());
        }
        let result = self.take_port(rng, id, address.port());
        let Some(socket) = self.sockets.get_mut(id.0) else { return result };
        match result {
            Ok(()) => socket.binding = Binding::Bound,
            Err(_) => socket.local = socket.family.unspecified(),
        }
        result
    }

    /// Gives the socket, whose address is set, `port`, or any free one if that is 0.
    pub(super) fn take_port(&mut self, rng: &mut Rng, id: TcpId, port: u16) -> Result<(), Error> {
        let index = id.0.index();
        let port = if port != 0 {
            if self.is_port_in_conflict(index, port, false) {
                return Err(Error::AddressInUse);
            }
            port
        } else {
            let offset = rng.below(self.ports.count().div_ceil(2));
            let free = (0..self.ports.count() + 1)
                .map(|i| self.ports.candidate(offset, i, 1))
                .find(|port| !self.is_port_in_conflict(index, *port, true));
            free.ok_or(Error::AddressInUse)?
        };
        if let Some(socket) = self.sockets.at_mut(index) {
            socket.port = port;
        }
        self.ports.bound.remove(index);
        self.ports.bound.push_front(u32::from(port), index);
        Ok(())
    }

    /// Whether another socket on `port` forbids the socket at `index` to have it (Linux:
    /// `inet_csk_bind_conflict`). `any` asks for a port that nobody has at all.
    pub(super) fn is_port_in_conflict(&self, index: u32, port: u16, any: bool) -> bool {
        let Some(socket) = self.sockets.at(index) else { return true };
        let mine = self.option_sets.get(socket.options);
        let with_socket = self.ports.bound.iter(u32::from(port)).any(|other| {
            if other == index {
                return false;
            }
            let Some(other) = self.sockets.at(other) else { return false };
            let theirs = self.option_sets.get(other.options);
            let listening = matches!(other.kind, Kind::Listening(_));
            let reuse = mine.reuse_address && theirs.reuse_address && !listening && !any;
            let spread = mine.reuse_port && theirs.reuse_port;
            !reuse && !spread && overlap(socket, other, &self.option_sets)
        });
        with_socket || self.is_port_in_time_wait(socket, port)
    }

    fn is_port_in_time_wait(&self, socket: &Socket, port: u16) -> bool {
        if self.ports.time_waits.get(usize::from(port)).is_none_or(|n| *n == 0) {
            return false;
        }
        let options = self.option_sets.get(socket.options);
        self.time_waits.entries.iter().any(|(_, entry)| {
            let tuple = entry.tuple();
            let reuse = options.reuse_address && entry.reuse_address();
            let address = socket.local.is_unspecified() || socket.local == tuple.local;
            tuple.local_port == port && address && !reuse && !options.reuse_port
        })
    }

    /// An ephemeral port for a connection from `local` to `remote` (RFC 6056 §3.3.4): the tuple.
    pub(super) fn choose_port(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<Tuple> {
        let blank = Tuple::new(SocketAddr::new(local, 0), remote);
        let secret = blank.hash(self.keys.port);
        let bucket = (secret & 15) as usize;
        let moved = self.ports.counters.get(bucket).copied().unwrap_or(0);
        let half = self.ports.count().div_ceil(2).max(1);
        let offset = ((secret >> 16) as u32).wrapping_add(moved) % half;
        let chosen = self.choose_free(blank, offset, now);
        let tuple = chosen.or_else(|| {
            let mut all = (0..self.ports.count() + 1).map(|i| self.ports.candidate(offset, i, 0));
            all.find_map(|port| self.choose(port, blank, now))
        })?;
        self.ports.free.take(tuple.local_port);
        // The next search begins behind it.
        let place = u32::from(tuple.local_port - self.ports.ephemeral.0) / 2;
        if let Some(counter) = self.ports.counters.get_mut(bucket) {
            *counter = moved.wrapping_add((place + half - offset) % half + 1);
        }
        Some(tuple)
    }

    /// A port of those that nobody seems to have, of every other one first.
    fn choose_free(&mut self, blank: Tuple, offset: u32, now: Instant) -> Option<Tuple> {
        let range = self.ports.ephemeral;
        let half = self.ports.count().div_ceil(2);
        for round in 0..2 {
            let mut from = self.ports.candidate(offset, round * half, 0);
            for _ in 0..LOOKS {
                let Some(port) = self.ports.free.next(range, from) else { break };
                let tuple = self.choose(port, blank, now);
                if tuple.is_some() {
                    return tuple;
                }
                if self.is_home(&Tuple { local_port: port, ..blank }) {
                    self.ports.free.take(port);
                }
                let behind = port.checked_add(2).filter(|port| *port <= range.1);
                from = behind.unwrap_or(range.0 + (port - range.0) % 2);
            }
        }
        None
    }

    /// The tuple of a port that a connection may have.
    fn choose(&self, port: u16, blank: Tuple, now: Instant) -> Option<Tuple> {
        let tuple = Tuple { local_port: port, ..blank };
        // A port that a program bound on purpose is not for others to use.
        let bound = || {
            self.ports.bound.iter(u32::from(port)).any(|other| {
                self.sockets.at(other).is_some_and(|s| s.binding != Binding::Automatic)
            })
        };
        (self.is_home(&tuple) && !bound() && self.is_tuple_free(&tuple, now)).then_some(tuple)
    }

    /// Whether what the peer answers belongs to this shard.
    fn is_home(&self, tuple: &Tuple) -> bool {
        match (tuple.local, tuple.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                self.ports.share.has([local, remote], [tuple.local_port, tuple.remote_port])
            }
            _ => true,
        }
    }

    /// Whether no connection has this tuple, but for one in TIME-WAIT that may be replaced.
    pub(super) fn is_tuple_free(&self, tuple: &Tuple, now: Instant) -> bool {
        match self.find(tuple, tuple.place(self.keys.demux)) {
            None => true,
            Some(Target::TimeWait(place)) => self.time_waits.entries.at(place).is_some_and(|t| {
                t.may_be_taken(self.config.time_wait_reuse, self.config.time_wait, now)
            }),
            Some(_) => false,
        }
    }

    /// The entry of `tuple`.
    pub(super) fn find(&self, tuple: &Tuple, hash: u64) -> Option<Target> {
        self.demux.find(hash, |target| match target {
            Target::Socket(index) => match self.sockets.at(index).map(|s| &s.kind) {
                Some(Kind::Connected(c)) => c.tuple == *tuple,
                Some(Kind::Opening(o)) => o.tuple == *tuple,
                _ => false,
            },
            Target::Opening(index) => self.openings.at(index).is_some_and(|o| o.tuple == *tuple),
            Target::TimeWait(index) => {
                self.time_waits.entries.at(index).is_some_and(|t| t.tuple() == *tuple)
            }
        })
    }

    /// The listener for a SYN to `tuple.local`: the most specific; among equals with
    /// `SO_REUSEPORT` the one that the hash of the connection chooses.
    pub(super) fn find_listener(&self, tuple: &Tuple, hash: u64) -> Option<u32> {
        let score = |index: u32| {
            let socket = self.sockets.at(index)?;
            if socket.local == tuple.local {
                return Some(3);
            }
            if !socket.local.is_unspecified() {
                return None;
            }
            match socket.local.is_ipv4() == tuple.local.is_ipv4() {
                true => Some(2),
                false => {
                    let v6_only = self.option_sets.get(socket.options).v6_only;
                    (socket.local.is_ipv6() && !v6_only).then_some(1)
                }
            }
        };
        let bucket = u32::from(tuple.local_port);
        let (mut best, mut count) = (0, 0u32);
        for index in self.ports.listening.iter(bucket) {
            match score(index) {
                Some(s) if s > best => (best, count) = (s, 1),
                Some(s) if s == best => count += 1,
                _ => {}
            }
        }
        if count == 0 {
            return None;
        }
        let chosen = (((hash >> 32) * u64::from(count)) >> 32) as usize;
        self.ports.listening.iter(bucket).filter(|i| score(*i) == Some(best)).nth(chosen)
    }

    /// Numbers for a new connection: initial sequence number and timestamp offset.
    pub(super) fn secrets(&self, tuple: &Tuple, now: Instant) -> (super::SeqNumber, u32) {
        let iss = isn::initial_sequence(tuple, self.keys.sequence, now);
        (iss, isn::timestamp_offset(tuple, self.keys.timestamp))
    }
}
