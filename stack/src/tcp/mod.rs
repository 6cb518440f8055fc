//! TCP (RFC 9293), a whole layer as one machine: segments, calls and time in; segments, events
//! and answers out.
//!
//! [`Tcp`] owns every TCP socket of a shard. The shard calls it with what IP received, with the
//! program's calls and when its timers are due, and then takes out what is to be sent and what
//! became ready. It never looks at an IP header, never reads a clock, never allocates after
//! [`Tcp::new`].
//!
//! Where to read: `dispatch` finds what a segment belongs to; `opening/` is the handshake;
//! `input` is segment arrival in eight steps; `output` is what leaves; `recovery/` and
//! `congestion/` say when; `send/` and `receive/` are the two halves of a connection; `api` and
//! `data` are the program's calls; `settle` is what happens after each of them.

mod api;
mod blind_attack;
mod congestion;
mod connection;
mod counters;
mod data;
mod demux;
mod dispatch;
mod ecn;
pub mod footprint;
mod free_ports;
pub mod info;
mod input;
mod listing;
mod loans;
mod negotiated;
mod opening;
mod option_sets;
mod output;
mod path;
mod plain;
mod pmtud;
mod ports;
mod queue;
mod receive;
mod recovery;
mod reply;
mod segment;
mod send;
pub mod seq;
mod settle;
mod socket;
mod stamps;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod time_wait;
mod timers;
mod unit;
mod warm;

use crate::collections::{Handle, IndexList, Slab, TimerWheel};
use crate::config::{Capacity, FastOpenKey, TcpConfig};
use crate::packet::{Allocator, Buffer};
use crate::rng::{HashKey, Rng, TableKey};
use crate::steering::Share;
use crate::time::Instant;
use connection::Rare;
use demux::Demux;
use opening::Opening;
use opening::early::FastOpen;
use option_sets::OptionSets;
use ports::Ports;
use queue::Pool;
use receive::autotune::Room;
use reply::Replies;
use socket::{Socket, ZeroCopies};
use stamps::Stamps;
use time_wait::TimeWaits;

pub use counters::TcpCounters;
pub use info::{Occupancy, SocketSummary, TcpInfo, TimerKind, TimerSummary};
pub use plain::SentAtOnce;
pub use seq::SeqNumber;
pub use stamps::{SendStamp, Stage};
pub use state::State;
pub(crate) use warm::Ahead;
pub use warm::Flow;

/// Names a TCP socket. Once the socket is gone every call with it fails with
/// [`crate::error::Error::BadDescriptor`].
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

/// Keys of the hashes that outsiders must not predict.
#[derive(Debug, Clone, Copy)]
struct Keys {
    demux: TableKey,
    sequence: HashKey,
    timestamp: HashKey,
    port: HashKey,
    cookie: HashKey,
}

impl Keys {
    fn new(rng: &mut Rng) -> Self {
        let demux = TableKey::new(rng);
        let sequence = HashKey::new(rng);
        let timestamp = HashKey::new(rng);
        let port = HashKey::new(rng);
        Keys { demux, sequence, timestamp, port, cookie: sequence.derive(b"SYN cookie") }
    }
}

impl Keys {
    fn fast_open_key(&self) -> FastOpenKey {
        let key = self.sequence.derive(b"Fast Open");
        let octets = u128::from(key.hash(&[0])) | u128::from(key.hash(&[1])) << 64;
        FastOpenKey { primary: octets.to_le_bytes(), backup: None }
    }
}

/// Every TCP socket of a shard.
#[derive(Debug)]
pub struct Tcp<B: Buffer> {
    config: TcpConfig,
    /// The largest IP packet of the device.
    mtu: u16,
    keys: Keys,
    sockets: Slab<Socket>,
    option_sets: OptionSets,
    zero_copies: ZeroCopies,
    stamps: Stamps,
    openings: Slab<Opening>,
    time_waits: TimeWaits,
    pool: Pool<B>,
    /// How many segments data may take; beyond are the places of FINs.
    segments: usize,
    demux: Demux,
    ports: Ports,
    /// One timer per socket, then one per opening.
    wheel: TimerWheel,
    /// Sockets and openings that may have something to send.
    ready: IndexList,
    ready_openings: IndexList,
    /// Packets that the first of `ready` has sent in its turn.
    turn: u32,
    /// Sockets with something to tell.
    events: IndexList,
    /// Sockets that wait for memory.
    starved: IndexList,
    /// When to try again what failed for want of memory.
    retry_at: Option<Instant>,
    replies: Replies,
    fast_open: FastOpen,
    rare: Rare,
    /// Sockets that are connected, or were.
    connected: usize,
    /// Connections that finish after their program closed them.
    orphans: u32,
    /// The latest time seen.
    latest: Instant,
}

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
        let sockets = capacity.tcp_sockets;
        let keys = Keys::new(rng);
        Tcp {
            config: *config,
            mtu,
            keys,
            sockets: Slab::new(sockets),
            option_sets: OptionSets::new(sockets),
            zero_copies: ZeroCopies::new(sockets),
            stamps: Stamps::new(sockets),
            openings: Slab::new(sockets),
            time_waits: TimeWaits::new(capacity.time_wait),
            pool: Slab::new(capacity.segments + sockets),
            segments: capacity.segments,
            demux: Demux::new(2 * sockets + capacity.time_wait),
            ports: Ports::new(sockets, ephemeral_ports),
            wheel: TimerWheel::new(2 * sockets),
            ready: IndexList::new(sockets),
            ready_openings: IndexList::new(sockets),
            turn: 0,
            events: IndexList::new(sockets),
            starved: IndexList::new(sockets),
            retry_at: None,
            replies: Replies::new(),
            fast_open: FastOpen::new(config.fast_open_key.unwrap_or(keys.fast_open_key())),
            rare: Rare::new(sockets, mtu),
            connected: 0,
            orphans: 0,
            latest: Instant::ZERO,
        }
    }

    /// There are so many packet buffers of so many octets: what grows by itself stays within them.
    pub fn bound_memory(&mut self, buffers: usize, octets: usize) {
        self.rare.receive_room = Room::of(buffers as u64 * octets as u64);
        self.rare.half_of_pool = buffers / 2;
    }

    /// Forgets what connects have learnt of servers (Fast Open).
    pub fn forget_servers(&mut self) {
        self.fast_open.destinations.clear();
    }

    /// Connections choose ports whose flows are in this share.
    pub fn set_share(&mut self, share: Share) {
        self.ports.share = share;
    }
}

/// The environment of a connection's methods, out of the layer's fields.
macro_rules! env {
    ($self:ident, $cx:expr, $options:expr) => {
        crate::tcp::connection::Env {
            cx: $cx,
            pool: &mut $self.pool,
            options: $options,
            config: &$self.config,
            replies: &mut $self.replies,
            rare: &mut $self.rare,
        }
    };
}
use env;
