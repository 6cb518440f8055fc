//! Proportional Rate Reduction (RFC 6937): the window comes down as data is delivered, not at once.

/// The reduction under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prr {
    delivered: u32,
    /// Packets sent since it began.
    pub sent: u32,
    /// The window when it began.
    flight: u32,
}

impl Prr {
    /// A reduction that begins with a window of `cwnd`.
    pub fn begin(cwnd: u32) -> Self {
        Prr { delivered: 0, sent: 0, flight: cwnd.max(1) }
    }

    /// The window after `delivered` more packets arrived, `in_flight` being out.
    pub fn on_ack(
        &mut self,
        delivered: u32,
        lost: bool,
        advanced: bool,
        in_flight: u32,
        ssthresh: u32,
    ) -> u32 {
        self.delivered += delivered;
        let allowed = if in_flight > ssthresh {
            //= RFC 6937 §3.1: proportional part.
            let target = u64::from(self.delivered) * u64::from(ssthresh);
            let target = target.div_ceil(u64::from(self.flight)) as u32;
            target.saturating_sub(self.sent)
        } else {
            //= RFC 6937 §3.1: the conservative bound, or slow start while nothing more is lost.
            let room = ssthresh - in_flight;
            let conserve = self.delivered.saturating_sub(self.sent).max(delivered);
            let limit = if advanced && !lost { conserve + 1 } else { conserve };
            room.min(limit)
        };
        // The first fast retransmission always goes out.
        let allowed = if self.sent == 0 { allowed.max(1) } else { allowed };
        in_flight + allowed
    }
}
