//! A connection whose handshake is done: the two halves, and what they share.

use super::Context;
use super::congestion::{Controller, DeliveryRate, Window};
use super::counters::TcpCounters;
use super::demux::Tuple;
use super::ecn::Ecn;
use super::loans::{Loans, Name};
use super::negotiated::{Negotiated, TimestampState};
use super::opening::early::Outcome;
use super::path::Paths;
use super::queue::Pool;
use super::receive::Receiver;
use super::receive::autotune::Room;
use super::receive::report::Report;
use super::recovery::Recovery;
use super::reply::{Replies, Reply};
use super::segment::{Flags, Header};
use super::send::scoreboard::Boards;
use super::send::{Limit, Limits, Rtt, Sender};
use super::seq::SeqNumber;
use super::state::State;
use super::timers::Timers;
use crate::config::TcpConfig;
use crate::error::Error;
use crate::options::{CongestionAlgorithm, Options};
use crate::packet::Allocator;
use crate::readiness::Readiness;
use crate::time::{Instant, Stamp};
use core::mem::offset_of;

bitflags::bitflags! {
    /// What waits to be sent besides data.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Pending: u8 {
        /// An acknowledgment.
        const ACK = 0x01;
        /// The first segment in flight, whatever the windows say: after a timeout.
        const FORCE_HEAD = 0x02;
        /// A window probe, or what fits the window.
        const WINDOW_PROBE = 0x04;
        /// A keepalive probe.
        const KEEPALIVE = 0x08;
        /// A tail loss probe.
        const TAIL_PROBE = 0x10;
        /// Our FIN could not be queued yet for want of memory.
        const FIN = 0x20;
    }
}

/// What was counted on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stats {
    pub octets_acked: u64,
    pub octets_received: u64,
    pub octets_sent: u64,
    pub segments_in: u32,
    pub segments_out: u32,
    pub data_segments_in: u32,
    pub data_segments_out: u32,
    /// The name of [`Troubles`].
    pub troubles: Name,
}

/// What was counted on a connection that something befell: most have none of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Troubles {
    pub octets_retransmitted: u64,
    pub retransmitted: u32,
    pub out_of_order: u32,
    pub duplicates_reported: u32,
    pub reorderings: u32,
    pub timeouts: u16,
    /// Episodes of timeouts, and how long those took that are over.
    pub timeout_episodes: u16,
    pub timeout_ms: u32,
}

/// What a connection works with during one call.
pub(crate) struct Env<'e, 'c, A: Allocator> {
    pub cx: &'e mut Context<'c, A>,
    pub pool: &'e mut Pool<A::Buffer>,
    pub options: &'e Options,
    pub config: &'e TcpConfig,
    pub replies: &'e mut Replies,
    pub rare: &'e mut Rare,
}

/// What connections share and seldom need.
#[derive(Debug)]
pub(crate) struct Rare {
    pub challenge: ChallengeBudget,
    pub paths: Paths,
    /// For receive buffers that grow.
    pub receive_room: Room,
    /// Half of the packet buffers.
    pub half_of_pool: usize,
    pub reports: Loans<Report>,
    pub troubles: Loans<Troubles>,
    pub boards: Boards,
}

impl Rare {
    pub fn new(sockets: usize, mtu: u16) -> Self {
        Rare {
            challenge: ChallengeBudget::new(),
            paths: Paths::new(sockets, mtu),
            receive_room: Room::UNBOUNDED,
            half_of_pool: 0,
            reports: Loans::new(sockets),
            troubles: Loans::new(sockets),
            boards: Boards::new(sockets),
        }
    }
}

/// A connection in ESTABLISHED or a later state. One that has ended stays, in `State::Closed`,
/// until the program closes its socket: received data can still be read.
///
/// In the order of use: what finds it, what every segment needs, what few do.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection {
    pub tuple: Tuple,
    /// Our SYN-ACK is not acknowledged yet: the connection began with the data of a SYN.
    pub awaits_ack: bool,
    pub state: State,
    pub send: Sender,
    pub receive: Receiver,
    pub timers: Timers,
    pub timestamps: TimestampState,
    pub negotiated: Negotiated,
    pub ecn: Ecn,
    pub pending: Pending,
    /// Probes of an idle peer or a closed window that were not answered.
    pub probes: u8,
    /// The program shut reading.
    pub shut_read: bool,
    /// The program shut writing: a FIN is queued, or will be.
    pub shut_write: bool,
    /// The program has closed the socket.
    pub orphaned: bool,
    /// The error that ended the connection, until the socket takes it.
    pub error: Option<Error>,
    /// What ICMP said, in case the connection times out.
    pub soft_error: Option<Error>,
    /// What became of interest to the program since it was last told.
    pub edges: Readiness,
    /// When the peer was last heard.
    pub heard: Instant,
    pub rtt: Rtt,
    pub window: Window,
    pub stats: Stats,
    /// What was delivered, and how fast.
    pub rate: DeliveryRate,
    /// What held sending up, for how long.
    pub limits: Limits,
    pub recovery: Recovery,
    /// As much of the tuple's hash as the demultiplexing table wants.
    pub hash: u32,
    pub controller: Controller,
    pub probing_since: Stamp,
    /// When the handshake was done.
    pub began: Stamp,
    /// When an out-of-window segment was last answered.
    pub answered_stray: Stamp,
    /// The name of what it remembers of its path's MTU; 0: nothing.
    pub path: u16,
    /// What became of Fast Open.
    pub fast_open: Outcome,
}

/// What an opening hands over to its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Established {
    pub tuple: Tuple,
    pub hash: u64,
    pub iss: SeqNumber,
    pub irs: SeqNumber,
    pub negotiated: Negotiated,
    pub timestamps: TimestampState,
    /// What our SYN offered, octets.
    pub offered_window: u32,
    /// The round trip of the handshake, unless a SYN was retransmitted.
    pub rtt: Option<core::time::Duration>,
    /// Our SYN was retransmitted.
    pub retransmitted: bool,
}

impl Connection {
    /// The octets at the beginning that a lookup reads.
    pub const FOUND_BY: usize = offset_of!(Connection, send) + size_of::<u32>();

    /// The connection that `from` established.
    pub fn new(
        from: &Established,
        options: &Options,
        config: &TcpConfig,
        congestion: CongestionAlgorithm,
        now: Instant,
    ) -> Self {
        let mss = u32::from(from.negotiated.send_mss(from.tuple.is_v6()));
        let first = from.iss + 1;
        let mut rtt = Rtt::new();
        match from.rtt {
            Some(sample) => rtt.sample(sample, now, config),
            None if from.retransmitted => rtt.fall_back_to_three_seconds(),
            None => {}
        }
        let mut window = Window::INITIAL;
        if from.retransmitted && from.rtt.is_none() {
            //= RFC 5681 §3.1: a lost SYN means one segment to start with.
            window.cwnd = 1;
        }
        let mut receive = Receiver::new(
            from.irs,
            from.offered_window,
            from.negotiated.receive_shift,
            options.receive_buffer,
            u32::from(from.negotiated.advertised_mss),
        );
        if options.window_clamp > 0 {
            receive.clamp = receive.clamp.min(options.window_clamp);
        }
        let mut controller = Controller::new(congestion, from.negotiated.ecn);
        controller.begin(now, window, rtt.srtt_us(), mss);
        let ecn = Ecn::new(from.negotiated.ecn, controller.counts_marks());
        let mut connection = Connection {
            tuple: from.tuple,
            hash: from.hash as u32,
            state: State::Established,
            negotiated: from.negotiated,
            timestamps: from.timestamps,
            send: Sender::new(from.iss, mss, options.send_buffer),
            receive,
            rtt,
            recovery: Recovery::new(first),
            window,
            controller,
            ecn,
            timers: Timers::IDLE,
            pending: Pending::empty(),
            edges: Readiness::empty(),
            error: None,
            soft_error: None,
            shut_read: false,
            shut_write: false,
            orphaned: false,
            awaits_ack: false,
            fast_open: Outcome::None,
            path: 0,
            probes: 0,
            probing_since: now.stamp(),
            began: now.stamp(),
            heard: now,
            answered_stray: Stamp::NEVER,
            rate: DeliveryRate::new(now),
            limits: Limits::new(),
            stats: Stats::default(),
        };
        // Until data comes, the beginning counts (`tcpi_last_data_recv`).
        connection.receive.ack.last_data = now;
        connection.send.not_sent_limit = not_sent_limit(options, config);
        if let Some(limit) = connection.wanted_send_buffer(options, config) {
            connection.send.limit = limit;
        }
        connection
    }

    /// The segment that completed the handshake: its window, and an acknowledgment of it.
    pub fn begin<A: Allocator>(&mut self, header: &Header, env: &mut Env<'_, '_, A>) {
        //= RFC 7323 §2.2: the window of a SYN is not scaled.
        let syn = header.flags.contains(Flags::SYN);
        let shift = if syn { 0 } else { self.negotiated.send_shift };
        self.send.window = u32::from(header.window) << shift;
        self.send.max_window = self.send.window;
        self.send.wl1 = header.seq;
        self.pending |= Pending::ACK;
        self.arm_keepalive(env);
    }

    /// Octets that the windows let leave now, if nothing waits.
    pub fn sendable(&self) -> u32 {
        let packets = self.window.cwnd.saturating_sub(self.send.in_flight());
        packets
            .saturating_mul(self.send.mss)
            .min(self.send.window_end().since(self.send.nxt))
            .saturating_sub(self.send.unsent_octets())
    }

    /// Grows the send buffer so that it holds two congestion windows (Linux: `tcp_sndbuf_expand`),
    /// unless what all connections send has half of the packet buffers already (`tcp_mem`).
    pub fn grow_send_buffer<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        if let Some(limit) = self.wanted_send_buffer(env.options, env.config)
            && (env.options.send_buffer_locked
                || env.cx.allocator.has_more_than(env.rare.half_of_pool))
        {
            self.send.limit = limit;
        }
    }

    /// What the send buffer should be, if not what it is.
    fn wanted_send_buffer(&self, options: &Options, config: &TcpConfig) -> Option<u32> {
        let limit = self.send.limit;
        if options.send_buffer_locked {
            return (options.send_buffer != limit).then_some(options.send_buffer);
        }
        let packets = self.window.cwnd.max(super::congestion::INITIAL_WINDOW).max(4);
        // A full segment and its headers in memory that comes in powers of two, and bookkeeping.
        let each = (self.send.mss + 640).next_power_of_two() + 256;
        let wanted = packets.saturating_mul(2).saturating_mul(each);
        let wanted = wanted.min(config.send_buffer.max);
        (wanted > limit).then_some(wanted)
    }

    /// Ends the connection here; `error` is what the program is told.
    pub fn finish(&mut self, error: Option<Error>) {
        self.state = State::Closed;
        self.timers = Timers::IDLE;
        self.pending = Pending::empty();
        self.error = self.error.or(error);
        self.edges |=
            Readiness::READABLE | Readiness::WRITABLE | Readiness::HANGUP | Readiness::READ_HANGUP;
        if error.is_some() {
            self.edges |= Readiness::ERROR;
        }
    }

    /// Gives its memory back, but for what [`Connection::finish`] leaves to be seen.
    pub fn clear<B>(&mut self, pool: &mut Pool<B>, rare: &mut Rare, options: &Options) {
        rare.receive_room.give_back(self.receive.grown(options));
        self.receive.clear(pool, &mut rare.reports);
        self.send.clear(pool);
        rare.troubles.give_back(&mut self.stats.troubles);
    }

    /// Counts something that befell it.
    pub fn count_trouble(&mut self, rare: &mut Rare, count: impl FnOnce(&mut Troubles)) {
        if let Some(troubles) = rare.troubles.borrow(&mut self.stats.troubles) {
            count(troubles);
        }
    }

    /// Queues an RST that says the connection is gone on our side.
    pub fn send_reset<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let timestamps = self.negotiated.timestamps.then(|| self.timestamps.option(env.cx.now));
        let reply = Reply {
            tuple: self.tuple,
            seq: self.send.nxt,
            ack: self.receive.nxt,
            flags: Flags::RST | Flags::ACK,
            window: 0,
            timestamps,
            traffic_class: env.options.traffic_class,
            hop_limit: env.options.hop_limit,
            syn: None,
        };
        env.replies.push(reply, env.cx.counters);
    }

    /// Whether something may be waiting to be sent.
    pub fn wants_transmit(&self) -> bool {
        self.state != State::Closed
            && (!self.pending.is_empty()
                || self.send.unsent != super::queue::NONE
                || self.send.lost_out > 0)
    }

    /// The MSS we told the peer, less the options that its segments carry.
    pub fn receive_mss(&self) -> u32 {
        u32::from(self.negotiated.advertised_mss).max(88)
    }

    /// Wakes a program that waits for room, if there is enough now.
    pub fn on_room(&mut self, no_space: &mut bool, now: Instant) {
        if *no_space && self.send.is_writable() {
            *no_space = false;
            self.edges |= Readiness::WRITABLE;
            self.limits.end(Limit::SendBuffer, now);
        }
    }

    /// The program waits for room, and all that it gave is in flight: if the windows would take
    /// more, the buffer is too small.
    pub fn check_buffer_limited(&mut self, now: Instant) {
        if self.send.unsent == super::queue::NONE
            && self.send.packets_out > 0
            && !self.send.limited_by_window
        {
            self.limits.begin(Limit::SendBuffer, now);
        }
    }

    /// The program has had its say: if the path could carry more than there is, what it carries
    /// now is no measure of it (draft-cheng-iccrg-delivery-rate-estimation §3.5).
    pub fn check_app_limited(&mut self) {
        let send = &self.send;
        if send.unsent_octets() < send.mss
            && send.in_flight() < self.window.cwnd
            && send.lost_out <= send.retrans_out
        {
            self.rate.mark_app_limited(send.in_flight());
        }
    }
}

/// `TCP_NOTSENT_LOWAT`, or what the system says where it is not set.
pub(crate) fn not_sent_limit(options: &Options, config: &TcpConfig) -> u32 {
    match options.not_sent_low_water {
        0 => config.not_sent_low_water,
        set => set,
    }
}

/// The budget of challenge ACKs (RFC 5961 §7): one for the layer, per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChallengeBudget {
    second: u64,
    left: u32,
}

impl ChallengeBudget {
    pub const fn new() -> Self {
        ChallengeBudget { second: u64::MAX, left: 0 }
    }

    /// Whether one more may be sent now. The number per second is blurred so that it cannot be
    /// measured from outside (the side channel of CVE-2016-5696).
    pub fn spend(
        &mut self,
        now: Instant,
        limit: u32,
        blur: u32,
        counters: &mut TcpCounters,
    ) -> bool {
        let second = now.as_millis() / 1000;
        if self.second != second {
            self.second = second;
            self.left = limit / 2 + ((u64::from(blur) * u64::from(limit)) >> 32) as u32;
        }
        if self.left == 0 {
            counters.challenge_acks_suppressed += 1;
            return false;
        }
        self.left -= 1;
        counters.challenge_acks += 1;
        true
    }
}
