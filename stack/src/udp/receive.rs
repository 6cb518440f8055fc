//! Datagrams in: checked, matched, queued, and read.

use super::socket::Socket;
use super::{Context, Part, Udp, UdpId};
use crate::collections::Handle;
use crate::error::Error;
use crate::packet::{Allocator, Buffer, IpMeta};
use crate::socket::ReceiveFlags;
use crate::time::Instant;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::udp::{HEADER_LEN, Header};
use core::net::{IpAddr, SocketAddr};
use std::io::IoSliceMut;

/// UDP's number among IP's protocols.
pub(super) const PROTOCOL: u8 = 17;

/// A datagram as IP hands it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Its addresses.
    pub meta: IpMeta,
    /// Sent to everybody or to a group: every matching socket hears it.
    pub to_many: bool,
    /// The device has verified its checksum.
    pub verified: bool,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery<B> {
    /// It was queued, or dropped and counted.
    Done,
    /// No socket is on its port: here is its first buffer, from the UDP header on.
    NoPort(B),
}

/// A datagram that waits to be read.
#[derive(Debug)]
pub(super) struct Datagram<B> {
    /// Its payload, or the beginning of it.
    first: B,
    /// The rest, a list of parts.
    rest: Option<Handle>,
    len: u32,
    cost: u32,
    source: SocketAddr,
    meta: IpMeta,
    at: Instant,
    next: Option<Handle>,
}

/// What receiving gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets copied.
    pub len: usize,
    /// Octets of the datagram; more than `len` if it was cut off (`MSG_TRUNC`).
    pub datagram_len: usize,
    /// Who sent it; `None` if there was no datagram because reading is shut.
    pub source: Option<SocketAddr>,
    /// The address it was sent to.
    pub destination: IpAddr,
    /// Its DSCP and ECN.
    pub traffic_class: u8,
    /// What was left of its hop limit.
    pub hop_limit: u8,
    /// When it arrived.
    pub at: Instant,
}

/// What Linux accounts for a datagram of `len` octets in one buffer (`SKB_TRUESIZE`): the socket
/// buffer, the shared info, and data in a power of two.
fn cost(len: usize) -> u32 {
    const SK_BUFF: usize = 256;
    const SHARED_INFO: usize = 320;
    const HEADERS: usize = 14 + 20 + 8;
    (SK_BUFF + (len + HEADERS + SHARED_INFO).next_power_of_two().max(512)) as u32
}

impl<B: Buffer> Udp<B> {
    /// A datagram for one of our addresses, from the UDP header on: `first`, and the buffers
    /// that follow it if it came in fragments.
    pub fn on_packet<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        arrived: Arrived,
        mut first: B,
        rest: &mut [Option<B>],
    ) -> Delivery<B> {
        let total =
            first.data().len() + rest.iter().flatten().map(|b| b.data().len()).sum::<usize>();
        let Some(header) = Header::parse(first.data(), total) else {
            cx.counters.in_length_errors += 1;
            return Delivery::Done;
        };
        let len = usize::from(header.len);
        cut(&mut first, rest, len);
        if !arrived.verified
            && header.checksum != 0
            && !checksum_holds(&arrived.meta, &first, rest, len)
        {
            cx.counters.in_checksum_errors += 1;
            return Delivery::Done;
        }
        let source = SocketAddr::new(arrived.meta.source, header.source_port);
        let port = header.destination_port;
        if arrived.to_many {
            self.deliver_to_all(cx, &arrived.meta, source, port, first, rest);
            return Delivery::Done;
        }
        let Some(index) = self.find_receiver(&arrived.meta, source.port(), port) else {
            cx.counters.no_ports += 1;
            return Delivery::NoPort(first);
        };
        first.trim_front(HEADER_LEN);
        self.enqueue(cx, index, &arrived.meta, source, first, rest);
        Delivery::Done
    }

    fn deliver_to_all<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        meta: &IpMeta,
        source: SocketAddr,
        port: u16,
        mut first: B,
        rest: &mut [Option<B>],
    ) {
        first.trim_front(HEADER_LEN);
        let mut receiver = self.next_receiver(None, meta, source.port(), port);
        if receiver.is_none() {
            cx.counters.no_ports += 1;
        }
        while let Some(index) = receiver {
            receiver = self.next_receiver(Some(index), meta, source.port(), port);
            if receiver.is_none() {
                return self.enqueue(cx, index, meta, source, first, rest);
            }
            // Nobody changes a queued buffer, so all may share one; large ones go to the last.
            if rest.is_empty() {
                let copy = first.share();
                self.enqueue(cx, index, meta, source, copy, &mut []);
            }
        }
    }

    fn enqueue<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        meta: &IpMeta,
        source: SocketAddr,
        first: B,
        rest: &mut [Option<B>],
    ) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if meta.hop_limit < socket.options.min_hop_limit {
            cx.counters.in_hop_limit_errors += 1;
            return;
        }
        // As on Linux one datagram more than the limit fits, so that any one can be received.
        if socket.received_cost > socket.options.receive_buffer {
            socket.drops += 1;
            cx.counters.receive_buffer_errors += 1;
            return;
        }
        let mut len = first.data().len();
        let mut total_cost = cost(len);
        for part in rest.iter().flatten() {
            len += part.data().len();
            total_cost += cost(part.data().len());
        }
        let parts = rest.iter().flatten().count();
        if self.datagrams.is_full() || self.parts.capacity() - self.parts.len() < parts {
            socket.drops += 1;
            cx.counters.table_full_errors += 1;
            return;
        }
        let rest = store(&mut self.parts, rest);
        let datagram = Datagram {
            first,
            rest,
            len: len as u32,
            cost: total_cost,
            source,
            meta: *meta,
            at: cx.now,
            next: None,
        };
        let Ok(handle) = self.datagrams.insert(datagram) else { return };
        if let Some(last) = socket.received.last.and_then(|last| self.datagrams.get_mut(last)) {
            last.next = Some(handle);
        } else {
            socket.received.first = Some(handle);
        }
        socket.received.last = Some(handle);
        socket.received.len += 1;
        socket.received_cost += total_cost;
        socket.received_octets += len as u32;
        cx.counters.in_datagrams += 1;
        self.events.push_back(index);
    }

    /// Copies the first datagram out.
    ///
    /// # Errors
    /// The pending error, `WouldBlock` when there is no datagram.
    pub fn receive(
        &mut self,
        id: UdpId,
        into: &mut [IoSliceMut<'_>],
        flags: ReceiveFlags,
    ) -> Result<Received, Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        if flags.urgent {
            return Err(Error::OperationNotSupported);
        }
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let Some(handle) = socket.received.first else {
            return if socket.shut_read { Ok(end_of_file(socket)) } else { Err(Error::WouldBlock) };
        };
        let datagram = self.datagrams.get(handle).ok_or(Error::WouldBlock)?;
        let mut copier = Copier::new(into);
        let mut more = copier.copy(datagram.first.data());
        let mut at = datagram.rest;
        while let Some(part) = at.filter(|_| more).and_then(|part| self.parts.get(part)) {
            more = copier.copy(part.buffer.data());
            at = part.next;
        }
        let received = Received {
            len: copier.copied,
            datagram_len: datagram.len as usize,
            source: Some(datagram.source),
            destination: datagram.meta.destination,
            traffic_class: datagram.meta.traffic_class,
            hop_limit: datagram.meta.hop_limit,
            at: datagram.at,
        };
        if !flags.peek {
            self.pop_received(id);
        }
        Ok(received)
    }

    /// `SIOCINQ`: octets of the first datagram, or 0.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn receive_available(&self, id: UdpId) -> Result<u32, Error> {
        let first = self.get(id)?.received.first;
        Ok(first.and_then(|handle| self.datagrams.get(handle)).map_or(0, |d| d.len))
    }

    fn pop_received(&mut self, id: UdpId) -> bool {
        let Some(socket) = self.sockets.get_mut(id.0) else { return false };
        let Some(datagram) = socket.received.first.and_then(|h| self.datagrams.remove(h)) else {
            return false;
        };
        socket.received.first = datagram.next;
        if datagram.next.is_none() {
            socket.received.last = None;
        }
        socket.received.len -= 1;
        socket.received_cost -= datagram.cost;
        socket.received_octets -= datagram.len;
        let mut at = datagram.rest;
        while let Some(part) = at.and_then(|handle| self.parts.remove(handle)) {
            at = part.next;
        }
        true
    }

    pub(super) fn drop_received(&mut self, id: UdpId) {
        while self.pop_received(id) {}
    }
}

/// Reading is shut and nothing is left: an empty answer from nobody.
fn end_of_file(socket: &Socket) -> Received {
    Received {
        len: 0,
        datagram_len: 0,
        source: None,
        destination: socket.local_address,
        traffic_class: 0,
        hop_limit: 0,
        at: Instant::ZERO,
    }
}

/// Cuts a datagram to `len` octets: IP may carry more than UDP says.
fn cut<B: Buffer>(first: &mut B, rest: &mut [Option<B>], len: usize) {
    let mut left = len;
    first.truncate(left);
    left -= first.data().len();
    for slot in rest {
        if let Some(part) = slot.as_mut() {
            part.truncate(left);
            left -= part.data().len();
            if part.data().is_empty() {
                *slot = None;
            }
        }
    }
}

fn checksum_holds<B: Buffer>(meta: &IpMeta, first: &B, rest: &[Option<B>], len: usize) -> bool {
    let mut sum = pseudo_header(meta.source, meta.destination, PROTOCOL, len);
    sum = sum.plus(Sum::of(first.data()));
    // Every fragment but the last has a multiple of 8 octets, so each starts at an even offset.
    for part in rest.iter().flatten() {
        sum = sum.plus(Sum::of(part.data()));
    }
    sum.finish() == 0
}

/// Puts buffers into the table as a list and returns its head. There must be room.
fn store<B: Buffer>(
    parts: &mut crate::collections::Slab<Part<B>>,
    buffers: &mut [Option<B>],
) -> Option<Handle> {
    let mut next = None;
    for buffer in buffers.iter_mut().rev().filter_map(Option::take) {
        next = parts.insert(Part { buffer, next }).ok();
    }
    next
}

/// Fills a list of slices from several pieces.
pub(super) struct Copier<'a, 'b> {
    into: &'a mut [IoSliceMut<'b>],
    slice: usize,
    at: usize,
    pub copied: usize,
}

impl<'a, 'b> Copier<'a, 'b> {
    pub fn new(into: &'a mut [IoSliceMut<'b>]) -> Self {
        Copier { into, slice: 0, at: 0, copied: 0 }
    }

    /// Copies as much as fits; whether all did.
    pub fn copy(&mut self, mut from: &[u8]) -> bool {
        while !from.is_empty() {
            let Some(slice) = self.into.get_mut(self.slice) else { return false };
            let n = from.len().min(slice.len() - self.at);
            slice[self.at..self.at + n].copy_from_slice(&from[..n]);
            from = &from[n..];
            self.at += n;
            self.copied += n;
            if self.at == slice.len() {
                self.slice += 1;
                self.at = 0;
            }
        }
        true
    }
}
