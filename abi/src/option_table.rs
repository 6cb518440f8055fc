//! The one table of socket options: what each one is to the stack.
//!
//! Called by `options.rs`. The kernel's socket under the same descriptor is asked first about every
//! change: it knows what Linux refuses, clamps and doubles, and its answer is the program's.

use crate::errno::Errno;
use core::ffi::c_int;
use stack::options::{Options, PathMtuDiscovery, Period};
use stack::time::Duration;

/// What an option is to the stack.
#[derive(Clone, Copy)]
pub enum Treatment {
    /// On or off. A decided socket need not ask the kernel.
    Flag {
        /// Its value.
        get: fn(&Options) -> bool,
        /// Changes it.
        set: fn(&mut Options, bool),
    },
    /// A number. What the kernel makes of the program's value is read back and kept.
    Number {
        /// Its value.
        get: fn(&Options) -> c_int,
        /// Changes it to what the kernel says.
        set: fn(&mut Options, c_int),
    },
    /// As `options.rs` does it.
    Special(Special),
    /// The kernel's socket answers and remembers: nothing that the stack could do differently.
    Kernel,
    /// About multicast, which the kernel's half carries: refused where there is none.
    Multicast,
    /// Reading is the kernel's; changing it hands an undecided socket over to the kernel, and is
    /// refused on one that the stack carries.
    HandOver,
    /// Refused, as by a kernel without it.
    Refuse(Errno),
}

/// Options with a treatment of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is the option of its name.
pub enum Special {
    SendBuffer,
    ReceiveBuffer,
    Linger,
    SendTimeout,
    ReceiveTimeout,
    Error,
    AcceptConn,
    Timestamp,
    TimestampNs,
    Timestamping,
    Mtu,
    MaxSegment,
    Linger2,
    Info,
    Congestion,
    CongestionInfo,
    MaxPacingRate,
    Ulp,
    FastOpenKey,
    FastOpenConnect,
    ZeroCopy,
}

macro_rules! table {
    ($($level:ident { $($name:ident = $number:expr, $treatment:expr;)* })*) => {
        /// Level, number, name and treatment of every option that is known.
        pub static TABLE: &[(c_int, c_int, &str, Treatment)] =
            &[$($((libc::$level, $number, stringify!($name), $treatment),)*)*];
    };
}

macro_rules! flag {
    ($field:ident) => {
        Treatment::Flag { get: |options| options.$field, set: |options, on| options.$field = on }
    };
}

macro_rules! number {
    ($field:ident) => {
        Treatment::Number {
            get: |options| c_int::try_from(options.$field).unwrap_or(c_int::MAX),
            set: |options, value| options.$field = value.try_into().unwrap_or_default(),
        }
    };
}

macro_rules! seconds {
    ($field:ident) => {
        Treatment::Number {
            get: |options| options.$field.as_secs() as c_int,
            set: |options, value| options.$field = Period::from_secs(value.max(0) as u32),
        }
    };
}

use Treatment::{HandOver, Kernel, Multicast, Refuse};

const fn special(which: Special) -> Treatment {
    Treatment::Special(which)
}

table! {
    SOL_SOCKET {
        SO_DEBUG = 1, Kernel;
        SO_REUSEADDR = 2, flag!(reuse_address);
        SO_TYPE = 3, Kernel;
        SO_ERROR = 4, special(Special::Error);
        SO_DONTROUTE = 5, flag!(dont_route);
        SO_BROADCAST = 6, flag!(broadcast);
        SO_SNDBUF = 7, special(Special::SendBuffer);
        SO_RCVBUF = 8, special(Special::ReceiveBuffer);
        SO_KEEPALIVE = 9, flag!(keepalive);
        SO_OOBINLINE = 10, flag!(oob_inline);
        SO_NO_CHECK = 11, HandOver;
        SO_PRIORITY = 12, number!(priority);
        SO_LINGER = 13, special(Special::Linger);
        SO_REUSEPORT = 15, flag!(reuse_port);
        SO_PASSCRED = 16, Kernel;
        SO_PEERCRED = 17, Kernel;
        SO_RCVLOWAT = 18, number!(receive_low_water);
        SO_SNDLOWAT = 19, Kernel;
        SO_RCVTIMEO = 20, special(Special::ReceiveTimeout);
        SO_SNDTIMEO = 21, special(Special::SendTimeout);
        SO_BINDTODEVICE = 25, HandOver;
        SO_ATTACH_FILTER = 26, HandOver;
        SO_DETACH_FILTER = 27, Kernel;
        SO_TIMESTAMP = 29, special(Special::Timestamp);
        SO_ACCEPTCONN = 30, special(Special::AcceptConn);
        SO_SNDBUFFORCE = 32, special(Special::SendBuffer);
        SO_RCVBUFFORCE = 33, special(Special::ReceiveBuffer);
        SO_TIMESTAMPNS = 35, special(Special::TimestampNs);
        // As a kernel that has no rule about marks: nothing in the stack routes by them.
        SO_MARK = 36, number!(mark);
        SO_TIMESTAMPING = 37, special(Special::Timestamping);
        SO_PROTOCOL = 38, Kernel;
        SO_DOMAIN = 39, Kernel;
        SO_RXQ_OVFL = 40, HandOver;
        SO_PEEK_OFF = 42, Treatment::Number {
            get: |options| options.peek_offset,
            set: |options, value| options.peek_offset = value,
        };
        SO_LOCK_FILTER = 44, HandOver;
        SO_BUSY_POLL = 46, Kernel;
        SO_MAX_PACING_RATE = 47, special(Special::MaxPacingRate);
        SO_INCOMING_CPU = 49, Kernel;
        SO_ATTACH_BPF = 50, HandOver;
        SO_ATTACH_REUSEPORT_CBPF = 51, HandOver;
        SO_ATTACH_REUSEPORT_EBPF = 52, HandOver;
        SO_MEMINFO = 55, Kernel;
        SO_INCOMING_NAPI_ID = 56, Kernel;
        SO_COOKIE = 57, Kernel;
        SO_ZEROCOPY = 60, special(Special::ZeroCopy);
        SO_TXTIME = 61, HandOver;
        SO_BINDTOIFINDEX = 62, HandOver;
        SO_TIMESTAMP_NEW = 63, special(Special::Timestamp);
        SO_TIMESTAMPNS_NEW = 64, special(Special::TimestampNs);
        SO_TIMESTAMPING_NEW = 65, HandOver;
        SO_RCVTIMEO_NEW = 66, special(Special::ReceiveTimeout);
        SO_SNDTIMEO_NEW = 67, special(Special::SendTimeout);
        SO_PREFER_BUSY_POLL = 69, Kernel;
        SO_BUSY_POLL_BUDGET = 70, Kernel;
    }
    IPPROTO_IP {
        IP_TOS = 1, number!(traffic_class);
        IP_TTL = 2, number!(hop_limit);
        IP_PKTINFO = 8, flag!(receive_packet_info);
        IP_MTU_DISCOVER = 10, Treatment::Number { get: discovery, set: set_discovery };
        IP_RECVERR = 11, flag!(receive_errors);
        IP_RECVTTL = 12, flag!(receive_hop_limit);
        IP_RECVTOS = 13, flag!(receive_traffic_class);
        IP_MTU = 14, special(Special::Mtu);
        IP_FREEBIND = 15, flag!(free_bind);
        IP_TRANSPARENT = 19, HandOver;
        IP_RECVORIGDSTADDR = 20, HandOver;
        IP_MINTTL = 21, number!(min_hop_limit);
        IP_BIND_ADDRESS_NO_PORT = 24, flag!(bind_address_no_port);
        IP_MULTICAST_IF = 32, Kernel;
        IP_MULTICAST_TTL = 33, Kernel;
        IP_MULTICAST_LOOP = 34, Kernel;
        IP_ADD_MEMBERSHIP = 35, Multicast;
        IP_DROP_MEMBERSHIP = 36, Multicast;
        IP_UNBLOCK_SOURCE = 37, Multicast;
        IP_BLOCK_SOURCE = 38, Multicast;
        IP_ADD_SOURCE_MEMBERSHIP = 39, Multicast;
        IP_DROP_SOURCE_MEMBERSHIP = 40, Multicast;
        IP_MSFILTER = 41, Multicast;
        MCAST_JOIN_GROUP = 42, Multicast;
        MCAST_BLOCK_SOURCE = 43, Multicast;
        MCAST_UNBLOCK_SOURCE = 44, Multicast;
        MCAST_LEAVE_GROUP = 45, Multicast;
        MCAST_JOIN_SOURCE_GROUP = 46, Multicast;
        MCAST_LEAVE_SOURCE_GROUP = 47, Multicast;
        IP_MULTICAST_ALL = 49, Kernel;
        IP_UNICAST_IF = 50, HandOver;
        IP_LOCAL_PORT_RANGE = 51, HandOver;
    }
    IPPROTO_IPV6 {
        IPV6_UNICAST_HOPS = 16, Kernel;
        IPV6_MULTICAST_IF = 17, Kernel;
        IPV6_MULTICAST_HOPS = 18, Kernel;
        IPV6_MULTICAST_LOOP = 19, Kernel;
        IPV6_ADD_MEMBERSHIP = 20, Multicast;
        IPV6_DROP_MEMBERSHIP = 21, Multicast;
        IPV6_MTU_DISCOVER = 23, Kernel;
        IPV6_RECVERR = 25, Kernel;
        IPV6_V6ONLY = 26, flag!(v6_only);
        IPV6_TCLASS = 67, Kernel;
        IPV6_AUTOFLOWLABEL = 70, Kernel;
        IPV6_ADDR_PREFERENCES = 72, Kernel;
    }
    IPPROTO_TCP {
        TCP_NODELAY = 1, flag!(no_delay);
        TCP_MAXSEG = 2, special(Special::MaxSegment);
        TCP_CORK = 3, flag!(cork);
        TCP_KEEPIDLE = 4, seconds!(keepalive_idle);
        TCP_KEEPINTVL = 5, seconds!(keepalive_interval);
        TCP_KEEPCNT = 6, number!(keepalive_count);
        TCP_SYNCNT = 7, number!(syn_count);
        TCP_LINGER2 = 8, special(Special::Linger2);
        TCP_DEFER_ACCEPT = 9, seconds!(defer_accept);
        TCP_WINDOW_CLAMP = 10, number!(window_clamp);
        TCP_INFO = 11, special(Special::Info);
        TCP_QUICKACK = 12, flag!(quick_ack);
        TCP_CONGESTION = 13, special(Special::Congestion);
        TCP_MD5SIG = 14, HandOver;
        TCP_USER_TIMEOUT = 18, Treatment::Number {
            get: |options| options.user_timeout.as_millis() as c_int,
            set: |options, ms| options.user_timeout = Duration::from_millis(ms.max(0) as u64).into(),
        };
        TCP_FASTOPEN = 23, number!(fast_open_queue);
        TCP_TIMESTAMP = 24, Kernel;
        TCP_NOTSENT_LOWAT = 25, Treatment::Number {
            get: |options| options.not_sent_low_water as c_int, // u32::MAX reads as -1 there too.
            set: |options, value| options.not_sent_low_water = value as u32,
        };
        // As an algorithm without anything to tell.
        TCP_CC_INFO = 26, special(Special::CongestionInfo);
        TCP_SAVE_SYN = 27, HandOver;
        TCP_SAVED_SYN = 28, HandOver;
        TCP_FASTOPEN_CONNECT = 30, special(Special::FastOpenConnect);
        TCP_ULP = 31, special(Special::Ulp);
        TCP_FASTOPEN_KEY = 33, special(Special::FastOpenKey);
        TCP_FASTOPEN_NO_COOKIE = 34, flag!(fast_open_no_cookie);
        TCP_ZEROCOPY_RECEIVE = 35, Refuse(Errno::ENOPROTOOPT);
        TCP_INQ = 36, flag!(report_in_queue);
        TCP_TX_DELAY = 37, HandOver;
    }
    IPPROTO_UDP {
        UDP_CORK = 1, flag!(udp_cork);
        UDP_SEGMENT = 103, number!(udp_segment);
        UDP_GRO = 104, flag!(udp_gro);
    }
}

/// What `level` and `name` are to the stack; what is not in the table hands over.
#[must_use]
pub fn treatment(level: c_int, name: c_int) -> Treatment {
    let row = TABLE.iter().find(|row| row.0 == level && row.1 == name);
    row.map_or(HandOver, |row| row.3)
}

fn discovery(options: &Options) -> c_int {
    match options.path_mtu_discovery {
        PathMtuDiscovery::Dont => 0,
        PathMtuDiscovery::Want => 1,
        PathMtuDiscovery::Do => 2,
        PathMtuDiscovery::Probe => 3,
    }
}

fn set_discovery(options: &mut Options, value: c_int) {
    options.path_mtu_discovery = match value {
        0 => PathMtuDiscovery::Dont,
        2 => PathMtuDiscovery::Do,
        3 => PathMtuDiscovery::Probe,
        // IP_PMTUDISC_INTERFACE and OMIT: the device's MTU, DF as need be.
        4 | 5 => PathMtuDiscovery::Dont,
        _ => PathMtuDiscovery::Want,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_twice_in_the_table() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..at].iter().all(|other| (other.0, other.1) != (row.0, row.1)),
                "{}",
                row.2
            );
        }
    }

    #[test]
    fn numbers_agree_with_the_system_headers() {
        let number =
            |level, name| TABLE.iter().find(|row| row.0 == level && row.2 == name).map(|row| row.1);
        assert_eq!(number(libc::SOL_SOCKET, "SO_BUSY_POLL"), Some(libc::SO_BUSY_POLL));
        assert_eq!(number(libc::SOL_SOCKET, "SO_ZEROCOPY"), Some(libc::SO_ZEROCOPY));
        assert_eq!(number(libc::IPPROTO_IP, "IP_MTU"), Some(libc::IP_MTU));
        assert_eq!(number(libc::IPPROTO_IP, "IP_MINTTL"), Some(libc::IP_MINTTL));
        assert_eq!(number(libc::IPPROTO_TCP, "TCP_INFO"), Some(libc::TCP_INFO));
        assert_eq!(number(libc::IPPROTO_TCP, "TCP_INQ"), Some(libc::TCP_INQ));
        assert_eq!(number(libc::IPPROTO_UDP, "UDP_GRO"), Some(libc::UDP_GRO));
    }

    #[test]
    fn what_is_set_is_read() {
        let mut options = Options::default();
        for (level, _, name, treatment) in TABLE {
            match treatment {
                Treatment::Flag { get, set } => {
                    set(&mut options, true);
                    assert!(get(&options), "{name}");
                    set(&mut options, false);
                    assert!(!get(&options), "{name}");
                }
                Treatment::Number { get, set } => {
                    set(&mut options, 2);
                    assert_eq!(get(&options), 2, "{level} {name}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn an_unknown_option_hands_over() {
        assert!(matches!(treatment(libc::SOL_SOCKET, 9999), Treatment::HandOver));
        assert!(matches!(treatment(libc::IPPROTO_IPV6, 49), Treatment::HandOver));
    }
}
