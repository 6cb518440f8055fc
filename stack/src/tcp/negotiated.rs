//! What both ends agreed upon in their SYNs, and the state of the options that follow from it.

use super::segment::{TIMESTAMPS_LEN, Timestamps};
use crate::time::Instant;

/// The least MSS that we believe a peer in (Linux: `tcp_min_snd_mss`).
pub(crate) const MIN_MSS: u16 = 48;
/// The MSS of a peer that names none (RFC 9293 §3.7.1), IPv4.
pub(crate) const DEFAULT_MSS: u16 = 536;

/// The outcome of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Negotiated {
    /// SACK in both directions.
    pub sack: bool,
    /// Timestamps in every segment.
    pub timestamps: bool,
    /// ECN in both directions (RFC 3168).
    pub ecn: bool,
    /// Window scaling was agreed upon.
    pub scaling: bool,
    /// The shift of windows that the peer sends.
    pub send_shift: u8,
    /// The shift of windows that we send.
    pub receive_shift: u8,
    /// The largest payload the peer takes (its MSS option, or what `TCP_MAXSEG` allows).
    pub peer_mss: u16,
    /// The MSS that we told the peer.
    pub advertised_mss: u16,
    /// The largest IP packet on the path.
    pub path_mtu: u16,
}

impl Negotiated {
    /// Payload per segment on this path: options that every segment carries come off
    /// (RFC 9293 §3.7.1, RFC 6691).
    pub fn send_mss(&self, ipv6: bool) -> u16 {
        let headers = if ipv6 { 60 } else { 40 };
        let of_path = self.path_mtu.saturating_sub(headers).max(MIN_MSS);
        let options = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        self.peer_mss.max(MIN_MSS).min(of_path) - options
    }
}

/// A connection's timestamps (RFC 7323).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimestampState {
    /// TS.Recent, and when it was taken (s since the clock's start).
    pub recent: u32,
    pub recent_at_s: u32,
    /// Added to our clock so that connections do not reveal each other's.
    pub offset: u32,
}

/// A TS.Recent older than this is not believed by PAWS (RFC 7323 §5.5: 24 days).
const PAWS_EXPIRY_S: u32 = 24 * 24 * 3600;

impl TimestampState {
    /// Our timestamp clock: milliseconds, as Linux's.
    pub fn value(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.offset)
    }

    /// What goes into a segment's option.
    pub fn option(&self, now: Instant) -> Timestamps {
        Timestamps { value: self.value(now), echo: self.recent }
    }

    /// Whether PAWS rejects a segment with timestamp `value`.
    pub fn is_old(&self, value: u32, now: Instant) -> bool {
        //= RFC 7323 §5.3 R1
        (value.wrapping_sub(self.recent) as i32) < 0
            && (now.as_millis() / 1000) as u32
                - self.recent_at_s.min((now.as_millis() / 1000) as u32)
                < PAWS_EXPIRY_S
    }

    /// Takes `value` for TS.Recent.
    pub fn store(&mut self, value: u32, now: Instant) {
        self.recent = value;
        self.recent_at_s = (now.as_millis() / 1000) as u32;
    }
}
