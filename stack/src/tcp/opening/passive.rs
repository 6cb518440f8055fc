//! A peer's SYN at a listener: SYN-RECEIVED (RFC 9293 §3.10.7.2, §3.10.7.4).

use super::listener::Listener;
use super::syn_cookie::{self, Kept, PRESSURE};
use super::{Opening, Start, offer_with_timestamps};
use crate::config::{SynCookies, TcpConfig};
use crate::options::Options;
use crate::packet::{Allocator, Buffer};
use crate::tcp::dispatch::Inbound;
use crate::tcp::ecn;
use crate::tcp::reply::{Reply, SynOptions};
use crate::tcp::segment::{Flags, Header};
use crate::tcp::seq::SeqNumber;
use crate::tcp::socket::Kind;
use crate::tcp::state::State;
use crate::tcp::{Context, Tcp, TcpId};
use crate::time::Instant;

/// What becomes of a SYN at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// It takes a place in the SYN queue.
    Remember,
    /// It is answered, and the answer is all that knows of it.
    Cookie,
    /// It is dropped.
    AcceptQueueFull,
    SynQueueFull,
}

/// What our initial sequence number is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beginning {
    /// A new one.
    Fresh,
    /// This: above those of the connection in TIME-WAIT that it follows (RFC 6191).
    Above(SeqNumber),
    /// The one that carried a cookie.
    Cookie(SeqNumber),
}

/// What becomes of a SYN at `listener` (Linux: `tcp_conn_request`). `table_full`: no opening can
/// be remembered at all. A SYN that takes the place of TIME-WAIT, and so has its sequence number
/// given, needs no defence: its sender had a connection before.
pub(crate) fn admit(
    listener: &mut Listener,
    config: &TcpConfig,
    table_full: bool,
    above: Option<SeqNumber>,
    now: Instant,
) -> Admission {
    let full = listener.is_syn_queue_full() || table_full;
    let cookies = config.syn_cookies;
    let always = cookies == SynCookies::Always && above.is_none();
    if full || always {
        if cookies == SynCookies::Off || above.is_some() && table_full {
            return Admission::SynQueueFull;
        }
        if listener.is_full() {
            return Admission::AcceptQueueFull;
        }
        if full {
            listener.overflowed_at = Some(now);
        }
        return if above.is_some() { Admission::Remember } else { Admission::Cookie };
    }
    if listener.is_full() {
        return Admission::AcceptQueueFull;
    }
    // Without cookies the last quarter is kept for peers known to exist: for nobody, here.
    let left = config.max_syn_backlog.saturating_sub(listener.openings);
    if cookies == SynCookies::Off && left < config.max_syn_backlog / 4 {
        return Admission::SynQueueFull;
    }
    Admission::Remember
}

impl Opening {
    /// Answers `header`, a SYN: the SYN-ACK waits to be sent.
    pub fn passive(start: &Start<'_>, header: &Header, listener: TcpId) -> Self {
        let mut opening = Opening::new(start, State::SynReceived);
        opening.negotiate(header, start.options, start.now);
        opening.listener = Some(listener);
        opening.limit = synack_retries(start.options, start.config);
        if opening.negotiated.timestamps {
            let advertised = opening.negotiated.advertised_mss;
            opening.window = offer_with_timestamps(start.options, advertised);
        }
        if !start.options.defer_accept.is_zero() {
            opening.defer_until = start.now + start.options.defer_accept.get();
        }
        opening
    }

    /// Whether `TCP_DEFER_ACCEPT` makes this final ACK wait for data.
    pub fn is_deferred(&mut self, payload: u32, options: &Options, now: Instant) -> bool {
        if options.defer_accept.is_zero() || payload > 0 || now >= self.defer_until {
            return false;
        }
        self.acknowledged = true;
        true
    }
}

impl<B: Buffer> Tcp<B> {
    /// The opening that answers `syn`, the SYN that `inbound` is or that its cookie stands for.
    pub(in crate::tcp) fn answer(
        &self,
        id: TcpId,
        inbound: &Inbound<B>,
        syn: &Header,
        beginning: Beginning,
        now: Instant,
    ) -> Option<Opening> {
        let socket = self.sockets.get(id.0)?;
        let (sequence, timestamp_offset) = self.secrets(&inbound.tuple, now);
        let start = Start {
            tuple: inbound.tuple,
            hash: inbound.hash,
            iss: match beginning {
                Beginning::Fresh => sequence,
                Beginning::Above(iss) | Beginning::Cookie(iss) => iss,
            },
            timestamp_offset,
            path_mtu: inbound.path_mtu.map_or(self.mtu, |known| known.min(self.mtu)),
            options: self.option_sets.get(socket.options),
            config: &self.config,
            now,
        };
        let mut opening = Opening::passive(&start, syn, id);
        // What brought a cookie back is not the SYN: its mark says nothing.
        let fresh = !matches!(beginning, Beginning::Cookie(_));
        let class = if fresh { inbound.meta.traffic_class } else { 0 };
        opening.negotiated.ecn =
            ecn::grants(syn, class, self.option_sets.get(socket.options), &self.config);
        Some(opening)
    }

    /// Answers a SYN without remembering it.
    pub(in crate::tcp) fn send_cookie<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        inbound: &Inbound<B>,
    ) {
        let (mut syn, key) = (inbound.header.clone(), self.keys.cookie);
        if !self.config.timestamps || syn.timestamps.is_none() {
            // Nothing could bring them back.
            (syn.window_scale, syn.sack_permitted, syn.timestamps) = (None, false, None);
            syn.flags -= Flags::ECE | Flags::CWR;
        }
        let Some(opening) = self.answer(id, inbound, &syn, Beginning::Fresh, cx.now) else {
            return;
        };
        let ours = &opening.negotiated;
        let iss = syn_cookie::sequence(&inbound.tuple, key, syn.seq, ours.peer_mss, cx.now);
        let scale = ours.scaling.then_some(ours.send_shift);
        let kept = Kept { scale, sack: ours.sack, ecn: ours.ecn };
        let mut timestamps = ours.timestamps.then(|| opening.timestamps.option(cx.now));
        if let Some(option) = &mut timestamps {
            let offset = opening.timestamps.offset;
            let clock = option.value.wrapping_sub(offset);
            option.value = kept.into_clock(clock).wrapping_add(offset);
        }
        cx.counters.syncookies_sent += 1;
        let reply = Reply {
            tuple: inbound.tuple,
            seq: iss,
            ack: opening.irs + 1,
            flags: Flags::SYN | Flags::ACK | ecn::handshake_flags(ours.ecn, true, 0),
            window: opening.window.min(u32::from(u16::MAX)) as u16,
            timestamps,
            traffic_class: opening.traffic_class,
            hop_limit: opening.hop_limit,
            syn: Some(SynOptions {
                mss: ours.advertised_mss,
                window_scale: ours.scaling.then_some(ours.receive_shift),
                sack_permitted: ours.sack,
            }),
        };
        self.replies.push(reply, cx.counters);
    }

    /// An ACK for no connection at a listener: perhaps it brings a cookie back.
    pub(in crate::tcp) fn on_cookie<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        index: u32,
        inbound: Inbound<B>,
    ) {
        let ack = inbound.header.ack;
        match self.cookie_of(cx, index, &inbound) {
            Ok(None) => self.refuse(cx, &inbound, ack),
            Ok(Some((id, opening))) => {
                let full = match self.sockets.at(index).map(|socket| &socket.kind) {
                    Some(Kind::Listening(listener)) => listener.is_full(),
                    _ => true,
                };
                if full {
                    cx.counters.accept_queue_full += 1;
                    return;
                }
                // How long the round trip took nobody knows: the clock's low bits were taken.
                let from = super::Established { rtt: None, ..opening.established(cx.now) };
                self.hand_over(cx, id, &from, None, inbound);
            }
            Err(Ignored) => {}
        }
    }

    fn cookie_of<A: Allocator<Buffer = B>>(
        &self,
        cx: &mut Context<'_, A>,
        index: u32,
        inbound: &Inbound<B>,
    ) -> Result<Option<(TcpId, Opening)>, Ignored> {
        let header = &inbound.header;
        let Some(id) = self.sockets.handle_at(index).map(TcpId) else { return Ok(None) };
        let Some(socket) = self.sockets.at(index) else { return Ok(None) };
        let Kind::Listening(listener) = &socket.kind else { return Ok(None) };
        if inbound.meta.hop_limit < self.option_sets.get(socket.options).min_hop_limit {
            return Err(Ignored);
        }
        let expected = match self.config.syn_cookies {
            SynCookies::Off => false,
            SynCookies::UnderPressure => {
                listener.overflowed_at.is_some_and(|at| cx.now - at < PRESSURE)
            }
            SynCookies::Always => true,
        };
        if !expected || header.flags.intersects(Flags::SYN | Flags::RST) {
            return Ok(None);
        }
        let (key, peer, iss) = (self.keys.cookie, header.seq - 1, header.ack - 1);
        let Some(mss) = syn_cookie::check(&inbound.tuple, key, peer, iss, cx.now) else {
            cx.counters.syncookies_failed += 1;
            // It may have overtaken, or outlived, the ACK that brings the cookie back, and then its
            // number does not fit: its sender repeats the data from the first octet, which does.
            let carries = inbound.payload_len() > 0 || header.flags.contains(Flags::FIN);
            return if carries { Err(Ignored) } else { Ok(None) };
        };
        cx.counters.syncookies_recv += 1;
        let mut syn = Header { seq: peer, mss: Some(mss), ..Header::default() };
        if let Some(timestamps) = header.timestamps.filter(|_| self.config.timestamps) {
            let offset = self.secrets(&inbound.tuple, cx.now).1;
            let kept = Kept::from_clock(timestamps.echo.wrapping_sub(offset));
            syn.timestamps = header.timestamps;
            (syn.window_scale, syn.sack_permitted) = (kept.scale, kept.sack);
            syn.flags.set(Flags::ECE | Flags::CWR, kept.ecn);
        }
        Ok(self.answer(id, inbound, &syn, Beginning::Cookie(iss), cx.now).map(|o| (id, o)))
    }
}

/// The segment is dropped without an answer.
struct Ignored;

/// `TCP_SYNCNT` of the listener, if it was set, else `tcp_synack_retries`.
fn synack_retries(options: &Options, config: &TcpConfig) -> u8 {
    if options.syn_count == config.syn_retries { config.synack_retries } else { options.syn_count }
}
