//! What socket calls call: they check addresses, choose routes and sources, ask the transport,
//! and send at once what it has to say.

use super::{Shard, SocketId, SocketKind, tcp_context, udp_context};
use crate::config::{FastOpenKey, TcpConfig};
use crate::device::Device;
use crate::error::Error;
use crate::ip::{Hop, RouteInfo, RouteKind};
use crate::options::{Options, PathMtuDiscovery};
use crate::readiness::Readiness;
use crate::socket::{Family, First, ReceiveFlags, SendControl, SendFlags, Shutdown};
use crate::tcp::{State, TcpId, TcpInfo};
use crate::time::Instant;
use crate::udp::{ErrorReport, Path, UdpId};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io::{IoSlice, IoSliceMut};

/// What receiving gave. Streams leave all but `len` and `datagram_len` empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets copied; 0 from a stream means that it has ended.
    pub len: usize,
    /// Octets of the datagram; more than `len` if it was cut off. A stream's `len`.
    pub datagram_len: usize,
    /// Who sent the datagram.
    pub source: Option<SocketAddr>,
    /// The address of ours (or broadcast, or group) that it was sent to.
    pub destination: Option<IpAddr>,
    /// Its DSCP and ECN.
    pub traffic_class: u8,
    /// What was left of its hop limit.
    pub hop_limit: u8,
    /// When it arrived.
    pub at: Option<Instant>,
}

impl<D: Device> Shard<D> {
    /// A new socket.
    ///
    /// # Errors
    /// `TooManyFiles`.
    pub fn socket(&mut self, kind: SocketKind, family: Family) -> Result<SocketId, Error> {
        match kind {
            SocketKind::Tcp => self.tcp.socket(family).map(SocketId::Tcp),
            SocketKind::Udp => self.udp.socket(family).map(SocketId::Udp),
        }
    }

    /// Changes TCP's settings while it runs, as a sysctl does.
    pub fn set_tcp_config(&mut self, config: &TcpConfig) {
        self.tcp.set_config(config);
    }

    /// Forgets what connects have learnt of servers, as `ip tcp_metrics flush` does.
    pub fn forget_servers(&mut self) {
        self.tcp.forget_servers();
    }

    /// The cookie that events and listings return with this socket.
    pub fn set_owner(&mut self, id: SocketId, owner: u64) {
        match id {
            SocketId::Tcp(id) => self.tcp.set_owner(id, owner),
            SocketId::Udp(id) => self.udp.set_owner(id, owner),
        }
    }

    /// bind(2).
    ///
    /// # Errors
    /// `AddressNotAvailable` when the address is not ours, `AddressInUse`, `InvalidArgument`
    /// when bound already, `AddressFamilyNotSupported`.
    pub fn bind(&mut self, now: Instant, id: SocketId, local: SocketAddr) -> Result<(), Error> {
        let address = local.ip();
        // As Linux's inet_addr_valid_or_nonlocal.
        let valid = address.is_unspecified()
            || address.is_multicast()
            || self.ip.is_local(address)
            || self.ip.is_broadcast(address);
        if !valid && !self.options(id)?.free_bind {
            return Err(Error::AddressNotAvailable);
        }
        match id {
            SocketId::Tcp(id) => self.tcp.bind(tcp_context!(self, now), id, local),
            SocketId::Udp(id) => self.udp.bind(udp_context!(self, now), id, local),
        }
    }

    /// listen(2); again changes the backlog.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP; TCP's.
    pub fn listen(&mut self, now: Instant, id: SocketId, backlog: u32) -> Result<(), Error> {
        let id = stream(id)?;
        self.tcp.listen(tcp_context!(self, now), id, backlog)
    }

    /// accept(2): the connection and its peer.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; `OperationNotSupported` on UDP.
    pub fn accept(&mut self, now: Instant, id: SocketId) -> Result<(SocketId, SocketAddr), Error> {
        let id = stream(id)?;
        let (id, peer) = self.tcp.accept(tcp_context!(self, now), id)?;
        self.transmit(now);
        Ok((SocketId::Tcp(id), peer))
    }

    /// connect(2). On TCP `Ok` means that it has begun; readiness says when it has ended.
    ///
    /// # Errors
    /// `NetworkUnreachable` without a route, `PermissionDenied` for a broadcast address without
    /// `SO_BROADCAST`, the transport's.
    pub fn connect(&mut self, now: Instant, id: SocketId, remote: SocketAddr) -> Result<(), Error> {
        self.connect_fast(now, id, remote, None).map(|_| ())
    }

    /// The same; with `first` a TCP socket's SYN carries as much of it as it can (`MSG_FASTOPEN`),
    /// and the answer is how many octets that is: none without a cookie of `remote`'s. So does one
    /// that waits for its first data (`TCP_FASTOPEN_CONNECT`), whatever `remote` says.
    ///
    /// # Errors
    /// Also `OperationNotSupported` where the setting forbids it.
    pub fn connect_fast(
        &mut self,
        now: Instant,
        id: SocketId,
        remote: SocketAddr,
        first: Option<First<'_>>,
    ) -> Result<usize, Error> {
        if let SocketId::Tcp(waiting) = id
            && first.is_some()
            && self.tcp.awaits_data(waiting)
        {
            let (cx, source) = (tcp_context!(self, now), remote.ip());
            let sent = self.tcp.connect_fast(cx, waiting, source, remote, 0, first)?;
            self.transmit(now);
            return Ok(sent);
        }
        let mut sent = 0;
        let remote = SocketAddr::new(self.named(remote.ip()), remote.port());
        let local = self.local_address(id)?.ip();
        if Family::of(local) != Family::of(remote.ip()) {
            return Err(Error::AddressFamilyNotSupported);
        }
        let route = self.way(remote.ip(), local, self.options(id)?.dont_route)?;
        let source = if is_host(local) { local } else { route.source };
        match id {
            SocketId::Tcp(id) => {
                if !matches!(route.hop, Hop::Neighbor(_) | Hop::Loopback) {
                    return Err(Error::NetworkUnreachable);
                }
                let known = self.path_mtus.get(remote.ip(), now);
                let path_mtu = route.mtu.min(self.piece).min(known.unwrap_or(u16::MAX));
                let cx = tcp_context!(self, now);
                sent = self.tcp.connect_fast(cx, id, source, remote, path_mtu, first)?;
            }
            SocketId::Udp(id) => {
                self.may_broadcast(&route, self.udp.options(id)?)?;
                self.udp.connect(udp_context!(self, now), id, source, remote)?;
            }
        }
        self.transmit(now);
        Ok(sent)
    }

    /// Whether a connect waits for the program's first data (`TCP_FASTOPEN_CONNECT`).
    #[must_use]
    pub fn awaits_data(&self, id: SocketId) -> bool {
        matches!(id, SocketId::Tcp(id) if self.tcp.awaits_data(id))
    }

    /// `TCP_FASTOPEN_CONNECT`.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP and where the setting forbids it, `InvalidArgument` once a
    /// connection has begun.
    pub fn set_fast_open_connect(&mut self, id: SocketId, on: bool) -> Result<(), Error> {
        self.tcp.set_fast_open_connect(stream(id)?, on)
    }

    /// `TCP_FASTOPEN_KEY`.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP, `NoBufferSpace` when too many sockets have one.
    pub fn set_fast_open_key(&mut self, id: SocketId, key: FastOpenKey) -> Result<(), Error> {
        self.tcp.set_fast_open_key(stream(id)?, key)
    }

    /// `TCP_FASTOPEN_KEY`: the key of the socket's cookies.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP.
    pub fn fast_open_key(&self, id: SocketId) -> Result<FastOpenKey, Error> {
        Ok(self.tcp.fast_open_key(stream(id)?))
    }

    /// `SO_SNDBUF` and `SO_RCVBUF` as they are now: automatic tuning changes them.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn buffer_sizes(&self, id: SocketId) -> Result<(u32, u32), Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.buffer_sizes(id),
            SocketId::Udp(id) => {
                self.udp.options(id).map(|options| (options.send_buffer, options.receive_buffer))
            }
        }
    }

    /// `IP_MTU`: the largest packet that reaches `peer`, as far as is known.
    #[must_use]
    pub fn path_mtu(&self, now: Instant, peer: IpAddr) -> Option<u16> {
        let route = self.ip.route(peer).ok()?;
        Some(route.mtu.min(self.path_mtus.get(peer, now).unwrap_or(u16::MAX)))
    }

    /// connect(2) with `AF_UNSPEC`. A TCP socket is reset and can be used again.
    ///
    /// # Errors
    /// `BadDescriptor`; `OperationNotSupported` on TCP, where the caller makes a new socket.
    pub fn disconnect(&mut self, id: SocketId) -> Result<(), Error> {
        self.udp.disconnect(datagram(id)?)
    }

    /// send(2) and its like without a destination or control messages.
    ///
    /// # Errors
    /// The transport's; see [`Shard::send_to`].
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        id: SocketId,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize, Error> {
        self.send_to(now, id, data, None, &SendControl::default(), flags)
    }

    /// sendmsg(2): queues or sends `data` and returns how many octets it took. A stream ignores
    /// `to` and `control`, as Linux's does.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room, the pending error, `BrokenPipe`, `NotConnected`;
    /// for datagrams `DestinationRequired`, `NetworkUnreachable`, `PermissionDenied`,
    /// `MessageTooLong`, `InvalidArgument`, `NoBufferSpace`.
    pub fn send_to(
        &mut self,
        now: Instant,
        id: SocketId,
        data: &[IoSlice<'_>],
        to: Option<SocketAddr>,
        control: &SendControl,
        flags: SendFlags,
    ) -> Result<usize, Error> {
        let sent = match id {
            SocketId::Tcp(id) => {
                if self.send_at_once(now, id, data, flags) {
                    return Ok(data.iter().map(|slice| slice.len()).sum());
                }
                self.tcp.send(tcp_context!(self, now), id, data, flags)
            }
            SocketId::Udp(id) => {
                let path = self.path(now, id, to, control, flags)?;
                if self.send_datagram_at_once(now, id, &path, data, flags) {
                    return Ok(data.iter().map(|slice| slice.len()).sum());
                }
                self.udp.send(udp_context!(self, now), id, &path, data, flags)
            }
        };
        // Also after an error: TCP may have something to send that makes room.
        self.transmit(now);
        sent
    }

    /// recv(2) and its like: a stream's octets, or one datagram.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet, the pending error, `NotConnected`.
    #[inline]
    pub fn receive(
        &mut self,
        now: Instant,
        id: SocketId,
        into: &mut [IoSliceMut<'_>],
        flags: ReceiveFlags,
    ) -> Result<Received, Error> {
        match id {
            SocketId::Tcp(_) => {
                let len = self.read(now, id, into, flags)?;
                Ok(Received {
                    len,
                    datagram_len: len,
                    source: None,
                    destination: None,
                    traffic_class: 0,
                    hop_limit: 0,
                    at: None,
                })
            }
            SocketId::Udp(id) => {
                let datagram = self.udp.receive(id, into, flags)?;
                Ok(Received {
                    len: datagram.len,
                    datagram_len: datagram.datagram_len,
                    source: datagram.source,
                    destination: Some(datagram.destination),
                    traffic_class: datagram.traffic_class,
                    hop_limit: datagram.hop_limit,
                    at: datagram.source.map(|_| datagram.at),
                })
            }
        }
    }

    /// [`Shard::receive`] of a stream, whose octets are all there is to tell.
    ///
    /// # Errors
    /// As that; `OperationNotSupported` on UDP.
    #[inline]
    pub fn read(
        &mut self,
        now: Instant,
        id: SocketId,
        into: &mut [IoSliceMut<'_>],
        flags: ReceiveFlags,
    ) -> Result<usize, Error> {
        let len = self.tcp.receive(tcp_context!(self, now), stream(id)?, into, flags)?;
        if self.tcp.wants_transmit() {
            self.transmit(now); // Room in the window is worth telling.
        }
        Ok(len)
    }

    /// recvmsg(2) with `MSG_ERRQUEUE`. TCP queues none.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn receive_error(
        &mut self,
        id: SocketId,
        into: &mut [IoSliceMut<'_>],
    ) -> Result<ErrorReport, Error> {
        match id {
            SocketId::Tcp(_) => Err(Error::WouldBlock),
            SocketId::Udp(id) => self.udp.receive_error(id, into),
        }
    }

    /// recvmsg(2) with `MSG_ERRQUEUE` on a stream: the first and the last number of sends with
    /// `MSG_ZEROCOPY` that are complete.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, `OperationNotSupported` on UDP.
    pub fn receive_completions(&mut self, id: SocketId) -> Result<(u32, u32), Error> {
        self.tcp.receive_completions(stream(id)?)
    }

    /// `SIOCINQ`: octets of a stream that can be read, or of the first datagram.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn receive_available(&self, id: SocketId) -> Result<u32, Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.receive_available(id),
            SocketId::Udp(id) => self.udp.receive_available(id),
        }
    }

    /// What `TCP_INQ` reports beside received data.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP, `InvalidArgument` for a listener.
    pub fn receive_hint(&self, id: SocketId) -> Result<u32, Error> {
        self.tcp.receive_hint(stream(id)?)
    }

    /// `SIOCOUTQ`: octets not yet acknowledged. Datagrams leave at once.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn send_queued(&self, id: SocketId) -> Result<u32, Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.send_queued(id),
            SocketId::Udp(id) => self.udp.options(id).map(|_| 0),
        }
    }

    /// `SIOCOUTQNSD`: octets not yet sent.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn send_unsent(&self, id: SocketId) -> Result<u32, Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.send_unsent(id),
            SocketId::Udp(id) => self.udp.options(id).map(|_| 0),
        }
    }

    /// `SIOCATMARK`.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP.
    pub fn at_urgent_mark(&self, id: SocketId) -> Result<bool, Error> {
        self.tcp.at_urgent_mark(stream(id)?)
    }

    /// shutdown(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn shutdown(&mut self, now: Instant, id: SocketId, how: Shutdown) -> Result<(), Error> {
        let shut = match id {
            SocketId::Tcp(id) => self.tcp.shutdown(tcp_context!(self, now), id, how),
            SocketId::Udp(id) => self.udp.shutdown(id, how),
        };
        self.transmit(now);
        shut
    }

    /// The program is done with the socket; TCP finishes in the background, or resets, by its
    /// linger option.
    pub fn close(&mut self, now: Instant, id: SocketId) {
        match id {
            SocketId::Tcp(id) => self.tcp.close(tcp_context!(self, now), id),
            SocketId::Udp(id) => self.udp.close(id),
        }
        self.transmit(now);
    }

    /// The program was killed: resets the connection and forgets the socket.
    pub fn abort(&mut self, now: Instant, id: SocketId) {
        match id {
            SocketId::Tcp(id) => self.tcp.abort(tcp_context!(self, now), id),
            SocketId::Udp(id) => self.udp.close(id),
        }
        self.transmit(now);
    }

    /// What poll(2) would say. Empty for a stale handle.
    pub fn readiness(&mut self, id: SocketId) -> Readiness {
        match id {
            SocketId::Tcp(id) => self.tcp.readiness(id),
            SocketId::Udp(id) => self.udp.readiness(id),
        }
    }

    /// `SO_ERROR`: the pending error, which is cleared.
    pub fn take_error(&mut self, id: SocketId) -> Option<Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.take_error(id),
            SocketId::Udp(id) => self.udp.take_error(id),
        }
    }

    /// getsockname(2).
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn local_address(&self, id: SocketId) -> Result<SocketAddr, Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.local_address(id),
            SocketId::Udp(id) => self.udp.local_address(id),
        }
    }

    /// getpeername(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn remote_address(&self, id: SocketId) -> Result<SocketAddr, Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.remote_address(id),
            SocketId::Udp(id) => self.udp.remote_address(id),
        }
    }

    /// TCP's state; `None` for UDP.
    #[must_use]
    pub fn state(&self, id: SocketId) -> Option<State> {
        match id {
            SocketId::Tcp(id) => Some(self.tcp.state(id)),
            SocketId::Udp(_) => None,
        }
    }

    /// Its options.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn options(&self, id: SocketId) -> Result<&Options, Error> {
        match id {
            SocketId::Tcp(id) => self.tcp.options(id),
            SocketId::Udp(id) => self.udp.options(id),
        }
    }

    /// Changes its options; what they change takes effect at once.
    ///
    /// # Errors
    /// `BadDescriptor`; sending's, when a corked datagram is released.
    pub fn update_options(
        &mut self,
        now: Instant,
        id: SocketId,
        change: impl FnOnce(&mut Options),
    ) -> Result<(), Error> {
        let changed = match id {
            SocketId::Tcp(id) => self.tcp.update_options(tcp_context!(self, now), id, change),
            SocketId::Udp(id) => self.udp.update_options(udp_context!(self, now), id, change),
        };
        self.transmit(now);
        changed
    }

    /// `TCP_INFO`.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP.
    pub fn info(&self, now: Instant, id: SocketId) -> Result<TcpInfo, Error> {
        self.tcp.info(stream(id)?, now)
    }

    /// The address that a program means: connecting to "any" means this host.
    fn named(&self, address: IpAddr) -> IpAddr {
        let own = || self.ip.addresses().iter().map(|c| c.address()).find(IpAddr::is_ipv4);
        match address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
                if self.ip.is_local(here) { here } else { own().unwrap_or(address) }
            }
            _ => address,
        }
    }

    /// The route to `remote` for a socket at `local`.
    fn way(&self, remote: IpAddr, local: IpAddr, dont_route: bool) -> Result<RouteInfo, Error> {
        let route = match self.last_route_to(remote) {
            Some(route) => *route,
            None => self.ip.route(remote).map_err(|_| Error::NetworkUnreachable)?,
        };
        if dont_route && route.gateway.is_some() {
            return Err(Error::NetworkUnreachable);
        }
        // //= RFC 1122 §3.2.1.3 (g): loopback addresses never leave the host.
        if local.is_loopback() && route.hop != Hop::Loopback {
            return Err(Error::InvalidArgument);
        }
        Ok(route)
    }

    fn may_broadcast(&self, route: &RouteInfo, options: &Options) -> Result<(), Error> {
        let forbidden = route.kind == RouteKind::Broadcast && !options.broadcast;
        if forbidden { Err(Error::PermissionDenied) } else { Ok(()) }
    }

    /// How a datagram travels.
    fn path(
        &self,
        now: Instant,
        id: UdpId,
        to: Option<SocketAddr>,
        control: &SendControl,
        flags: SendFlags,
    ) -> Result<Path, Error> {
        let to = to.map(|to| SocketAddr::new(self.named(to.ip()), to.port()));
        let remote = self.udp.destination(id, to)?;
        let options = self.udp.options(id)?;
        let bound = self.udp.local_address(id)?.ip();
        let local = control.source.filter(|source| !source.is_unspecified()).unwrap_or(bound);
        if control.source.is_some()
            && is_host(local)
            && !self.ip.is_local(local)
            && !options.free_bind
        {
            return Err(Error::InvalidArgument);
        }
        let route = self.way(remote.ip(), local, flags.dont_route || options.dont_route)?;
        self.may_broadcast(&route, options)?;
        let multicast = route.kind == RouteKind::Multicast;
        let known = match options.path_mtu_discovery {
            PathMtuDiscovery::Dont | PathMtuDiscovery::Probe => None,
            PathMtuDiscovery::Want | PathMtuDiscovery::Do => self.path_mtus.get(remote.ip(), now),
        };
        let mtu = route.mtu.min(known.unwrap_or(u16::MAX));
        Ok(Path {
            source: if is_host(local) { local } else { route.source },
            remote,
            mtu,
            piece: mtu.min(self.piece),
            traffic_class: control.traffic_class.unwrap_or(options.traffic_class),
            // //= RFC 1112 §6.1: groups are not reached beyond the link unless asked for.
            hop_limit: control.hop_limit.unwrap_or(if multicast { 1 } else { options.hop_limit }),
            segment_size: control.segment_size.unwrap_or(options.udp_segment),
        })
    }
}

/// Whether packets can have this source: it is one host's.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast(),
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_multicast(),
    }
}

pub(super) fn stream(id: SocketId) -> Result<TcpId, Error> {
    match id {
        SocketId::Tcp(id) => Ok(id),
        SocketId::Udp(_) => Err(Error::OperationNotSupported),
    }
}

fn datagram(id: SocketId) -> Result<UdpId, Error> {
    match id {
        SocketId::Udp(id) => Ok(id),
        SocketId::Tcp(_) => Err(Error::OperationNotSupported),
    }
}
