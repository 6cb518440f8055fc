//! A socket of the program: what it is bound to, its options, and what it has become.

use super::TcpId;
use super::connection::Connection;
use super::opening::Opening;
use super::opening::listener::Listener;
use super::option_sets::OptionsId;
use super::receive::Urgent;
use super::stamps::Stamping;
use super::state::State;
use crate::error::Error;
use crate::options::Options;
use crate::readiness::Readiness;
use crate::socket::Family;
use core::mem::offset_of;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

/// How the socket came by its local port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It has none.
    None,
    /// The program chose the address, the port comes with connect or listen.
    Address,
    /// The program chose it, or asked bind for any: it keeps it until it is closed.
    Bound,
    /// connect chose it: it goes with the connection.
    Automatic,
    /// It was accepted: it shares its listener's.
    Inherited,
}

/// What the socket is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Boxes would need an allocator; most sockets are connected.
pub(crate) enum Kind {
    /// Neither listening nor connected.
    Idle,
    Listening(Listener),
    /// connect is under way.
    Opening(Opening),
    /// Connected, or was.
    Connected(Connection),
}

/// Sends with `MSG_ZEROCOPY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completions {
    /// There never was one.
    None,
    /// All that are complete have been reported.
    Reported,
    /// Some have not.
    Unread,
}

/// How many sends with `MSG_ZEROCOPY` each socket had, and how many of them have not been
/// reported. Their data is copied, so each is complete at once; reports that nobody has read join,
/// as in Linux. Memory of sockets that have none is not touched.
#[derive(Debug)]
pub(crate) struct ZeroCopies(Vec<[u32; 2]>);

impl ZeroCopies {
    pub fn new(sockets: usize) -> Self {
        ZeroCopies(vec![[0; 2]; sockets])
    }

    /// The socket at `index` had one more.
    pub fn complete_one(&mut self, index: u32, completions: &mut Completions) {
        if let Some([next, unread]) = self.0.get_mut(index as usize) {
            *next = next.wrapping_add(1);
            *unread = unread.saturating_add(1);
            *completions = Completions::Unread;
        }
    }

    /// The first and the last number that have not been reported.
    pub fn take(&mut self, index: u32, completions: &mut Completions) -> Option<(u32, u32)> {
        if *completions != Completions::Unread {
            return None;
        }
        *completions = Completions::Reported;
        let [next, unread] = self.0.get_mut(index as usize)?;
        let unread = core::mem::take(unread);
        (unread > 0).then(|| (next.wrapping_sub(unread), next.wrapping_sub(1)))
    }

    /// The socket at `index` is gone.
    pub fn forget(&mut self, index: u32, completions: &mut Completions) {
        if core::mem::replace(completions, Completions::None) != Completions::None
            && let Some(counts) = self.0.get_mut(index as usize)
        {
            *counts = [0; 2];
        }
    }
}

/// A socket. What a lookup reads is together: the end of this, and the beginning of the connection
/// ([`Socket::KEY`]).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Socket {
    pub owner: u64,
    /// The next in the accept queue in which it waits, index + 1.
    pub next_waiting: u32,
    pub port: u16,
    pub binding: Binding,
    pub family: Family,
    /// The bound address; the unspecified one is every one of ours.
    pub local: IpAddr,
    /// `SO_ERROR`.
    pub error: Option<Error>,
    /// The program has closed it.
    pub orphaned: bool,
    /// It counts among the orphans.
    pub counted_orphan: bool,
    /// It has an entry in the demultiplexing table.
    pub registered: bool,
    /// A connect failed or a connection ended: it is told once (Linux: `SOCK_DONE`).
    pub done: bool,
    /// The program was told that there is no room to send (Linux: `SOCK_NOSPACE`).
    pub no_space: bool,
    pub completions: Completions,
    pub stamping: Stamping,
    pub options: OptionsId,
    /// What the program has not been told yet.
    pub edges: Readiness,
    /// The listener in whose accept queue it waits.
    pub waiting_at: Option<TcpId>,
    pub kind: Kind,
}

impl Socket {
    /// Where a lookup reads: both ends of the connection, with what tells kinds apart at either side
    /// (the compiler keeps that in values that the fields there cannot have).
    pub const KEY: Range<usize> =
        offset_of!(Socket, waiting_at)..offset_of!(Socket, kind) + Connection::FOUND_BY;

    pub fn new(family: Family, options: OptionsId) -> Self {
        Socket {
            owner: 0,
            family,
            binding: Binding::None,
            local: family.unspecified(),
            port: 0,
            options,
            error: None,
            completions: Completions::None,
            stamping: Stamping::Off,
            edges: Readiness::empty(),
            no_space: false,
            orphaned: false,
            counted_orphan: false,
            registered: false,
            done: false,
            waiting_at: None,
            next_waiting: 0,
            kind: Kind::Idle,
        }
    }

    /// A send with `MSG_ZEROCOPY` has taken octets, and `SO_ZEROCOPY` is set.
    pub fn after_copy(&mut self, copies: &mut ZeroCopies, index: u32) {
        copies.complete_one(index, &mut self.completions);
        self.edges |= Readiness::ERROR;
    }

    pub fn state(&self) -> State {
        match &self.kind {
            Kind::Idle => State::Closed,
            Kind::Listening(_) => State::Listen,
            Kind::Opening(opening) => opening.state,
            Kind::Connected(connection) => connection.state,
        }
    }

    pub fn connection(&self) -> Option<&Connection> {
        match &self.kind {
            Kind::Connected(connection) => Some(connection),
            _ => None,
        }
    }

    /// What poll(2) says, exactly as Linux's `tcp_poll`. `starved`: sending fails for want of
    /// memory just now.
    pub fn readiness(&self, options: &Options, starved: bool) -> Readiness {
        let readable = Readiness::READABLE | Readiness::READ_NORMAL;
        let writable = Readiness::WRITABLE | Readiness::WRITE_NORMAL;
        let mut ready = Readiness::empty();
        let reports = self.completions == Completions::Unread || self.stamping == Stamping::Unread;
        ready.set(Readiness::ERROR, self.error.is_some() || reports);
        match &self.kind {
            Kind::Listening(listener) => {
                return if listener.waiting > 0 { readable } else { Readiness::empty() };
            }
            Kind::Opening(opening) if opening.early.held => ready |= writable,
            Kind::Opening(_) => {}
            Kind::Idle => {
                ready |= Readiness::HANGUP | writable;
                if self.done {
                    ready |= readable | Readiness::READ_HANGUP;
                }
            }
            Kind::Connected(c) => {
                let closed = c.state == State::Closed;
                let read_shut = closed || c.shut_read || c.receive.fin;
                let write_shut = closed || c.shut_write;
                ready.set(Readiness::HANGUP, read_shut && write_shut);
                if read_shut {
                    ready |= readable | Readiness::READ_HANGUP;
                }
                if is_readable(c, options) {
                    ready |= readable;
                }
                let room = !starved && c.send.is_writable();
                if write_shut || room {
                    ready |= writable;
                }
                ready.set(Readiness::PRIORITY, matches!(c.receive.urgent, Urgent::Valid(_)));
            }
        }
        ready
    }

    /// The address as the program's family shows it.
    pub fn present(&self, address: SocketAddr) -> SocketAddr {
        match (self.family, address.ip()) {
            (Family::V6, IpAddr::V4(v4)) => {
                SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port())
            }
            _ => address,
        }
    }

    /// Our end.
    pub fn local_address(&self) -> SocketAddr {
        let address = match &self.kind {
            Kind::Opening(opening) => opening.tuple.local_address(),
            Kind::Connected(connection) => connection.tuple.local_address(),
            _ => SocketAddr::new(self.local, self.port),
        };
        if self.family == Family::V6 && address.ip() == Family::V4.unspecified() {
            return SocketAddr::new(Family::V6.unspecified(), address.port());
        }
        self.present(address)
    }
}

fn is_readable(c: &Connection, options: &Options) -> bool {
    let receive = &c.receive;
    let mut target = options.receive_low_water.max(1);
    let at_mark = receive.urgent != Urgent::None && receive.urgent_seq == receive.copied;
    if at_mark && !options.oob_inline {
        target += 1;
    }
    let unread = receive.unread();
    // A target that the buffer cannot hold must not wait for ever.
    unread >= target || (unread > 0 && receive.window() < receive.ack.peer_mss)
}

/// An IPv4 address that came as an IPv6 one (RFC 4291 §2.5.5.2) is taken for what it is.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}
