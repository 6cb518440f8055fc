//! What a segment needs of a connection that is in no cache: its lines are asked for all at once, for
//! one after the other each would take the time that all of them take together. In a burst, those of
//! the next connections are on their way while a frame is handled. While the tables are small they
//! are in the caches anyway, and nothing is done.

use super::Tcp;
use super::demux::{Target, Tuple};
use super::socket::Socket;
use crate::device::BURST;
use crate::packet::Buffer;
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// With fewer sockets than this they fit a second-level cache.
const FEW: usize = 512;

/// Addresses and ports of a segment, local ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Ours.
    pub local: Ipv4Addr,
    /// The peer's.
    pub remote: Ipv4Addr,
    /// Ours and the peer's.
    pub ports: (u16, u16),
}

impl From<Flow> for Tuple {
    #[inline]
    fn from(flow: Flow) -> Self {
        let Flow { local, remote, ports: (local_port, remote_port) } = flow;
        Tuple { local: local.into(), remote: remote.into(), local_port, remote_port }
    }
}

impl<B: Buffer> Tcp<B> {
    /// Whether there are so many connections that one of them is in no cache.
    #[inline]
    pub fn is_cold(&self) -> bool {
        self.sockets.len() > FEW
    }

    /// Begins to ask for what the segments of a burst need, in the order of their flows.
    pub(crate) fn look_ahead(&self, flows: impl Iterator<Item = Flow>) -> Ahead {
        let mut ahead = Ahead { hashes: self.prefetch_buckets(flows), next: 0 };
        for _ in 0..AHEAD {
            self.step_ahead(&mut ahead);
        }
        ahead
    }

    /// Asks for the next connection: one is about to be handled.
    #[inline]
    pub(crate) fn step_ahead(&self, ahead: &mut Ahead) {
        let Some(hash) = ahead.hashes.get(ahead.next) else { return };
        ahead.next += 1;
        if let Some(index) = self.probably(*hash) {
            self.sockets.prefetch(index);
        }
    }

    /// Asks for as much as a lookup of each flow needs.
    pub fn prefetch_keys(&self, flows: impl Iterator<Item = Flow>) {
        for hash in self.prefetch_buckets(flows) {
            if let Some(index) = self.probably(hash) {
                self.sockets.prefetch_part(index, Socket::KEY);
            }
        }
    }

    /// Asks for the first thing that each lookup needs; the hashes of the flows.
    fn prefetch_buckets(&self, flows: impl Iterator<Item = Flow>) -> ArrayVec<u64, BURST> {
        let hashes = flows.take(BURST).map(|flow| Tuple::from(flow).place(self.keys.demux));
        hashes.inspect(|hash| self.demux.prefetch(*hash)).collect()
    }

    /// The first socket with this hash, most likely the one: its tuple is not looked at, for that
    /// is what is not there yet.
    #[inline]
    fn probably(&self, hash: u64) -> Option<u32> {
        match self.demux.find(hash, |target| matches!(target, Target::Socket(_)))? {
            Target::Socket(index) => Some(index),
            _ => None,
        }
    }
}

/// Connections whose lines are on their way while one is handled: as many as the caches of a core
/// can wait for at a time. More would only hold up the one.
const AHEAD: usize = 2;

/// The connections of a burst that have not been asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    hashes: ArrayVec<u64, BURST>,
    next: usize,
}
