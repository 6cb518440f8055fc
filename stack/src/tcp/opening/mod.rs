//! A connection whose handshake is under way, begun by us (`active`) or by a peer (`passive`).

pub(crate) mod active;
pub(crate) mod early;
pub(crate) mod fast_open;
pub(crate) mod isn;
pub(crate) mod listener;
pub(crate) mod passive;
pub(crate) mod syn_cookie;

use super::connection::Established;
use super::counters::TcpCounters;
use super::demux::Tuple;
use super::ecn;
use super::negotiated::{DEFAULT_MSS, Negotiated, TimestampState};
use super::output::NoBuffer;
use super::queue::Pool;
use super::receive::Receiver;
use super::reply::emit;
use super::segment::{Flags, Header, TIMESTAMPS_LEN};
use super::seq::SeqNumber;
use super::state::State;
use super::{TcpConfig, TcpId};
use crate::error::Error;
use crate::options::{Options, PathMtuDiscovery};
use crate::packet::{Allocator, Buffer, Transmit};
use crate::time::{Duration, Instant};
use early::Early;

/// RFC 6298 §2.1.
const INITIAL_RTO: Duration = Duration::from_secs(1);

/// A connection in SYN-SENT or SYN-RECEIVED.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub tuple: Tuple,
    pub hash: u64,
    pub state: State,
    pub iss: SeqNumber,
    /// The peer's; meaningful in SYN-RECEIVED.
    pub irs: SeqNumber,
    /// In SYN-SENT what we offer, in SYN-RECEIVED what was agreed.
    pub negotiated: Negotiated,
    pub timestamps: TimestampState,
    /// What we offer, octets: more than the window field of a SYN can say.
    pub window: u32,
    /// When our SYN was sent last.
    pub sent_at: Instant,
    pub started: Instant,
    /// When to send it again, or to give up.
    pub deadline: Instant,
    pub retransmits: u8,
    /// How often it is sent again.
    pub limit: u8,
    /// It is to be sent now.
    pub transmit: bool,
    /// The listener it came to; `None` when we began it.
    pub listener: Option<TcpId>,
    /// The final ACK has come, but the connection could not be handed over yet.
    pub acknowledged: bool,
    /// `TCP_DEFER_ACCEPT`: until then only data completes it.
    pub defer_until: Instant,
    pub soft_error: Option<Error>,
    pub traffic_class: u8,
    pub hop_limit: u8,
    pub dont_fragment: bool,
    /// Fast Open (RFC 7413).
    pub early: Early,
}

/// What a segment does to an opening.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing (more).
    Stay,
    /// Our SYN or SYN-ACK is to be sent again.
    Resend,
    /// An RST with this sequence number answers it.
    Refuse(SeqNumber),
    /// The handshake is done.
    Established,
    /// It has failed.
    Failed(Error),
}

/// What the opening of a connection starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub tuple: Tuple,
    pub hash: u64,
    pub iss: SeqNumber,
    pub timestamp_offset: u32,
    pub path_mtu: u16,
    pub options: &'a Options,
    pub config: &'a TcpConfig,
    pub now: Instant,
}

impl Opening {
    /// The device's MTU was `before` and is `mtu` now. What a SYN has said stands.
    pub fn on_device_mtu(&mut self, before: u16, mtu: u16) {
        let path_mtu = super::path::followed(self.negotiated.path_mtu, before, mtu);
        self.negotiated.path_mtu = path_mtu;
    }

    fn new(start: &Start<'_>, state: State) -> Self {
        let Start { options, config, .. } = *start;
        let headers = if start.tuple.is_v6() { 60 } else { 40 };
        let mut advertised = start.path_mtu.saturating_sub(headers).max(super::negotiated::MIN_MSS);
        if options.max_segment > 0 {
            advertised = advertised.min(options.max_segment);
        }
        let negotiated = Negotiated {
            sack: config.sack,
            ecn: state == State::SynSent && ecn::asks(options, config),
            timestamps: config.timestamps,
            scaling: config.window_scaling,
            send_shift: 0,
            receive_shift: if config.window_scaling { shift(options, config) } else { 0 },
            peer_mss: DEFAULT_MSS,
            advertised_mss: advertised,
            path_mtu: start.path_mtu,
        };
        Opening {
            tuple: start.tuple,
            hash: start.hash,
            state,
            iss: start.iss,
            irs: SeqNumber(0),
            negotiated,
            timestamps: TimestampState { offset: start.timestamp_offset, ..Default::default() },
            window: offer(options, advertised),
            sent_at: start.now,
            started: start.now,
            deadline: start.now + INITIAL_RTO,
            retransmits: 0,
            limit: options.syn_count,
            transmit: true,
            listener: None,
            acknowledged: false,
            defer_until: Instant::ZERO,
            soft_error: None,
            traffic_class: ecn::handshake_class(options),
            hop_limit: options.hop_limit,
            dont_fragment: options.path_mtu_discovery != PathMtuDiscovery::Dont,
            early: Early::none(),
        }
    }

    /// Takes what the peer's SYN says.
    fn negotiate(&mut self, header: &Header, options: &Options, now: Instant) {
        let ours = &mut self.negotiated;
        ours.sack &= header.sack_permitted;
        ours.timestamps &= header.timestamps.is_some();
        //= RFC 7323 §2.2: scaling only if both ask for it.
        ours.scaling &= header.window_scale.is_some();
        ours.send_shift = if ours.scaling { header.window_scale.unwrap_or(0) } else { 0 };
        if !ours.scaling {
            ours.receive_shift = 0;
        }
        ours.peer_mss = header.mss.unwrap_or(DEFAULT_MSS);
        if options.max_segment > 0 {
            ours.peer_mss = ours.peer_mss.min(options.max_segment);
        }
        if let Some(ts) = header.timestamps {
            self.timestamps.store(ts.value, now);
        }
        self.irs = header.seq;
    }

    /// Sends our SYN or SYN-ACK.
    pub fn poll_transmit<A: Allocator>(
        &mut self,
        now: Instant,
        allocator: &mut A,
        pool: &Pool<A::Buffer>,
        counters: &mut TcpCounters,
    ) -> Result<Option<Transmit<A::Buffer>>, NoBuffer> {
        if !self.transmit {
            return Ok(None);
        }
        let mut buffer = allocator.allocate().ok_or(NoBuffer)?;
        let syn_ack = self.state == State::SynReceived;
        // A SYN that is sent again is an ordinary one: perhaps the data was what got it lost.
        if self.retransmits == 0
            && !syn_ack
            && !self.early.plain
            && let Some(chunk) = pool.at(self.early.data)
        {
            let data = chunk.sent();
            buffer.append(data.len()).copy_from_slice(data);
        }
        let ours = &self.negotiated;
        let header = Header {
            source_port: self.tuple.local_port,
            destination_port: self.tuple.remote_port,
            seq: self.iss,
            ack: if syn_ack { self.irs + 1 + self.early.taken } else { SeqNumber(0) },
            flags: if syn_ack { Flags::SYN | Flags::ACK } else { Flags::SYN }
                | ecn::handshake_flags(ours.ecn, syn_ack, self.retransmits),
            window: self.window.min(u32::from(u16::MAX)) as u16,
            mss: Some(ours.advertised_mss),
            sack_permitted: ours.sack,
            timestamps: ours.timestamps.then(|| self.timestamps.option(now)),
            window_scale: ours.scaling.then_some(ours.receive_shift),
            fast_open_form: self.early.form,
            fast_open: self.early.option.take().filter(|_| self.retransmits == 0),
            ..Header::default()
        };
        self.transmit = false;
        self.sent_at = now;
        counters.segments_out += 1;
        let (class, hops) = (self.traffic_class, self.hop_limit);
        Ok(Some(emit(&header, buffer, &self.tuple, class, hops, self.dont_fragment)))
    }

    /// The deadline has passed: sends again (`true`), or it is over (`false`).
    pub fn on_timeout(&mut self, now: Instant, config: &TcpConfig) -> bool {
        // The peer has answered and we wait for data: no need to ask it again before the end.
        let waiting = self.acknowledged && now < self.defer_until;
        if self.retransmits >= self.limit && !waiting {
            return false;
        }
        self.retransmits = self.retransmits.saturating_add(1);
        self.arm(now, config);
        self.transmit = !waiting;
        true
    }

    /// The peer sent its SYN again: the answer is repeated, and has its full time to be heard
    /// (as Linux's `tcp_check_req`; the peer may hear us just when we were about to give up).
    pub fn on_repeated_syn(&mut self, now: Instant, config: &TcpConfig) {
        self.transmit = true;
        self.arm(now, config);
    }

    fn arm(&mut self, now: Instant, config: &TcpConfig) {
        //= RFC 6298 §5.5
        let wait = INITIAL_RTO * (1 << self.retransmits.min(20));
        self.deadline = now + wait.min(config.rto_max);
    }

    /// A segment in SYN-RECEIVED (RFC 9293 §3.10.7.4).
    pub fn on_segment_in_syn_received(
        &mut self,
        header: &Header,
        payload: u32,
        now: Instant,
    ) -> Verdict {
        let next = self.irs + 1;
        let flags = header.flags;
        let completes_crossing = flags.contains(Flags::SYN | Flags::ACK)
            && self.listener.is_none()
            && header.seq == self.irs
            && self.early_acknowledged(header.ack).is_some();
        if completes_crossing {
            return Verdict::Established;
        }
        //= RFC 7323 §5.3 R1
        if self.negotiated.timestamps
            && !flags.contains(Flags::RST)
            && header.timestamps.is_some_and(|ts| self.timestamps.is_old(ts.value, now))
        {
            return Verdict::Stay;
        }
        let end = header.seq + payload + header.control_len();
        let edge = next + self.window.min(u32::from(u16::MAX));
        if end.before(next) || header.seq.after(edge) || header.seq.before(self.irs) {
            return if flags.contains(Flags::RST) { Verdict::Stay } else { Verdict::Resend };
        }
        if flags.contains(Flags::RST) {
            //= RFC 5961 §3.2
            let exact = header.seq == next;
            return if exact { Verdict::Failed(Error::ConnectionRefused) } else { Verdict::Stay };
        }
        if flags.contains(Flags::SYN) {
            return Verdict::Resend;
        }
        if !flags.contains(Flags::ACK) {
            return Verdict::Stay;
        }
        if self.early_acknowledged(header.ack).is_none() {
            return Verdict::Refuse(header.ack);
        }
        if let Some(ts) = header.timestamps
            && self.negotiated.timestamps
            && header.seq.at_or_before(next)
        {
            self.timestamps.store(ts.value, now);
        }
        Verdict::Established
    }

    /// What the connection starts from.
    pub fn established(&self, now: Instant) -> Established {
        Established {
            tuple: self.tuple,
            hash: self.hash,
            iss: self.iss,
            irs: self.irs,
            negotiated: self.negotiated,
            timestamps: self.timestamps,
            offered_window: self.window,
            rtt: (self.retransmits == 0 && !self.early.plain).then(|| now - self.sent_at),
            retransmitted: self.retransmits > 0,
        }
    }
}

/// The shift that lets the window grow as far as the receive buffer may (Linux:
/// `tcp_select_initial_window`).
fn shift(options: &Options, config: &TcpConfig) -> u8 {
    let mut space = if options.receive_buffer_locked {
        Receiver::window_of(options.receive_buffer)
    } else {
        config.receive_buffer.max.max(options.receive_buffer)
    };
    if options.window_clamp > 0 {
        space = space.min(options.window_clamp);
    }
    let mut shift = 0;
    while space > u32::from(u16::MAX) && shift < 14 {
        space >>= 1;
        shift += 1;
    }
    shift
}

/// The window of our SYN: whole segments of what the buffer stands for.
fn offer(options: &Options, mss: u16) -> u32 {
    let mut space = Receiver::window_of(options.receive_buffer);
    if options.window_clamp > 0 {
        space = space.min(options.window_clamp);
    }
    let mss = u32::from(mss).max(1);
    if space > mss { space / mss * mss } else { space }
}

/// The window of a SYN-ACK counts in segments as they will come.
fn offer_with_timestamps(options: &Options, mss: u16) -> u32 {
    offer(options, mss.saturating_sub(TIMESTAMPS_LEN))
}
