//! What follows every change of a socket: it is put on the lists where it belongs, its timer is
//! armed, its end is seen to.

use super::connection::Pending;
use super::demux::Target;
use super::socket::{Binding, Kind, Socket};
use super::stamps::Stamping;
use super::state::State;
use super::time_wait::TimeWait;
use super::{Context, Tcp, env};
use crate::error::Error;
use crate::packet::{Allocator, Buffer, Transmit};
use crate::readiness::Readiness;
use crate::socket::Event;
use crate::time::{Duration, Instant};

use super::TcpId;

/// How long to wait for memory before trying again.
const RETRY: Duration = Duration::from_millis(1);
/// Packets that one connection sends before the next has its turn.
const TURN: u32 = 8;
/// Buffers that must be free before those who wait for memory are woken.
const PLENTY: usize = super::send::buffer::RESERVE + 32;

/// [`Socket::look_at_stamps`] with the layer's fields.
macro_rules! look_at_stamps {
    ($self:ident, $cx:ident, $socket:ident, $index:ident) => {{
        let options = $self.option_sets.get($socket.options).timestamping;
        $socket.look_at_stamps(&mut $self.stamps, $index, options, $cx.now, $cx.counters);
    }};
}

impl Socket {
    /// Whether it may have something to send, and its next deadline.
    #[inline]
    fn what_is_due(&mut self, now: Instant) -> (bool, Instant) {
        match &mut self.kind {
            Kind::Idle | Kind::Listening(_) => (false, Instant::FAR_FUTURE),
            Kind::Opening(opening) => (opening.transmit, opening.deadline),
            Kind::Connected(c) => {
                c.on_room(&mut self.no_space, now);
                (c.wants_transmit(), c.timers.earliest())
            }
        }
    }

    /// Takes over what its connection has to tell; whether there is somebody to tell something.
    #[inline]
    fn what_to_tell(&mut self) -> bool {
        if let Kind::Connected(c) = &mut self.kind {
            self.edges |= core::mem::take(&mut c.edges);
            if c.error.is_some() {
                self.error = self.error.or(c.error.take());
            }
        }
        if self.orphaned {
            self.edges = Readiness::empty();
        }
        !self.edges.is_empty() && self.waiting_at.is_none()
    }
}

impl<B: Buffer> Tcp<B> {
    /// Sees to the socket at `index` after something happened to it.
    #[inline]
    pub(super) fn settle<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, index: u32) {
        self.latest = self.latest.max(cx.now);
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let lives = match &socket.kind {
            Kind::Connected(c) => !matches!(c.state, State::TimeWait | State::Closed),
            _ => false,
        };
        if !lives {
            return self.settle_other(cx, index);
        }
        if socket.stamping != Stamping::Off {
            look_at_stamps!(self, cx, socket, index);
        }
        let (transmit, deadline) = socket.what_is_due(self.latest);
        let tell = socket.what_to_tell();
        if transmit {
            self.ready.push_back(index);
        }
        if tell {
            self.events.push_back(index);
        }
        self.arm(index, deadline);
    }

    /// As [`Tcp::settle`] for what is not a living connection.
    #[cold]
    fn settle_other<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, index: u32) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if socket.stamping != Stamping::Off {
            look_at_stamps!(self, cx, socket, index);
        }
        match socket.state() {
            State::TimeWait => self.enter_time_wait(cx, index),
            State::Closed => self.detach(index),
            _ => {}
        }
        if let Some(socket) = self.sockets.at_mut(index) {
            let (transmit, deadline) = socket.what_is_due(self.latest);
            if transmit {
                self.ready.push_back(index);
            }
            self.arm(index, deadline);
        }
        self.announce(index);
    }

    /// Takes note of what the program is to be told; forgets the socket if it is done with.
    fn announce(&mut self, index: u32) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if socket.what_to_tell() {
            self.events.push_back(index);
        } else if socket.orphaned && socket.state() == State::Closed {
            self.release(index);
        }
    }

    /// The connection is over: its tuple is free, its unsent data forgotten. What was received
    /// stays until it is read.
    fn detach(&mut self, index: u32) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if let Kind::Connected(c) = &mut socket.kind {
            c.send.clear(&mut self.pool);
            self.rare.paths.forget(&mut c.path);
            c.send.forget_board(&mut self.rare.boards);
            if core::mem::take(&mut c.awaits_ack) {
                self.end_unacknowledged(index);
                return self.detach(index);
            }
            if core::mem::take(&mut socket.registered) {
                self.demux.remove(u64::from(c.hash), Target::Socket(index));
            }
            socket.done = true;
        }
        self.ready.remove(index);
        self.starved.remove(index);
        if matches!(socket.binding, Binding::Automatic | Binding::Inherited)
            && let Kind::Connected(c) = &socket.kind
        {
            self.ports.give_back(c.tuple.local_port);
            self.ports.bound.remove(index);
        }
    }

    /// Both FINs are acknowledged: a small entry takes the connection's place.
    fn enter_time_wait<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, index: u32) {
        let expires = cx.now + self.config.time_wait;
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let Kind::Connected(c) = &mut socket.kind else { return };
        let entry = TimeWait::new(c, self.option_sets.get(socket.options), expires);
        let (hash, port) = (u64::from(c.hash), c.tuple.local_port);
        if c.pending.contains(Pending::ACK) {
            self.replies.push(entry.acknowledgment(cx.now), cx.counters);
        }
        c.finish(None);
        self.detach(index);
        cx.counters.time_waits += 1;
        match self.time_waits.insert(entry) {
            Some(place) => {
                self.demux.insert(hash, Target::TimeWait(place));
                self.ports.free.take(port);
                if let Some(count) = self.ports.time_waits.get_mut(usize::from(port)) {
                    *count += 1;
                }
            }
            None => cx.counters.time_wait_overflow += 1,
        }
    }

    /// Removes a TIME-WAIT entry.
    pub(super) fn end_time_wait(&mut self, place: u32) {
        let Some(entry) = self.time_waits.remove(place) else { return };
        let tuple = entry.tuple();
        self.demux.remove(tuple.place(self.keys.demux), Target::TimeWait(place));
        if let Some(count) = self.ports.time_waits.get_mut(usize::from(tuple.local_port)) {
            *count = count.saturating_sub(1);
        }
        self.ports.give_back(tuple.local_port);
    }

    /// Removes an embryonic connection.
    pub(super) fn end_opening(&mut self, place: u32) {
        let Some(opening) = self.openings.remove_at(place) else { return };
        self.demux.remove(opening.hash, Target::Opening(place));
        self.ready_openings.remove(place);
        self.wheel.cancel(self.opening_key(place));
        let listener = opening.listener.and_then(|id| self.sockets.get_mut(id.0));
        if let Some(Kind::Listening(listener)) = listener.map(|socket| &mut socket.kind) {
            let count = match opening.hash
                == super::opening::early::beside(opening.tuple.place(self.keys.demux))
            {
                true => &mut listener.fast_opens,
                false => &mut listener.openings,
            };
            *count = count.saturating_sub(1);
        }
    }

    /// The wheel's key of the opening at `place`.
    pub(super) fn opening_key(&self, place: u32) -> u32 {
        self.sockets.capacity() as u32 + place
    }

    /// Forgets the socket and everything it holds.
    pub(super) fn release(&mut self, index: u32) {
        self.detach(index);
        let Some(mut socket) = self.sockets.remove_at(index) else { return };
        let options = self.option_sets.get(socket.options);
        let forget_key = options.fast_open_key;
        if let Kind::Connected(c) = &mut socket.kind {
            c.clear(&mut self.pool, &mut self.rare, options);
            self.connected -= 1;
        }
        self.option_sets.release(socket.options);
        self.zero_copies.forget(index, &mut socket.completions);
        if socket.stamping != Stamping::Off {
            self.stamps.forget(index);
        }
        self.orphans -= u32::from(socket.counted_orphan);
        if let Kind::Opening(opening) = &socket.kind {
            self.pool.remove_at(opening.early.data);
            if socket.registered {
                self.demux.remove(opening.hash, Target::Socket(index));
            }
        }
        if forget_key {
            self.fast_open.forget_place(index);
        }
        self.ports.give_back(socket.local_address().port());
        self.ports.bound.remove(index);
        if matches!(socket.kind, Kind::Listening(_)) {
            self.ports.listening.remove(index);
        }
        self.wheel.cancel(index);
        self.ready.remove(index);
        self.events.remove(index);
        self.starved.remove(index);
    }

    /// A connect has failed: the socket may try again.
    pub(super) fn fail_opening(&mut self, index: u32, error: Error) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if let Kind::Opening(opening) = &socket.kind {
            self.pool.remove_at(opening.early.data);
            if core::mem::take(&mut socket.registered) {
                self.demux.remove(opening.hash, Target::Socket(index));
            }
        }
        socket.kind = Kind::Idle;
        socket.done = true;
        socket.error = Some(error);
        socket.edges |= Readiness::READABLE
            | Readiness::WRITABLE
            | Readiness::ERROR
            | Readiness::HANGUP
            | Readiness::READ_HANGUP;
        if socket.binding == Binding::Automatic {
            self.ports.give_back(socket.port);
            // The port is free again, but getsockname(2) goes on telling it, as on Linux.
            socket.binding = Binding::None;
            socket.local = socket.family.unspecified();
            self.ports.bound.remove(index);
        }
        self.ready.remove(index);
    }

    /// Whether [`Tcp::poll_transmit`] has anything to look at.
    #[inline]
    pub fn wants_transmit(&self) -> bool {
        !self.ready.is_empty() || self.replies.len() > 0 || !self.ready_openings.is_empty()
    }

    /// The next packet to send; call until `None`.
    #[inline]
    pub fn poll_transmit<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
    ) -> Option<Transmit<B>> {
        if self.replies.len() > 0 {
            match self.replies.poll_transmit(cx.allocator) {
                Some(transmit) => return Some(transmit),
                None => return self.no_buffer(cx),
            }
        }
        while let Some(place) = self.ready_openings.front() {
            let sent = match self.openings.at_mut(place) {
                Some(opening) => {
                    opening.poll_transmit(cx.now, cx.allocator, &self.pool, cx.counters)
                }
                None => Ok(None),
            };
            match sent {
                Ok(Some(transmit)) => return Some(transmit),
                Ok(None) => self.ready_openings.remove(place),
                Err(_) => return self.no_buffer(cx),
            }
        }
        while let Some(index) = self.ready.front() {
            let sent = match self.sockets.at_mut(index) {
                Some(socket) => match &mut socket.kind {
                    Kind::Connected(c) => {
                        c.poll_transmit(&mut env!(self, cx, self.option_sets.get(socket.options)))
                    }
                    Kind::Opening(o) => {
                        o.poll_transmit(cx.now, cx.allocator, &self.pool, cx.counters)
                    }
                    _ => Ok(None),
                },
                None => Ok(None),
            };
            let Ok(sent) = sent else { return self.no_buffer(cx) };
            let unit = sent.as_ref().is_some_and(|sent| sent.segment_size > 0);
            self.turn += if unit { TURN / 2 } else { 1 };
            let more = sent.is_some() && self.may_send_more(index);
            if !more || self.turn >= TURN {
                self.turn = 0;
                self.ready.remove(index);
                if more {
                    self.ready.push_back(index);
                }
            }
            // Sending arms timers, and may end a wait for room (`TCP_NOTSENT_LOWAT`).
            self.after_transmit(cx, index);
            if sent.is_some() {
                return sent;
            }
        }
        None
    }

    /// Whether asking the socket for another segment can be worth the while.
    fn may_send_more(&self, index: u32) -> bool {
        match self.sockets.at(index).map(|socket| &socket.kind) {
            Some(Kind::Connected(c)) => c.may_send_more(),
            Some(_) => true,
            None => false,
        }
    }

    fn after_transmit<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, index: u32) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if socket.stamping != Stamping::Off {
            look_at_stamps!(self, cx, socket, index);
        }
        let Kind::Connected(c) = &mut socket.kind else { return };
        if socket.no_space {
            c.on_room(&mut socket.no_space, self.latest);
            if socket.no_space {
                c.check_buffer_limited(self.latest);
            }
        }
        let (deadline, announce) = (c.timers.earliest(), !c.edges.is_empty());
        self.arm(index, deadline);
        if announce {
            self.announce(index);
        }
    }

    /// A timer that is too early costs one look; moving it with every segment costs more.
    #[inline]
    pub(super) fn arm(&mut self, index: u32, deadline: Instant) {
        if deadline == Instant::FAR_FUTURE {
            return; // Without a look at the wheel: it would be one more line from memory.
        }
        if self.wheel.deadline(index).is_none_or(|armed| deadline < armed) {
            self.wheel.arm(index, deadline);
        }
    }

    /// No buffer to send with: everything stays as it is until there is one.
    fn no_buffer<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
    ) -> Option<Transmit<B>> {
        cx.counters.transmit_no_memory += 1;
        self.retry_at = Some(cx.now + RETRY);
        None
    }

    /// Does what is due at `cx.now`. Cheap when nothing is.
    pub fn on_timeouts<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>) {
        self.latest = self.latest.max(cx.now);
        if self.retry_at.is_some_and(|at| at <= cx.now) {
            self.retry_at = None;
        }
        self.feed_starved(cx);
        let sockets = self.sockets.capacity() as u32;
        while let Some(key) = self.wheel.expire(cx.now) {
            if key >= sockets {
                self.on_opening_timer(cx, key - sockets);
            } else {
                self.on_socket_timer(cx, key);
            }
        }
        while let Some(place) = self.time_waits.expired(cx.now) {
            self.end_time_wait(place);
        }
    }

    fn on_socket_timer<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, index: u32) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        match &mut socket.kind {
            Kind::Connected(c) => {
                c.on_timers(&mut env!(self, cx, self.option_sets.get(socket.options)))
            }
            Kind::Opening(opening) if opening.deadline <= cx.now => {
                let user = self.option_sets.get(socket.options).user_timeout.get();
                let late = !user.is_zero() && cx.now - opening.started >= user;
                if late || !opening.on_timeout(cx.now, &self.config) {
                    let error = opening.soft_error.unwrap_or(Error::TimedOut);
                    cx.counters.attempt_failures += 1;
                    self.fail_opening(index, error);
                } else {
                    cx.counters.retransmitted += 1;
                }
            }
            _ => {}
        }
        self.settle(cx, index);
    }

    fn on_opening_timer<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, place: u32) {
        let key = self.opening_key(place);
        let Some(opening) = self.openings.at_mut(place) else { return };
        if opening.deadline > cx.now {
            let deadline = opening.deadline;
            return self.wheel.arm(key, deadline);
        }
        if !opening.on_timeout(cx.now, &self.config) {
            cx.counters.attempt_failures += 1;
            let child = opening.early.child;
            self.end_opening(place);
            if let Some(child) = child {
                self.give_up_early(cx, child);
            }
            return;
        }
        if opening.transmit {
            cx.counters.synack_retransmitted += 1;
            self.ready_openings.push_back(place);
        }
        let deadline = opening.deadline;
        self.wheel.arm(key, deadline);
    }

    /// Nothing is due before this moment (a lower bound); `None` when nothing is pending.
    #[must_use]
    #[inline]
    pub fn next_timeout(&self) -> Option<Instant> {
        let mut next = self.wheel.next_expiry();
        let mut count_in = |other: Instant| next = Some(next.map_or(other, |next| next.min(other)));
        if let Some(time_wait) = self.time_waits.next_expiry(self.latest) {
            count_in(time_wait);
        }
        if let Some(retry) = self.retry_at {
            count_in(retry);
        } else if !self.starved.is_empty() {
            count_in(self.latest + RETRY);
        }
        next
    }

    /// Wakes those who wait for memory, once there is some.
    #[inline]
    pub(super) fn feed_starved<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>) {
        if !self.starved.is_empty() {
            self.feed(cx);
        }
    }

    #[cold]
    fn feed<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>) {
        if !cx.allocator.has_more_than(PLENTY)
            || self.pool.len() + self.segments / 16 >= self.segments
        {
            return;
        }
        while let Some(index) = self.starved.pop_front() {
            if let Some(socket) = self.sockets.at_mut(index) {
                socket.edges |= Readiness::WRITABLE;
                self.announce(index);
            }
        }
    }

    /// Whether [`Tcp::poll_event`] may have something to tell.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next socket that became readier, or saw a new edge; call until `None`. Where its owner
    /// does not ask (`asks`), new data is told without a look at what else it is ready for.
    #[inline]
    pub fn poll_event(&mut self, asks: impl Fn(u64) -> bool) -> Option<Event<TcpId>> {
        while let Some(index) = self.events.pop_front() {
            if let Some(event) = self.plain_event(index, &asks) {
                return Some(event);
            }
            let starved = self.starved.contains(index);
            let Some(id) = self.sockets.handle_at(index) else { continue };
            let Some(socket) = self.sockets.at_mut(index) else { continue };
            let edges = core::mem::take(&mut socket.edges);
            let readiness = socket.readiness(self.option_sets.get(socket.options), starved);
            if edges.contains(Readiness::WRITABLE) && !readiness.contains(Readiness::WRITABLE) {
                // The room is gone again, for what is cut for a smaller MSS takes more of it:
                // whoever waits for room is told when there is some.
                socket.no_space = true;
            }
            if !readiness.is_empty() {
                return Some(Event { socket: TcpId(id), owner: socket.owner, readiness, edges });
            }
        }
        None
    }

    /// New data, and nothing else, for an owner who does not ask what else there is.
    #[inline]
    fn plain_event(&mut self, index: u32, asks: impl Fn(u64) -> bool) -> Option<Event<TcpId>> {
        let id = TcpId(self.sockets.handle_at(index)?);
        let socket = self.sockets.at_mut(index)?;
        let edges = socket.edges;
        if edges != Readiness::READABLE || asks(socket.owner) {
            return None;
        }
        socket.edges = Readiness::empty();
        Some(Event { socket: id, owner: socket.owner, readiness: edges, edges })
    }
}
