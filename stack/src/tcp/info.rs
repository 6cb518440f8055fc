//! What one can learn about a socket: `TCP_INFO`, and the lines of `ss`.

use super::TcpId;
use super::state::State;
use crate::time::Instant;
use core::net::SocketAddr;

/// The fields of Linux's `struct tcp_info`, by name and unit (times in µs unless `_ms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are Linux's; tcp(7) and linux/tcp.h say what they mean.
pub struct TcpInfo {
    pub state: u8,
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub options: u8,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub delivery_rate_app_limited: bool,
    pub fastopen_client_fail: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub fackets: u32,
    pub last_data_sent_ms: u32,
    pub last_ack_sent_ms: u32,
    pub last_data_recv_ms: u32,
    pub last_ack_recv_ms: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub rehash: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    pub total_rto_time_ms: u32,
}

/// `tcpi_options`: timestamps are on.
pub const OPTION_TIMESTAMPS: u8 = 1;
/// `tcpi_options`: SACK is on.
pub const OPTION_SACK: u8 = 2;
/// `tcpi_options`: window scaling is on.
pub const OPTION_WSCALE: u8 = 4;
/// `tcpi_options`: ECN is on.
pub const OPTION_ECN: u8 = 8;
/// `tcpi_options`: a packet came ECN-capable.
pub const OPTION_ECN_SEEN: u8 = 16;

/// `tcpi_options`: the data of the SYN was taken (RFC 7413).
pub const OPTION_SYN_DATA: u8 = 32;

/// One line of `ss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSummary {
    /// The socket; `None` for what no descriptor names: embryonic connections and TIME-WAIT.
    pub id: Option<TcpId>,
    /// What `set_owner` was told.
    pub owner: u64,
    /// The state.
    pub state: State,
    /// Our end.
    pub local: SocketAddr,
    /// The peer; the unspecified address where there is none.
    pub remote: SocketAddr,
    /// Octets not yet read; for a listener, connections not yet accepted.
    pub receive_queue: u32,
    /// Octets not yet acknowledged; for a listener, its backlog.
    pub send_queue: u32,
    /// The program has closed it; the stack is finishing.
    pub orphaned: bool,
    /// What runs out next, if anything does.
    pub timer: Option<TimerSummary>,
}

/// What a timer is for, in ss(8)'s words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// What was sent is sent again, or the tail of it is probed.
    On,
    /// An idle peer is probed, or an orphan in FIN-WAIT-2 is given up.
    Keepalive,
    /// TIME-WAIT ends.
    TimeWait,
    /// A closed window is probed.
    Persist,
}

impl TimerKind {
    /// As ss(8) has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TimerKind::On => "on",
            TimerKind::Keepalive => "keepalive",
            TimerKind::TimeWait => "timewait",
            TimerKind::Persist => "persist",
        }
    }
}

/// A timer that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerSummary {
    /// What it is for.
    pub kind: TimerKind,
    /// When it runs out.
    pub at: Instant,
    /// How often it has, in a row.
    pub times: u8,
}

/// How full the tables are. All zero when everything has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Sockets in every state, those that the program has closed included until they end.
    pub sockets: usize,
    /// Embryonic connections of listeners.
    pub openings: usize,
    /// Connections among the sockets.
    pub connections: usize,
    /// TIME-WAIT entries.
    pub time_wait: usize,
    /// Segments queued in all connections.
    pub segments: usize,
    /// Entries of the demultiplexing table.
    pub demux: usize,
    /// Armed timers.
    pub timers: usize,
    /// Answers waiting to be sent.
    pub replies: usize,
}

impl Occupancy {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        let Occupancy {
            sockets,
            openings,
            connections,
            time_wait,
            segments,
            demux,
            timers,
            replies,
        } = other;
        self.sockets += sockets;
        self.openings += openings;
        self.connections += connections;
        self.time_wait += time_wait;
        self.segments += segments;
        self.demux += demux;
        self.timers += timers;
        self.replies += replies;
    }
}
