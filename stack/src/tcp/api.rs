//! The program's calls: sockets come, are named, listen, connect, accept, and go. Data is in
//! `data`.

use super::congestion::Controller;
use super::connection::Pending;
use super::demux::{Target, Tuple};
use super::ecn::Ecn;
use super::opening::fast_open;
use super::opening::listener::Listener;
use super::opening::{Opening, Start};
use super::socket::{Binding, Kind, Socket, canonical};
use super::state::State;
use super::{Context, Tcp, TcpId, env};
use crate::config::TcpConfig;
use crate::error::Error;
use crate::options::{Linger, Options};
use crate::packet::{Allocator, Buffer};
use crate::readiness::Readiness;
use crate::socket::{Family, First, Shutdown};
use core::net::{IpAddr, SocketAddr};

impl<B: Buffer> Tcp<B> {
    /// A new socket; its options are Linux's defaults and the configuration's.
    ///
    /// # Errors
    /// `TooManyFiles` when the table is full.
    pub fn socket(&mut self, family: Family) -> Result<TcpId, Error> {
        let options = Options {
            send_buffer: self.config.send_buffer.default,
            receive_buffer: self.config.receive_buffer.default,
            congestion: self.config.congestion,
            syn_count: self.config.syn_retries,
            linger2: Some(self.config.fin_timeout.into()),
            ..Options::default()
        };
        if self.sockets.is_full() {
            return Err(Error::TooManyFiles);
        }
        let options = self.option_sets.with(&options);
        let handle = self.sockets.insert(Socket::new(family, options));
        handle.map(TcpId).map_err(|_| Error::TooManyFiles)
    }

    /// Goes by `config` from now on. What a connection has taken from the settings already stays.
    pub fn set_config(&mut self, config: &TcpConfig) {
        self.config = *config;
        if let Some(key) = config.fast_open_key {
            self.fast_open.set_key(key);
        }
    }

    /// The cookie that events and listings return with this socket.
    pub fn set_owner(&mut self, id: TcpId, owner: u64) {
        if let Some(socket) = self.sockets.get_mut(id.0) {
            socket.owner = owner;
        }
    }

    /// bind(2). That the address is ours (or `IP_FREEBIND`) is the caller's check.
    ///
    /// # Errors
    /// `InvalidArgument` when bound already, `AddressInUse`, `AddressFamilyNotSupported`.
    pub fn bind<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        local: SocketAddr,
    ) -> Result<(), Error> {
        self.bind_socket(cx.rng, id, local)
    }

    /// listen(2); again changes the backlog.
    ///
    /// # Errors
    /// `AddressInUse`, `InvalidArgument` when connected.
    pub fn listen<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        backlog: u32,
    ) -> Result<(), Error> {
        let backlog = backlog.min(self.config.max_backlog);
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        match &mut socket.kind {
            Kind::Listening(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            Kind::Idle => {}
            Kind::Connected(c) if c.state == State::Closed => {}
            _ => return Err(Error::InvalidArgument),
        }
        let index = id.0.index();
        let port = match socket.binding {
            Binding::Bound => {
                let port = socket.port;
                if self.is_port_in_conflict(index, port, false) {
                    return Err(Error::AddressInUse);
                }
                port
            }
            _ => {
                self.take_port(cx.rng, id, 0)?;
                self.sockets.get(id.0).map_or(0, |socket| socket.port)
            }
        };
        self.clear_connection(index);
        if let Some(socket) = self.sockets.get_mut(id.0) {
            socket.binding = Binding::Bound;
            socket.kind = Kind::Listening(Listener::new(backlog));
        }
        self.ports.listening.push_front(u32::from(port), index);
        Ok(())
    }

    /// Forgets a connection that has ended, so that the socket can be used again.
    fn clear_connection(&mut self, index: u32) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if let Kind::Connected(c) = &mut socket.kind {
            c.clear(&mut self.pool, &mut self.rare, self.option_sets.get(socket.options));
            socket.kind = Kind::Idle;
            self.connected -= 1;
        }
        socket.done = false;
    }

    /// Begins a connect(2); `Ok` means that the SYN is on its way. `source` is our address if the
    /// socket is not bound to one, `path_mtu` the largest IP packet on the route.
    ///
    /// # Errors
    /// `IsConnected`, `Already`, `AddressNotAvailable` when no port is left, `InvalidArgument`
    /// when listening, `AddressFamilyNotSupported`, or the pending error of the connect before.
    pub fn connect<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        source: IpAddr,
        remote: SocketAddr,
        path_mtu: u16,
    ) -> Result<(), Error> {
        self.connect_fast(cx, id, source, remote, path_mtu, None).map(|_| ())
    }

    /// The same as far as `first` is `None`. Otherwise the SYN carries as much of it as fits, if
    /// we have a cookie of `remote`'s (RFC 7413, `MSG_FASTOPEN`); the answer is how many octets
    /// that is. None: the data waits for the connection. A SYN that waited for data
    /// (`TCP_FASTOPEN_CONNECT`) leaves, wherever it was to go.
    ///
    /// # Errors
    /// Also `OperationNotSupported` where the setting forbids it.
    pub fn connect_fast<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        source: IpAddr,
        remote: SocketAddr,
        path_mtu: u16,
        first: Option<First<'_>>,
    ) -> Result<usize, Error> {
        if first.is_some() && self.config.fast_open & fast_open::CLIENT == 0 {
            return Err(Error::OperationNotSupported);
        }
        let index = id.0.index();
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        match &socket.kind {
            Kind::Listening(_) => return Err(Error::IsConnected),
            Kind::Opening(o) if o.early.held => {
                let first = first.ok_or(Error::IsConnected)?;
                return Ok(self.send_held(cx, index, first));
            }
            Kind::Opening(_) => return Err(Error::Already),
            Kind::Connected(c) if c.state != State::Closed => return Err(Error::IsConnected),
            _ => {}
        }
        if let Some(error) = socket.error.take() {
            socket.done = false;
            return Err(error);
        }
        let remote = if socket.family == Family::V6 { canonical(remote) } else { remote };
        if socket.family == Family::V4 && remote.is_ipv6() {
            return Err(Error::AddressFamilyNotSupported);
        }
        let local = if socket.local.is_unspecified() { source } else { socket.local };
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(Error::InvalidArgument);
        }
        let (bound, port) = (socket.binding == Binding::Bound, socket.port);
        self.clear_connection(index);
        let tuple = if bound {
            let tuple = Tuple::new(SocketAddr::new(local, port), remote);
            if !self.is_tuple_free(&tuple, cx.now) {
                return Err(Error::AddressNotAvailable);
            }
            tuple
        } else {
            let tuple = self.choose_port(local, remote, cx.now);
            let tuple = tuple.ok_or(Error::AddressNotAvailable)?;
            self.ports.bound.remove(index);
            self.ports.bound.push_front(u32::from(tuple.local_port), index);
            tuple
        };
        self.begin_active(cx, index, tuple, bound, path_mtu);
        let sent = self.begin_fast(cx, index, first);
        self.settle(cx, index);
        Ok(sent)
    }

    /// What Fast Open adds to the opening at `index`; returns how much of `first` its SYN has.
    fn begin_fast<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        first: Option<First<'_>>,
    ) -> usize {
        let Some(socket) = self.sockets.at_mut(index) else { return 0 };
        let Kind::Opening(opening) = &mut socket.kind else { return 0 };
        let wanted = first.is_some() || self.option_sets.get(socket.options).fast_open_connect;
        if !wanted || self.config.fast_open & fast_open::CLIENT == 0 {
            return 0;
        }
        let known = &self.fast_open.destinations;
        let options = self.option_sets.get(socket.options);
        let may_send = opening.plan_early(options, &self.config, known, cx.now);
        match first {
            Some(first) if may_send => {
                let n = opening.load(first.data, &mut self.pool, cx.allocator);
                opening.early.more = first.goes_on(n);
                if n > 0 && first.zero_copy && options.zero_copy {
                    socket.after_copy(&mut self.zero_copies, index);
                }
                n
            }
            None if may_send => {
                opening.hold();
                0
            }
            _ => {
                opening.early.more = first.is_some_and(|first| first.goes_on(0));
                0
            }
        }
    }

    fn begin_active<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        tuple: Tuple,
        bound: bool,
        path_mtu: u16,
    ) {
        let hash = tuple.place(self.keys.demux);
        let (mut iss, timestamp_offset) = self.secrets(&tuple, cx.now);
        let mut recent = None;
        if let Some(Target::TimeWait(place)) = self.find(&tuple, hash)
            && let Some(entry) = self.time_waits.entries.at(place)
        {
            let (above, timestamp) = entry.successor();
            (iss, recent) = (above, Some(timestamp));
            cx.counters.time_wait_reused += 1;
            self.end_time_wait(place);
        }
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if !bound {
            socket.port = tuple.local_port;
            socket.local = tuple.local;
            socket.binding = Binding::Automatic;
        }
        let start = Start {
            tuple,
            hash,
            iss,
            timestamp_offset,
            path_mtu,
            options: self.option_sets.get(socket.options),
            config: &self.config,
            now: cx.now,
        };
        let mut opening = Opening::active(&start);
        if let Some(recent) = recent {
            opening.timestamps.store(recent, cx.now);
        }
        socket.kind = Kind::Opening(opening);
        socket.registered = true;
        socket.done = false;
        self.demux.insert(hash, Target::Socket(index));
        cx.counters.active_opens += 1;
    }

    /// accept(2): the connection and its peer.
    ///
    /// # Errors
    /// `WouldBlock` when none waits, `InvalidArgument` when not listening.
    pub fn accept<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
    ) -> Result<(TcpId, SocketAddr), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let Kind::Listening(listener) = &mut socket.kind else {
            return Err(Error::InvalidArgument);
        };
        let index = listener.first.checked_sub(1).ok_or(Error::WouldBlock)?;
        let handle = self.dequeue_waiting(id, index).ok_or(Error::WouldBlock)?;
        let child = self.sockets.get_mut(handle).ok_or(Error::WouldBlock)?;
        let peer = child.connection().map(|c| c.tuple.remote_address());
        let peer = child.present(peer.ok_or(Error::ConnectionAborted)?);
        self.settle(cx, index);
        Ok((TcpId(handle), peer))
    }

    /// Takes the first, at `index`, out of the accept queue.
    fn dequeue_waiting(&mut self, id: TcpId, index: u32) -> Option<crate::collections::Handle> {
        let child = self.sockets.at_mut(index)?;
        child.waiting_at = None;
        let next = core::mem::take(&mut child.next_waiting);
        let parent = self.sockets.get_mut(id.0)?;
        let Kind::Listening(listener) = &mut parent.kind else { return None };
        listener.first = next;
        if next == 0 {
            listener.last = 0;
        }
        listener.waiting = listener.waiting.saturating_sub(1);
        self.sockets.handle_at(index)
    }

    /// shutdown(2).
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn shutdown<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        how: Shutdown,
    ) -> Result<(), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let index = id.0.index();
        match &mut socket.kind {
            Kind::Idle => return Err(Error::NotConnected),
            Kind::Listening(_) => {
                // Linux: shutting the reading side of a listener ends it.
                if how != Shutdown::Write {
                    self.stop_listening(cx, index);
                }
            }
            Kind::Opening(_) => {
                //= RFC 9293 §3.10.4: the opening is given up.
                self.fail_opening(index, Error::ConnectionReset);
                if let Some(socket) = self.sockets.at_mut(index) {
                    socket.error = None;
                }
            }
            Kind::Connected(c) if c.state == State::Closed => return Err(Error::NotConnected),
            Kind::Connected(c) => {
                if how != Shutdown::Write && !c.shut_read {
                    c.shut_read = true;
                    c.edges |= Readiness::READABLE | Readiness::READ_HANGUP;
                }
                if how != Shutdown::Read {
                    c.shut_writing();
                }
            }
        }
        self.settle(cx, index);
        Ok(())
    }

    /// Ends a listener: openings are forgotten, connections that nobody accepted reset.
    fn stop_listening<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, index: u32) {
        let Some(id) = self.sockets.handle_at(index).map(TcpId) else { return };
        self.ports.listening.remove(index);
        while let Some(Kind::Listening(listener)) = self.sockets.at(index).map(|s| &s.kind)
            && let Some(first) = listener.first.checked_sub(1)
        {
            match self.dequeue_waiting(id, first) {
                Some(child) => self.abort(cx, TcpId(child)),
                None => break,
            }
        }
        for place in 0..self.openings.watermark() {
            let remaining = match self.sockets.at(index).map(|s| &s.kind) {
                Some(Kind::Listening(listener)) => listener.openings,
                _ => 0,
            };
            if remaining == 0 {
                break;
            }
            let ends = |o: &Opening| o.listener == Some(id) && o.early.child.is_none();
            if self.openings.at(place).is_some_and(ends) {
                self.end_opening(place);
            }
        }
        if let Some(socket) = self.sockets.at_mut(index) {
            // As a fresh socket, which is what Linux makes of it: HANGUP, but no end of file.
            socket.kind = Kind::Idle;
            socket.edges |= Readiness::WRITABLE | Readiness::HANGUP;
        }
    }

    /// The program is done with the socket: by its linger option the connection is reset or ends
    /// in the background (waiting for `Linger::Wait` is the caller's business, before the call).
    pub fn close<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, id: TcpId) {
        let index = id.0.index();
        let Some(socket) = self.sockets.get_mut(id.0) else { return };
        if matches!(socket.kind, Kind::Listening(_)) {
            self.stop_listening(cx, index);
        }
        let Some(socket) = self.sockets.get_mut(id.0) else { return };
        socket.orphaned = true;
        self.events.remove(index);
        self.starved.remove(index);
        match &mut socket.kind {
            Kind::Idle | Kind::Listening(_) => {}
            Kind::Opening(opening) => {
                let received = opening.state == State::SynReceived;
                if received {
                    let from = opening.established(cx.now);
                    self.replies.push(
                        from.reset(self.option_sets.get(socket.options), cx.now),
                        cx.counters,
                    );
                }
                return self.release(index);
            }
            Kind::Connected(c) => {
                c.orphaned = true;
                let unread = c.receive.unread() > 0;
                let reset = self.option_sets.get(socket.options).linger == Linger::Reset;
                if c.state != State::Closed && (unread || reset) {
                    //= RFC 2525 §2.17: the peer must learn that its data was not read.
                    cx.counters.aborted_on_close += 1;
                    let mut env = env!(self, cx, self.option_sets.get(socket.options));
                    c.send_reset(&mut env);
                    c.finish(None);
                } else if c.state != State::Closed && self.orphans >= self.config.max_orphans {
                    // Too many finish on their own already (Linux: `tcp_too_many_orphans`).
                    cx.counters.orphans_refused += 1;
                    let mut env = env!(self, cx, self.option_sets.get(socket.options));
                    c.send_reset(&mut env);
                    c.finish(None);
                } else if c.state != State::Closed {
                    self.orphans += 1;
                    socket.counted_orphan = true;
                    c.shut_read = true;
                    c.receive.clear(&mut self.pool, &mut self.rare.reports);
                    c.shut_writing();
                    if c.state == State::FinWait2 {
                        c.enter_orphaned_fin_wait_2(&mut env!(
                            self,
                            cx,
                            self.option_sets.get(socket.options)
                        ));
                    }
                }
            }
        }
        self.settle(cx, index);
    }

    /// Resets the connection and forgets the socket.
    pub fn abort<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, id: TcpId) {
        if let Some(socket) = self.sockets.get_mut(id.0) {
            let reset = |options: &mut Options| options.linger = Linger::Reset;
            socket.options = self.option_sets.change(socket.options, reset);
            socket.waiting_at = None;
        }
        self.close(cx, id);
    }

    /// connect(2) with `AF_UNSPEC`: the connection is reset, a listener ends; the socket can be
    /// used again, and keeps what bind gave it.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn disconnect<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
    ) -> Result<(), Error> {
        let index = id.0.index();
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        match &mut socket.kind {
            Kind::Idle => {}
            Kind::Listening(_) => self.stop_listening(cx, index),
            Kind::Opening(_) => self.fail_opening(index, Error::ConnectionReset),
            Kind::Connected(c) => {
                if c.state != State::Closed {
                    c.send_reset(&mut env!(self, cx, self.option_sets.get(socket.options)));
                    c.finish(None);
                }
                self.settle(cx, index);
                self.clear_connection(index);
                if let Some(socket) = self.sockets.get_mut(id.0)
                    && socket.binding != Binding::Bound
                {
                    socket.binding = Binding::None;
                    socket.local = socket.family.unspecified();
                    socket.port = 0;
                }
            }
        }
        if let Some(socket) = self.sockets.get_mut(id.0) {
            socket.error = None;
            socket.done = false;
        }
        Ok(())
    }

    /// Ends every connection with `error` and empties every listener's queue: what the tables say can no
    /// longer be trusted. The sockets stay for their programs to find the error.
    pub fn reset_all<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, error: Error) {
        for place in 0..self.openings.watermark() {
            self.end_opening(place);
        }
        for index in 0..self.sockets.watermark() {
            let Some(socket) = self.sockets.at_mut(index) else { continue };
            match &mut socket.kind {
                Kind::Connected(c) if c.state != State::Closed => {
                    c.send_reset(&mut env!(self, cx, self.option_sets.get(socket.options)));
                    c.send.clear(&mut self.pool);
                    c.finish(Some(error));
                }
                Kind::Opening(_) => self.fail_opening(index, error),
                _ => continue,
            }
            self.settle(cx, index);
        }
    }

    /// Changes its options; what they change takes effect at once.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn update_options<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        change: impl FnOnce(&mut Options),
    ) -> Result<(), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let before = *self.option_sets.get(socket.options);
        socket.options = self.option_sets.change(socket.options, change);
        let options = self.option_sets.get(socket.options);
        match &mut socket.kind {
            Kind::Connected(c) => c.on_options(&before, &mut env!(self, cx, options)),
            Kind::Opening(opening) => opening.limit = options.syn_count,
            _ => {}
        }
        self.settle(cx, id.0.index());
        Ok(())
    }
}

impl super::connection::Connection {
    /// The program will send no more: a FIN follows what is queued.
    fn shut_writing(&mut self) {
        if self.shut_write {
            return;
        }
        self.shut_write = true;
        self.send.more = false;
        self.edges |= Readiness::WRITABLE;
        match self.state {
            State::Established | State::SynReceived => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            _ => return,
        }
        self.pending |= Pending::FIN;
    }

    /// Options were changed.
    fn on_options<A: Allocator>(
        &mut self,
        before: &Options,
        env: &mut super::connection::Env<'_, '_, A>,
    ) {
        let now = env.options;
        if now.keepalive != before.keepalive || now.keepalive_idle != before.keepalive_idle {
            self.arm_keepalive(env);
        }
        let receive_buffer = |o: &Options| (o.receive_buffer, o.receive_buffer_locked);
        if receive_buffer(now) != receive_buffer(before) {
            env.rare.receive_room.give_back(self.receive.grown(before));
            self.receive.limit = now.receive_buffer;
        }
        if now.send_buffer != before.send_buffer {
            self.send.limit = now.send_buffer;
        }
        if now.window_clamp != before.window_clamp && now.window_clamp > 0 {
            self.receive.clamp = now.window_clamp;
        }
        if now.congestion != before.congestion {
            let mut controller = Controller::new(now.congestion, self.negotiated.ecn);
            controller.begin(env.cx.now, self.window, self.rtt.srtt_us(), self.send.mss);
            self.ecn.set(Ecn::EXACT, controller.counts_marks());
            self.controller = controller;
        }
        // TCP_QUICKACK does not stay: asking for it again changes no option but is heeded.
        if now.quick_ack != before.quick_ack || (now.quick_ack && *now == *before) {
            self.receive.ack.interactive = !now.quick_ack;
            if now.quick_ack && self.receive.ack.owed {
                self.pending |= Pending::ACK;
            }
        }
        self.send.not_sent_limit = super::connection::not_sent_limit(now, env.config);
        // Setting it again pushes again: asking for what is already so changes no option.
        let uncorked = before.cork && !now.cork;
        if now.no_delay && (!before.no_delay || uncorked || *now == *before) {
            self.send.push = true;
        }
        if now.oob_inline != before.oob_inline || now.receive_low_water != before.receive_low_water
        {
            self.edges |= Readiness::READABLE;
        }
        if now.max_segment != before.max_segment && now.max_segment > 0 {
            self.send.mss = self.send.mss.min(u32::from(now.max_segment)).max(1);
        }
    }
}
