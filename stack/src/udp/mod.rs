//! UDP (RFC 768), a whole layer as one machine: datagrams and calls in; datagrams, events and
//! answers out.
//!
//! [`Udp`] owns every UDP socket of a shard, what they have received and not yet given to the
//! program, and what is corked or on its way out. The shard calls it with what IP received and
//! with the program's calls, and takes out what is to be sent and what became ready. It does not
//! route, does not know which addresses are ours, and has no timers.

mod errors;
mod ports;
mod receive;
mod send;
mod socket;
#[cfg(test)]
mod tests;

pub use errors::{ErrorOrigin, ErrorReport, Unreachable};
pub use receive::{Arrived, Delivery, Received};
pub(crate) use send::nonzero;
pub use send::{Path, Piece, Transmit};
pub use socket::SocketSummary;

use crate::collections::{Handle, IndexBuckets, IndexList, Slab};
use crate::config::Config;
use crate::error::Error;
use crate::options::Options;
use crate::packet::{Allocator, Buffer};
use crate::readiness::Readiness;
use crate::rng::{HashKey, Rng};
use crate::socket::{Event, Family, Shutdown};
use crate::stats::UdpCounters;
use crate::time::Instant;
use core::net::{IpAddr, SocketAddr};
use errors::ErrorEntry;
use receive::Datagram;
use socket::Socket;
use std::collections::VecDeque;

/// The largest payload of a datagram over IPv4.
pub const MAX_PAYLOAD: usize = 65_535 - 20 - 8;
/// Packets waiting for the device to take them: beyond this, sending would block.
const TRANSMIT_QUEUE: usize = 1_024;
/// Reports in the error queues of all sockets.
const MAX_ERRORS: usize = 1_024;

/// Names a UDP socket. Once the socket is gone every call with it fails with
/// [`Error::BadDescriptor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UdpId(Handle);

impl UdpId {
    /// Place in the socket table and generation, for handles that travel as numbers.
    #[must_use]
    pub const fn to_parts(self) -> (u32, u32) {
        (self.0.index(), self.0.generation())
    }

    /// The inverse of [`UdpId::to_parts`].
    #[must_use]
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        UdpId(Handle::from_parts(index, generation))
    }
}

/// What the world gives to a call.
#[derive(Debug)]
pub struct Context<'a, A: Allocator> {
    /// The time.
    pub now: Instant,
    /// Randomness.
    pub rng: &'a mut Rng,
    /// Fresh buffers.
    pub allocator: &'a mut A,
    /// Where to count.
    pub counters: &'a mut UdpCounters,
}

/// One buffer of a datagram that has several.
#[derive(Debug)]
struct Part<B> {
    buffer: B,
    next: Option<Handle>,
}

/// How full the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Sockets.
    pub sockets: usize,
    /// Datagrams received and not yet read.
    pub datagrams: usize,
    /// Buffers of large, corked or outgoing datagrams.
    pub parts: usize,
    /// Packets waiting for the device.
    pub transmits: usize,
    /// Reports in error queues.
    pub errors: usize,
}

impl Occupancy {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        let Occupancy { sockets, datagrams, parts, transmits, errors } = other;
        self.sockets += sockets;
        self.datagrams += datagrams;
        self.parts += parts;
        self.transmits += transmits;
        self.errors += errors;
    }
}

/// Every UDP socket of a shard.
#[derive(Debug)]
pub struct Udp<B: Buffer> {
    sockets: Slab<Socket>,
    /// The sockets of each port, the latest bound first.
    ports: IndexBuckets,
    ephemeral_ports: (u16, u16),
    receive_buffer: u32,
    send_buffer: u32,
    hash: HashKey,
    datagrams: Slab<Datagram<B>>,
    parts: Slab<Part<B>>,
    errors: Slab<ErrorEntry<B>>,
    transmits: VecDeque<Transmit<B>>,
    /// Sockets with news.
    events: IndexList,
    /// Sockets that were told to wait for room.
    blocked: IndexList,
}

impl<B: Buffer> Udp<B> {
    /// A layer with no socket. All memory is taken here.
    #[must_use]
    pub fn new(config: &Config, rng: &mut Rng) -> Self {
        let capacity = &config.capacity;
        Udp {
            sockets: Slab::new(capacity.udp_sockets),
            ports: IndexBuckets::new(1 << 16, capacity.udp_sockets),
            ephemeral_ports: config.ephemeral_ports,
            receive_buffer: config.udp_receive_buffer,
            send_buffer: config.max_send_buffer,
            hash: HashKey::new(rng),
            datagrams: Slab::new(capacity.segments),
            parts: Slab::new(capacity.segments),
            errors: Slab::new(MAX_ERRORS),
            transmits: VecDeque::with_capacity(TRANSMIT_QUEUE),
            events: IndexList::new(capacity.udp_sockets),
            blocked: IndexList::new(capacity.udp_sockets),
        }
    }

    /// A new socket with default options.
    ///
    /// # Errors
    /// `TooManyFiles` when the table is full.
    pub fn socket(&mut self, family: Family) -> Result<UdpId, Error> {
        let options = Options {
            receive_buffer: self.receive_buffer,
            send_buffer: self.send_buffer,
            ..Options::default()
        };
        let socket = Socket::new(family, options);
        self.sockets.insert(socket).map(UdpId).map_err(|_| Error::TooManyFiles)
    }

    /// The cookie that events and listings return with this socket.
    pub fn set_owner(&mut self, id: UdpId, owner: u64) {
        if let Some(socket) = self.sockets.get_mut(id.0) {
            socket.owner = owner;
        }
    }

    /// connect(2): sets the default destination and lets only it be heard. `source` becomes our
    /// address if the socket is not bound to one.
    ///
    /// # Errors
    /// `AddressFamilyNotSupported`, `WouldBlock` when no port is left.
    pub fn connect<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        source: IpAddr,
        remote: SocketAddr,
    ) -> Result<(), Error> {
        let socket = self.get(id)?;
        if Family::of(remote.ip()) != socket.family {
            return Err(Error::AddressFamilyNotSupported);
        }
        self.autobind(cx.rng, id)?;
        let socket = self.get_mut(id)?;
        if !socket.address_locked {
            socket.local_address = source;
        }
        socket.remote = Some(remote);
        Ok(())
    }

    /// connect(2) with `AF_UNSPEC`: forgets the destination, and what was not asked for by bind.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn disconnect(&mut self, id: UdpId) -> Result<(), Error> {
        let socket = self.get_mut(id)?;
        socket.remote = None;
        socket.error = None;
        if !socket.address_locked {
            socket.local_address = socket.family.unspecified();
        }
        if !socket.port_locked {
            socket.local_port = 0;
            self.ports.remove(id.0.index());
        }
        Ok(())
    }

    /// shutdown(2). As on Linux an unconnected socket is shut too, though the call fails.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn shutdown(&mut self, id: UdpId, how: Shutdown) -> Result<(), Error> {
        let socket = self.get_mut(id)?;
        socket.shut_read |= matches!(how, Shutdown::Read | Shutdown::Both);
        socket.shut_write |= matches!(how, Shutdown::Write | Shutdown::Both);
        let connected = socket.remote.is_some();
        self.events.push_back(id.0.index());
        if connected { Ok(()) } else { Err(Error::NotConnected) }
    }

    /// The program is done with the socket: what it received is thrown away, what it sent is sent.
    pub fn close(&mut self, id: UdpId) {
        self.drop_received(id);
        self.drop_errors(id);
        self.drop_cork(id);
        let index = id.0.index();
        if self.sockets.remove(id.0).is_some() {
            self.ports.remove(index);
            self.events.remove(index);
            self.blocked.remove(index);
        }
    }

    /// What poll(2) would say.
    #[must_use]
    pub fn readiness(&self, id: UdpId) -> Readiness {
        match self.sockets.get(id.0) {
            Some(socket) => self.readiness_of(socket),
            None => Readiness::empty(),
        }
    }

    /// As Linux's `datagram_poll`.
    fn readiness_of(&self, socket: &Socket) -> Readiness {
        let mut ready = Readiness::empty();
        if socket.error.is_some() || socket.errors.first.is_some() {
            ready |= Readiness::ERROR;
        }
        if socket.shut_read {
            ready |= Readiness::READ_HANGUP | Readiness::READABLE | Readiness::READ_NORMAL;
        }
        if socket.shut_read && socket.shut_write {
            ready |= Readiness::HANGUP;
        }
        if socket.received.first.is_some() {
            ready |= Readiness::READABLE | Readiness::READ_NORMAL;
        }
        if self.has_room() {
            ready |= Readiness::WRITABLE | Readiness::WRITE_NORMAL | Readiness::WRITE_BAND;
        }
        ready
    }

    /// Whether [`Udp::poll_event`] may have something to tell.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next socket that became readier, or heard something new; call until `None`.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event<UdpId>> {
        let index = self.events.pop_front()?;
        let handle = self.sockets.handle_at(index)?;
        let socket = self.sockets.at(index)?;
        let readiness = self.readiness_of(socket);
        // Room is only told when there is nothing else: it never lacks for long.
        let told = readiness & (Readiness::READABLE | Readiness::ERROR | Readiness::HANGUP);
        let edges = if told.is_empty() { readiness & Readiness::WRITABLE } else { told };
        Some(Event { socket: UdpId(handle), owner: socket.owner, readiness, edges })
    }

    /// `SO_ERROR`: the pending error, which is cleared.
    pub fn take_error(&mut self, id: UdpId) -> Option<Error> {
        self.sockets.get_mut(id.0)?.error.take()
    }

    /// getsockname(2).
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn local_address(&self, id: UdpId) -> Result<SocketAddr, Error> {
        let socket = self.get(id)?;
        Ok(SocketAddr::new(socket.local_address, socket.local_port))
    }

    /// getpeername(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn remote_address(&self, id: UdpId) -> Result<SocketAddr, Error> {
        self.get(id)?.remote.ok_or(Error::NotConnected)
    }

    /// Its family.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn family(&self, id: UdpId) -> Result<Family, Error> {
        Ok(self.get(id)?.family)
    }

    /// Its options.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn options(&self, id: UdpId) -> Result<&Options, Error> {
        Ok(&self.get(id)?.options)
    }

    /// Changes its options. Clearing `udp_cork` sends what was corked.
    ///
    /// # Errors
    /// `BadDescriptor`; sending's.
    pub fn update_options<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        change: impl FnOnce(&mut Options),
    ) -> Result<(), Error> {
        let socket = self.get_mut(id)?;
        let corked = socket.options.udp_cork;
        change(&mut socket.options);
        if corked && !socket.options.udp_cork { self.push(cx, id) } else { Ok(()) }
    }

    /// Calls `each` with every socket.
    pub fn sockets(&self, mut each: impl FnMut(SocketSummary)) {
        for (handle, socket) in self.sockets.iter() {
            each(socket.summary(UdpId(handle)));
        }
    }

    /// How full the tables are.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            sockets: self.sockets.len(),
            datagrams: self.datagrams.len(),
            parts: self.parts.len(),
            transmits: self.transmits.len(),
            errors: self.errors.len(),
        }
    }

    fn get(&self, id: UdpId) -> Result<&Socket, Error> {
        self.sockets.get(id.0).ok_or(Error::BadDescriptor)
    }

    fn get_mut(&mut self, id: UdpId) -> Result<&mut Socket, Error> {
        self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)
    }
}
