//! Tail loss probes (RFC 8985 §7): when acknowledgments cease, one segment is sent to provoke
//! one, long before the timeout would.

use super::Phase;
use crate::packet::Allocator;
use crate::tcp::connection::{Connection, Env, Pending};
use crate::tcp::send::Delivery;
use crate::tcp::seq::SeqNumber;

impl Connection {
    /// The probe timer ran out.
    pub fn on_tail_probe<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        if self.send.packets_out == 0 {
            return;
        }
        self.pending |= Pending::TAIL_PROBE;
        //= RFC 8985 §7.3: after the probe, the timeout.
        self.arm_retransmit(env);
    }

    /// What an acknowledgment says about a probe that is out (RFC 8985 §7.4).
    pub(super) fn after_tail_probe<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        ack: SeqNumber,
        delivery: &Delivery,
        duplicate: bool,
    ) {
        let Some((end, retransmission)) = self.recovery.probe else { return };
        if ack.before(end) {
            return;
        }
        let needless = delivery.duplicate.is_some() || (duplicate && delivery.sacked == 0);
        if !retransmission || needless {
            self.recovery.probe = None;
        } else if ack.after(end) {
            // The probe mended a loss that nobody reported: react to it all the same.
            self.recovery.probe = None;
            if self.recovery.phase < Phase::Recovery {
                self.window.ssthresh = self.controller.on_loss(self.window);
                self.settle_window();
                self.ecn.reduced();
            }
            let _ = env;
        }
    }
}
