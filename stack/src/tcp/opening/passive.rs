//! A peer's SYN at a listener: SYN-RECEIVED (RFC 9293 §3.10.7.2, §3.10.7.4).

use super::{Opening, Start, offer_with_timestamps};
use crate::options::Options;
use crate::tcp::TcpId;
use crate::tcp::segment::Header;
use crate::tcp::state::State;
use crate::time::Instant;

impl Opening {
    /// Answers `header`, a SYN: the SYN-ACK waits to be sent.
    pub fn passive(start: &Start<'_>, header: &Header, listener: TcpId) -> Self {
        let mut opening = Opening::new(start, State::SynReceived);
        opening.negotiate(header, start.options, start.now);
        opening.listener = Some(listener);
        opening.limit = start.config.synack_retries;
        if opening.negotiated.timestamps {
            let advertised = opening.negotiated.advertised_mss;
            opening.window = offer_with_timestamps(start.options, advertised);
        }
        if !start.options.defer_accept.is_zero() {
            opening.defer_until = start.now + start.options.defer_accept;
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
