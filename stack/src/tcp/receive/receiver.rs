//! The receive sequence space (RFC 9293 §3.3.1), its queue, and the window we advertise.

use super::ack_policy::AckPolicy;
use super::autotune::Autotune;
use super::report::Report;
use crate::tcp::loans::{Loans, Name};
use crate::tcp::queue::{Chain, Pool};
use crate::tcp::segment::SackBlock;
use crate::tcp::seq::SeqNumber;

/// Urgent data, as Linux has it: one octet, the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgent {
    /// None.
    None,
    /// Announced, not here yet.
    Announced,
    /// Here.
    Valid(u8),
    /// Read by `MSG_OOB`; the mark stays.
    Read,
}

/// The receiving half of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    /// RCV.NXT.
    pub nxt: SeqNumber,
    /// The next octet that the program reads.
    pub copied: SeqNumber,
    /// The right edge of the window we advertised; RCV.WND is this minus RCV.NXT.
    pub edge: SeqNumber,
    /// RCV.NXT when we last acknowledged.
    pub acknowledged: SeqNumber,
    /// In order, not yet read.
    pub queue: Chain,
    /// Waiting for what goes before.
    pub ooo: Chain,
    /// Octets in `ooo`.
    pub ooo_octets: u32,
    /// What both queues are charged, octets.
    pub charged: u32,
    /// The buffer limit (`SO_RCVBUF`, tuned).
    pub limit: u32,
    /// The window never exceeds this (`TCP_WINDOW_CLAMP`, or what the shift can say).
    pub clamp: u32,
    /// The window grows up to this as the peer fills it.
    pub slow_start: u32,
    /// The shift of windows we advertise.
    pub shift: u8,
    /// The peer's FIN is in; it took the last sequence number before `nxt`.
    pub fin: bool,
    /// Where the peer's FIN is, when it came before what goes before it.
    pub fin_at: Option<SeqNumber>,
    /// The name of what SACK reports.
    pub report: Name,
    pub urgent: Urgent,
    pub urgent_seq: SeqNumber,
    pub ack: AckPolicy,
    pub tune: Autotune,
}

impl Receiver {
    /// The peer's SYN came again (RFC 2883).
    pub fn report_repeated_syn(&mut self, reports: &mut Loans<Report>) {
        let start = self.nxt - 1;
        self.report_duplicate(reports, SackBlock { start, end: self.nxt });
    }

    /// The half of a connection whose peer's SYN took `irs`; `window` is what our SYN offered.
    pub fn new(irs: SeqNumber, window: u32, shift: u8, limit: u32, mss: u32) -> Self {
        let first = irs + 1;
        Receiver {
            nxt: first,
            copied: first,
            // The window field of a SYN is not scaled (RFC 7323 §2.2).
            edge: first + window.min(u32::from(u16::MAX)),
            acknowledged: first,
            queue: Chain::EMPTY,
            ooo: Chain::EMPTY,
            ooo_octets: 0,
            charged: 0,
            limit,
            clamp: u32::from(u16::MAX) << shift,
            slow_start: window,
            shift,
            fin: false,
            fin_at: None,
            report: 0,
            urgent: Urgent::None,
            urgent_seq: first,
            ack: AckPolicy::new(mss.min(536)),
            tune: Autotune::new(first, window),
        }
    }

    /// RCV.WND.
    pub fn window(&self) -> u32 {
        self.edge.since(self.nxt)
    }

    /// Octets that can be read, urgent data disregarded.
    pub fn unread(&self) -> u32 {
        self.nxt.since(self.copied).saturating_sub(u32::from(self.fin))
    }

    /// Window that a buffer of `limit` octets stands for: half, the rest is overhead.
    pub const fn window_of(limit: u32) -> u32 {
        limit / 2
    }

    fn free(&self) -> u32 {
        let held = self.unread() + self.ooo_octets;
        // Sparse buffers take more memory than they hold data: what is charged counts as well.
        let window = Self::window_of(self.limit);
        window.saturating_sub(held).min(self.limit.saturating_sub(self.charged))
    }

    /// The window to advertise: never less than advertised before, no silly increments.
    pub fn select_window(&mut self, mss: u32) -> u16 {
        let current = self.window();
        let wanted = self.wanted_window(mss);
        //= RFC 9293 §3.8.6: the right edge does not move left.
        let granule = 1u32 << self.shift;
        let window = if wanted < current { current.next_multiple_of(granule) } else { wanted };
        let most =
            if self.shift == 0 { u32::from(u16::MAX) } else { u32::from(u16::MAX) << self.shift };
        let window = window.min(most);
        let scaled = (window >> self.shift) as u16;
        self.edge = self.edge.max(self.nxt + (u32::from(scaled) << self.shift));
        self.acknowledged = self.nxt;
        scaled
    }

    /// What the free space suggests.
    pub fn wanted_window(&self, mss: u32) -> u32 {
        let full = Self::window_of(self.limit).min(self.clamp);
        let mss = self.ack.peer_mss.min(mss).min(full);
        let mut free = self.free().min(self.clamp);
        if free < full / 2 {
            //= RFC 9293 §3.8.6.2.2: receiver's silly window avoidance.
            free &= !((1u32 << self.shift) - 1);
            if free < full / 16 || free < mss {
                return 0;
            }
        }
        let free = free.min(self.slow_start);
        if self.shift > 0 {
            return free.next_multiple_of(1 << self.shift);
        }
        let current = self.window();
        if current.saturating_add(mss) <= free || current > free {
            free / mss.max(1) * mss.max(1)
        } else {
            current
        }
    }

    /// The peer fills the window: let it grow (Linux's receive slow start).
    pub fn grow_window(&mut self, segment: u32, mss: u32) {
        let room = Self::window_of(self.limit).min(self.clamp);
        if self.slow_start < room && segment >= 128 {
            self.slow_start = (self.slow_start + 2 * mss.max(segment)).min(room);
        }
    }

    /// Forgets everything that waits for a gap.
    pub fn clear_ooo<B>(&mut self, pool: &mut Pool<B>, reports: &mut Loans<Report>) {
        let mut at = self.ooo.head;
        while let Some(chunk) = pool.at(at) {
            self.charged =
                self.charged.saturating_sub(super::super::queue::TRUESIZE.max(chunk.len));
            at = chunk.next;
        }
        self.ooo.clear(pool);
        self.ooo_octets = 0;
        self.forget_blocks(reports);
    }

    /// Forgets everything.
    pub fn clear<B>(&mut self, pool: &mut Pool<B>, reports: &mut Loans<Report>) {
        self.clear_ooo(pool, reports);
        reports.give_back(&mut self.report);
        self.queue.clear(pool);
        self.charged = 0;
        self.copied = self.nxt;
    }
}
