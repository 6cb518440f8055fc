//! Explicit Congestion Notification (RFC 3168): who agreed to it, what the marks of arriving
//! packets and the flags of acknowledgments mean, and what goes into what is sent. DCTCP's
//! receiver (RFC 8257 §3.2), which echoes every change of the mark at once, is here too.
//!
//! The window's reaction is recovery's; nothing here touches it.

use super::connection::{Connection, Env, Pending};
use super::reply::Reply;
use super::segment::{Flags, Header};
use crate::config::{EcnPolicy, TcpConfig};
use crate::options::{CongestionAlgorithm, Options};
use crate::packet::Allocator;

/// The codepoints of the IP header (RFC 3168 §5).
const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

bitflags::bitflags! {
    /// Where a connection stands with ECN.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Ecn: u8 {
        /// Both ends do it.
        const AGREED = 0x01;
        /// A packet arrived marked: acknowledgments say so (ECE) until the peer answers (CWR).
        const ECHO = 0x02;
        /// The window was reduced: the next new data says so (CWR).
        const REDUCED = 0x04;
        /// The peer's packets do come ECN-capable.
        const SEEN = 0x08;
        /// As DCTCP has it: every packet is ECN-capable, marks are echoed one by one.
        const EXACT = 0x10;
    }
}

/// Whether our SYN asks for ECN.
pub(crate) fn asks(options: &Options, config: &TcpConfig) -> bool {
    config.ecn == EcnPolicy::Always || options.congestion == CongestionAlgorithm::Dctcp
}

/// Whether we grant what the SYN `header`, that came with `traffic_class`, asks for.
pub(crate) fn grants(
    header: &Header,
    traffic_class: u8,
    options: &Options,
    config: &TcpConfig,
) -> bool {
    let asked = header.flags.contains(Flags::ECE | Flags::CWR);
    //= RFC 3168 §6.1.1: a SYN is not ECN-capable; one that is comes through a network (or from a
    //= peer) that does something else with these bits.
    let plain = traffic_class & MASK == NOT_ECT;
    let exact = options.congestion == CongestionAlgorithm::Dctcp;
    asked && (exact || (plain && config.ecn != EcnPolicy::Never))
}

/// Whether the peer's SYN or SYN-ACK agrees to what our SYN asked for.
pub(crate) fn is_agreed(flags: Flags) -> bool {
    //= RFC 3168 §6.1.1: a SYN-ACK agrees with ECE alone; both bits are one that reflects them.
    let both = flags.contains(Flags::ACK);
    flags.contains(Flags::ECE) && flags.contains(Flags::CWR) != both
}

/// The flags of our SYN or SYN-ACK.
pub(crate) fn handshake_flags(agreed: bool, syn_ack: bool, retransmits: u8) -> Flags {
    match (agreed, syn_ack) {
        (true, true) => Flags::ECE,
        //= RFC 3168 §6.1.1.1: perhaps somebody on the way drops SYNs with these bits.
        (true, false) if retransmits == 0 => Flags::ECE | Flags::CWR,
        _ => Flags::empty(),
    }
}

/// The traffic class of a SYN or SYN-ACK: not ECN-capable, unless the network is DCTCP's.
pub(crate) fn handshake_class(options: &Options) -> u8 {
    let exact = options.congestion == CongestionAlgorithm::Dctcp;
    options.traffic_class & !MASK | if exact { ECT_0 } else { NOT_ECT }
}

impl Ecn {
    /// The state after a handshake.
    pub fn new(agreed: bool, exact: bool) -> Self {
        let mut ecn = Ecn::empty();
        ecn.set(Ecn::AGREED, agreed);
        ecn.set(Ecn::EXACT, agreed && exact);
        ecn
    }

    /// Whether an acknowledgment with `flags` says that the network is congested.
    #[inline]
    pub fn is_congested(self, flags: Flags) -> bool {
        flags.contains(Flags::ECE) && self.contains(Ecn::AGREED)
    }

    /// The window was reduced, for whatever reason.
    pub fn reduced(&mut self) {
        //= RFC 3168 §6.1.2
        self.set(Ecn::REDUCED, self.contains(Ecn::AGREED));
    }

    /// The reduction was taken back.
    pub fn restored(&mut self) {
        *self -= Ecn::REDUCED;
    }

    /// What a segment carries: the flags to add, and the codepoint of its packet.
    #[inline]
    pub fn mark(&mut self, new_data: bool) -> (Flags, u8) {
        if !self.contains(Ecn::AGREED) {
            return (Flags::empty(), NOT_ECT);
        }
        let mut flags = Flags::empty();
        flags.set(Flags::ECE, self.contains(Ecn::ECHO));
        if new_data && self.contains(Ecn::REDUCED) {
            *self -= Ecn::REDUCED;
            flags |= Flags::CWR;
        }
        //= RFC 3168 §6.1.4, §6.1.5: neither pure ACKs nor retransmissions are ECN-capable.
        let capable = new_data || self.contains(Ecn::EXACT);
        (flags, if capable { ECT_0 } else { NOT_ECT })
    }
}

impl Connection {
    /// Payload arrived in a packet with `traffic_class` and `flags`.
    pub fn on_marked_payload<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        traffic_class: u8,
        flags: Flags,
    ) {
        if !self.ecn.contains(Ecn::AGREED) {
            return;
        }
        if flags.contains(Flags::CWR) {
            //= RFC 3168 §6.1.3
            self.ecn -= Ecn::ECHO;
            // Its window may be a single packet now: do not let it wait.
            self.pending |= Pending::ACK;
        }
        let codepoint = traffic_class & MASK;
        if codepoint == NOT_ECT {
            if self.ecn.contains(Ecn::SEEN) {
                // Probably sent again: the peer has lost something.
                self.receive.ack.enter_quick_for(2);
            }
            return;
        }
        self.ecn |= Ecn::SEEN;
        env.cx.counters.ce_received += u64::from(codepoint == CE);
        if self.ecn.contains(Ecn::EXACT) {
            self.echo_change(env, codepoint == CE);
        } else if codepoint == CE && !self.ecn.contains(Ecn::ECHO) {
            self.ecn |= Ecn::ECHO;
            self.receive.ack.enter_quick_for(2);
        }
    }

    /// DCTCP's receiver: the marks of what one acknowledgment covers are all the same.
    fn echo_change<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, marked: bool) {
        //= RFC 8257 §3.2
        if self.ecn.contains(Ecn::ECHO) == marked {
            return;
        }
        if self.receive.ack.owed {
            let mut flags = Flags::ACK;
            flags.set(Flags::ECE, !marked);
            let reply = Reply {
                tuple: self.tuple,
                seq: self.send.nxt,
                ack: self.receive.nxt,
                flags,
                window: self.receive.select_window(self.receive_mss()),
                timestamps: self.negotiated.timestamps.then(|| self.timestamps.option(env.cx.now)),
                traffic_class: env.options.traffic_class & !MASK | ECT_0,
                hop_limit: env.options.hop_limit,
                syn: None,
            };
            env.replies.push(reply, env.cx.counters);
        }
        self.ecn.set(Ecn::ECHO, marked);
        self.pending |= Pending::ACK;
    }
}

/// A socket's traffic class with the ECN bits of one packet.
#[inline]
pub(crate) fn class(options: &Options, codepoint: u8) -> u8 {
    options.traffic_class & !MASK | codepoint
}
