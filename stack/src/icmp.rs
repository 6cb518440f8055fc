//! ICMP: which errors may be sent and how often, and what received ones mean.
//!
//! `shard` asks [`Icmp::may_send`] before it reports an error about a received packet, and
//! [`meaning`] about every error it receives; it finds the transport that the quote is of.

use crate::error::Error;
use crate::stats::IcmpCounters;
use crate::time::{Duration, Instant};
use crate::wire::icmpv4::{self, PARAMETER_PROBLEM, TIME_EXCEEDED, UNREACHABLE, unreachable};
use crate::wire::ipv4::{Header, Protocol};

/// Octets of the offending packet that an error quotes at most: the error stays below 576 octets.
///
/// //= RFC 1812 §4.3.2.3
pub const MAX_QUOTE: usize = 576 - 20 - 8;
/// Errors per second (Linux's `icmp_msgs_per_sec`).
const ERRORS_PER_SECOND: u64 = 1_000;
/// Errors at once (Linux's `icmp_msgs_burst`).
const BURST: u64 = 50;

/// The limit on errors sent.
#[derive(Debug)]
pub struct Icmp {
    tokens: u64,
    refilled: Instant,
}

impl Icmp {
    /// With a full bucket.
    #[must_use]
    pub const fn new() -> Self {
        Icmp { tokens: BURST, refilled: Instant::ZERO }
    }

    /// Whether an error may be sent now about a packet with this `header` and `payload`.
    /// `to_many` says that it came by broadcast or multicast, of the link or of IP.
    ///
    /// //= RFC 1122 §3.2.2; RFC 1812 §4.3.2.7, §4.3.2.8
    pub fn may_send(
        &mut self,
        now: Instant,
        header: &Header,
        payload: &[u8],
        to_many: bool,
        counters: &mut IcmpCounters,
    ) -> bool {
        let about_error = header.protocol == Protocol::Icmp
            && !matches!(payload.first(), Some(&(icmpv4::ECHO_REQUEST | icmpv4::ECHO_REPLY)));
        if to_many || about_error || header.fragment_offset != 0 || !is_one_host(header) {
            counters.out_suppressed += 1;
            return false;
        }
        let allowed = self.take(now);
        counters.out_rate_limited += u64::from(!allowed);
        allowed
    }

    fn take(&mut self, now: Instant) -> bool {
        let period = Duration::from_nanos(1_000_000_000 / ERRORS_PER_SECOND);
        let earned = (now - self.refilled).as_nanos() / period.as_nanos();
        if earned > 0 {
            self.tokens =
                BURST.min(self.tokens + u64::try_from(earned).unwrap_or(BURST).min(BURST));
            self.refilled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens -= u64::from(allowed);
        allowed
    }
}

impl Default for Icmp {
    fn default() -> Self {
        Self::new()
    }
}

fn is_one_host(header: &Header) -> bool {
    let source = header.source;
    !(source.is_unspecified()
        || source.is_loopback() && !header.destination.is_loopback()
        || source.is_multicast()
        || source.octets()[0] >= 240)
}

/// What an error means to the transport that sent the packet it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What the program is told.
    pub error: Error,
    /// Whether it ends a connect at once (RFC 1122 §4.2.3.9).
    pub hard: bool,
}

/// The meaning of an error, by type and code: Linux's table (icmp_err_convert), whose EHOSTDOWN
/// and ENONET are EHOSTUNREACH here. `None` if it means nothing to a transport.
#[must_use]
pub fn meaning(kind: u8, code: u8) -> Option<Meaning> {
    let (error, hard) = match (kind, code) {
        (UNREACHABLE, unreachable::NET | unreachable::NET_TOS) => {
            (Error::NetworkUnreachable, false)
        }
        (UNREACHABLE, unreachable::HOST | unreachable::HOST_TOS) => (Error::HostUnreachable, false),
        (UNREACHABLE, unreachable::PROTOCOL) => (Error::NoProtocolOption, true),
        (UNREACHABLE, unreachable::PORT) => (Error::ConnectionRefused, true),
        (UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => (Error::MessageTooLong, false),
        (UNREACHABLE, unreachable::SOURCE_ROUTE_FAILED) => (Error::OperationNotSupported, false),
        (UNREACHABLE, unreachable::NET_UNKNOWN | unreachable::NET_PROHIBITED) => {
            (Error::NetworkUnreachable, true)
        }
        (UNREACHABLE, unreachable::HOST_UNKNOWN..=unreachable::PRECEDENCE_CUTOFF) => {
            (Error::HostUnreachable, true)
        }
        (TIME_EXCEEDED, _) => (Error::HostUnreachable, false),
        (PARAMETER_PROBLEM, _) => (Error::ProtocolError, true),
        _ => return None,
    };
    Some(Meaning { error, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(protocol: Protocol, source: [u8; 4]) -> Header {
        Header {
            header_len: 20,
            traffic_class: 0,
            total_len: 48,
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            hop_limit: 64,
            protocol,
            source: source.into(),
            destination: [10, 0, 0, 2].into(),
        }
    }

    fn may(icmp: &mut Icmp, at: u64, header: &Header, payload: &[u8], to_many: bool) -> bool {
        let mut counters = IcmpCounters::default();
        icmp.may_send(Instant::from_millis(at), header, payload, to_many, &mut counters)
    }

    #[test]
    fn rfc_1122_section_3_2_2_about_which_packets_none_is_sent() {
        let mut icmp = Icmp::new();
        let udp = header(Protocol::Udp, [10, 0, 0, 1]);
        assert!(may(&mut icmp, 1, &udp, &[0; 28], false));
        assert!(!may(&mut icmp, 1, &udp, &[0; 28], true));
        assert!(!may(&mut icmp, 1, &Header { fragment_offset: 8, ..udp }, &[0; 28], false));
        for source in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [127, 0, 0, 1]] {
            assert!(!may(&mut icmp, 1, &header(Protocol::Udp, source), &[0; 28], false));
        }
        let icmp_header = header(Protocol::Icmp, [10, 0, 0, 1]);
        assert!(!may(&mut icmp, 1, &icmp_header, &[UNREACHABLE], false));
        assert!(may(&mut icmp, 1, &icmp_header, &[icmpv4::ECHO_REQUEST], false));
    }

    #[test]
    fn errors_are_limited_in_burst_and_rate() {
        let mut icmp = Icmp::new();
        let udp = header(Protocol::Udp, [10, 0, 0, 1]);
        let sent = (0..200).filter(|_| may(&mut icmp, 1_000, &udp, &[0; 28], false)).count();
        assert_eq!(sent as u64, BURST);
        let sent = (1_001..1_101).filter(|at| may(&mut icmp, *at, &udp, &[0; 28], false)).count();
        assert_eq!(sent, 100, "one per millisecond");
    }

    #[test]
    fn every_code_of_unreachable_has_a_meaning() {
        for code in 0..=15 {
            assert!(meaning(UNREACHABLE, code).is_some(), "code {code}");
        }
        assert_eq!(meaning(UNREACHABLE, 16), None);
        let port = meaning(UNREACHABLE, unreachable::PORT);
        assert_eq!(port, Some(Meaning { error: Error::ConnectionRefused, hard: true }));
    }
}
