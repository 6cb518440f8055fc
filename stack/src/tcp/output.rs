//! What a connection sends: retransmissions, data as the windows and Nagle allow, probes, and
//! acknowledgments on their own when nothing else carried them.

use super::congestion::Restart;
use super::connection::{Connection, Env, Pending};
use super::ecn;
use super::path::Explored;
use super::queue::{Chunk, Marks, NONE};
use super::recovery::Phase;
use super::segment::{Flags, Header, MAX_HEADER, Plain};
use super::send::Limit;
use super::seq::SeqNumber;
use super::state::State;
use super::timers::Alarm;
use crate::options::PathMtuDiscovery;
use crate::packet::{Allocator, Buffer, Transmit};
use crate::time::Instant;

/// No buffer for what must be sent: try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoBuffer;

type Sent<A> = Result<Option<Transmit<<A as Allocator>::Buffer>>, NoBuffer>;

impl Connection {
    /// The next segment to send.
    pub fn poll_transmit<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        if self.state == State::Closed {
            return Ok(None);
        }
        if self.pending.contains(Pending::FIN) && self.send.append_fin(env.pool) {
            self.pending -= Pending::FIN;
        }
        if self.pending.intersects(Pending::FORCE_HEAD | Pending::TAIL_PROBE) {
            let sent = self.send_forced(env)?;
            if sent.is_some() {
                return Ok(sent);
            }
        }
        let new_first = self.send.lost_out > 0 && self.recovery.prefers_new_data();
        if self.send.lost_out > 0 && !new_first {
            let sent = self.retransmit_lost(env)?;
            if sent.is_some() {
                return Ok(sent);
            }
        }
        if self.send.unsent != NONE {
            let sent = self.send_new(env)?;
            if sent.is_some() {
                return Ok(sent);
            }
        }
        if new_first && !self.awaits_answer_to_new_data() {
            let sent = self.retransmit_lost(env)?;
            if sent.is_some() {
                return Ok(sent);
            }
        }
        self.send_bare(env)
    }

    /// Whether [`Connection::poll_transmit`] has anything to look at.
    pub fn may_send_more(&self) -> bool {
        self.send.unsent != NONE || self.send.lost_out > 0 || !self.pending.is_empty()
    }

    /// After a timeout: the first segment in flight; as a tail probe: new data or the last one.
    fn send_forced<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        if self.send.packets_out == 0 {
            self.pending -= Pending::FORCE_HEAD | Pending::TAIL_PROBE;
            return Ok(None);
        }
        if self.pending.contains(Pending::FORCE_HEAD) {
            let head = self.send.queue.head;
            let sent = self.retransmit(env, head)?;
            self.pending -= Pending::FORCE_HEAD;
            return Ok(sent);
        }
        //= RFC 8985 §7.3
        let fits = env
            .pool
            .at(self.send.unsent)
            .is_some_and(|chunk| chunk.end().at_or_before(self.send.window_end()));
        let sent = if fits {
            let end = self.send.nxt;
            let sent = self.transmit_new(env)?;
            self.recovery.probe = Some((end.max(self.send.nxt), false));
            sent
        } else {
            let last = match env.pool.at(self.send.unsent) {
                Some(unsent) => unsent.prev,
                None => self.send.queue.tail,
            };
            if self.is_beyond_window(env, last) {
                // The peer took its window back: the timeout will probe with the first segment.
                self.pending -= Pending::TAIL_PROBE;
                return Ok(None);
            }
            let sent = self.retransmit(env, last)?;
            self.recovery.probe = Some((self.send.nxt, true));
            sent
        };
        env.cx.counters.tail_loss_probes += 1;
        self.pending -= Pending::TAIL_PROBE;
        self.arm_retransmit(env);
        Ok(sent)
    }

    /// Whether the segment at `index`, sent once, may not be sent again now: the peer has taken its
    /// window back. The first in flight always may (RFC 9293 §3.8.6.1).
    fn is_beyond_window<A: Allocator>(&self, env: &Env<'_, '_, A>, index: u32) -> bool {
        let edge = self.send.window_end();
        index != self.send.queue.head
            && env.pool.at(index).is_some_and(|chunk| chunk.end().after(edge))
    }

    fn retransmit_lost<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        if self.send.in_flight() >= self.window.cwnd {
            return Ok(None);
        }
        let Some(index) = self.send.next_lost(env.pool) else { return Ok(None) };
        if self.is_held_by_pacing(env.options, env.cx.now) {
            return Ok(None);
        }
        if self.is_beyond_window(env, index) {
            return Ok(None);
        }
        let head = index == self.send.queue.head;
        let rto = matches!(self.timers.alarm, Alarm::None);
        let sent = self.retransmit(env, index)?;
        if rto || head {
            //= RFC 6298 §5.1
            self.arm_retransmit(env);
        }
        Ok(sent)
    }

    /// Sends the segment at `index` again.
    fn retransmit<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, index: u32) -> Sent<A> {
        let mss = self.send.mss;
        if self.path != 0 {
            self.forget_probe(env);
        }
        if self.send.split(env.pool, env.cx.allocator, index, mss).is_none() {
            return Err(NoBuffer);
        }
        let transmit = self.transmit_chunk(env, index)?;
        self.send.note_resent(env.pool, index);
        let len = env.pool.at(index).map_or(0, |chunk| u64::from(chunk.len));
        if self.recovery.first_retransmit_ts.is_none() {
            let clock = self.timestamps.value(env.cx.now).max(1);
            self.recovery.first_retransmit_ts = core::num::NonZeroU32::new(clock);
        }
        self.recovery.undo_retransmits = self.recovery.undo_retransmits.saturating_add(1);
        if self.recovery.phase == Phase::Recovery {
            self.recovery.prr.sent += 1;
        }
        env.cx.counters.retransmitted += 1;
        self.count_trouble(env.rare, |troubles| {
            troubles.retransmitted = troubles.retransmitted.wrapping_add(1);
            troubles.octets_retransmitted += len;
        });
        Ok(Some(transmit))
    }

    fn send_new<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        if self.path != 0 {
            match self.explore_path(env)? {
                Explored::Nothing => {}
                Explored::Probe(transmit) => return Ok(Some(transmit)),
                Explored::Wait => return Ok(None),
            }
        }
        if !self.may_send_new(env) {
            if self.send.packets_out == 0 && self.timers.alarm == Alarm::None {
                self.arm_window_probe(env);
            }
            return Ok(None);
        }
        if self.is_held_by_pacing(env.options, env.cx.now) {
            return Ok(None);
        }
        self.restart_after_idle(env);
        let count = self.unit_len(env);
        let sent =
            if count > 1 { Some(self.transmit_unit(env, count)?) } else { self.transmit_new(env)? };
        let limited = self.send.in_flight() >= self.window.cwnd;
        self.note_window_use(env, limited);
        Ok(sent)
    }

    /// RFC 9293 §3.7.4 (Nagle, with Minshall's variant), §3.8.6.2.1 and the congestion window.
    fn may_send_new<A: Allocator>(&mut self, env: &Env<'_, '_, A>) -> bool {
        let Some(chunk) = env.pool.at(self.send.unsent) else { return false };
        if self.send.in_flight() >= self.window.cwnd {
            self.limits.end(Limit::ReceiveWindow, env.cx.now);
            self.note_window_use(env, true);
            return false;
        }
        let len = chunk.len.min(self.send.mss);
        let end = if chunk.len > len { chunk.seq + len } else { chunk.end() };
        if end.after(self.send.window_end()) {
            self.limits.begin(Limit::ReceiveWindow, env.cx.now);
            return false;
        }
        self.limits.end(Limit::ReceiveWindow, env.cx.now);
        self.may_be_small(env, chunk, 0)
    }

    /// Whether `chunk` may go though it may not fill a segment, `more` segments being on their way
    /// besides those in flight (Nagle, Minshall, `TCP_CORK`, `MSG_MORE`).
    fn may_be_small<A: Allocator>(
        &self,
        env: &Env<'_, '_, A>,
        chunk: &Chunk<A::Buffer>,
        more: u32,
    ) -> bool {
        let send = &self.send;
        let last = chunk.next == NONE;
        if chunk.len >= send.mss || !last || chunk.marks.contains(Marks::FIN) {
            return true;
        }
        if send.urgent.is_some() || send.push {
            return true;
        }
        if env.options.cork || send.more {
            return false;
        }
        let small_out = send.small_end.after(send.una) && send.small_end.at_or_before(send.nxt);
        env.options.no_delay || send.packets_out + more == 0 || !small_out
    }

    /// Whether the segment at `index`, which is to be sent, is the last of several sent at once:
    /// such a burst is pushed whatever the program says, as Linux does with every packet that it
    /// leaves to the device to cut.
    fn ends_burst<A: Allocator>(&self, env: &Env<'_, '_, A>, index: u32) -> bool {
        let send = &self.send;
        if index != send.unsent {
            return Self::ends_burst_again(env, index);
        }
        if send.burst == 0 {
            return false;
        }
        let Some(chunk) = env.pool.at(index) else { return false };
        let follows = env.pool.at(chunk.next).is_some_and(|next| {
            let end = next.seq + next.len.min(send.mss);
            send.in_flight() + 1 < self.window.cwnd
                && end.at_or_before(send.window_end())
                && self.may_be_small(env, next, 1)
        });
        send.burst + 1 >= send.burst_limit || !follows
    }

    /// The same for one that is sent again: Linux keeps together what it first sent together, as far
    /// as all of that is to be sent again.
    #[cold]
    fn ends_burst_again<A: Allocator>(env: &Env<'_, '_, A>, index: u32) -> bool {
        let Some(chunk) = env.pool.at(index) else { return false };
        chunk.marks.contains(Marks::BURST_END)
            && env.pool.at(chunk.prev).is_some_and(|before| {
                before.marks.contains(Marks::RETRANSMITTED) && before.sent_at == env.cx.now
            })
    }

    /// How many segments Linux gives to the device as one packet: about a millisecond's worth at
    /// the pace of the window, more on short paths, but not less than `tcp_min_tso_segs`.
    pub(super) fn burst_limit<A: Allocator>(&self, env: &Env<'_, '_, A>) -> u16 {
        let mss = self.send.mss.max(1);
        let most = u32::from(u16::MAX) / mss;
        let (srtt, min_rtt) = (u64::from(self.rtt.srtt_us()), self.rtt.min_us);
        let twentieths = if self.window.cwnd < self.window.ssthresh / 2 { 40 } else { 24 };
        let per_ms = u64::from(self.window.cwnd) * twentieths * 50 / srtt.max(1);
        let near = most.checked_shr(min_rtt >> 9).unwrap_or(0);
        let wanted = u32::try_from(per_ms).unwrap_or(u32::MAX).saturating_add(near).min(most);
        let half = (self.window.cwnd / 2).max(1); // Two packets are in flight at least.
        wanted.max(env.config.min_tso_segments).min(half).min(u32::from(u16::MAX)) as u16
    }

    /// Sends the first unsent segment.
    fn transmit_new<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        let (index, mss) = (self.send.unsent, self.send.mss);
        if self.send.split(env.pool, env.cx.allocator, index, mss).is_none() {
            return Err(NoBuffer);
        }
        if self.send.burst == 0 {
            self.send.burst_limit = self.burst_limit(env);
        }
        let transmit = self.transmit_chunk(env, index)?;
        self.after_new(env, index, 1);
        Ok(Some(transmit))
    }

    /// The first `count` unsent segments, the last of them at `last`, have left.
    pub(super) fn after_new<A: Allocator>(&mut self, env: &Env<'_, '_, A>, last: u32, count: u32) {
        let sent = u32::from(self.send.burst) + count;
        let full = sent >= u32::from(self.send.burst_limit);
        self.send.burst = if full { 0 } else { sent as u16 };
        let first = self.send.packets_out == 0;
        let Some(chunk) = env.pool.at(last) else { return };
        let (end, len, next) = (chunk.end(), chunk.len, chunk.next);
        self.send.unsent = next;
        self.send.nxt = end;
        self.send.packets_out += count;
        self.send.last_sent = env.cx.now;
        if len < self.send.mss {
            self.send.small_end = end;
        }
        if self.recovery.phase == Phase::Recovery {
            self.recovery.prr.sent += count;
        }
        self.stats.octets_sent += u64::from(len) * u64::from(count);
        self.receive.ack.on_sent_data(env.cx.now);
        let renew =
            matches!(self.timers.alarm, Alarm::None | Alarm::TailProbe | Alarm::WindowProbe);
        if first || renew {
            self.rearm(env);
        }
    }

    /// RFC 7661 in the form Linux uses: growth needs to know how much of the window was used, and a
    /// window that is not used decays.
    #[inline]
    pub(super) fn note_window_use<A: Allocator>(&mut self, env: &Env<'_, '_, A>, limited: bool) {
        let now = env.cx.now;
        let send = &mut self.send;
        if send.una.at_or_after(send.max_packets_seq)
            || send.packets_out > send.max_packets_out
            || limited
        {
            send.limited_by_window = limited;
            send.max_packets_out = send.packets_out;
            send.max_packets_seq = send.nxt;
        }
        let doubling = self.window.in_slow_start() && self.window.cwnd < 2 * send.max_packets_out;
        if send.limited_by_window || doubling {
            send.used = 0;
            send.full_at = now.stamp();
            return;
        }
        send.used = send.used.max(send.packets_out);
        let idle_us = send.full_at.elapsed_ms(now).saturating_mul(1_000);
        if idle_us >= self.rtt.rto_with_backoff_us(env.config) {
            self.decay_unused_window(env);
        }
    }

    /// Halfway down to what was used (RFC 2861 §3.2 as Linux does it).
    fn decay_unused_window<A: Allocator>(&mut self, env: &Env<'_, '_, A>) {
        let used = self.send.used.max(super::congestion::INITIAL_WINDOW);
        // A window that our own buffer leaves unused is no sign of what the path can take.
        let buffer_full = self.send.charged >= self.send.limit;
        let decays = env.config.slow_start_after_idle
            && !self.controller.governs()
            && self.recovery.phase == Phase::Open
            && !buffer_full;
        if !decays {
            return;
        }
        if used < self.window.cwnd {
            self.window.ssthresh = self.threshold_of_window();
            self.window.cwnd = (self.window.cwnd + used) / 2;
        }
        self.send.used = 0;
        self.send.full_at = env.cx.now.stamp();
    }

    /// What slow start may come back to: three quarters of the window at least.
    pub(super) fn threshold_of_window(&self) -> u32 {
        self.window.ssthresh.max(self.window.cwnd / 2 + self.window.cwnd / 4)
    }

    /// RFC 5681 §4.1: after a pause the window tells nothing about the path.
    pub(super) fn restart_after_idle<A: Allocator>(&mut self, env: &Env<'_, '_, A>) {
        if self.send.packets_out > 0 || self.send.last_sent == Instant::ZERO {
            return;
        }
        let now = env.cx.now;
        let mut idle_us = now.micros_since(self.send.last_sent);
        let restart =
            Restart { now, idle_us, app_limited: self.rate.is_app_limited(), mss: self.send.mss };
        self.window = self.controller.on_restart(&restart, self.window);
        self.send.last_sent = now;
        let rto_us = self.rtt.rto_with_backoff_us(env.config);
        if idle_us <= rto_us || !env.config.slow_start_after_idle || self.controller.governs() {
            return;
        }
        self.window.ssthresh = self.threshold_of_window();
        let window = &mut self.window;
        while idle_us > rto_us && window.cwnd > super::congestion::INITIAL_WINDOW {
            window.cwnd = (window.cwnd / 2).max(super::congestion::INITIAL_WINDOW);
            idle_us = idle_us.saturating_sub(rto_us);
        }
        self.send.used = 0;
        self.send.full_at = now.stamp();
    }

    /// Segments without payload: probes and acknowledgments.
    fn send_bare<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        if self.pending.contains(Pending::WINDOW_PROBE) {
            return self.send_window_probe(env);
        }
        let probe = self.pending.contains(Pending::KEEPALIVE);
        if !probe && !self.pending.contains(Pending::ACK) {
            return Ok(None);
        }
        let buffer = env.cx.allocator.allocate().ok_or(NoBuffer)?;
        //= RFC 9293 §3.8.4: a keepalive is an octet that the peer has acknowledged.
        let seq = if probe { self.send.una - 1 } else { self.send.nxt };
        if probe {
            env.cx.counters.keepalives += 1;
            self.pending -= Pending::KEEPALIVE;
        }
        Ok(Some(self.finish_segment(env, Flags::ACK, seq, buffer, 0)))
    }

    fn send_window_probe<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> Sent<A> {
        if self.send.packets_out > 0 || self.send.unsent == NONE {
            self.pending -= Pending::WINDOW_PROBE;
            return Ok(None);
        }
        let room = self.send.window_end().since(self.send.nxt);
        let bare_fin = env.pool.at(self.send.unsent).is_some_and(|c| c.len == 0);
        if room > 0 {
            // Corked, or a window too small for the segment: what fits goes now.
            let index = self.send.unsent;
            let len = room.min(self.send.mss);
            if !bare_fin && self.send.split(env.pool, env.cx.allocator, index, len).is_none() {
                return Err(NoBuffer);
            }
            // Linux pushes what it sends late.
            if let Some(chunk) = env.pool.at_mut(index) {
                chunk.marks |= Marks::PUSH;
            }
            let sent = self.transmit_new(env)?;
            self.pending -= Pending::WINDOW_PROBE;
            self.probes = 0;
            self.rtt.backoff = 0;
            return Ok(sent);
        }
        let buffer = env.cx.allocator.allocate().ok_or(NoBuffer)?;
        self.pending -= Pending::WINDOW_PROBE;
        env.cx.counters.window_probes += 1;
        let seq = self.send.una - 1;
        Ok(Some(self.finish_segment(env, Flags::ACK, seq, buffer, 0)))
    }

    /// Sends the queued segment at `index`, first time or again.
    pub(super) fn transmit_chunk<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        index: u32,
    ) -> Result<Transmit<A::Buffer>, NoBuffer> {
        let ends_burst = self.ends_burst(env, index);
        let chunk = env.pool.at_mut(index).ok_or(NoBuffer)?;
        let buffer = match chunk.buffer.as_mut() {
            None => env.cx.allocator.allocate().ok_or(NoBuffer)?,
            Some(kept) => {
                let len = chunk.len as usize;
                let headers = kept.data().len().saturating_sub(len);
                if kept.is_shared() || kept.headroom() + headers < MAX_HEADER + 60 {
                    // The device still reads the last transmission: leave it alone.
                    let mut fresh = env.cx.allocator.allocate().ok_or(NoBuffer)?;
                    let payload = kept.data().get(headers..).unwrap_or_default();
                    if fresh.tailroom() < payload.len() {
                        return Err(NoBuffer);
                    }
                    fresh.append(payload.len()).copy_from_slice(payload);
                    *kept = fresh;
                } else {
                    kept.trim_front(headers);
                }
                kept.share()
            }
        };
        chunk.sent_at = env.cx.now;
        chunk.snapshot = self.rate.snapshot(env.cx.now, self.send.packets_out == 0);
        chunk.marks.set(Marks::APP_LIMITED, self.rate.is_app_limited());
        if ends_burst {
            chunk.marks |= Marks::BURST_END;
        }
        let mut flags = Flags::ACK;
        flags.set(Flags::FIN, chunk.marks.contains(Marks::FIN));
        let push = ends_burst || chunk.marks.contains(Marks::PUSH);
        flags.set(Flags::PSH, chunk.len > 0 && push);
        let (seq, len) = (chunk.seq, chunk.len);
        if len > 0 {
            self.note_paced(env.options, len, env.cx.now);
            self.stats.data_segments_out = self.stats.data_segments_out.wrapping_add(1);
        }
        Ok(self.finish_segment(env, flags, seq, buffer, len))
    }

    /// Puts the header in front of `buffer`, and takes note of all that it tells the peer.
    #[inline]
    pub(super) fn finish_segment<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        mut flags: Flags,
        seq: SeqNumber,
        mut buffer: A::Buffer,
        len: u32,
    ) -> Transmit<A::Buffer> {
        let (congestion, codepoint) = self.ecn.mark(len > 0 && seq.at_or_after(self.send.nxt));
        flags |= congestion;
        let mss = self.receive_mss();
        let plain = Plain {
            ports: [self.tuple.local_port, self.tuple.remote_port],
            seq,
            ack: self.receive.nxt,
            flags,
            window: self.receive.select_window(mss),
            timestamps: self.negotiated.timestamps.then(|| self.timestamps.option(env.cx.now)),
        };
        let header_len = if self.send.urgent.is_none() && self.receive.report == 0 {
            plain.emit(buffer.prepend(plain.len()));
            plain.len()
        } else {
            let header = self.full_header(env, &plain, len);
            header.emit(buffer.prepend(header.len()));
            header.len()
        };
        self.pending -= Pending::ACK;
        self.timers.ack_at = Instant::FAR_FUTURE;
        self.receive.ack.on_ack_sent();
        self.stats.segments_out = self.stats.segments_out.wrapping_add(1);
        env.cx.counters.segments_out += 1;
        let options = env.options;
        let fragment = options.path_mtu_discovery == PathMtuDiscovery::Dont;
        Transmit {
            source: self.tuple.local,
            destination: self.tuple.remote,
            traffic_class: ecn::class(options, codepoint),
            hop_limit: options.hop_limit,
            dont_fragment: !fragment,
            packet: buffer,
            header_len: header_len as u8,
            segment_size: 0,
        }
    }

    /// `plain` with what few segments say besides: urgent data, and blocks that SACK reports.
    #[cold]
    fn full_header<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        plain: &Plain,
        len: u32,
    ) -> Header {
        let Plain { ports: [source_port, destination_port], seq, ack, flags, window, timestamps } =
            *plain;
        let mut header = Header {
            source_port,
            destination_port,
            seq,
            ack,
            flags,
            window,
            timestamps,
            ..Header::default()
        };
        if let Some(up) = self.send.urgent
            && up.after(seq)
        {
            //= RFC 9293 §3.8.5
            header.flags |= Flags::URG;
            header.urgent = up.since(seq).min(u32::from(u16::MAX)) as u16;
        }
        self.report_blocks(env, &mut header, len);
        header
    }

    /// RFC 2018 §4 and RFC 2883: as many blocks as fit beside `len` octets of payload.
    fn report_blocks<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        header: &mut Header,
        len: u32,
    ) {
        if self.receive.report == 0 || !self.negotiated.sack {
            return;
        }
        let reports = &mut env.rare.reports;
        let duplicate = self.receive.take_duplicate(reports);
        let ip = if self.tuple.is_v6() { 40 } else { 20 };
        let used = ip + header.len() as u32 + len + 4;
        let of_path = u32::from(self.negotiated.path_mtu).saturating_sub(used) / 8;
        let of_header = (MAX_HEADER - header.len()).saturating_sub(4) / 8;
        let most = (of_path as usize).min(of_header);
        let known = reports.get(self.receive.report).map_or(&[][..], |report| report.blocks());
        for block in duplicate.iter().chain(known).take(most) {
            let _ = header.sack.try_push(*block);
        }
        self.receive.give_report_back(reports);
    }
}
