//! Connecting: SYN-SENT, and what both ends do that begin at once (RFC 9293 §3.5, §3.10.7.3).

use super::{Opening, Start, Verdict};
use crate::error::Error;
use crate::options::Options;
use crate::tcp::ecn;
use crate::tcp::segment::{Flags, Header};
use crate::tcp::state::State;
use crate::time::Instant;

impl Opening {
    /// Begins: the SYN waits to be sent.
    pub fn active(start: &Start<'_>) -> Self {
        Opening::new(start, State::SynSent)
    }

    /// A segment in SYN-SENT.
    pub fn on_segment_in_syn_sent(
        &mut self,
        header: &Header,
        options: &Options,
        now: Instant,
    ) -> Verdict {
        let flags = header.flags;
        let acknowledges = flags.contains(Flags::ACK);
        //= RFC 9293 §3.10.7.3: first, the ACK.
        if acknowledges && self.early_acknowledged(header.ack).is_none() {
            let reset = flags.contains(Flags::RST);
            return if reset { Verdict::Stay } else { Verdict::Refuse(header.ack) };
        }
        if acknowledges && self.echoes_nonsense(header, now) {
            let reset = flags.contains(Flags::RST);
            return if reset { Verdict::Stay } else { Verdict::Refuse(header.ack) };
        }
        if flags.contains(Flags::RST) {
            return if acknowledges {
                Verdict::Failed(Error::ConnectionRefused)
            } else {
                Verdict::Stay
            };
        }
        if !flags.contains(Flags::SYN) {
            return Verdict::Stay;
        }
        self.negotiate(header, options, now);
        self.negotiated.ecn &= ecn::is_agreed(flags);
        if acknowledges {
            return Verdict::Established;
        }
        //= RFC 9293 §3.5 figure 7: simultaneous open.
        self.state = State::SynReceived;
        Verdict::Resend
    }

    /// RFC 7323 §3.2: an echo of a timestamp that no SYN of ours had; the segment answers another
    /// connection (Linux refuses it, too).
    fn echoes_nonsense(&self, header: &Header, now: Instant) -> bool {
        let Some(ts) = header.timestamps.filter(|ts| ts.echo != 0) else { return false };
        let first = self.timestamps.value(self.started);
        let span = self.timestamps.value(now).wrapping_sub(first);
        self.negotiated.timestamps && ts.echo.wrapping_sub(first) > span
    }
}
