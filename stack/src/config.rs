//! What a shard is built with. Every number has a default; every table is bounded by one of them.

use crate::addr::Cidr;
use crate::options::CongestionAlgorithm;
use crate::steering::Share;
use crate::time::Duration;
use core::net::IpAddr;

/// Smallest, initial and largest size of a socket buffer, in octets, as Linux's `tcp_rmem` and
/// `tcp_wmem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// The least a socket keeps under pressure.
    pub min: u32,
    /// What a socket starts with.
    pub default: u32,
    /// How far automatic tuning goes.
    pub max: u32,
}

/// A static route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destinations it covers.
    pub destination: Cidr,
    /// The router, or `None` for destinations on the link.
    pub gateway: Option<IpAddr>,
}

/// Sizes of the tables of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// TCP sockets in every state but TIME-WAIT, and embryonic connections.
    pub tcp_sockets: usize,
    /// Connections in TIME-WAIT.
    pub time_wait: usize,
    /// UDP sockets.
    pub udp_sockets: usize,
    /// Segments and datagrams queued in all sockets together.
    pub segments: usize,
    /// Neighbors.
    pub neighbors: usize,
    /// Packets waiting for all unresolved neighbors together.
    pub unresolved_packets: usize,
    /// Frames on the way from and to our own addresses.
    pub loopback_frames: usize,
    /// Octets of the ring that a capture reads.
    pub capture_octets: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity {
            tcp_sockets: 65_536,
            time_wait: 65_536,
            udp_sockets: 16_384,
            segments: 65_536,
            neighbors: 1_024,
            unresolved_packets: 256,
            loopback_frames: 1_024,
            capture_octets: 4 << 20,
        }
    }
}

/// The keys of Fast Open's cookies (RFC 7413 §4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastOpenKey {
    /// Cookies are made with it.
    pub primary: [u8; 16],
    /// Cookies made with it are still good.
    pub backup: Option<[u8; 16]>,
}

/// Whether connect may take the place of a connection in TIME-WAIT whose timestamps keep its old
/// segments out (`tcp_tw_reuse`, whose numbers these are).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeWaitReuse {
    /// Never.
    Off = 0,
    /// After a second.
    On = 1,
    /// After a second, within 127.0.0.0/8.
    Loopback = 2,
}

/// When SYNs are answered with cookies (`tcp_syncookies`, whose numbers these are).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SynCookies {
    /// Never: a full SYN queue drops SYNs.
    Off = 0,
    /// When a listener's SYN queue is full.
    UnderPressure = 1,
    /// Always.
    Always = 2,
}

/// Whether TCP looks for the path's MTU itself (RFC 4821; `tcp_mtu_probing`, whose numbers these
/// are).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MtuProbing {
    /// Never: routers tell.
    Off = 0,
    /// Once nothing gets through any more, as behind a router that does not tell.
    BlackHole = 1,
    /// Always.
    Always = 2,
}

/// How long a router's word about a path's MTU is believed (RFC 1191 §6.3; Linux: `mtu_expires`).
pub const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);

/// Whether TCP uses ECN (RFC 3168): the values of Linux's `tcp_ecn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EcnPolicy {
    /// 0: never.
    Never = 0,
    /// 1: connections ask for it, and grant it.
    Always = 1,
    /// 2: connections grant it when the peer asks.
    #[default]
    WhenAsked = 2,
}

/// TCP's settings, named as Linux's sysctls where those exist (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TcpConfig {
    /// `tcp_rmem`.
    pub receive_buffer: BufferLimits,
    /// `tcp_wmem`.
    pub send_buffer: BufferLimits,
    /// The congestion control of new sockets.
    pub congestion: CongestionAlgorithm,
    /// `tcp_ecn`.
    pub ecn: EcnPolicy,
    /// `tcp_slow_start_after_idle`.
    pub slow_start_after_idle: bool,
    /// `tcp_timestamps`.
    pub timestamps: bool,
    /// `tcp_sack`.
    pub sack: bool,
    /// `tcp_window_scaling`.
    pub window_scaling: bool,
    /// `tcp_syn_retries`.
    pub syn_retries: u8,
    /// `tcp_synack_retries`.
    pub synack_retries: u8,
    /// `tcp_retries1`: after so many a black hole is suspected.
    pub retries_to_suspect: u8,
    /// `tcp_retries2`.
    pub retries: u8,
    /// `tcp_orphan_retries` (Linux uses 8 for 0).
    pub orphan_retries: u8,
    /// The least retransmission timeout (Linux: 200 ms).
    pub rto_min: Duration,
    /// The greatest retransmission timeout (Linux: 120 s).
    pub rto_max: Duration,
    /// The least delayed-ACK timeout (Linux: 40 ms).
    pub delayed_ack_min: Duration,
    /// The greatest delayed-ACK timeout (Linux: 200 ms).
    pub delayed_ack_max: Duration,
    /// How long TIME-WAIT lasts (Linux: 60 s).
    pub time_wait: Duration,
    /// `tcp_tw_reuse`.
    pub time_wait_reuse: TimeWaitReuse,
    /// `tcp_max_orphans`: connections that no program holds any more, TIME-WAIT not counted.
    pub max_orphans: u32,
    /// `tcp_fin_timeout`.
    pub fin_timeout: Duration,
    /// `tcp_min_tso_segs`: segments of a burst at least.
    pub min_tso_segments: u32,
    /// `tcp_notsent_lowat`, in octets; `u32::MAX` means none.
    pub not_sent_low_water: u32,
    /// `somaxconn`.
    pub max_backlog: u32,
    /// `tcp_max_syn_backlog`: bounds the openings of a listener where there are no SYN cookies.
    pub max_syn_backlog: u32,
    /// `tcp_syncookies`.
    pub syn_cookies: SynCookies,
    /// `tcp_abort_on_overflow`: a final ACK that finds the accept queue full is answered by a
    /// reset.
    pub abort_on_overflow: bool,
    /// `tcp_fastopen` (RFC 7413), Linux's bits: 1 connects, 2 listeners, 4 connects without a
    /// cookie, 0x200 listeners without a cookie, 0x400 every listener.
    pub fast_open: u32,
    /// `tcp_fastopen_key`; `None`: one that nobody knows.
    pub fast_open_key: Option<FastOpenKey>,
    /// `tcp_challenge_ack_limit` per second (RFC 5961 §7).
    pub challenge_acks_per_second: u32,
    /// `tcp_mtu_probing` (RFC 4821).
    pub mtu_probing: MtuProbing,
    /// `tcp_base_mss`: what a search for the path's MTU starts from.
    pub base_mss: u16,
    /// `tcp_mtu_probe_floor`: the least payload per segment behind a black hole.
    pub mtu_probe_floor: u16,
    /// `tcp_probe_threshold`: a search that is that near, in octets, has found it.
    pub probe_threshold: u16,
    /// `tcp_probe_interval`: how long that is believed.
    pub probe_interval: Duration,
    /// Segments that may leave as one unit, to be cut later; 0 and 1 mean each on its own. The
    /// shard sets it to what the device takes.
    pub unit_segments: u16,
}

impl Default for TcpConfig {
    fn default() -> Self {
        TcpConfig {
            receive_buffer: BufferLimits { min: 4_096, default: 131_072, max: 6_291_456 },
            send_buffer: BufferLimits { min: 4_096, default: 16_384, max: 4_194_304 },
            congestion: CongestionAlgorithm::Cubic,
            ecn: EcnPolicy::WhenAsked,
            slow_start_after_idle: true,
            timestamps: true,
            sack: true,
            window_scaling: true,
            syn_retries: 6,
            synack_retries: 5,
            retries_to_suspect: 3,
            retries: 15,
            orphan_retries: 8,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            delayed_ack_min: Duration::from_millis(40),
            delayed_ack_max: Duration::from_millis(200),
            time_wait: Duration::from_secs(60),
            time_wait_reuse: TimeWaitReuse::Loopback,
            max_orphans: 8_192,
            fin_timeout: Duration::from_secs(60),
            min_tso_segments: 2,
            not_sent_low_water: u32::MAX,
            max_backlog: 4_096,
            max_syn_backlog: 4_096,
            syn_cookies: SynCookies::UnderPressure,
            abort_on_overflow: false,
            fast_open: 1,
            fast_open_key: None,
            challenge_acks_per_second: 1_000,
            mtu_probing: MtuProbing::Off,
            base_mss: 1_024,
            mtu_probe_floor: 48,
            probe_threshold: 8,
            probe_interval: Duration::from_secs(600),
            unit_segments: 0,
        }
    }
}

/// Everything a shard is built with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Our addresses on the link.
    pub addresses: Vec<Cidr>,
    /// Static routes; the networks of `addresses` need none.
    pub routes: Vec<Route>,
    /// The largest IP packet we send, in octets; at most the device's.
    pub mtu: u16,
    /// Whether 127.0.0.0/8 and ::1 are ours (`--loopback stack`). Our own addresses always are.
    pub loopback: bool,
    /// Ephemeral ports, inclusive (`ip_local_port_range`).
    pub ephemeral_ports: (u16, u16),
    /// Octets a UDP socket queues at most (`rmem_default`).
    pub udp_receive_buffer: u32,
    /// Largest value `SO_RCVBUF` can set before doubling (`rmem_max`).
    pub max_receive_buffer: u32,
    /// Largest value `SO_SNDBUF` can set before doubling (`wmem_max`).
    pub max_send_buffer: u32,
    /// Whether TCP segments leave in units that are cut by the device or last thing before it.
    pub segment: bool,
    /// Whether received segments that follow each other are joined.
    pub coalesce: bool,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// Table sizes.
    pub capacity: Capacity,
    /// The shard's part of the host's flows.
    pub share: Share,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            addresses: Vec::new(),
            routes: Vec::new(),
            mtu: 1500,
            loopback: false,
            ephemeral_ports: (32_768, 60_999),
            udp_receive_buffer: 212_992,
            max_receive_buffer: 212_992,
            max_send_buffer: 212_992,
            segment: true,
            coalesce: true,
            tcp: TcpConfig::default(),
            capacity: Capacity::default(),
            share: Share::ALL,
        }
    }
}
