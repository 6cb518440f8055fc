//! Data before the handshake is done (RFC 7413 §4.2): a listener that takes the data of a SYN with
//! a good cookie makes the connection at once, in SYN-RECEIVED, and the opening that sends its
//! SYN-ACK stays beside it; a client puts its first octets into its SYN.

use super::fast_open::{
    self, Advice, CLIENT_NO_COOKIE, Cookie, Destinations, EVERY_LISTENER, Form, Match, SERVER,
    SERVER_NO_COOKIE, Told,
};
use super::passive::Beginning;
use crate::collections::Slab;
use crate::config::{FastOpenKey, TcpConfig};
use crate::error::Error;
use crate::options::Options;
use crate::packet::{Allocator, Buffer};
use crate::socket::First;
use crate::tcp::connection::{Connection, Env, Pending};
use crate::tcp::demux::Target;
use crate::tcp::dispatch::Inbound;
use crate::tcp::input::{Arrival, Step};
use crate::tcp::opening::Opening;
use crate::tcp::queue::{Chunk, Marks, NONE, Pool};
use crate::tcp::segment::{Flags, Header};
use crate::tcp::send::buffer::RESERVE;
use crate::tcp::seq::SeqNumber;
use crate::tcp::socket::Kind;
use crate::tcp::state::State;
use crate::tcp::{Context, Tcp, TcpId, env};
use crate::time::{Duration, Instant};
use std::io::IoSlice;

/// Room that a SYN with data leaves for options (Linux: `MAX_TCP_OPTION_SPACE`).
const OPTION_SPACE: u16 = 40;
/// How long a reset connection with early data still counts against its listener's limit: the
/// SYN may have been forged (RFC 7413 §5.1).
const AFTER_RESET: Duration = Duration::from_secs(60);
/// Listeners with a key of their own.
const OWN_KEYS: usize = 64;

/// What Fast Open has to do with an opening.
#[derive(Debug, Clone)]
pub(crate) struct Early {
    /// The option of our next SYN or SYN-ACK, once: a cookie, or the wish for one.
    pub option: Option<Cookie>,
    /// How that is written: by a listener as the peer did.
    pub form: Form,
    /// The connection that took the SYN's data, at a listener.
    pub child: Option<TcpId>,
    /// Octets (and FIN) of the peer's SYN that our SYN-ACK acknowledges.
    pub taken: u32,
    /// The data of our SYN: a chunk, and its length.
    pub data: u32,
    pub len: u32,
    /// Our SYN had the option, or data.
    pub tried: bool,
    /// Our SYN had the option: a cookie that comes was asked for.
    pub asked: bool,
    /// The program sends more as soon as it is connected: that acknowledges the SYN-ACK.
    pub more: bool,
    /// The data was too much for the path: our SYN goes again without it.
    pub plain: bool,
    /// Our SYN waits for the program's first data (`TCP_FASTOPEN_CONNECT`).
    pub held: bool,
    /// What `TCP_INFO` will say.
    pub outcome: Outcome,
}

impl Early {
    pub const fn none() -> Self {
        Early {
            option: None,
            form: Form::Registered,
            child: None,
            taken: 0,
            data: NONE,
            len: 0,
            tried: false,
            asked: false,
            more: false,
            plain: false,
            held: false,
            outcome: Outcome::None,
        }
    }
}

/// What became of Fast Open; the failures' numbers are those of `tcpi_fastopen_client_fail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    None = 0,
    CookieUnavailable = 1,
    DataNotAcknowledged = 2,
    SynRetransmitted = 3,
    /// The SYN's data was acknowledged by the SYN-ACK.
    DataTaken = 4,
}

/// The keys of listeners, and what clients know of servers.
#[derive(Debug)]
pub(crate) struct FastOpen {
    key: FastOpenKey,
    own: Vec<(TcpId, FastOpenKey)>,
    pub destinations: Destinations,
}

impl FastOpen {
    pub fn new(key: FastOpenKey) -> Self {
        FastOpen { key, own: Vec::with_capacity(OWN_KEYS), destinations: Destinations::new() }
    }

    /// Goes by another key from now on, where a socket has none of its own.
    pub fn set_key(&mut self, key: FastOpenKey) {
        self.key = key;
    }

    fn key_of(&self, id: TcpId) -> &FastOpenKey {
        self.own.iter().find(|(owner, _)| *owner == id).map_or(&self.key, |(_, key)| key)
    }

    fn forget(&mut self, id: TcpId) {
        self.own.retain(|(owner, _)| *owner != id);
    }

    /// The socket at `index` is gone.
    pub fn forget_place(&mut self, index: u32) {
        self.own.retain(|(owner, _)| owner.0.index() != index);
    }
}

/// What a listener does about a SYN.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing special.
    Ordinary,
    /// An ordinary handshake; the SYN-ACK brings a cookie.
    Offer(Cookie),
    /// Its data is taken; the SYN-ACK may bring a newer cookie.
    Take(Option<Cookie>),
}

/// The hash by which the opening beside a connection is found.
pub(in crate::tcp) fn beside(hash: u64) -> u64 {
    hash ^ 0x9e37_79b9
}

impl<B: Buffer> Tcp<B> {
    /// `TCP_FASTOPEN_CONNECT`: connects wait for data if they have a cookie.
    ///
    /// # Errors
    /// `OperationNotSupported` where the setting forbids it, `InvalidArgument` once it is too late.
    pub fn set_fast_open_connect(&mut self, id: TcpId, on: bool) -> Result<(), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        if self.config.fast_open & fast_open::CLIENT == 0 {
            return Err(Error::OperationNotSupported);
        }
        if socket.state() != State::Closed {
            return Err(Error::InvalidArgument);
        }
        let change = |options: &mut Options| options.fast_open_connect = on;
        socket.options = self.option_sets.change(socket.options, change);
        Ok(())
    }

    /// `TCP_FASTOPEN_KEY`: the key of this socket's cookies.
    ///
    /// # Errors
    /// `NoBufferSpace` when too many sockets have keys of their own.
    pub fn set_fast_open_key(&mut self, id: TcpId, key: FastOpenKey) -> Result<(), Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        self.fast_open.forget(id);
        if self.fast_open.own.len() >= OWN_KEYS {
            return Err(Error::NoBufferSpace);
        }
        let keyed = |options: &mut Options| options.fast_open_key = true;
        socket.options = self.option_sets.change(socket.options, keyed);
        self.fast_open.own.push((id, key));
        Ok(())
    }

    /// The key that this socket's cookies are made with.
    #[must_use]
    pub fn fast_open_key(&self, id: TcpId) -> FastOpenKey {
        *self.fast_open.key_of(id)
    }

    /// What the listener `id` does about a SYN (Linux: `tcp_try_fastopen`).
    fn plan<A: Allocator<Buffer = B>>(
        &self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        inbound: &Inbound<B>,
    ) -> Plan {
        let Some(socket) = self.sockets.get(id.0) else { return Plan::Ordinary };
        let Kind::Listening(listener) = &socket.kind else { return Plan::Ordinary };
        let setting = self.config.fast_open;
        let every = setting & EVERY_LISTENER != 0;
        let queue = match self.option_sets.get(socket.options).fast_open_queue {
            0 if every => listener.backlog,
            set => set,
        };
        let theirs = inbound.header.fast_open.as_ref();
        let wanted = theirs.is_some() || inbound.payload_len() > 0;
        if setting & SERVER == 0 || !wanted || queue == 0 {
            return Plan::Ordinary;
        }
        if listener.fast_opens >= queue {
            cx.counters.fast_open_overflow += 1;
            return Plan::Ordinary;
        }
        if setting & SERVER_NO_COOKIE != 0
            || self.option_sets.get(socket.options).fast_open_no_cookie
        {
            return Plan::Take(None);
        }
        let Some(theirs) = theirs else { return Plan::Ordinary };
        let key = self.fast_open.key_of(id);
        let (client, server) = (inbound.tuple.remote, inbound.tuple.local);
        let fresh = || fast_open::cookie(key.primary, client, server);
        if theirs.is_empty() {
            cx.counters.fast_open_cookie_requests += 1;
            return Plan::Offer(fresh());
        }
        match fast_open::check(key, theirs, client, server) {
            Match::Current => Plan::Take(None),
            Match::Former => Plan::Take(Some(fresh())),
            Match::None => {
                cx.counters.fast_open_passive_fail += 1;
                Plan::Offer(fresh())
            }
        }
    }

    /// A SYN takes a place in the listener's queue, or becomes a connection at once.
    pub(in crate::tcp) fn remember<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        inbound: Inbound<B>,
        beginning: Beginning,
    ) {
        let plan = self.plan(cx, id, &inbound);
        let Some(mut opening) = self.answer(id, &inbound, &inbound.header, beginning, cx.now)
        else {
            return;
        };
        opening.early.form = inbound.header.fast_open_form;
        let (hash, deadline) = (inbound.hash, opening.deadline);
        let child = match plan {
            Plan::Ordinary => None,
            Plan::Offer(cookie) => {
                opening.early.option = Some(cookie);
                None
            }
            Plan::Take(cookie) => {
                opening.early.option = cookie;
                self.take_early(cx, id, &mut opening, inbound)
            }
        };
        let Ok(handle) = self.openings.insert(opening) else {
            cx.counters.syn_queue_full += 1;
            return;
        };
        let place = handle.index();
        if let Some(Kind::Listening(listener)) = self.sockets.get_mut(id.0).map(|s| &mut s.kind) {
            match child {
                Some(_) => listener.fast_opens += 1,
                None => listener.openings += 1,
            }
        }
        let hash = if child.is_some() { beside(hash) } else { hash };
        self.demux.insert(hash, Target::Opening(place));
        let key = self.opening_key(place);
        self.wheel.arm(key, deadline);
        self.ready_openings.push_back(place);
        if let Some(child) = child {
            self.settle(cx, child);
            self.settle(cx, id.0.index());
        }
    }

    /// Makes the connection that takes a SYN's data; its place, if there is room for it.
    fn take_early<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        opening: &mut Opening,
        inbound: Inbound<B>,
    ) -> Option<u32> {
        let from = super::Established { rtt: None, ..opening.established(cx.now) };
        let Some(index) = self.spawn(cx, id, &from, &inbound.header) else {
            cx.counters.fast_open_passive_fail += 1;
            return None;
        };
        cx.counters.fast_open_passive += 1;
        let handle = self.sockets.handle_at(index)?;
        let socket = self.sockets.at_mut(index)?;
        let Kind::Connected(c) = &mut socket.kind else { return None };
        c.state = State::SynReceived;
        c.awaits_ack = true;
        let data = inbound.payload_len() > 0;
        let arrival = Arrival::new(&inbound.header, inbound.packet, inbound.header_len);
        opening.early.taken =
            c.take_syn(&mut env!(self, cx, self.option_sets.get(socket.options)), arrival);
        if data {
            c.fast_open = Outcome::DataTaken;
        }
        opening.early.child = Some(TcpId(handle));
        opening.hash = beside(opening.hash);
        opening.limit = opening.limit.saturating_add(1);
        Some(index)
    }

    /// The opening beside the connection at `index`.
    fn beside_of(&self, index: u32) -> Option<u32> {
        let c = self.sockets.at(index)?.connection()?;
        let tuple = c.tuple;
        let found = self.demux.find(beside(u64::from(c.hash)), |target| match target {
            Target::Opening(place) => self.openings.at(place).is_some_and(|o| o.tuple == tuple),
            _ => false,
        });
        match found {
            Some(Target::Opening(place)) => Some(place),
            _ => None,
        }
    }

    /// A segment for a connection whose SYN-ACK was not acknowledged yet.
    pub(in crate::tcp) fn before_acknowledged<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        inbound: &Inbound<B>,
    ) -> Step {
        let header = &inbound.header;
        let place = self.beside_of(index);
        let opening = place.and_then(|place| self.openings.at_mut(place));
        if header.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN {
            if let (Some(opening), Some(place)) = (opening, place)
                && header.seq == opening.irs
            {
                opening.on_repeated_syn(cx.now, &self.config);
                self.ready_openings.push_back(place);
            }
            return Step::Drop;
        }
        if !header.flags.contains(Flags::ACK) || header.flags.contains(Flags::RST) {
            return Step::Continue;
        }
        let sample = opening.filter(|o| o.retransmits == 0).map(|o| cx.now - o.sent_at);
        let Some(Kind::Connected(c)) = self.sockets.at_mut(index).map(|s| &mut s.kind) else {
            return Step::Drop;
        };
        if !header.ack.between(c.send.una, c.send.nxt) {
            self.refuse(cx, inbound, header.ack);
            return Step::Drop;
        }
        c.awaits_ack = false;
        if c.state == State::SynReceived {
            c.state = State::Established;
        }
        match sample {
            Some(sample) => c.rtt.sample(sample, cx.now, &self.config),
            None => c.rtt.fall_back_to_three_seconds(),
        }
        if let Some(place) = place {
            self.end_opening(place);
        }
        Step::Continue
    }

    /// A connection ended before its SYN-ACK was acknowledged.
    pub(in crate::tcp) fn end_unacknowledged(&mut self, index: u32) {
        let Some(place) = self.beside_of(index) else { return };
        let reset = self
            .sockets
            .at(index)
            .and_then(|s| s.connection())
            .is_some_and(|c| c.error == Some(Error::ConnectionReset));
        let Some(opening) = self.openings.at_mut(place) else { return };
        if !reset {
            return self.end_opening(place);
        }
        opening.early.child = None;
        opening.transmit = false;
        opening.limit = 0;
        opening.deadline = self.latest + AFTER_RESET;
        let (key, deadline) = (self.opening_key(place), self.latest + AFTER_RESET);
        self.ready_openings.remove(place);
        self.wheel.arm(key, deadline);
    }

    /// The peer never acknowledged the SYN-ACK of the connection `child`.
    pub(in crate::tcp) fn give_up_early<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        child: TcpId,
    ) {
        let Some(socket) = self.sockets.get_mut(child.0) else { return };
        if let Kind::Connected(c) = &mut socket.kind {
            c.awaits_ack = false;
            c.give_up(&mut env!(self, cx, self.option_sets.get(socket.options)));
        }
        self.settle(cx, child.0.index());
    }

    /// The first data of the program, for the SYN of the socket at `index` that was held back.
    pub(in crate::tcp) fn send_held<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        first: First<'_>,
    ) -> usize {
        let Some(socket) = self.sockets.at_mut(index) else { return 0 };
        let Kind::Opening(opening) = &mut socket.kind else { return 0 };
        let n = opening.load(first.data, &mut self.pool, cx.allocator);
        opening.early.more = first.goes_on(n);
        opening.release(cx.now);
        let options = self.option_sets.get(socket.options);
        if n > 0 && first.zero_copy && options.zero_copy {
            socket.after_copy(&mut self.zero_copies, index);
        }
        self.settle(cx, index);
        n
    }
}

impl Opening {
    /// What our SYN does about Fast Open; returns whether it may carry data.
    pub fn plan_early(
        &mut self,
        options: &Options,
        config: &TcpConfig,
        destinations: &Destinations,
        now: Instant,
    ) -> bool {
        let server = self.tuple.remote;
        let advice = destinations.advice(server, now);
        let bare = config.fast_open & CLIENT_NO_COOKIE != 0 || options.fast_open_no_cookie;
        let mss = match advice {
            Advice::Avoid => return false,
            _ if bare => destinations.mss(server),
            Advice::Ask(form) => {
                self.early.tried = true;
                self.early.asked = true;
                (self.early.option, self.early.form) = (Some(Cookie::new()), form);
                self.early.outcome = Outcome::CookieUnavailable;
                return false;
            }
            Advice::Use(cookie, form, mss) => {
                self.early.asked = true;
                (self.early.option, self.early.form) = (Some(cookie), form);
                Some(mss)
            }
        };
        self.early.tried = true;
        // An unknown server is believed to take what we do.
        let ours = self.negotiated.advertised_mss;
        let limit = if options.max_segment > 0 { options.max_segment } else { u16::MAX };
        self.negotiated.peer_mss = mss.filter(|mss| *mss > 0).unwrap_or(ours).min(limit);
        true
    }

    /// Puts the beginning of `data` into our SYN; returns how many octets of it.
    pub fn load<A: Allocator>(
        &mut self,
        data: &[IoSlice<'_>],
        pool: &mut Pool<A::Buffer>,
        allocator: &mut A,
    ) -> usize {
        let headers = if self.tuple.is_v6() { 60 } else { 40 };
        let path = self.negotiated.path_mtu.saturating_sub(headers);
        let room = path.min(self.negotiated.peer_mss).saturating_sub(OPTION_SPACE);
        if allocator.available() <= RESERVE {
            return 0;
        }
        let Some(mut buffer) = allocator.allocate() else { return 0 };
        let mut left = usize::from(room).min(buffer.tailroom());
        for slice in data {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            buffer.append(part.len()).copy_from_slice(part);
            left -= part.len();
        }
        let n = buffer.data().len();
        let chunk = Chunk::new(Some(buffer), self.iss + 1, n as u32, Marks::PUSH);
        match if n == 0 { None } else { pool.insert(chunk).ok() } {
            Some(handle) => {
                (self.early.data, self.early.len) = (handle.index(), n as u32);
                n
            }
            None => 0,
        }
    }

    /// Keeps our SYN until there is data for it.
    pub fn hold(&mut self) {
        self.early.held = true;
        self.transmit = false;
        self.deadline = Instant::FAR_FUTURE;
    }

    fn release(&mut self, now: Instant) {
        self.early.held = false;
        self.transmit = true;
        self.started = now;
        self.deadline = now + super::INITIAL_RTO;
    }

    /// A router dropped our SYN, larger than `mtu` with its data: it goes again at once, without
    /// (Linux: `tcp_simple_retransmit`).
    pub fn on_packet_too_big(&mut self, mtu: u16, now: Instant) {
        let headers = if self.tuple.is_v6() { 60 } else { 40 };
        let ours = &mut self.negotiated;
        ours.path_mtu = ours.path_mtu.min(mtu);
        let fits = ours.path_mtu.saturating_sub(headers).max(crate::tcp::negotiated::MIN_MSS);
        ours.advertised_mss = ours.advertised_mss.min(fits);
        if self.early.len > 0 && self.retransmits == 0 && !self.early.plain {
            self.early.plain = true;
            self.transmit = true;
            self.deadline = now + super::INITIAL_RTO;
        }
    }

    /// How much of our SYN's data `ack` acknowledges; `None` if it does not even acknowledge the
    /// SYN, or what we never sent.
    pub fn early_acknowledged(&self, ack: SeqNumber) -> Option<u32> {
        let past = ack.since(self.iss + 1);
        (ack.after(self.iss) && past <= self.early.len).then_some(past)
    }
}

impl Connection {
    /// Takes the data of the peer's SYN, which our SYN-ACK will acknowledge; returns how much of
    /// sequence space that is.
    fn take_syn<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        mut arrival: Arrival<'_, A::Buffer>,
    ) -> u32 {
        let first = self.receive.nxt;
        self.stats.segments_in = 1;
        if self.step_7_text(env, &mut arrival) == Step::Continue {
            let _ = self.step_8_fin(env, &mut arrival);
        }
        let taken = self.receive.nxt.since(first);
        // The window of the SYN-ACK begins where it acknowledges.
        self.receive.edge += taken;
        self.receive.acknowledged = self.receive.nxt;
        self.receive.ack.on_ack_sent();
        self.timers.ack_at = Instant::FAR_FUTURE;
        self.pending -= Pending::ACK;
        taken
    }

    /// The program is about to send, and its data will acknowledge the SYN-ACK.
    pub fn expect_first_data(&mut self, config: &TcpConfig, now: Instant) {
        self.pending -= Pending::ACK;
        self.receive.ack.expect_data(config);
        self.timers.ack_at = now + config.delayed_ack_max;
    }

    /// What became of the data in our SYN, of which the SYN-ACK `header` acknowledged `acked`
    /// octets: the rest is sent again, at once.
    pub fn after_fast_open<B: Buffer>(
        &mut self,
        early: &Early,
        acked: u32,
        retransmitted: bool,
        pool: &mut Slab<Chunk<B>>,
        now: Instant,
    ) {
        self.fast_open = early.outcome;
        let Some(mut chunk) = pool.remove_at(early.data) else { return };
        self.stats.octets_sent += u64::from(chunk.len);
        if acked >= chunk.len {
            self.fast_open = Outcome::DataTaken;
            self.stats.octets_acked += u64::from(chunk.len);
            return;
        }
        self.fast_open = match retransmitted {
            false => Outcome::DataNotAcknowledged,
            true => Outcome::SynRetransmitted,
        };
        chunk.seq += acked;
        chunk.len -= acked;
        chunk.sent_at = now;
        let (len, size) = (chunk.len, chunk.truesize());
        // It was sent, and is lost: not for want of room on the path.
        if let Ok(index) = self.send.queue.push_back(pool, chunk) {
            self.send.charged += size;
            self.send.end += len;
            self.send.nxt = self.send.end;
            self.send.packets_out += 1;
            self.send.mark_lost(pool, index);
            self.mend_uncongested();
        }
    }
}

/// What the SYN-ACK `header` teaches about a server that we tried Fast Open with.
pub(in crate::tcp) fn learn(
    destinations: &mut Destinations,
    opening: &Opening,
    header: &Header,
    acked: u32,
    now: Instant,
) {
    if !opening.early.tried {
        return;
    }
    let early = &opening.early;
    let again = opening.retransmits > 0 || early.plain;
    let told = match &header.fast_open {
        _ if !early.asked => Told::Nothing,
        Some(cookie) => Told::Cookie(cookie, header.fast_open_form),
        None if again && early.len > acked => Told::Loss,
        None if !again && early.len == 0 => Told::Refusal(early.form),
        None => Told::Nothing,
    };
    let mss = header.mss.unwrap_or(crate::tcp::negotiated::DEFAULT_MSS);
    destinations.learn(opening.tuple.remote, mss, told, now);
}
