//! The program's calls that move data, and what it can ask about it.

use super::connection::{Connection, Established, Pending};
use super::receive::Urgent;
use super::receive::autotune::Room;
use super::receive::reader::Scatter;
use super::reply::Reply;
use super::segment::Flags;
use super::send::Limit;
use super::send::buffer::{Blocked, Gather};
use super::socket::{Kind, Socket};
use super::stamps::Stamping;
use super::state::State;
use super::{Context, Tcp, TcpId, env};
use crate::error::Error;
use crate::options::Options;
use crate::packet::{Allocator, Buffer};
use crate::readiness::Readiness;
use crate::socket::{ReceiveFlags, SendFlags};
use crate::time::Instant;
use core::net::SocketAddr;
use std::io::{IoSlice, IoSliceMut};

impl<B: Buffer> Tcp<B> {
    /// Queues as much of `data` as there is room for; returns how many octets.
    ///
    /// # Errors
    /// `WouldBlock` when there is room for nothing or the connection is still opening, the
    /// pending error, `BrokenPipe` when this direction is shut or was never open; `InProgress`
    /// when a SYN waits for this data (`TCP_FASTOPEN_CONNECT`): see [`Tcp::connect_fast`].
    pub fn send<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize, Error> {
        let index = id.0.index();
        let limit = self.segments;
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let c = match &mut socket.kind {
            Kind::Opening(opening) if opening.early.held => return Err(Error::InProgress),
            Kind::Opening(_) => {
                socket.no_space = true;
                return Err(Error::WouldBlock);
            }
            Kind::Connected(c) if c.state != State::Closed && !c.shut_write => c,
            _ => return Err(Error::BrokenPipe),
        };
        let mut gather = Gather::new(data);
        if gather.is_empty() {
            return Ok(0);
        }
        if c.path != 0 {
            c.renew_path(&mut env!(self, cx, self.option_sets.get(socket.options)));
        }
        c.check_app_limited();
        let sendable = c.sendable();
        let (taken, blocked) =
            c.send.append(&mut self.pool, cx.allocator, &mut gather, limit, sendable);
        if taken > 0 {
            c.limits.begin(Limit::Busy, cx.now);
            c.after_send(&mut self.pool, flags, blocked.is_none());
            if flags.zero_copy && self.option_sets.get(socket.options).zero_copy {
                socket.after_copy(&mut self.zero_copies, index);
            }
            if socket.stamping != Stamping::Off && (blocked.is_none() || !flags.waits) {
                let set = self.option_sets.get(socket.options).timestamping;
                if let Some(asked) = set.to_report(flags.stamps) {
                    socket.mark_send(&mut self.stamps, &self.pool, index, asked);
                }
            }
        }
        match blocked {
            None => {}
            Some(Blocked::BufferFull) => socket.no_space = true,
            Some(Blocked::NoMemory) => {
                cx.counters.send_no_memory += 1;
                // With something in flight its acknowledgment gives memory back; without, only
                // others can.
                socket.no_space = true;
                self.starved.push_back(index);
            }
        }
        self.settle(cx, index);
        if taken == 0 { Err(Error::WouldBlock) } else { Ok(taken) }
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
        let most = self.config.receive_buffer.max;
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let options = self.option_sets.get(socket.options);
        let c = match &mut socket.kind {
            Kind::Listening(_) => return Err(Error::NotConnected),
            Kind::Opening(_) => return socket.error.take().map_or(Err(Error::WouldBlock), Err),
            Kind::Idle => {
                let ended = if socket.done { Ok(0) } else { Err(Error::NotConnected) };
                return socket.error.take().map_or(ended, Err);
            }
            Kind::Connected(c) => c,
        };
        if flags.urgent {
            return c.receive_urgent(into, options, flags);
        }
        if into.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        let mut scatter = Scatter::new(into, flags.truncate);
        let inline = options.oob_inline;
        let skip = options.peek_offset.max(0).unsigned_abs();
        let peek = flags.peek.then_some(skip);
        let n = c.receive.read(&mut self.pool, &mut scatter, inline, peek);
        if options.peek_offset >= 0 {
            let step = i32::try_from(n).unwrap_or(i32::MAX);
            let offset = if flags.peek {
                options.peek_offset.saturating_add(step)
            } else {
                options.peek_offset.saturating_sub(step).max(0)
            };
            let moved = |options: &mut Options| options.peek_offset = offset;
            socket.options = self.option_sets.change(socket.options, moved);
        }
        if n == 0 {
            return c.nothing_to_read(&mut socket.error);
        }
        if socket.stamping != Stamping::Off {
            let peeked = if flags.peek { n } else { 0 };
            self.stamps.note_read(id.0.index(), c.receive.copied + peeked);
        }
        if !flags.peek {
            let room = &mut self.rare.receive_room;
            c.after_read(cx.now, self.option_sets.get(socket.options), most, room);
            // Reading sets no timer; it may ask for an acknowledgment.
            if c.wants_transmit() || !c.edges.is_empty() || c.state != State::Established {
                self.settle(cx, id.0.index());
            }
            self.feed_starved(cx);
        }
        Ok(n as usize)
    }

    /// The sends with `MSG_ZEROCOPY` that are complete and have not been reported: the first and
    /// the last of their numbers.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn receive_completions(&mut self, id: TcpId) -> Result<(u32, u32), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let completions = &mut socket.completions;
        self.zero_copies.take(id.0.index(), completions).ok_or(Error::WouldBlock)
    }

    fn socket_of(&self, id: TcpId) -> Result<&Socket, Error> {
        self.sockets.get(id.0).ok_or(Error::BadDescriptor)
    }

    fn connection_of(&self, id: TcpId) -> Result<Option<(&Connection, &Options)>, Error> {
        let socket = self.socket_of(id)?;
        match &socket.kind {
            Kind::Listening(_) => Err(Error::InvalidArgument),
            Kind::Connected(c) => Ok(Some((c, self.option_sets.get(socket.options)))),
            _ => Ok(None),
        }
    }

    /// `SIOCINQ`: octets that can be read now.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn receive_available(&self, id: TcpId) -> Result<u32, Error> {
        let connection = self.connection_of(id)?;
        Ok(connection.map_or(0, |(c, options)| c.receive.available(options.oob_inline)))
    }

    /// `TCP_INQ`: octets that can be read, and one more once the peer has ended: there is still an
    /// end of file to be read (tcp(7)).
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn receive_hint(&self, id: TcpId) -> Result<u32, Error> {
        Ok(self.connection_of(id)?.map_or(0, |(c, _)| c.receive.nxt.since(c.receive.copied)))
    }

    /// `SIOCOUTQ`: octets not yet acknowledged.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn send_queued(&self, id: TcpId) -> Result<u32, Error> {
        Ok(self.connection_of(id)?.map_or(0, |(c, _)| c.send.queued_octets()))
    }

    /// `SIOCOUTQNSD`: octets not yet sent.
    ///
    /// # Errors
    /// `InvalidArgument` for a listener.
    pub fn send_unsent(&self, id: TcpId) -> Result<u32, Error> {
        Ok(self.connection_of(id)?.map_or(0, |(c, _)| c.send.unsent_octets()))
    }

    /// `SIOCATMARK`: whether the next octet to be read is the urgent one.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn at_urgent_mark(&self, id: TcpId) -> Result<bool, Error> {
        let connection = self.socket_of(id)?.connection();
        Ok(connection.is_some_and(|c| {
            c.receive.urgent != Urgent::None && c.receive.urgent_seq == c.receive.copied
        }))
    }

    /// What poll(2) would say. A socket that is not writable will have an event once it is.
    pub fn readiness(&mut self, id: TcpId) -> Readiness {
        let starved = self.starved.contains(id.0.index());
        let Some(socket) = self.sockets.get_mut(id.0) else { return Readiness::empty() };
        let readiness = socket.readiness(self.option_sets.get(socket.options), starved);
        if !readiness.contains(Readiness::WRITABLE) {
            socket.no_space = true;
        }
        readiness
    }

    /// `SO_ERROR`: the pending error, which is cleared.
    pub fn take_error(&mut self, id: TcpId) -> Option<Error> {
        let socket = self.sockets.get_mut(id.0)?;
        let soft = match &mut socket.kind {
            Kind::Connected(c) => &mut c.soft_error,
            Kind::Opening(o) => &mut o.soft_error,
            _ => return socket.error.take(),
        };
        socket.error.take().or_else(|| soft.take())
    }

    /// getsockname(2).
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn local_address(&self, id: TcpId) -> Result<SocketAddr, Error> {
        self.socket_of(id).map(Socket::local_address)
    }

    /// getpeername(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn remote_address(&self, id: TcpId) -> Result<SocketAddr, Error> {
        let socket = self.socket_of(id)?;
        match &socket.kind {
            Kind::Connected(c) if c.state != State::Closed => {
                Ok(socket.present(c.tuple.remote_address()))
            }
            Kind::Opening(o) if o.state == State::SynReceived => {
                Ok(socket.present(o.tuple.remote_address()))
            }
            _ => Err(Error::NotConnected),
        }
    }

    /// Its state; `Closed` for a stale handle too.
    #[must_use]
    pub fn state(&self, id: TcpId) -> State {
        self.sockets.get(id.0).map_or(State::Closed, Socket::state)
    }

    /// Whether its SYN is held back until there is data for it (`TCP_FASTOPEN_CONNECT`).
    #[must_use]
    pub fn awaits_data(&self, id: TcpId) -> bool {
        let kind = self.sockets.get(id.0).map(|socket| &socket.kind);
        matches!(kind, Some(Kind::Opening(opening)) if opening.early.held)
    }

    /// `SO_SNDBUF` and `SO_RCVBUF` as automatic tuning has made them.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn buffer_sizes(&self, id: TcpId) -> Result<(u32, u32), Error> {
        let socket = self.socket_of(id)?;
        let options = self.option_sets.get(socket.options);
        let set = (options.send_buffer, options.receive_buffer);
        Ok(socket.connection().map_or(set, |c| (c.send.limit, c.receive.limit)))
    }

    /// Its options.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn options(&self, id: TcpId) -> Result<&Options, Error> {
        self.socket_of(id).map(|socket| self.option_sets.get(socket.options))
    }
}

impl Connection {
    /// Data was queued; `whole`: all that the program had.
    fn after_send<B: Buffer>(
        &mut self,
        pool: &mut super::queue::Pool<B>,
        flags: SendFlags,
        whole: bool,
    ) {
        self.send.more = flags.more && whole;
        self.send.push = false;
        self.send.burst = 0;
        if flags.urgent && whole {
            //= RFC 9293 §3.8.5: SND.UP is behind the urgent octet, as Linux has it.
            self.send.urgent = Some(self.send.end);
        }
        if !(flags.more && whole) {
            self.send.mark_push(pool, flags.end_of_record || flags.urgent);
        }
    }

    /// The program has read: perhaps the peer should know about the room (RFC 9293 §3.8.6.2.2),
    /// perhaps an acknowledgment need not wait any longer.
    fn after_read(&mut self, now: Instant, options: &Options, most: u32, room: &mut Room) {
        let mss = self.receive_mss();
        self.receive.adjust(now, options, mss, most, room);
        if !self.state.can_receive() {
            return;
        }
        let receive = &self.receive;
        let owed = receive.nxt.since(receive.acknowledged);
        let drained = receive.unread() == 0 && !receive.ack.interactive && receive.ack.owed;
        let window = receive.window();
        let wanted = receive.wanted_window(mss);
        let opened = 2 * window <= receive.clamp && wanted >= 2 * window && wanted > 0;
        if opened || owed > receive.ack.peer_mss || (drained && owed > 0 && receive.ack.is_quick())
        {
            self.pending |= Pending::ACK;
        }
    }

    /// There is nothing in the queue: why?
    fn nothing_to_read(&self, error: &mut Option<Error>) -> Result<usize, Error> {
        if self.receive.fin {
            return Ok(0);
        }
        if let Some(error) = error.take() {
            return Err(error);
        }
        if self.shut_read || self.state == State::Closed {
            return Ok(0);
        }
        Err(Error::WouldBlock)
    }

    /// `MSG_OOB`.
    fn receive_urgent(
        &mut self,
        into: &mut [IoSliceMut<'_>],
        options: &Options,
        flags: ReceiveFlags,
    ) -> Result<usize, Error> {
        if options.oob_inline {
            return Err(Error::InvalidArgument);
        }
        match self.receive.urgent {
            Urgent::None | Urgent::Read => Err(Error::InvalidArgument),
            Urgent::Valid(octet) => {
                if !flags.peek {
                    self.receive.urgent = Urgent::Read;
                }
                let Some(first) = into.iter_mut().find_map(|slice| slice.first_mut()) else {
                    return Ok(0);
                };
                if !flags.truncate {
                    *first = octet;
                }
                Ok(1)
            }
            Urgent::Announced if self.state == State::Closed || self.receive.fin => Ok(0),
            Urgent::Announced => Err(Error::WouldBlock),
        }
    }
}

impl Established {
    /// The reset of a connection that never became one.
    pub fn reset(&self, options: &Options, now: Instant) -> Reply {
        Reply {
            tuple: self.tuple,
            seq: self.iss + 1,
            ack: self.irs + 1,
            flags: Flags::RST | Flags::ACK,
            window: 0,
            timestamps: self.negotiated.timestamps.then(|| self.timestamps.option(now)),
            traffic_class: options.traffic_class,
            hop_limit: options.hop_limit,
            syn: None,
        }
    }
}
