//! Loss detection for a peer without SACK (RFC 5681, RFC 6582): by counting duplicates.
//!
//! A duplicate acknowledgment means that some segment has left the network; which one is not
//! known, so `sacked_out` is a mere count here.

use super::Phase;
use crate::packet::Allocator;
use crate::tcp::connection::{Connection, Env};
use crate::tcp::send::Delivery;

impl Connection {
    pub(super) fn count_duplicates(&mut self, delivery: &mut Delivery, duplicate: bool) {
        if delivery.advanced && delivery.acked > 0 {
            // One of the acknowledged filled the hole; the others were counted as duplicates.
            let counted = (delivery.acked - 1).min(self.send.sacked_out);
            self.send.sacked_out -= counted;
            delivery.delivered = delivery.delivered.saturating_sub(counted);
        } else if duplicate {
            let most = self.send.packets_out.saturating_sub(self.send.lost_out);
            if self.send.sacked_out < most {
                self.send.sacked_out += 1;
                delivery.sacked += 1;
                delivery.delivered += 1;
            }
        }
    }

    pub(super) fn detect_losses_by_count<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        delivery: &Delivery,
    ) {
        let partial = self.recovery.phase == Phase::Recovery && delivery.advanced;
        let enough = u32::from(self.recovery.reordering);
        let first = self.recovery.phase < Phase::Recovery && self.send.sacked_out >= enough;
        if (partial || first) && self.send.packets_out > 0 {
            //= RFC 6582 §3.2: a partial acknowledgment names the next loss.
            let head = self.send.queue.head;
            self.send.mark_lost(env.pool, head);
            let most = self.send.packets_out.saturating_sub(self.send.lost_out);
            self.send.sacked_out = self.send.sacked_out.min(most);
        }
    }
}
