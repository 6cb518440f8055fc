//! What a segment needs of a connection that is in no cache: its lines are asked for all at once, for
//! one after the other each would take the time that all of them take together. For a burst, the
//! lines of all its connections are on their way before the first frame is handled. While the tables
//! are small they are in the caches anyway, and nothing is done.

use super::Tcp;
use super::demux::{Target, Tuple};
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

    /// Asks for what the segments of these flows need, of a burst's worth of them.
    pub fn prefetch(&self, flows: impl Iterator<Item = Flow>) {
        let mut hashes = ArrayVec::<u64, BURST>::new();
        for flow in flows.take(BURST) {
            let hash = Tuple::from(flow).place(self.keys.demux);
            self.demux.prefetch(hash);
            hashes.push(hash);
        }
        for hash in hashes {
            // Probably the one: its tuple is not looked at, for that is what is not there yet.
            let found = self.demux.find(hash, |target| matches!(target, Target::Socket(_)));
            if let Some(Target::Socket(index)) = found {
                self.sockets.prefetch(index);
            }
        }
    }
}
