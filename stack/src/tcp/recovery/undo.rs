//! Taking a reduction back when the retransmission turns out to have been needless: by timestamps
//! (Eifel, RFC 3522 and RFC 4015) or by DSACK (RFC 2883, RFC 3708).

use super::{Frto, Phase};
use crate::packet::Allocator;
use crate::tcp::connection::{Connection, Env, Rare};
use crate::tcp::segment::Header;
use crate::tcp::send::Delivery;

impl Connection {
    /// A DSACK: one of our retransmissions was needless.
    pub(super) fn on_duplicate_reported(&mut self, rare: &mut Rare) {
        self.count_trouble(rare, |t| t.duplicates_reported = t.duplicates_reported.wrapping_add(1));
        let first_of_round = self.send.una.at_or_after(self.recovery.duplicate_round);
        if first_of_round {
            self.recovery.duplicate_round = self.send.nxt;
        }
        self.recovery.rack.on_duplicate(first_of_round);
        self.recovery.undo_retransmits = self.recovery.undo_retransmits.saturating_sub(1);
    }

    /// Goes back to the window before the episode, if there was no loss.
    pub(super) fn try_undo<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        header: &Header,
        delivery: &Delivery,
    ) {
        if !self.recovery.undoable {
            return;
        }
        //= RFC 3522 §3.2: the original arrived, for its echo is older than the retransmission.
        let eifel = match (header.timestamps, self.recovery.first_retransmit_ts) {
            (Some(ts), Some(first))
                if self.is_recovering() && self.negotiated.timestamps && delivery.advanced =>
            {
                ts.echo != 0 && (ts.echo.wrapping_sub(first.get()) as i32) < 0
            }
            _ => false,
        };
        let reported = delivery.duplicate.is_some()
            && self.recovery.undo_retransmits == 0
            && self.recovery.first_retransmit_ts.is_some();
        if eifel && self.recovery.phase == Phase::Recovery {
            // What came late was not lost: without this a path on which every late segment has been
            // sent again by the time it comes would never be seen to reorder.
            if let Some(late) = delivery.retransmitted {
                self.note_reordering(env.rare, late);
            }
        }
        if eifel || reported {
            self.undo(env);
        }
    }

    /// Goes back to the window before the episode.
    pub(super) fn undo<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        env.cx.counters.undos += 1;
        self.send.unmark_lost(env.pool);
        self.window = self.controller.on_undo(self.window, self.prior_window());
        self.ecn.restored();
        self.recovery.undoable = false;
        self.recovery.frto = Frto::Off;
        if self.is_recovering() {
            let over = self.send.una.at_or_after(self.recovery.high);
            let open = self.recovery.phase == Phase::Loss || over;
            self.recovery.phase = if open { Phase::Open } else { Phase::Disorder };
        }
        self.rtt.backoff = 0;
    }
}
