//! The options of a socket: what setsockopt(2) changes and getsockopt(2) reads, as plain values.
//!
//! [`Options`] is one struct for every protocol, as in Linux: a TCP socket can carry an option
//! that only UDP acts upon. The layers read the fields; a change is made by
//! `Shard::update_options`, after which the protocol re-reads what it acts upon.

use crate::time::Duration;

/// A time in whole milliseconds, at most 49 days: four octets, for a socket has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(u32);

impl Period {
    /// No time.
    pub const ZERO: Period = Period(0);

    /// `seconds`, or the longest there is.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        Period(seconds.saturating_mul(1_000))
    }

    /// As a duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }

    /// Whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        (self.0 / 1_000) as u64
    }

    /// Milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u32 {
        self.0
    }

    /// Whether it is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Duration> for Period {
    /// Rounds up: a time-out must not come early.
    fn from(duration: Duration) -> Self {
        let ms = duration.as_nanos().div_ceil(1_000_000);
        Period(u32::try_from(ms).unwrap_or(u32::MAX))
    }
}

/// Which congestion control a TCP connection uses (`TCP_CONGESTION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CongestionAlgorithm {
    /// RFC 5681 with RFC 6582.
    Reno,
    /// RFC 9438.
    #[default]
    Cubic,
    /// draft-cardwell-iccrg-bbr-congestion-control-00: what Linux calls `bbr`.
    Bbr,
    /// RFC 8257; asks for ECN.
    Dctcp,
}

impl CongestionAlgorithm {
    /// Every algorithm, in the order they are offered.
    pub const ALL: &'static [Self] = &[Self::Cubic, Self::Reno, Self::Bbr, Self::Dctcp];

    /// The name that `TCP_CONGESTION` uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reno => "reno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
            Self::Dctcp => "dctcp",
        }
    }
}

/// `SO_LINGER` (socket(7)): what close does with unsent data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Linger {
    /// Off: close returns at once, the stack goes on sending.
    #[default]
    Background,
    /// On with a time of zero: close throws unsent data away and resets the connection.
    Reset,
    /// On: close waits this many seconds for the data to be acknowledged.
    Wait(u32),
}

/// `IP_MTU_DISCOVER` (ip(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathMtuDiscovery {
    /// Never set DF.
    Dont,
    /// Use the path's MTU, fragment if need be.
    #[default]
    Want,
    /// Always set DF; too large a datagram fails.
    Do,
    /// Set DF, ignore the path's MTU.
    Probe,
}

bitflags::bitflags! {
    /// `SO_TIMESTAMPING`, by Linux's numbers (linux/net_tstamp.h). What is not named here is kept
    /// for getsockopt(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Timestamping: u32 {
        /// Report when a send's last octet left for the device.
        const TX_SOFTWARE = 1 << 1;
        /// Take note of when what is received came.
        const RX_SOFTWARE = 1 << 3;
        /// Tell the times that were noted.
        const SOFTWARE = 1 << 4;
        /// Reports have numbers: octets from when this was set.
        const OPT_ID = 1 << 7;
        /// Report when a send's last octet left for the queue before the device.
        const TX_SCHED = 1 << 8;
        /// Report when it was acknowledged.
        const TX_ACK = 1 << 9;
        /// Reports come without the packet.
        const OPT_TSONLY = 1 << 11;
        /// Reports come with statistics.
        const OPT_STATS = 1 << 12;
        /// Numbers begin behind what was written, not behind what was acknowledged.
        const OPT_ID_TCP = 1 << 16;
        /// The others.
        const _ = !0;
    }
}

impl Timestamping {
    /// What a send can ask for.
    pub const RECORD: Timestamping = Self::TX_SOFTWARE.union(Self::TX_SCHED).union(Self::TX_ACK);

    /// What a send may say itself (`SOF_TIMESTAMPING_TX_RECORD_MASK`): by the device, too.
    pub const SENDABLE: Timestamping = Self::RECORD.union(Self::from_bits_retain(1 | 1 << 18));

    /// What is to be reported of a send that says `instead`, if anything.
    #[must_use]
    pub fn to_report(self, instead: Option<Timestamping>) -> Option<Timestamping> {
        let asked = instead.unwrap_or(self) & Self::RECORD;
        (!asked.is_empty()).then_some(asked)
    }
}

/// The values of a socket's options. Times of `None` mean without limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    // SOL_SOCKET (socket(7))
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `SO_LINGER`.
    pub linger: Linger,
    /// `SO_SNDBUF`, in octets as getsockopt reports it (already doubled).
    pub send_buffer: u32,
    /// `SO_RCVBUF`, in octets as getsockopt reports it (already doubled).
    pub receive_buffer: u32,
    /// The program set `SO_SNDBUF`: no automatic tuning.
    pub send_buffer_locked: bool,
    /// The program set `SO_RCVBUF`: no automatic tuning.
    pub receive_buffer_locked: bool,
    /// `SO_SNDTIMEO`.
    pub send_timeout: Option<Period>,
    /// `SO_RCVTIMEO`.
    pub receive_timeout: Option<Period>,
    /// `SO_RCVLOWAT`, in octets.
    pub receive_low_water: u32,
    /// `SO_OOBINLINE`.
    pub oob_inline: bool,
    /// `SO_BROADCAST`.
    pub broadcast: bool,
    /// `SO_DONTROUTE`.
    pub dont_route: bool,
    /// `SO_PRIORITY`.
    pub priority: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_TIMESTAMP`/`SO_TIMESTAMPNS`: received packets carry their arrival time.
    pub receive_timestamp: bool,
    /// `SO_TIMESTAMPING`.
    pub timestamping: Timestamping,
    /// `SO_MAX_PACING_RATE`, in octets per second.
    pub max_pacing_rate: u64,
    /// `SO_ZEROCOPY`: sends with `MSG_ZEROCOPY` report when they need their data no longer.
    pub zero_copy: bool,
    /// `SO_PEEK_OFF`; negative means off.
    pub peek_offset: i32,
    // IPPROTO_IP (ip(7)), IPPROTO_IPV6 (ipv6(7))
    /// `IP_TOS` or `IPV6_TCLASS`.
    pub traffic_class: u8,
    /// `IP_TTL` or `IPV6_UNICAST_HOPS`.
    pub hop_limit: u8,
    /// `IP_MINTTL`.
    pub min_hop_limit: u8,
    /// `IP_MTU_DISCOVER`.
    pub path_mtu_discovery: PathMtuDiscovery,
    /// `IP_PKTINFO`/`IPV6_RECVPKTINFO`.
    pub receive_packet_info: bool,
    /// `IP_RECVTOS`.
    pub receive_traffic_class: bool,
    /// `IP_RECVTTL`.
    pub receive_hop_limit: bool,
    /// `IP_RECVERR`: ICMP errors are queued and reported.
    pub receive_errors: bool,
    /// `IP_FREEBIND`.
    pub free_bind: bool,
    /// `IP_BIND_ADDRESS_NO_PORT`.
    pub bind_address_no_port: bool,
    /// `IPV6_V6ONLY`.
    pub v6_only: bool,
    // IPPROTO_TCP (tcp(7))
    /// `TCP_NODELAY`.
    pub no_delay: bool,
    /// `TCP_CORK`.
    pub cork: bool,
    /// `TCP_QUICKACK`.
    pub quick_ack: bool,
    /// `TCP_MAXSEG` as set by the program, in octets; 0 means not set.
    pub max_segment: u16,
    /// `TCP_KEEPIDLE`.
    pub keepalive_idle: Period,
    /// `TCP_KEEPINTVL`.
    pub keepalive_interval: Period,
    /// `TCP_KEEPCNT`.
    pub keepalive_count: u8,
    /// `TCP_SYNCNT`.
    pub syn_count: u8,
    /// `TCP_LINGER2`: how long an orphan stays in FIN-WAIT-2; `None` means not at all.
    pub linger2: Option<Period>,
    /// `TCP_DEFER_ACCEPT`; zero means off.
    pub defer_accept: Period,
    /// `TCP_WINDOW_CLAMP`, in octets; 0 means none.
    pub window_clamp: u32,
    /// `TCP_CONGESTION`.
    pub congestion: CongestionAlgorithm,
    /// `TCP_USER_TIMEOUT`; zero means the system's.
    pub user_timeout: Period,
    /// `TCP_NOTSENT_LOWAT`, in octets; 0 means the system's, `u32::MAX` none.
    pub not_sent_low_water: u32,
    /// `TCP_FASTOPEN`: how many connections may wait for their final ACK; 0 means off.
    pub fast_open_queue: u32,
    /// `TCP_FASTOPEN_CONNECT`: connect waits for the first data, if there is a cookie.
    pub fast_open_connect: bool,
    /// `TCP_FASTOPEN_NO_COOKIE`.
    pub fast_open_no_cookie: bool,
    /// The socket has a `TCP_FASTOPEN_KEY` of its own.
    pub fast_open_key: bool,
    /// `TCP_INQ`: recvmsg reports what remains.
    pub report_in_queue: bool,
    // IPPROTO_UDP (udp(7))
    /// `UDP_CORK`.
    pub udp_cork: bool,
    /// `UDP_SEGMENT`, in octets; 0 means off.
    pub udp_segment: u16,
    /// `UDP_GRO`.
    pub udp_gro: bool,
}

impl Default for Options {
    /// Linux's defaults.
    fn default() -> Self {
        Options {
            reuse_address: false,
            reuse_port: false,
            keepalive: false,
            linger: Linger::Background,
            send_buffer: 16_384,
            receive_buffer: 131_072,
            send_buffer_locked: false,
            receive_buffer_locked: false,
            send_timeout: None,
            receive_timeout: None,
            receive_low_water: 1,
            oob_inline: false,
            broadcast: false,
            dont_route: false,
            priority: 0,
            mark: 0,
            receive_timestamp: false,
            timestamping: Timestamping::empty(),
            max_pacing_rate: u64::MAX,
            zero_copy: false,
            peek_offset: -1,
            traffic_class: 0,
            hop_limit: 64,
            min_hop_limit: 0,
            path_mtu_discovery: PathMtuDiscovery::Want,
            receive_packet_info: false,
            receive_traffic_class: false,
            receive_hop_limit: false,
            receive_errors: false,
            free_bind: false,
            bind_address_no_port: false,
            v6_only: false,
            no_delay: false,
            cork: false,
            quick_ack: true,
            max_segment: 0,
            keepalive_idle: Period::from_secs(7200),
            keepalive_interval: Period::from_secs(75),
            keepalive_count: 9,
            syn_count: 6,
            linger2: Some(Period::from_secs(60)),
            defer_accept: Period::ZERO,
            window_clamp: 0,
            congestion: CongestionAlgorithm::Cubic,
            user_timeout: Period::ZERO,
            not_sent_low_water: 0,
            fast_open_queue: 0,
            fast_open_connect: false,
            fast_open_no_cookie: false,
            fast_open_key: false,
            report_in_queue: false,
            udp_cork: false,
            udp_segment: 0,
            udp_gro: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_never_ends_early() {
        assert_eq!(Period::from(Duration::from_micros(1)).as_millis(), 1);
        assert_eq!(Period::from(Duration::from_millis(1_500)).as_secs(), 1);
        assert_eq!(Period::from(Duration::MAX).as_millis(), u32::MAX);
        assert!(Period::from(Duration::ZERO).is_zero());
    }
}
