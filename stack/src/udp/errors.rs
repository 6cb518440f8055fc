//! What ICMP says about our datagrams: the pending error, and the error queue of `IP_RECVERR`.

use super::receive::Copier;
use super::{Context, Udp, UdpId};
use crate::collections::Handle;
use crate::error::Error;
use crate::options::PathMtuDiscovery;
use crate::packet::{Allocator, Buffer, IpMeta};
use core::net::{IpAddr, SocketAddr};
use std::io::IoSliceMut;

/// Reports that one socket queues.
const MAX_ERRORS_EACH: u32 = 64;

/// Who reports an error (`sock_extended_err`'s `ee_origin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorOrigin {
    /// This stack.
    Local,
    /// An ICMP message.
    Icmp,
}

/// A datagram of ours did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// Where it came from.
    pub local: SocketAddr,
    /// Where it was to go.
    pub remote: SocketAddr,
    /// What it means to a program.
    pub error: Error,
    /// Reported to connected sockets even without `IP_RECVERR`.
    pub hard: bool,
    /// Who says so.
    pub origin: ErrorOrigin,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// The MTU of "fragmentation needed", else 0.
    pub info: u32,
    /// Who sent the ICMP message.
    pub offender: Option<IpAddr>,
}

/// A report as recvmsg(2) with `MSG_ERRQUEUE` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReport {
    /// Octets of the offending datagram's payload copied.
    pub len: usize,
    /// Octets of it that ICMP quoted.
    pub datagram_len: usize,
    /// What happened, and to what; `report.remote` is the message's name.
    pub report: Unreachable,
}

#[derive(Debug)]
pub(super) struct ErrorEntry<B> {
    report: Unreachable,
    /// What was quoted of the payload.
    quote: Option<B>,
    next: Option<Handle>,
}

impl<B: Buffer> Udp<B> {
    /// Reports an error to the socket that sent the datagram. `quote` is what is known of its
    /// payload.
    pub fn on_unreachable<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        report: &Unreachable,
        quote: Option<B>,
    ) -> bool {
        // The datagram's answer would have come to the socket that sent it.
        let meta = IpMeta {
            source: report.remote.ip(),
            destination: report.local.ip(),
            traffic_class: 0,
            hop_limit: u8::MAX,
        };
        let receiver = self.find_receiver(&meta, report.remote.port(), report.local.port());
        let Some(index) = receiver else { return false };
        let Some(socket) = self.sockets.at_mut(index) else { return false };
        let too_big = report.error == Error::MessageTooLong;
        if too_big && socket.options.path_mtu_discovery == PathMtuDiscovery::Dont {
            return true; // Routers cut what this socket sends.
        }
        if socket.options.receive_errors {
            self.queue_error(cx, index, report, quote);
        } else if !report.hard || socket.remote.is_none() {
            // //= RFC 1122 §4.1.3.3; udp(7): only connected sockets hear of errors unasked.
            return true;
        }
        if let Some(socket) = self.sockets.at_mut(index) {
            socket.error = Some(report.error);
            self.events.push_back(index);
        }
        true
    }

    /// A datagram did not fit the path: queued for who asked to know, but not pending.
    pub(super) fn on_local_error<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: UdpId,
        local: SocketAddr,
        remote: SocketAddr,
        mtu: u16,
    ) {
        if !self.sockets.get(id.0).is_some_and(|socket| socket.options.receive_errors) {
            return;
        }
        let report = Unreachable {
            local,
            remote,
            error: Error::MessageTooLong,
            hard: true,
            origin: ErrorOrigin::Local,
            kind: 0,
            code: 0,
            info: u32::from(mtu),
            offender: None,
        };
        self.queue_error(cx, id.0.index(), &report, None);
        self.events.push_back(id.0.index());
    }

    fn queue_error<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        report: &Unreachable,
        quote: Option<B>,
    ) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let entry = ErrorEntry { report: *report, quote, next: None };
        let full = socket.errors.len >= MAX_ERRORS_EACH;
        let inserted = if full { None } else { self.errors.insert(entry).ok() };
        let Some(handle) = inserted else {
            cx.counters.error_queue_full += 1;
            return;
        };
        match socket.errors.last.and_then(|last| self.errors.get_mut(last)) {
            Some(last) => last.next = Some(handle),
            None => socket.errors.first = Some(handle),
        }
        socket.errors.last = Some(handle);
        socket.errors.len += 1;
    }

    /// Takes the first report from the error queue.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn receive_error(
        &mut self,
        id: UdpId,
        into: &mut [IoSliceMut<'_>],
    ) -> Result<ErrorReport, Error> {
        let entry = self.pop_error(id).ok_or(Error::WouldBlock)?;
        let next = self.get(id)?.errors.first.and_then(|first| self.errors.get(first));
        let pending = next.map(|next| next.report.error);
        // As Linux's sock_dequeue_err_skb: the pending error is that of the next report.
        self.get_mut(id)?.error = pending;
        let quote = entry.quote.as_ref().map_or(&[][..], |quote| quote.data());
        let mut copier = Copier::new(into);
        copier.copy(quote);
        Ok(ErrorReport { len: copier.copied, datagram_len: quote.len(), report: entry.report })
    }

    fn pop_error(&mut self, id: UdpId) -> Option<ErrorEntry<B>> {
        let socket = self.sockets.get_mut(id.0)?;
        let entry = self.errors.remove(socket.errors.first?)?;
        socket.errors.first = entry.next;
        if entry.next.is_none() {
            socket.errors.last = None;
        }
        socket.errors.len -= 1;
        Some(entry)
    }

    pub(super) fn drop_errors(&mut self, id: UdpId) {
        while self.pop_error(id).is_some() {}
    }
}
