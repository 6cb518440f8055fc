//! TCP (RFC 9293), a whole layer as one machine: segments, calls and time in; segments, events
//! and answers out.
//!
//! [`Tcp`] owns every TCP socket of a shard. The shard calls it with what IP received, with the
//! program's calls and when its timers are due, and then takes out what is to be sent and what
//! became ready. It never looks at an IP header, never reads a clock, never allocates after
//! [`Tcp::new`].

mod counters;
pub mod info;
pub mod seq;
pub mod state;

use crate::collections::Handle;
use crate::config::{Capacity, TcpConfig};
use crate::error::Error;
use crate::options::Options;
use crate::packet::{Allocator, Buffer, IpMeta, Transmit};
use crate::readiness::Readiness;
use crate::rng::Rng;
use crate::socket::{Event, Family, ReceiveFlags, SendFlags, Shutdown};
use crate::time::Instant;
use core::marker::PhantomData;
use core::net::{IpAddr, SocketAddr};
use std::io::{IoSlice, IoSliceMut};

pub use counters::TcpCounters;
pub use info::{Occupancy, SocketSummary, TcpInfo};
pub use seq::SeqNumber;
pub use state::State;

/// Names a TCP socket. Once the socket is gone every call with it fails with
/// [`Error::BadDescriptor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpId(Handle);

impl TcpId {
    /// Place in the socket table and generation, for handles that travel as numbers.
    #[must_use]
    pub const fn to_parts(self) -> (u32, u32) {
        (self.0.index(), self.0.generation())
    }

    /// The inverse of [`TcpId::to_parts`].
    #[must_use]
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        TcpId(Handle::from_parts(index, generation))
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
    pub counters: &'a mut TcpCounters,
}

/// Every TCP socket of a shard.
#[derive(Debug)]
pub struct Tcp<B: Buffer> {
    buffers: PhantomData<B>,
}

#[allow(unused_variables, clippy::unused_self, clippy::needless_pass_by_value)] // signatures first
impl<B: Buffer> Tcp<B> {
    /// A layer with no socket. All memory is taken here. `mtu` is the largest IP packet of the
    /// device, which connections that come in start from; `ephemeral_ports` is inclusive.
    #[must_use]
    pub fn new(
        config: &TcpConfig,
        capacity: &Capacity,
        ephemeral_ports: (u16, u16),
        mtu: u16,
        rng: &mut Rng,
    ) -> Self {
        Tcp { buffers: PhantomData }
    }

    /// A packet for one of our addresses: from the TCP header on, its checksum verified.
    pub fn on_packet<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        meta: IpMeta,
        packet: B,
    ) {
    }

    /// ICMP says that our segment with `seq` did not arrive: `hard` errors end an opening at
    /// once (RFC 1122 §4.2.3.9), soft ones are reported if the connection times out.
    pub fn on_unreachable<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        local: SocketAddr,
        remote: SocketAddr,
        seq: SeqNumber,
        error: Error,
        hard: bool,
    ) {
    }

    /// The next packet to send; call until `None`.
    pub fn poll_transmit<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
    ) -> Option<Transmit<B>> {
        None
    }

    /// Does what is due at `cx.now`. Cheap when nothing is.
    pub fn on_timeouts<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>) {}

    /// Nothing is due before this moment (a lower bound); `None` when nothing is pending.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next socket that became readier, or saw a new edge; call until `None`.
    pub fn poll_event(&mut self) -> Option<Event<TcpId>> {
        None
    }

    /// A new socket with default options (`options_mut` of the configuration's limits).
    ///
    /// # Errors
    /// `TooManyFiles` when the table is full.
    pub fn socket(&mut self, family: Family) -> Result<TcpId, Error> {
        Err(Error::TooManyFiles)
    }

    /// The cookie that events and listings return with this socket.
    pub fn set_owner(&mut self, id: TcpId, owner: u64) {}

    /// bind(2). That the address is ours (or `IP_FREEBIND`) is the caller's check.
    ///
    /// # Errors
    /// `InvalidArgument` when bound already, `AddressInUse`, `AddressFamilyNotSupported`.
    pub fn bind<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        local: SocketAddr,
    ) -> Result<(), Error> {
        Err(Error::BadDescriptor)
    }

    /// listen(2); again changes the backlog.
    ///
    /// # Errors
    /// `AddressInUse`, `InvalidArgument` when connected.
    pub fn listen<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        backlog: u32,
    ) -> Result<(), Error> {
        Err(Error::BadDescriptor)
    }

    /// Begins a connect(2); `Ok` means that the SYN is on its way. `source` is our address if the
    /// socket is not bound to one, `path_mtu` the largest IP packet on the route.
    ///
    /// # Errors
    /// `IsConnected`, `Already`, `AddressNotAvailable` when no port is left, `InvalidArgument`
    /// when listening, `AddressFamilyNotSupported`, or the pending error of the connect before.
    pub fn connect<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        source: IpAddr,
        remote: SocketAddr,
        path_mtu: u16,
    ) -> Result<(), Error> {
        Err(Error::BadDescriptor)
    }

    /// accept(2): the connection and its peer.
    ///
    /// # Errors
    /// `WouldBlock` when none waits, `InvalidArgument` when not listening.
    pub fn accept<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
    ) -> Result<(TcpId, SocketAddr), Error> {
        Err(Error::BadDescriptor)
    }

    /// Queues as much of `data` as there is room for; returns how many octets.
    ///
    /// # Errors
    /// `WouldBlock` when there is room for nothing, the pending error, `BrokenPipe` when this
    /// direction is shut, `NotConnected`.
    pub fn send<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize, Error> {
        Err(Error::BadDescriptor)
    }

    /// Copies received data out; 0 means end of file (or no room in `into`).
    ///
    /// # Errors
    /// `WouldBlock` when there is none yet, the pending error, `NotConnected`; `InvalidArgument`
    /// for urgent data that is not there.
    pub fn receive<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        into: &mut [IoSliceMut<'_>],
        flags: ReceiveFlags,
    ) -> Result<usize, Error> {
        Err(Error::BadDescriptor)
    }

    /// `SIOCINQ`: octets that can be read now.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn receive_available(&self, id: TcpId) -> Result<u32, Error> {
        Err(Error::BadDescriptor)
    }

    /// `SIOCOUTQ`: octets not yet acknowledged.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn send_queued(&self, id: TcpId) -> Result<u32, Error> {
        Err(Error::BadDescriptor)
    }

    /// `SIOCOUTQNSD`: octets not yet sent.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn send_unsent(&self, id: TcpId) -> Result<u32, Error> {
        Err(Error::BadDescriptor)
    }

    /// `SIOCATMARK`: whether the next octet to be read is the urgent one.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn at_urgent_mark(&self, id: TcpId) -> Result<bool, Error> {
        Err(Error::BadDescriptor)
    }

    /// shutdown(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn shutdown<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        how: Shutdown,
    ) -> Result<(), Error> {
        Err(Error::BadDescriptor)
    }

    /// The program is done with the socket: by its linger option the connection is reset or ends
    /// in the background (waiting for `Linger::Wait` is the caller's business, before the call).
    pub fn close<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, id: TcpId) {}

    /// Resets the connection and forgets the socket.
    pub fn abort<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, id: TcpId) {}

    /// What poll(2) would say. A socket that is not writable will have an event once it is.
    pub fn readiness(&mut self, id: TcpId) -> Readiness {
        Readiness::empty()
    }

    /// `SO_ERROR`: the pending error, which is cleared.
    pub fn take_error(&mut self, id: TcpId) -> Option<Error> {
        None
    }

    /// getsockname(2).
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn local_address(&self, id: TcpId) -> Result<SocketAddr, Error> {
        Err(Error::BadDescriptor)
    }

    /// getpeername(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn remote_address(&self, id: TcpId) -> Result<SocketAddr, Error> {
        Err(Error::BadDescriptor)
    }

    /// Its state; `Closed` for a stale handle too.
    #[must_use]
    pub fn state(&self, id: TcpId) -> State {
        State::Closed
    }

    /// Its options.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn options(&self, id: TcpId) -> Result<&Options, Error> {
        Err(Error::BadDescriptor)
    }

    /// Changes its options; what they change takes effect at once.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn update_options<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        change: impl FnOnce(&mut Options),
    ) -> Result<(), Error> {
        Err(Error::BadDescriptor)
    }

    /// `TCP_INFO`.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn info(&self, id: TcpId, now: Instant) -> Result<TcpInfo, Error> {
        Err(Error::BadDescriptor)
    }

    /// Calls `each` with every socket, embryonic connection and TIME-WAIT entry.
    pub fn sockets(&self, each: impl FnMut(SocketSummary)) {}

    /// How full the tables are.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy::default()
    }

    /// Resets every connection and listener's queue: the shard's state can no longer be trusted.
    pub fn reset_all<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>) {}
}
