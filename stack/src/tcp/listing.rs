//! What can be learnt about sockets: `TCP_INFO`, the lines of `ss`, the tables' occupancy.

use super::connection::Connection;
use super::ecn::Ecn;
use super::info::{
    OPTION_ECN, OPTION_ECN_SEEN, OPTION_SACK, OPTION_SYN_DATA, OPTION_TIMESTAMPS, OPTION_WSCALE,
    Occupancy, SocketSummary, TcpInfo, TimerKind, TimerSummary,
};
use super::opening::Opening;
use super::opening::early::Outcome;
use super::socket::{Kind, Socket};
use super::state::State;
use super::timers::Alarm;
use super::{Tcp, TcpId};
use crate::error::Error;
use crate::options::Options;
use crate::packet::Buffer;
use crate::time::{Duration, Instant};

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn millis_since(now: Instant, then: Instant) -> u32 {
    u32::try_from((now - then).as_millis()).unwrap_or(u32::MAX)
}

impl<B: Buffer> Tcp<B> {
    /// `TCP_INFO`.
    ///
    /// # Errors
    /// `BadDescriptor`.
    pub fn info(&self, id: TcpId, now: Instant) -> Result<TcpInfo, Error> {
        let socket = self.sockets.get(id.0).ok_or(Error::BadDescriptor)?;
        // What Linux says of every socket, connected or not.
        let mut info = TcpInfo {
            state: socket.state() as u8,
            snd_cwnd: super::congestion::INITIAL_WINDOW,
            reordering: super::recovery::DUPLICATES,
            max_pacing_rate: self.option_sets.get(socket.options).max_pacing_rate,
            ..TcpInfo::default()
        };
        match &socket.kind {
            Kind::Idle => {}
            Kind::Listening(listener) => {
                //= tcp(7): for a listener these two are the accept queue and its limit.
                info.unacked = listener.waiting;
                info.sacked = listener.backlog;
            }
            Kind::Opening(opening) => {
                info.retransmits = opening.retransmits;
                info.backoff = opening.retransmits;
                info.total_retrans = u32::from(opening.retransmits);
                info.total_rto = u16::from(opening.retransmits);
                info.segs_out = 1 + u32::from(opening.retransmits);
                info.unacked = 1;
                info.snd_mss = u32::from(super::negotiated::DEFAULT_MSS);
                info.rcv_mss = u32::from(super::negotiated::DEFAULT_MSS);
                info.snd_ssthresh = super::congestion::NO_THRESHOLD;
                info.rttvar = 250_000;
                info.min_rtt = u32::MAX;
                info.rcv_wnd = opening.window;
                info.rcv_ssthresh = opening.window;
                info.last_data_sent_ms = millis_since(now, opening.started);
                info.last_data_recv_ms = info.last_data_sent_ms;
                info.last_ack_recv_ms = info.last_data_sent_ms;
                info.rto = micros(opening.deadline - opening.sent_at);
                info.pmtu = u32::from(opening.negotiated.path_mtu);
                info.advmss = u32::from(opening.negotiated.advertised_mss);
            }
            Kind::Connected(c) => {
                self.connection_info(c, self.option_sets.get(socket.options), now, &mut info)
            }
        }
        Ok(info)
    }

    fn connection_info(&self, c: &Connection, options: &Options, now: Instant, info: &mut TcpInfo) {
        let negotiated = &c.negotiated;
        let troubles = self.rare.troubles.get(c.stats.troubles).copied().unwrap_or_default();
        let option = |on: bool, bit: u8| if on { bit } else { 0 };
        info.ca_state = c.recovery.phase as u8;
        info.retransmits = c.recovery.timeouts;
        info.probes = c.probes;
        info.backoff = c.rtt.backoff;
        info.options = option(negotiated.timestamps, OPTION_TIMESTAMPS)
            | option(negotiated.sack, OPTION_SACK)
            | option(negotiated.scaling, OPTION_WSCALE)
            | option(negotiated.ecn, OPTION_ECN)
            | option(c.ecn.contains(Ecn::SEEN), OPTION_ECN_SEEN)
            | option(c.fast_open == Outcome::DataTaken, OPTION_SYN_DATA);
        info.fastopen_client_fail = c.fast_open as u8 % Outcome::DataTaken as u8;
        info.snd_wscale = negotiated.send_shift;
        info.rcv_wscale = negotiated.receive_shift;
        info.rto = micros(c.rtt.rto(&self.config));
        info.ato = c.receive.ack.delay_us;
        info.snd_mss = c.send.mss;
        info.rcv_mss = c.receive.ack.peer_mss;
        info.unacked = c.send.packets_out;
        info.sacked = c.send.sacked_out;
        info.lost = c.send.lost_out;
        info.retrans = c.send.retrans_out;
        let began_ms = u32::try_from(c.began.elapsed(now).as_millis()).unwrap_or(u32::MAX);
        info.last_data_sent_ms = began_ms.min(millis_since(now, c.send.last_sent));
        info.last_data_recv_ms = began_ms.min(millis_since(now, c.receive.ack.last_data));
        info.last_ack_recv_ms = millis_since(now, c.heard);
        info.pmtu = u32::from(negotiated.path_mtu);
        info.rcv_ssthresh = c.receive.slow_start;
        info.rtt = c.rtt.srtt_us();
        info.rttvar = c.rtt.rttvar_us();
        info.snd_ssthresh = c.window.ssthresh;
        info.snd_cwnd = c.window.cwnd;
        info.advmss = u32::from(negotiated.advertised_mss);
        info.reordering = u32::from(c.recovery.reordering);
        info.rcv_rtt = c.receive.tune.rtt_us;
        info.rcv_space = c.receive.tune.space;
        info.total_retrans = troubles.retransmitted;
        info.max_pacing_rate = options.max_pacing_rate;
        info.pacing_rate = c.pacing_rate(options);
        info.bytes_acked = c.stats.octets_acked;
        info.bytes_received = c.stats.octets_received;
        info.segs_out = c.stats.segments_out;
        info.segs_in = c.stats.segments_in;
        info.notsent_bytes = c.send.unsent_octets();
        info.min_rtt = c.rtt.min_us;
        info.data_segs_in = c.stats.data_segments_in;
        info.data_segs_out = c.stats.data_segments_out;
        info.delivery_rate = c.rate.octets_per_second(c.send.mss);
        info.delivery_rate_app_limited = c.rate.best_app_limited;
        (info.busy_time, info.rwnd_limited, info.sndbuf_limited) = c.limits.times_us(now);
        info.delivered = c.rate.delivered;
        info.delivered_ce = c.rate.delivered_ce;
        info.bytes_sent = c.stats.octets_sent + troubles.octets_retransmitted;
        info.bytes_retrans = troubles.octets_retransmitted;
        info.dsack_dups = troubles.duplicates_reported;
        info.reord_seen = troubles.reorderings;
        info.rcv_ooopack = troubles.out_of_order;
        info.snd_wnd = c.send.window;
        // What the last segment offered, counted from what it acknowledged.
        info.rcv_wnd = c.receive.edge.since(c.receive.acknowledged);
        info.total_rto = troubles.timeouts;
        info.total_rto_recoveries = troubles.timeout_episodes;
        info.total_rto_time_ms = troubles.timeout_ms;
    }

    /// Calls `each` with every socket, embryonic connection and TIME-WAIT entry.
    pub fn sockets(&self, mut each: impl FnMut(SocketSummary)) {
        for (handle, socket) in self.sockets.iter() {
            each(summary(TcpId(handle), socket));
        }
        let alone = |opening: &Opening| opening.early.child.is_none();
        for (_, opening) in self.openings.iter().filter(|(_, opening)| alone(opening)) {
            each(SocketSummary {
                id: None,
                owner: 0,
                state: opening.state,
                local: opening.tuple.local_address(),
                remote: opening.tuple.remote_address(),
                receive_queue: 0,
                send_queue: 0,
                orphaned: false,
                timer: Some(opening_timer(opening)),
            });
        }
        for (_, entry) in self.time_waits.entries.iter() {
            let tuple = entry.tuple();
            each(SocketSummary {
                id: None,
                owner: 0,
                state: State::TimeWait,
                local: tuple.local_address(),
                remote: tuple.remote_address(),
                receive_queue: 0,
                send_queue: 0,
                orphaned: true,
                timer: Some(TimerSummary {
                    kind: TimerKind::TimeWait,
                    at: entry.expires(self.latest),
                    times: 0,
                }),
            });
        }
    }

    /// How full the tables are.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            sockets: self.sockets.len(),
            openings: self.openings.len(),
            connections: self.connected,
            time_wait: self.time_waits.entries.len(),
            segments: self.pool.len(),
            demux: self.demux.len(),
            timers: self.wheel.len(),
            replies: self.replies.len(),
        }
    }
}

fn summary(id: TcpId, socket: &Socket) -> SocketSummary {
    let nowhere = socket.family.unspecified_socket();
    let (remote, receive_queue, send_queue) = match &socket.kind {
        Kind::Idle => (nowhere, 0, 0),
        Kind::Listening(listener) => (nowhere, listener.waiting, listener.backlog),
        Kind::Opening(o) => (socket.present(o.tuple.remote_address()), 0, 1),
        Kind::Connected(c) => {
            let remote = socket.present(c.tuple.remote_address());
            (remote, c.receive.unread(), c.send.queued_octets())
        }
    };
    SocketSummary {
        id: Some(id),
        owner: socket.owner,
        state: socket.state(),
        local: socket.local_address(),
        remote,
        receive_queue,
        send_queue,
        orphaned: socket.orphaned,
        timer: match &socket.kind {
            Kind::Opening(opening) => Some(opening_timer(opening)),
            Kind::Connected(c) => connection_timer(c),
            Kind::Idle | Kind::Listening(_) => None,
        },
    }
}

fn opening_timer(opening: &Opening) -> TimerSummary {
    TimerSummary { kind: TimerKind::On, at: opening.deadline, times: opening.retransmits }
}

/// As Linux chooses: what is in flight comes before an idle peer.
fn connection_timer(c: &Connection) -> Option<TimerSummary> {
    let timers = &c.timers;
    let (kind, at, times) = match timers.alarm {
        Alarm::Retransmit | Alarm::TailProbe | Alarm::Reordering => {
            (TimerKind::On, timers.alarm_at, c.recovery.timeouts)
        }
        Alarm::WindowProbe => (TimerKind::Persist, timers.alarm_at, c.probes),
        Alarm::None => (TimerKind::Keepalive, timers.keepalive_at, c.probes),
    };
    (at != Instant::FAR_FUTURE).then_some(TimerSummary { kind, at, times })
}
