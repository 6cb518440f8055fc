//! The send sequence space (RFC 9293 §3.3.1) and the queue that fills it.

use crate::tcp::queue::{Chain, NONE, Pool};
use crate::tcp::seq::SeqNumber;
use crate::time::{Instant, Stamp};

/// The sending half of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// SND.UNA.
    pub una: SeqNumber,
    /// SND.NXT.
    pub nxt: SeqNumber,
    /// The sequence number behind everything queued, our FIN included.
    pub end: SeqNumber,
    /// SND.WND, scaled.
    pub window: u32,
    /// The largest window the peer ever offered.
    pub max_window: u32,
    /// SND.WL1 (SND.WL2 is not needed: an old ACK never gets there).
    pub wl1: SeqNumber,
    /// Payload per segment.
    pub mss: u32,
    /// SND.UP, while urgent data is unacknowledged.
    pub urgent: Option<SeqNumber>,
    /// Sent and unsent segments in order.
    pub queue: Chain,
    /// The first segment not yet sent.
    pub unsent: u32,
    /// What the queue is charged, against `limit`, octets.
    pub charged: u32,
    /// Octets in the last run of segments (see `append`).
    pub run: u32,
    /// The buffer limit (`SO_SNDBUF`, tuned).
    pub limit: u32,
    /// Segments sent and not acknowledged.
    pub packets_out: u32,
    /// Of those: SACKed (without SACK: duplicate ACKs counted as such).
    pub sacked_out: u32,
    /// Of those: taken for lost.
    pub lost_out: u32,
    /// Of those: not sent again yet.
    pub lost_waiting: u32,
    /// Of those: retransmissions in flight.
    pub retrans_out: u32,
    /// The end of the last segment sent that was not full (Minshall's rule).
    pub small_end: SeqNumber,
    /// Our FIN is queued: nothing may follow.
    pub fin_queued: bool,
    /// The last send had `MSG_MORE`.
    pub more: bool,
    /// Segments sent in the burst that goes out just now, and how many are to be in it at most.
    pub burst: u16,
    pub burst_limit: u16,
    /// `TCP_NODELAY` was set: what is queued goes, corked or not.
    pub push: bool,
    /// Writable means less than this unsent (`TCP_NOTSENT_LOWAT`); `u32::MAX` is no limit.
    pub not_sent_limit: u32,
    /// Where the search for lost segments goes on.
    pub retransmit_hint: u32,
    /// The retransmissions in flight, in the order they were sent: first and last.
    pub resent_first: u32,
    pub resent_last: u32,
    /// Every segment before this one is delivered, lost or sent again: RACK need not look there.
    pub judged: u32,
    /// Where it is remembered what SACK reported.
    pub board: u32,
    /// Most packets in flight since the window was last full, for RFC 7661.
    pub max_packets_out: u32,
    pub max_packets_seq: SeqNumber,
    pub limited_by_window: bool,
    /// The most packets in flight since the window was last full, and when that was: an unused
    /// window decays.
    pub used: u32,
    pub full_at: Stamp,
    /// When data was last sent.
    pub last_sent: Instant,
}

impl Sender {
    /// The half of a connection whose SYN took `iss`.
    pub fn new(iss: SeqNumber, mss: u32, limit: u32) -> Self {
        let first = iss + 1;
        Sender {
            una: first,
            nxt: first,
            end: first,
            window: 0,
            max_window: 0,
            wl1: SeqNumber(0),
            mss,
            urgent: None,
            queue: Chain::EMPTY,
            unsent: NONE,
            charged: 0,
            run: 0,
            limit,
            packets_out: 0,
            sacked_out: 0,
            lost_out: 0,
            lost_waiting: 0,
            retrans_out: 0,
            small_end: first,
            fin_queued: false,
            more: false,
            burst: 0,
            burst_limit: 0,
            push: false,
            not_sent_limit: u32::MAX,
            retransmit_hint: NONE,
            resent_first: NONE,
            resent_last: NONE,
            judged: NONE,
            board: NONE,
            max_packets_out: 0,
            max_packets_seq: first,
            limited_by_window: false,
            used: 0,
            full_at: Stamp::NEVER,
            last_sent: Instant::ZERO,
        }
    }

    /// The first sequence number beyond the peer's window.
    pub fn window_end(&self) -> SeqNumber {
        self.una + self.window
    }

    /// Packets in the network, as far as we know (RFC 6675's pipe).
    pub fn in_flight(&self) -> u32 {
        (self.packets_out + self.retrans_out).saturating_sub(self.sacked_out + self.lost_out)
    }

    /// Octets queued and not acknowledged, without FIN.
    pub fn queued_octets(&self) -> u32 {
        let fin = self.fin_queued && self.una.before(self.end);
        self.end.since(self.una).saturating_sub(u32::from(fin))
    }

    /// Octets queued and not sent, without FIN.
    pub fn unsent_octets(&self) -> u32 {
        let fin = self.fin_queued && self.nxt.before(self.end);
        self.end.since(self.nxt).saturating_sub(u32::from(fin))
    }

    /// Whether poll(2) says writable: at least a third of the buffer is free.
    pub fn is_writable(&self) -> bool {
        self.limit.saturating_sub(self.charged) >= self.charged / 2
            && self.charged < self.limit
            && self.unsent_octets().saturating_mul(2) < self.not_sent_limit
    }

    /// Whether our FIN has been acknowledged.
    pub fn fin_acknowledged(&self) -> bool {
        self.fin_queued && self.una == self.end
    }

    /// Forgets everything that is queued.
    pub fn clear<B>(&mut self, pool: &mut Pool<B>) {
        self.queue.clear(pool);
        self.unsent = NONE;
        self.retransmit_hint = NONE;
        (self.resent_first, self.resent_last, self.judged) = (NONE, NONE, NONE);
        self.charged = 0;
        self.packets_out = 0;
        self.sacked_out = 0;
        (self.lost_out, self.lost_waiting) = (0, 0);
        self.retrans_out = 0;
        self.una = self.end;
        self.nxt = self.end;
    }
}
