//! Datagrams out: cut to the path's MTU, corked, queued for the shard.
//!
//! A datagram larger than the path's MTU is copied straight into buffers of one fragment each; IP
//! only puts its headers in front.

use super::receive::PROTOCOL;
use super::{Context, Part, TRANSMIT_QUEUE, Udp, UdpId};
use crate::collections::Handle;
use crate::error::Error;
use crate::options::PathMtuDiscovery;
use crate::packet::{Allocator, Buffer};
use crate::socket::SendFlags;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::udp::{HEADER_LEN, Header};
use core::net::{IpAddr, SocketAddr};
use std::io::IoSlice;

/// Octets of an IPv4 header.
const IP_HEADER_LEN: usize = 20;
/// Datagrams that one call with `UDP_SEGMENT` may make (Linux's `UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 128;

/// How a datagram travels: the caller has routed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Our address.
    pub source: IpAddr,
    /// Whom it is for.
    pub remote: SocketAddr,
    /// The largest IP packet the route carries, in octets.
    pub mtu: u16,
    /// The largest IP packet a buffer of ours should hold, in octets: `mtu`, but less where the
    /// route (loopback) carries more than the link.
    pub piece: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The hop limit it starts with.
    pub hop_limit: u8,
    /// `UDP_SEGMENT`, in octets; 0 means one datagram.
    pub segment_size: u16,
}

/// Which part of a datagram a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// All of it; the checksum field is zero.
    Whole,
    /// A fragment; the checksum is filled in.
    Fragment {
        /// Octets of the datagram before this.
        offset: u16,
        /// Whether more follows.
        more: bool,
    },
}

/// A packet for IP to send. The fragments of one datagram come one after another.
#[derive(Debug)]
pub struct Transmit<B> {
    /// Our address.
    pub source: IpAddr,
    /// The peer's.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The hop limit it starts with.
    pub hop_limit: u8,
    /// Routers must not fragment it.
    pub dont_fragment: bool,
    /// The octets after the IP header.
    pub packet: B,
    /// What they are.
    pub piece: Piece,
}

/// A datagram in the making: a list of buffers.
#[derive(Debug)]
pub(super) struct Cork {
    path: Path,
    first: Option<Handle>,
    last: Option<Handle>,
    pieces: usize,
    /// Octets of payload.
    len: usize,
}

impl<B: Buffer> Udp<B> {
    /// The address that a datagram goes to: `to`, or what the socket is connected to.
    ///
    /// # Errors
    /// `DestinationRequired`, `AddressFamilyNotSupported`, `InvalidArgument` for port 0.
    pub fn destination(&self, id: UdpId, to: Option<SocketAddr>) -> Result<SocketAddr, Error> {
        let socket = self.get(id)?;
        // //= udp(7): while corked, every piece goes where the first one does.
        let corked = socket.cork.as_ref().map(|cork| cork.path.remote);
        let to = corked.or(to).or(socket.remote).ok_or(Error::DestinationRequired)?;
        if crate::socket::Family::of(to.ip()) != socket.family {
            return Err(Error::AddressFamilyNotSupported);
        }
        if to.port() == 0 { Err(Error::InvalidArgument) } else { Ok(to) }
    }

    /// Sends one datagram (or adds to the corked one), and returns its length.
    ///
    /// # Errors
    /// The pending error, `BrokenPipe` when writing is shut, `MessageTooLong`, `WouldBlock` while
    /// the device takes nothing, `NoBufferSpace`.
    pub fn send<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        path: &Path,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize, Error> {
        let len: usize = data.iter().map(|slice| slice.len()).sum();
        if len > usize::from(u16::MAX) {
            return Err(Error::MessageTooLong);
        }
        if flags.urgent {
            return Err(Error::OperationNotSupported);
        }
        let socket = self.get_mut(id)?;
        if socket.shut_write {
            return Err(Error::BrokenPipe);
        }
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        self.autobind(cx.rng, id)?;
        let socket = self.get_mut(id)?;
        let hold = flags.more || socket.options.udp_cork;
        if hold || socket.cork.is_some() {
            self.append_corked(cx, id, path, data, len)?;
            return if hold { Ok(len) } else { self.push(cx, id).map(|()| len) };
        }
        let segment = usize::from(path.segment_size);
        if segment > 0 && len > segment {
            return self.send_segments(cx, id, path, data, len, segment);
        }
        self.send_one(cx, id, path, &mut Source::new(data), len)?;
        Ok(len)
    }

    /// The one packet in which a datagram leaves now, if that is what [`Udp::send`] and
    /// [`Udp::poll_transmit`] would come to; `None`: nothing has changed.
    #[inline]
    pub fn send_at_once<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        path: &Path,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Option<Transmit<B>> {
        let [data] = data else { return None };
        let segment = usize::from(path.segment_size);
        let whole = data.len() + HEADER_LEN <= piece_limit(path)
            && (segment == 0 || data.len() <= segment)
            && self.transmits.is_empty()
            && flags.is_plain();
        let socket = self.sockets.get_mut(id.0).filter(|_| whole)?;
        let ready = !socket.shut_write
            && socket.error.is_none()
            && socket.cork.is_none()
            && !socket.options.udp_cork
            && socket.local_port != 0;
        let room = |buffer: &B| buffer.tailroom() >= HEADER_LEN + data.len();
        let mut packet = if ready { cx.allocator.allocate().filter(room)? } else { return None };
        let header = Header {
            source_port: socket.local_port,
            destination_port: path.remote.port(),
            len: (HEADER_LEN + data.len()) as u16,
            checksum: 0,
        };
        header.emit(packet.append(HEADER_LEN));
        packet.append(data.len()).copy_from_slice(data);
        cx.counters.out_datagrams += 1;
        Some(Transmit {
            source: path.source,
            destination: path.remote.ip(),
            traffic_class: path.traffic_class,
            hop_limit: path.hop_limit,
            dont_fragment: socket.options.path_mtu_discovery != PathMtuDiscovery::Dont,
            packet,
            piece: Piece::Whole,
        })
    }

    fn send_segments<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        path: &Path,
        data: &[IoSlice<'_>],
        len: usize,
        segment: usize,
    ) -> Result<usize, Error> {
        let fits = segment + HEADER_LEN + IP_HEADER_LEN <= usize::from(path.mtu);
        if !fits || len > segment * MAX_SEGMENTS {
            return Err(Error::InvalidArgument);
        }
        if TRANSMIT_QUEUE - self.transmits.len() < len.div_ceil(segment) {
            return Err(self.block(id));
        }
        let mut source = Source::new(data);
        let mut sent = 0;
        while sent < len {
            let n = segment.min(len - sent);
            match self.send_one(cx, id, path, &mut source, n) {
                Ok(()) => sent += n,
                // As on a device that drops: what went, went.
                Err(_) if sent > 0 => return Ok(len),
                Err(error) => return Err(error),
            }
        }
        Ok(len)
    }

    fn send_one<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        path: &Path,
        data: &mut Source<'_>,
        len: usize,
    ) -> Result<(), Error> {
        let mut cork = Cork { path: *path, first: None, last: None, pieces: 0, len: 0 };
        let built = self.append(cx, id, &mut cork, data, len);
        let sent = built.and_then(|()| self.finish(cx, id, &mut cork));
        if sent.is_err() {
            self.free(&mut cork);
        }
        sent
    }

    fn append_corked<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        path: &Path,
        data: &[IoSlice<'_>],
        len: usize,
    ) -> Result<(), Error> {
        let fresh = Cork { path: *path, first: None, last: None, pieces: 0, len: 0 };
        let mut cork = self.get_mut(id)?.cork.take().unwrap_or(fresh);
        let appended = self.append(cx, id, &mut cork, &mut Source::new(data), len);
        match appended {
            Ok(()) => self.get_mut(id)?.cork = Some(cork),
            Err(_) => self.free(&mut cork),
        }
        appended
    }

    /// Adds `len` octets of `data` to the datagram. An error leaves it unfinished.
    fn append<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        cork: &mut Cork,
        data: &mut Source<'_>,
        len: usize,
    ) -> Result<(), Error> {
        self.check_length(cx, id, &cork.path, cork.len + len)?;
        let mut left = len;
        while left > 0 || cork.first.is_none() {
            let limit = piece_limit(&cork.path);
            let last = cork.last.and_then(|handle| self.parts.get_mut(handle));
            let room = last.map_or(0, |part| {
                let have = part.buffer.data().len();
                let capacity = limit.min(have + part.buffer.tailroom()) & !7;
                let room = capacity.saturating_sub(have);
                let n = room.min(left);
                data.copy(part.buffer.append(n));
                left -= n;
                cork.len += n;
                room
            });
            if cork.first.is_none() || (left > 0 && room == 0) {
                self.add_piece(cx, id, cork)?;
            }
        }
        Ok(())
    }

    fn check_length<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        path: &Path,
        len: usize,
    ) -> Result<(), Error> {
        let socket = self.get(id)?;
        let strict = matches!(
            socket.options.path_mtu_discovery,
            PathMtuDiscovery::Do | PathMtuDiscovery::Probe
        );
        if strict && len + HEADER_LEN + IP_HEADER_LEN > usize::from(path.mtu) {
            // //= ip(7), IP_RECVERR: tracepath reads the MTU from a local error.
            let local = SocketAddr::new(path.source, socket.local_port);
            self.on_local_error(cx, id, local, path.remote, path.mtu);
            return Err(Error::MessageTooLong);
        }
        if len > super::MAX_PAYLOAD { Err(Error::MessageTooLong) } else { Ok(()) }
    }

    fn add_piece<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        cork: &mut Cork,
    ) -> Result<(), Error> {
        if self.transmits.len() + cork.pieces >= TRANSMIT_QUEUE {
            return Err(self.block(id));
        }
        let buffer = cx.allocator.allocate().filter(|b| b.tailroom() >= 2 * HEADER_LEN);
        let Some(mut buffer) = buffer else {
            cx.counters.send_buffer_errors += 1;
            // What is queued will free buffers, if anything is.
            let waits = !self.transmits.is_empty();
            return Err(if waits { self.block(id) } else { Error::NoBufferSpace });
        };
        if cork.first.is_none() {
            buffer.append(HEADER_LEN).fill(0);
        }
        let part = Part { buffer, next: None };
        let handle = self.parts.insert(part).map_err(|_| Error::NoBufferSpace)?;
        match cork.last.and_then(|last| self.parts.get_mut(last)) {
            Some(last) => last.next = Some(handle),
            None => cork.first = Some(handle),
        }
        cork.last = Some(handle);
        cork.pieces += 1;
        Ok(())
    }

    /// Sends the corked datagram, if there is one.
    ///
    /// # Errors
    /// As `send`'s; the datagram is lost then.
    pub fn push<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
    ) -> Result<(), Error> {
        let Some(mut cork) = self.get_mut(id)?.cork.take() else { return Ok(()) };
        let sent = self.finish(cx, id, &mut cork);
        self.free(&mut cork);
        sent
    }

    /// Completes the datagram's header and queues its pieces.
    fn finish<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        cork: &mut Cork,
    ) -> Result<(), Error> {
        let socket = self.get(id)?;
        if self.transmits.len() + cork.pieces > TRANSMIT_QUEUE {
            return Err(self.block(id));
        }
        let path = cork.path;
        let total = cork.len + HEADER_LEN;
        let dont_fragment = match socket.options.path_mtu_discovery {
            PathMtuDiscovery::Dont => false,
            PathMtuDiscovery::Want => total + IP_HEADER_LEN <= usize::from(path.mtu),
            PathMtuDiscovery::Do | PathMtuDiscovery::Probe => true,
        } && cork.pieces == 1;
        let header = Header {
            source_port: socket.local_port,
            destination_port: path.remote.port(),
            len: total as u16,
            checksum: 0,
        };
        self.write_header(cork, header);
        let mut offset = 0;
        while let Some(part) = cork.first.and_then(|handle| self.parts.remove(handle)) {
            cork.first = part.next;
            let more = part.next.is_some();
            let piece = if offset == 0 && !more {
                Piece::Whole
            } else {
                Piece::Fragment { offset: offset as u16, more }
            };
            offset += part.buffer.data().len();
            self.transmits.push_back(Transmit {
                source: path.source,
                destination: path.remote.ip(),
                traffic_class: path.traffic_class,
                hop_limit: path.hop_limit,
                dont_fragment,
                packet: part.buffer,
                piece,
            });
        }
        cork.last = None;
        cx.counters.out_datagrams += 1;
        Ok(())
    }

    /// Writes the header, with the checksum if the datagram is cut: no device can sum it then.
    fn write_header(&mut self, cork: &Cork, mut header: Header) {
        if cork.pieces > 1 {
            let Path { source, remote, .. } = cork.path;
            let mut bytes = [0; HEADER_LEN];
            header.emit(&mut bytes);
            let len = usize::from(header.len);
            let mut sum = pseudo_header(source, remote.ip(), PROTOCOL, len).plus(Sum::of(&bytes));
            let mut at = cork.first;
            while let Some(part) = at.and_then(|handle| self.parts.get(handle)) {
                // The first piece's header is still zero; every piece but the last is even.
                sum = sum.plus(Sum::of(part.buffer.data()));
                at = part.next;
            }
            header.checksum = nonzero(sum.finish());
        }
        if let Some(part) = cork.first.and_then(|handle| self.parts.get_mut(handle)) {
            header.emit(part.buffer.data_mut());
        }
    }

    fn free(&mut self, cork: &mut Cork) {
        while let Some(part) = cork.first.and_then(|handle| self.parts.remove(handle)) {
            cork.first = part.next;
        }
    }

    pub(super) fn drop_cork(&mut self, id: UdpId) {
        if let Some(mut cork) = self.sockets.get_mut(id.0).and_then(|s| s.cork.take()) {
            self.free(&mut cork);
        }
    }

    /// Whether [`Udp::poll_transmit`] has anything to hand out.
    #[inline]
    pub fn wants_transmit(&self) -> bool {
        !self.transmits.is_empty()
    }

    /// The next packet to send; call until `None`.
    #[inline]
    pub fn poll_transmit(&mut self) -> Option<Transmit<B>> {
        let transmit = self.transmits.pop_front()?;
        if !self.blocked.is_empty() && self.has_room() {
            while let Some(index) = self.blocked.pop_front() {
                self.events.push_back(index);
            }
        }
        Some(transmit)
    }

    /// Whether sockets count as writable.
    pub(super) fn has_room(&self) -> bool {
        self.transmits.len() <= TRANSMIT_QUEUE / 2
    }

    fn block(&mut self, id: UdpId) -> Error {
        self.blocked.push_back(id.0.index());
        Error::WouldBlock
    }
}

/// Octets of one piece, UDP header included: what the path carries, cut where fragments may be.
fn piece_limit(path: &Path) -> usize {
    let room = usize::from(path.piece.min(path.mtu)).saturating_sub(IP_HEADER_LEN);
    (room & !7).max(16)
}

/// A checksum of zero would mean that there is none (RFC 768).
#[must_use]
pub(crate) fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The caller's slices, read once from front to back.
struct Source<'a> {
    slices: &'a [IoSlice<'a>],
    slice: usize,
    at: usize,
}

impl<'a> Source<'a> {
    fn new(slices: &'a [IoSlice<'a>]) -> Self {
        Source { slices, slice: 0, at: 0 }
    }

    /// Fills `into` with the next octets.
    fn copy(&mut self, mut into: &mut [u8]) {
        while !into.is_empty() {
            let Some(slice) = self.slices.get(self.slice) else { return };
            let n = into.len().min(slice.len() - self.at);
            let (head, tail) = into.split_at_mut(n);
            head.copy_from_slice(&slice[self.at..self.at + n]);
            into = tail;
            self.at += n;
            if self.at == slice.len() {
                self.slice += 1;
                self.at = 0;
            }
        }
    }
}
