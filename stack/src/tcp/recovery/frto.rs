//! F-RTO (RFC 5682, with SACK): was the retransmission timeout needless? Before all the rest is
//! sent again, new data goes out; acknowledgments of what was sent once, and before the timeout,
//! then show that nothing was lost but time.

use super::Phase;
use crate::packet::Allocator;
use crate::tcp::connection::{Connection, Env};
use crate::tcp::queue::NONE;
use crate::tcp::send::Delivery;

/// How far the suspicion has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frto {
    /// There is none: the timeout was real, or there was none.
    Off,
    /// The first segment was sent again, acknowledgments are awaited.
    Suspicious,
    /// New data instead of retransmissions, until the next acknowledgment.
    NewData,
}

impl Connection {
    /// What an acknowledgment says about the timeout.
    pub(super) fn try_frto<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        delivery: &Delivery,
        duplicate: bool,
    ) {
        if self.recovery.frto == Frto::Off || self.recovery.phase != Phase::Loss {
            return;
        }
        // Without SACK nobody knows what a retransmission released.
        let original =
            delivery.original && (self.negotiated.sack || delivery.retransmitted.is_none());
        if original {
            //= RFC 5682 §3.1 step 3b: spurious.
            return self.undo(env);
        }
        let una = self.send.una;
        if self.send.nxt.after(self.recovery.high) {
            //= RFC 5682 §3.1 step 3a: the loss was real.
            let real = delivery.sacked > 0 || duplicate;
            self.recovery.frto = if real { Frto::Off } else { Frto::Suspicious };
        } else if delivery.advanced && una.before(self.recovery.high) {
            //= RFC 5682 §3.1 step 2b
            let room = self.send.window_end().after(self.send.nxt);
            let possible = room && self.send.unsent != NONE;
            self.recovery.frto = if possible { Frto::NewData } else { Frto::Off };
        }
    }

    /// Whether lost segments are to wait for the answer to new data. Called when no new data can
    /// be sent (any more).
    pub fn awaits_answer_to_new_data(&mut self) -> bool {
        if self.recovery.frto != Frto::NewData {
            return false;
        }
        if self.send.nxt.after(self.recovery.high) {
            return true;
        }
        self.recovery.frto = Frto::Off;
        false
    }
}

impl super::Recovery {
    /// Whether new data goes before lost segments.
    pub fn prefers_new_data(&self) -> bool {
        self.frto == Frto::NewData
    }
}
