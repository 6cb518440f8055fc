//! Units: runs of full segments that leave as one packet, with one header, and are cut into
//! segments by the device, or by the shard last thing before it.
//!
//! The queue knows nothing of them: each segment stays an entry of its own, with its own buffer and
//! marks, so that acknowledgments, SACK, RACK and retransmission go by segments, whatever
//! they left in. `output` asks how long a run may be, and sends it.

use super::connection::{Connection, Env};
use super::ecn::Ecn;
use super::output::NoBuffer;
use super::queue::Marks;
use super::segment::Flags;
use crate::packet::{Allocator, Buffer, Transmit};

impl Connection {
    /// How many segments from the first unsent one on may leave as one unit now. That one may be
    /// sent. A lone segment costs one look.
    pub(super) fn unit_len<A: Allocator>(&mut self, env: &Env<'_, '_, A>) -> u32 {
        let mss = self.send.mss;
        let Some(first) = env.pool.at(self.send.unsent) else { return 1 };
        if first.len != mss
            || mss == 0
            || env.config.unit_segments < 2
            || self.send.urgent.is_some()
            // CWR is for one segment alone (RFC 3168 §6.1.2): a device might copy it.
            || self.ecn.contains(Ecn::REDUCED)
        {
            return 1;
        }
        let room = self.window.cwnd.saturating_sub(self.send.in_flight());
        let window = self.send.window_end().since(self.send.nxt) / mss;
        if self.send.burst == 0 {
            self.send.burst_limit = self.burst_limit(env);
        }
        // The length of the IP packet is 16 bits, its headers included.
        let most = ((u32::from(u16::MAX) - 120) / mss).min(u32::from(env.config.unit_segments));
        let burst = u32::from(self.send.burst_limit).saturating_sub(u32::from(self.send.burst));
        let paced = self.paced_segments(env.options);
        let most = most.min(burst).min(room).min(window).min(paced);
        let (mut count, mut at) = (0, self.send.unsent);
        while count < most
            && let Some(chunk) = env.pool.at(at)
            && chunk.len == mss
            && !chunk.marks.contains(Marks::FIN)
            && chunk.buffer.as_ref().is_some_and(|b| b.data().len() == mss as usize)
        {
            count += 1;
            at = chunk.next;
        }
        count.max(1)
    }

    /// Sends the first `count` unsent segments, all of them full, as one unit.
    pub(super) fn transmit_unit<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        count: u32,
    ) -> Result<Transmit<A::Buffer>, NoBuffer> {
        let mut whole = env.cx.allocator.allocate().ok_or(NoBuffer)?;
        let mut last = self.send.unsent;
        for _ in 1..count {
            last = env.pool.at(last).ok_or(NoBuffer)?.next;
        }
        let snapshot = self.rate.snapshot(env.cx.now, self.send.packets_out == 0);
        let mut at = last;
        let mut behind: Option<A::Buffer> = None;
        for _ in 0..count {
            let chunk = env.pool.at_mut(at).ok_or(NoBuffer)?;
            let mut part = chunk.buffer.as_ref().ok_or(NoBuffer)?.share();
            if let Some(behind) = behind.take() {
                part.chain(behind);
            }
            behind = Some(part);
            chunk.sent_at = env.cx.now;
            chunk.snapshot = snapshot;
            chunk.marks.set(Marks::APP_LIMITED, self.rate.is_app_limited());
            at = chunk.prev;
        }
        if let Some(behind) = behind {
            whole.chain(behind);
        }
        if let Some(end) = env.pool.at_mut(last) {
            end.marks |= Marks::BURST_END;
        }
        let mss = self.send.mss;
        self.note_paced(env.options, count * mss, env.cx.now);
        let sent = self.stats.data_segments_out.wrapping_add(count);
        self.stats.data_segments_out = sent;
        // One was counted with the header.
        self.stats.segments_out = self.stats.segments_out.wrapping_add(count - 1);
        env.cx.counters.segments_out += u64::from(count - 1);
        // As Linux pushes every packet that it leaves to the device to cut.
        let flags = Flags::ACK | Flags::PSH;
        let mut transmit = self.finish_segment(env, flags, self.send.nxt, whole, mss);
        transmit.segment_size = mss as u16;
        self.after_new(env, last, count);
        Ok(transmit)
    }
}
