//! The retransmission timeout (RFC 6298 §5, RFC 5681 §3.1).

use super::{DUPLICATES, Frto, Phase};
use crate::packet::Allocator;
use crate::tcp::connection::{Connection, Env};
use crate::tcp::queue::Marks;
use crate::time::Instant;

impl Connection {
    /// Everything in flight is taken for lost, and the window starts anew.
    pub fn enter_loss<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let again = self.recovery.phase == Phase::Loss && self.recovery.timeouts > 0;
        let suspicious = self.recovery.phase < Phase::Recovery || self.recovery.timeouts > 0;
        if !again {
            let unfinished = self.send.una.before(self.recovery.high);
            let (phase, prior) = (self.recovery.phase, self.prior_window());
            self.begin_episode(Phase::Loss);
            let reduced = matches!(phase, Phase::Recovery | Phase::WindowReduction) && unfinished;
            if phase == Phase::Recovery && reduced {
                // One loss, one reduction; and the way back leads to before the first.
                self.recovery.prior_cwnd = prior.cwnd;
                self.recovery.prior_ssthresh = prior.ssthresh;
            } else if !reduced {
                self.window.ssthresh = self.controller.on_loss(self.window);
            }
        }
        self.controller.on_timeout();
        self.ecn.reduced();
        //= RFC 2018 §8: a peer whose first missing octet it claimed to have has thrown it away.
        let head_sacked = env
            .pool
            .at(self.send.queue.head)
            .is_some_and(|head| head.marks.contains(Marks::SACKED));
        if head_sacked || !self.negotiated.sack {
            self.send.unmark_sacked(env.pool, &mut env.rare.boards);
        }
        // What was sent less than a round trip ago may well be on its way.
        let patience = u64::from(self.recovery.rack.rtt_us()) * 1_000;
        let trusts = self.negotiated.sack && !head_sacked;
        let age = if trusts { patience } else { 0 };
        let recent = Instant::from_nanos(env.cx.now.as_nanos().saturating_sub(age));
        self.send.mark_all_lost(env.pool, recent);
        self.recovery.high = self.send.nxt;
        self.recovery.probe = None;
        //= RFC 5682 §3.1 step 1
        self.recovery.frto = if suspicious { Frto::Suspicious } else { Frto::Off };
        if self.recovery.reordering > DUPLICATES as u16 && self.send.sacked_out >= DUPLICATES {
            // So much was reported, and yet it was lost: too much patience.
            self.recovery.reordering = DUPLICATES as u16;
        }
        //= RFC 5681 §3.1: the loss window is one segment.
        self.window.cwnd = self.send.in_flight() + 1;
    }
}
