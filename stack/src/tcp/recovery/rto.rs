//! The retransmission timeout (RFC 6298 §5, RFC 5681 §3.1).

use super::Phase;
use crate::packet::Allocator;
use crate::tcp::connection::{Connection, Env};
use crate::tcp::queue::Marks;

impl Connection {
    /// Everything in flight is taken for lost, and the window starts anew.
    pub fn enter_loss<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let again = self.recovery.phase == Phase::Loss && self.recovery.timeouts > 0;
        if !again {
            let reduced = self.recovery.phase == Phase::Recovery;
            let prior = (self.recovery.prior_cwnd, self.recovery.prior_ssthresh);
            self.begin_episode(Phase::Loss);
            if reduced {
                // One loss, one reduction; and the way back leads to before the first.
                (self.recovery.prior_cwnd, self.recovery.prior_ssthresh) = prior;
            } else {
                self.window.ssthresh = self.controller.get().on_loss(self.window);
            }
        }
        self.controller.get().on_timeout();
        //= RFC 2018 §8: a peer whose first missing octet it claimed to have has thrown it away.
        let head_sacked = env
            .pool
            .at(self.send.queue.head)
            .is_some_and(|head| head.marks.contains(Marks::SACKED));
        if head_sacked || !self.negotiated.sack {
            self.send.unmark_sacked(env.pool);
        }
        self.send.mark_all_lost(env.pool);
        self.recovery.high = self.send.nxt;
        self.recovery.probe = None;
        //= RFC 5681 §3.1: the loss window is one segment.
        self.window.cwnd = self.send.in_flight() + 1;
    }
}
