//! Path MTU discovery (RFC 1191): a router dropped a segment of ours because it was too large; and
//! what follows when the device's own MTU is changed.

use super::connection::{Connection, Env};
use super::demux::{Target, Tuple};
use super::queue::Marks;
use super::recovery::Phase;
use super::seq::SeqNumber;
use super::socket::Kind;
use super::state::State;
use super::{Context, Tcp, env};
use crate::error::Error;
use crate::options::PathMtuDiscovery;
use crate::packet::{Allocator, Buffer};
use core::net::SocketAddr;

impl<B: Buffer> Tcp<B> {
    /// ICMP says that our segment with `seq` is larger than `mtu`, the largest IP packet that goes
    /// on from there. Returns whether that is believable: about something in flight.
    pub fn on_packet_too_big<A: Allocator<Buffer = B>>(
        &mut self,
        cx: &mut Context<'_, A>,
        local: SocketAddr,
        remote: SocketAddr,
        seq: SeqNumber,
        mtu: u16,
    ) -> bool {
        let tuple = Tuple::new(local, remote);
        cx.counters.icmp_errors += 1;
        let found = self.find(&tuple, tuple.place(self.keys.demux));
        let Some(Target::Socket(index)) = found else {
            cx.counters.icmp_out_of_window += 1;
            return false;
        };
        let Some(socket) = self.sockets.at_mut(index) else { return false };
        let believed = match &mut socket.kind {
            Kind::Connected(c) => c.on_packet_too_big(
                &mut env!(self, cx, self.option_sets.get(socket.options)),
                seq,
                mtu,
            ),
            Kind::Opening(opening) if opening.iss == seq => {
                opening.on_packet_too_big(mtu, cx.now);
                true
            }
            _ => false,
        };
        if !believed {
            cx.counters.icmp_out_of_window += 1;
        }
        self.settle(cx, index);
        believed
    }
}

impl<B: Buffer> Tcp<B> {
    /// From now on the device takes packets of `mtu` octets: connections that come in start from it,
    /// and those that went by the device's MTU follow, as Linux's do.
    pub fn set_mtu<A: Allocator<Buffer = B>>(&mut self, cx: &mut Context<'_, A>, mtu: u16) {
        let before = core::mem::replace(&mut self.mtu, mtu);
        self.rare.paths.set_mtu(mtu);
        for place in 0..self.openings.watermark() {
            if let Some(opening) = self.openings.at_mut(place) {
                opening.on_device_mtu(before, mtu);
            }
        }
        for index in 0..self.sockets.watermark() {
            let Some(socket) = self.sockets.at_mut(index) else { continue };
            match &mut socket.kind {
                Kind::Connected(c) if c.state != State::Closed => {
                    let options = self.option_sets.get(socket.options);
                    c.on_device_mtu(&mut env!(self, cx, options), before, mtu);
                }
                Kind::Opening(opening) => opening.on_device_mtu(before, mtu),
                _ => {}
            }
        }
    }
}

impl Connection {
    fn on_packet_too_big<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        seq: SeqNumber,
        mtu: u16,
    ) -> bool {
        //= RFC 5927 §7.2: only about octets in flight.
        if seq.before(self.send.una) || seq.at_or_after(self.send.nxt) {
            return false;
        }
        let strict = env.options.path_mtu_discovery != PathMtuDiscovery::Dont;
        if !strict || mtu >= self.negotiated.path_mtu {
            return true;
        }
        env.cx.counters.path_mtu_reduced += 1;
        self.soft_error = Some(Error::MessageTooLong);
        self.learn_path_mtu(env, mtu);
        self.resend_oversized(env);
        true
    }

    /// Segments larger than the MSS that are in flight will not arrive: they are sent again at
    /// once, in pieces. The path is not congested, so the window stays (Linux:
    /// `tcp_simple_retransmit`).
    pub(super) fn resend_oversized<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let mut at = self.send.queue.head;
        let mut found = false;
        while at != self.send.unsent
            && let Some(chunk) = env.pool.at(at)
        {
            let (index, next) = (at, chunk.next);
            at = next;
            if chunk.len <= self.send.mss || chunk.marks.contains(Marks::SACKED) {
                continue;
            }
            self.send.mark_lost(env.pool, index);
            found = true;
        }
        if !found {
            return;
        }
        self.mend_uncongested();
    }

    /// What is marked lost did not fit, or was not wanted yet: it is sent again, and the window
    /// stays.
    pub(super) fn mend_uncongested(&mut self) {
        self.send.retransmit_hint = self.send.queue.head;
        if self.recovery.phase != Phase::Loss {
            self.recovery.phase = Phase::Loss;
            self.recovery.high = self.send.nxt;
            let cwnd = self.window.cwnd;
            self.window.ssthresh = self.window.ssthresh.max(cwnd / 2 + cwnd / 4);
            self.recovery.undoable = false;
        }
    }
}
