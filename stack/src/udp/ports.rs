//! Who has which port: bind(2)'s rules as Linux has them, and the search for a receiver.

use super::socket::Socket;
use super::{Context, Udp, UdpId};
use crate::error::Error;
use crate::packet::{Allocator, Buffer, IpMeta};
use crate::rng::Rng;
use crate::socket::Family;
use core::net::{IpAddr, SocketAddr};

/// How well a socket fits a datagram: the most specific wins, as in Linux's `compute_score`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score(u8);

impl<B: Buffer> Udp<B> {
    /// bind(2). That the address is ours (or `IP_FREEBIND`) is the caller's check.
    ///
    /// # Errors
    /// `InvalidArgument` when bound already, `AddressInUse`, `AddressFamilyNotSupported`.
    pub fn bind<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        local: SocketAddr,
    ) -> Result<(), Error> {
        let socket = self.get(id)?;
        if Family::of(local.ip()) != socket.family {
            return Err(Error::AddressFamilyNotSupported);
        }
        if socket.local_port != 0 {
            return Err(Error::InvalidArgument);
        }
        let later = local.port() == 0 && socket.options.bind_address_no_port;
        let port = match local.port() {
            _ if later => 0,
            0 => self.choose_port(cx.rng, id, local.ip()).ok_or(Error::AddressInUse)?,
            port if self.conflicts(id, socket, local.ip(), port) => {
                return Err(Error::AddressInUse);
            }
            port => port,
        };
        let socket = self.get_mut(id)?;
        socket.local_address = local.ip();
        socket.address_locked = !local.ip().is_unspecified();
        socket.port_locked = local.port() != 0;
        self.occupy(id, port);
        Ok(())
    }

    /// Gives the socket a port if it has none.
    ///
    /// # Errors
    /// `WouldBlock` when none is left, as on Linux.
    pub(super) fn autobind(&mut self, rng: &mut Rng, id: UdpId) -> Result<(), Error> {
        let socket = self.get(id)?;
        if socket.local_port == 0 {
            let address = socket.local_address;
            let port = self.choose_port(rng, id, address).ok_or(Error::WouldBlock)?;
            self.occupy(id, port);
        }
        Ok(())
    }

    fn occupy(&mut self, id: UdpId, port: u16) {
        if let Some(socket) = self.sockets.get_mut(id.0).filter(|_| port != 0) {
            socket.local_port = port;
            self.ports.push_front(u32::from(port), id.0.index());
        }
    }

    /// A free port, searched from a random start (RFC 6056 §3.3.1).
    fn choose_port(&self, rng: &mut Rng, id: UdpId, address: IpAddr) -> Option<u16> {
        let socket = self.sockets.get(id.0)?;
        let (low, high) = self.ephemeral_ports;
        let count = u32::from(high).checked_sub(u32::from(low))? + 1;
        let start = rng.below(count);
        (0..count)
            .map(|step| (u32::from(low) + (start + step) % count) as u16)
            .find(|port| !self.conflicts(id, socket, address, *port))
    }

    /// Whether another socket keeps this one from `port` (Linux's `udp_lib_lport_inuse`).
    fn conflicts(&self, id: UdpId, socket: &Socket, address: IpAddr, port: u16) -> bool {
        self.ports.iter(u32::from(port)).filter(|index| *index != id.0.index()).any(|index| {
            let Some(other) = self.sockets.at(index) else { return false };
            let overlap = address.is_unspecified()
                || other.local_address.is_unspecified()
                || other.local_address == address;
            let both_reuse_address = socket.options.reuse_address && other.options.reuse_address;
            let both_reuse_port = socket.options.reuse_port && other.options.reuse_port;
            overlap && !both_reuse_address && !both_reuse_port
        })
    }

    /// The socket that a datagram from `meta.source`:`source_port` to `port` is for: the best
    /// score, among equals the latest bound, among `SO_REUSEPORT`'s one chosen by hash.
    #[inline]
    pub(super) fn find_receiver(&self, meta: &IpMeta, source_port: u16, port: u16) -> Option<u32> {
        let mut best: Option<(u32, Score)> = None;
        let mut group = 0u32;
        for index in self.ports.iter(u32::from(port)) {
            let Some(socket) = self.sockets.at(index) else { continue };
            let Some(score) = socket.score(meta, source_port) else { continue };
            let shares = u32::from(socket.options.reuse_port && socket.remote.is_none());
            match best {
                Some((_, top)) if score < top => {}
                Some((_, top)) if score == top => group += shares,
                _ => {
                    best = Some((index, score));
                    group = shares;
                }
            }
        }
        let (index, score) = best?;
        if group < 2 {
            return Some(index);
        }
        let chosen = self.spread(meta, source_port, port) % u64::from(group);
        let member = |index: &u32| {
            self.sockets.at(*index).is_some_and(|s| {
                s.options.reuse_port
                    && s.remote.is_none()
                    && s.score(meta, source_port) == Some(score)
            })
        };
        self.ports.iter(u32::from(port)).filter(member).nth(chosen as usize).or(Some(index))
    }

    /// Every socket that hears a broadcast or multicast datagram, after `previous`.
    pub(super) fn next_receiver(
        &self,
        previous: Option<u32>,
        meta: &IpMeta,
        source_port: u16,
        port: u16,
    ) -> Option<u32> {
        let mut at = match previous {
            Some(index) => self.ports.following(index),
            None => self.ports.first(u32::from(port)),
        };
        while let Some(index) = at {
            if self.sockets.at(index).is_some_and(|s| s.score(meta, source_port).is_some()) {
                return Some(index);
            }
            at = self.ports.following(index);
        }
        None
    }

    fn spread(&self, meta: &IpMeta, source_port: u16, port: u16) -> u64 {
        let mut bytes = [0; 20];
        match meta.source {
            IpAddr::V4(a) => bytes[..4].copy_from_slice(&a.octets()),
            IpAddr::V6(a) => bytes[..16].copy_from_slice(&a.octets()),
        }
        bytes[16..18].copy_from_slice(&source_port.to_be_bytes());
        bytes[18..].copy_from_slice(&port.to_be_bytes());
        self.hash.hash(&bytes)
    }
}

impl Socket {
    /// `None` if the datagram is not for this socket.
    #[inline]
    fn score(&self, meta: &IpMeta, source_port: u16) -> Option<Score> {
        let mut score = 1;
        if !self.local_address.is_unspecified() {
            if self.local_address != meta.destination {
                return None;
            }
            score += 4;
        } else if Family::of(meta.destination) != self.family {
            return None;
        }
        if let Some(remote) = self.remote {
            if remote.ip() != meta.source || remote.port() != source_port {
                return None;
            }
            score += 2;
        }
        Some(Score(score))
    }
}
