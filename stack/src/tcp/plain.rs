//! The short way of a connection at which nothing is amiss: a request or an answer of one segment,
//! and the acknowledgment that comes with it. What is sent leaves while the program's call queues
//! it; what comes is taken without the questions of loss recovery, whose answers are known.
//!
//! What is to be remembered of a segment is remembered after it has left: the peer waits for nothing
//! else.
//!
//! Nothing here decides otherwise than the general way does (`tests/plain.rs` holds the two side by
//! side): whoever is asked and finds something unusual says so before anything is changed.

use super::connection::{Connection, Env, Pending};
use super::ecn::Ecn;
use super::input::Arrival;
use super::queue::{Chunk, Marks, NONE, TRUESIZE};
use super::receive::Urgent;
use super::recovery::Phase;
use super::segment::{Flags, Header};
use super::send::buffer::RESERVE;
use super::send::{Delivery, Limit};
use super::socket::Kind;
use super::stamps::Stamping;
use super::state::State;
use super::timers::Alarm;
use super::{Context, Tcp, TcpId, env};
use crate::options::Options;
use crate::packet::{Allocator, Buffer, Transmit};
use crate::socket::SendFlags;
use crate::time::Stamp;
use std::io::IoSlice;

#[cfg(test)]
thread_local! {
    /// In tests: whether the short way is taken at all.
    pub(crate) static TAKEN: core::cell::Cell<bool> = const { core::cell::Cell::new(true) };
}

/// How many octets there are, if there are few enough slices to look at.
#[inline]
fn few_octets(data: &[IoSlice<'_>]) -> Option<usize> {
    match data {
        [one] => Some(one.len()),
        [] => None,
        few if few.len() <= 16 => Some(few.iter().map(|slice| slice.len()).sum()),
        _ => None,
    }
}

#[inline]
fn is_taken() -> bool {
    #[cfg(test)]
    return TAKEN.get();
    #[cfg(not(test))]
    true
}

/// A segment that leaves at once, to be remembered by [`Tcp::remember_sent`].
#[derive(Debug)]
#[must_use]
pub struct SentAtOnce<B> {
    id: TcpId,
    /// To be sent again, perhaps.
    buffer: B,
    len: u32,
}

impl<B: Buffer> Tcp<B> {
    /// The segment in which `data` leaves now, if that is what [`Tcp::send`] and
    /// [`Tcp::poll_transmit`] would come to; `None`: nothing has changed.
    #[inline]
    pub fn send_at_once<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        id: TcpId,
        data: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Option<(Transmit<B>, SentAtOnce<B>)> {
        let octets = few_octets(data)?;
        let alone = !self.wants_transmit() && self.pool.len() < self.segments && is_taken();
        if !alone || !flags.is_plain() || !cx.allocator.has_more_than(RESERVE) {
            return None;
        }
        let socket = self.sockets.get_mut(id.0)?;
        let Kind::Connected(c) = &mut socket.kind else { return None };
        let options = self.option_sets.get(socket.options);
        let reports = socket.stamping != Stamping::Off;
        if socket.error.is_some()
            || socket.no_space
            || reports
            || !c.may_send_at_once(octets, options)
        {
            return None;
        }
        let mut buffer = cx.allocator.allocate().filter(|room| room.tailroom() >= octets)?;
        data.iter().for_each(|slice| buffer.append(slice.len()).copy_from_slice(slice));
        let (packet, len) = (buffer.share(), octets as u32);
        let (flags, seq) = (Flags::ACK | Flags::PSH, c.send.nxt);
        let transmit = c.finish_segment(&mut env!(self, cx, options), flags, seq, packet, len);
        Some((transmit, SentAtOnce { id, buffer, len }))
    }

    /// What was given out by [`Tcp::send_at_once`] has left, or is about to; nothing else was done
    /// meanwhile.
    #[inline]
    pub fn remember_sent<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        sent: SentAtOnce<B>,
    ) {
        let index = sent.id.0.index();
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let Kind::Connected(c) = &mut socket.kind else { return };
        let options = self.option_sets.get(socket.options);
        c.remember_sent(&mut env!(self, cx, options), sent.buffer, sent.len);
        let deadline = c.timers.earliest();
        self.latest = self.latest.max(cx.now);
        self.arm(index, deadline);
    }
}

impl Connection {
    /// Whether `len` octets would leave at once as one segment.
    #[inline]
    fn may_send_at_once(&self, len: usize, options: &Options) -> bool {
        let send = &self.send;
        let in_flight = send.packets_out;
        let settled = self.state == State::Established
            && !self.shut_write
            && !self.awaits_ack
            && self.path == 0
            && (self.pending - Pending::ACK).is_empty()
            && self.is_untroubled()
            && send.unsent == NONE
            && send.urgent.is_none()
            && self.receive.report == 0
            && !options.cork
            && !self.is_paced(options);
        let Ok(len) = u32::try_from(len) else { return false };
        let small_out = || send.small_end.after(send.una) && send.small_end.at_or_before(send.nxt);
        settled
            && (1..=send.mss).contains(&len)
            && send.charged < send.limit
            && send.not_sent_limit > 0
            && in_flight < self.window.cwnd
            && (send.nxt + len).at_or_before(send.window_end())
            && (options.no_delay || in_flight == 0 || len == send.mss || !small_out())
    }

    /// Nothing was lost, marked or doubted, and nothing is being found out about the path.
    #[inline]
    pub fn is_untroubled(&self) -> bool {
        let (send, recovery) = (&self.send, &self.recovery);
        recovery.phase == Phase::Open
            && send.sacked_out | send.lost_out | send.retrans_out == 0
            && self.negotiated.sack
            && !recovery.undoable
            && recovery.probe.is_none()
            && recovery.stalled_since == Stamp::NEVER
    }

    /// The last `len` octets of `buffer` are in flight, where [`Connection::may_send_at_once`].
    #[inline]
    fn remember_sent<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        buffer: A::Buffer,
        len: u32,
    ) {
        let now = env.cx.now;
        let (seq, idle) = (self.send.end, self.send.packets_out == 0);
        let marks = Marks::PUSH | self.send.marks_of_new();
        let mut chunk = Chunk::new(Some(buffer), seq, len, marks);
        // There is room for more, and nothing to fill it.
        self.rate.mark_app_limited(self.send.packets_out);
        // What the pause means is judged before the segment begins a new flight.
        self.restart_after_idle(env);
        chunk.sent_at = now;
        chunk.snapshot = self.rate.snapshot(now, idle);
        chunk.marks.set(Marks::APP_LIMITED, self.rate.is_app_limited());
        let size = chunk.truesize();
        if self.send.queue.push_back(env.pool, chunk).is_err() {
            return; // Not reached: there was room in the table.
        }
        self.limits.begin(Limit::Busy, now);
        self.limits.end(Limit::ReceiveWindow, now);
        let send = &mut self.send;
        (send.more, send.push, send.burst, send.run) = (false, false, 0, 0);
        send.charged += size;
        send.end += len;
        send.nxt = send.end;
        send.packets_out += 1;
        send.last_sent = now;
        if len < send.mss {
            send.small_end = send.end;
        }
        self.stats.data_segments_out = self.stats.data_segments_out.wrapping_add(1);
        self.stats.octets_sent += u64::from(len);
        self.receive.ack.on_sent_data(now);
        if idle || matches!(self.timers.alarm, Alarm::None | Alarm::TailProbe | Alarm::WindowProbe)
        {
            self.rearm(env);
        }
        let limited = self.send.packets_out >= self.window.cwnd;
        self.note_window_use(env, limited);
    }

    /// The acknowledgment of a predicted segment, if it tells of nothing or of the one segment in
    /// flight; whether that was so. Else nothing is changed.
    #[inline]
    pub fn take_plain_ack<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &Arrival<'_, A::Buffer>,
    ) -> bool {
        let header = arrival.header;
        let plain = is_taken()
            && self.is_untroubled()
            && header.sack.is_empty()
            && !self.ecn.is_congested(header.flags)
            && !self.controller.watches()
            && self.send.urgent.is_none()
            && !self.send.fin_queued
            && self.send.unsent == NONE;
        if !plain {
            return false;
        }
        if self.send.packets_out == 0 {
            self.store_timestamp(env.cx.now, arrival);
            self.hear(env, header);
            return true;
        }
        let head = self.send.queue.head;
        let troubled = Marks::SACKED | Marks::LOST | Marks::RETRANSMITTED;
        let troubled = troubled | Marks::EVER_RETRANSMITTED | Marks::FIN;
        let whole = self.send.packets_out == 1
            && env.pool.at(head).is_some_and(|chunk| {
                chunk.end() == header.ack && !chunk.marks.intersects(troubled)
            });
        if whole {
            self.store_timestamp(env.cx.now, arrival);
            self.hear(env, header);
            self.take_only_segment(env, head);
        }
        whole
    }

    /// The peer lives, and says how much it takes.
    #[inline]
    fn hear<A: Allocator>(&mut self, env: &Env<'_, '_, A>, header: &Header) {
        self.heard = env.cx.now;
        self.send.burst = 0;
        self.probes = 0;
        self.update_window(header);
        if self.send.packets_out == 0 {
            self.limits.rest(env.cx.now);
            self.timers.stop_alarm();
        }
    }

    /// The one segment in flight, at `head`, is acknowledged.
    #[inline]
    fn take_only_segment<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, head: u32) {
        let now = env.cx.now;
        let mut delivery = Delivery {
            prior_in_flight: 1,
            acked: 1,
            delivered: 1,
            advanced: true,
            ..Delivery::default()
        };
        let Some(chunk) = env.pool.at(head) else { return };
        let (end, len, sent_at) = (chunk.end(), chunk.len, chunk.sent_at);
        self.recovery.rack.on_delivered(chunk, now, self.rtt.min_us);
        delivery.note_newest(chunk);
        let size = chunk.truesize();
        self.send.queue.discard_front(env.pool);
        let send = &mut self.send;
        (send.judged, send.retransmit_hint) = (NONE, NONE);
        send.charged = send.charged.saturating_sub(size);
        send.packets_out = 0;
        send.una = end;
        send.more = false;
        self.stats.octets_acked += u64::from(len);
        self.rtt.sample_us(now.micros_since(sent_at), now, env.config);
        delivery.rtt_us = self.rtt.latest_us;
        self.on_untroubled(now, &delivery);
        self.rtt.backoff = 0;
        self.grow_send_buffer(env);
        self.limits.rest(now);
        self.timers.stop_alarm();
    }

    /// The payload of a predicted segment, if it is the first that the program has to read;
    /// whether that was so. Else nothing is changed.
    #[inline]
    pub fn take_plain_text<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        arrival: &mut Arrival<'_, A::Buffer>,
    ) -> bool {
        let receive = &self.receive;
        let plain = is_taken()
            && self.state == State::Established
            && !self.shut_read
            && !self.orphaned
            && !self.ecn.contains(Ecn::AGREED)
            && receive.queue.is_empty()
            && receive.report == 0
            && receive.urgent == Urgent::None
            && receive.charged + TRUESIZE <= receive.limit / 2
            && env.cx.allocator.has_more_than(super::text::SCARCE)
            && !env.pool.is_full()
            && arrival.packet.as_ref().is_some_and(|packet| packet.parts() == 1);
        if !plain {
            return false;
        }
        let Some(packet) = arrival.packet.take() else { return false };
        let before = self.receive.nxt;
        let mut chunk = Chunk::new(Some(packet), before, arrival.len, Marks::empty());
        chunk.offset = arrival.offset;
        let end = chunk.end();
        if self.receive.queue.push_back(env.pool, chunk).is_err() {
            return true; // Not reached: there was room.
        }
        self.receive.charged += TRUESIZE;
        self.receive.nxt = end;
        let data_in = &mut self.stats.data_segments_in;
        *data_in = data_in.wrapping_add(arrival.segments);
        self.on_data_in_order(env, before, arrival);
        true
    }
}
