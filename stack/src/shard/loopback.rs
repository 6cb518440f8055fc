//! What we send to ourselves: IP packets through a bounded ring, never the device, no link header.

use super::Shard;
use crate::device::Device;
use crate::ip::Arrival;
use crate::packet::Buffer;
use crate::time::Instant;

impl<D: Device> Shard<D> {
    /// Queues an IP packet to ourselves.
    pub(super) fn loop_back(&mut self, packet: D::Buffer) {
        self.counters.interface.loopback_packets += 1;
        if self.loopback.len() >= self.loopback_limit {
            self.counters.interface.loopback_full += 1;
            return;
        }
        // The sender keeps a handle of the same memory for retransmission, and the receiver
        // moves the window of what it gets: they must not share.
        if packet.is_shared() {
            self.loop_back_copy(&packet);
        } else {
            self.loopback.push_back(packet);
        }
    }

    /// Queues a copy of an IP packet to ourselves.
    pub(super) fn loop_back_copy(&mut self, packet: &D::Buffer) {
        let data = packet.data();
        let Some(mut copy) = self.device.allocate() else {
            self.counters.interface.loopback_no_buffer += 1;
            return;
        };
        // Headers go where headers go, so that a payload that fits a buffer fits the copy.
        let front = data.len().saturating_sub(copy.tailroom());
        if front > copy.headroom() || self.loopback.len() >= self.loopback_limit {
            self.counters.interface.loopback_full += 1;
            return;
        }
        let (head, tail) = data.split_at(front);
        copy.append(tail.len()).copy_from_slice(tail);
        copy.prepend(front).copy_from_slice(head);
        self.loopback.push_back(copy);
    }

    /// Receives what is in the ring now; what that sends to ourselves waits for the next turn.
    pub(super) fn receive_loopback(&mut self, now: Instant) -> usize {
        let n = self.loopback.len();
        for _ in 0..n {
            let Some(packet) = self.loopback.pop_front() else { break };
            self.on_ipv4(now, Arrival::Loopback, packet);
        }
        n
    }
}
