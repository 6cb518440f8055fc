//! Fragments kept until their packet is whole.
//!
//! Bounded in packets, in fragments of all packets and of each, and in time. A packet whose
//! fragments overlap is given up as a whole (RFC 5722, which Linux applies to IPv4 as well): no
//! honest sender makes such. Exact duplicates, which networks do make, are ignored.

use crate::collections::{Handle, Slab, TimerWheel};
use crate::packet::Buffer;
use crate::stats::IpCounters;
use crate::time::{Duration, Instant};
use crate::wire::ipv4::{Header, Protocol};
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// Packets being put together at a time.
const MAX_PACKETS: usize = 64;
/// Fragments of one packet: 64 KB at an MTU of 576.
pub const MAX_FRAGMENTS: usize = 128;
/// Fragments of all packets: they hold the device's buffers.
const MAX_ALL_FRAGMENTS: usize = 1_024;
/// How long a packet may take (Linux's `ipfrag_time`; RFC 1122 §3.3.2 allows 60 to 120 s).
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest packet, header excluded.
const MAX_PAYLOAD: usize = 65_535 - 20;

/// The pieces of a packet's payload after the first, in order; `None` once taken.
pub type Pieces<B> = ArrayVec<Option<B>, MAX_FRAGMENTS>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    identification: u16,
    protocol: Protocol,
}

/// A packet in the making; its fragments are a list in order of their offset.
#[derive(Debug)]
struct Partial {
    key: Key,
    first: Option<Handle>,
    fragments: u16,
    /// Octets of payload that are here.
    have: usize,
    /// Octets of payload in all, once the last fragment came.
    total: Option<usize>,
    /// The header of the fragment with offset 0 speaks for the packet.
    head: Option<Header>,
    started: Instant,
}

#[derive(Debug)]
struct Fragment<B> {
    buffer: B,
    offset: usize,
    next: Option<Handle>,
}

/// A packet put together.
#[derive(Debug)]
pub struct Whole<B> {
    /// The first fragment's header. Its lengths and offset are that fragment's.
    pub header: Header,
    /// Octets of payload.
    pub len: usize,
    /// The payload's beginning.
    pub first: B,
    /// The rest of the payload.
    pub rest: Pieces<B>,
}

/// The fragments of incomplete packets.
#[derive(Debug)]
pub struct Reassembly<B> {
    packets: Slab<Partial>,
    fragments: Slab<Fragment<B>>,
    timers: TimerWheel,
}

enum Insert {
    /// Behind this one, or first.
    After(Option<Handle>),
    Duplicate,
    Overlap,
}

impl<B: Buffer> Reassembly<B> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Reassembly {
            packets: Slab::new(MAX_PACKETS),
            fragments: Slab::new(MAX_ALL_FRAGMENTS),
            timers: TimerWheel::new(MAX_PACKETS),
        }
    }

    /// Takes the fragment that `header` describes; `buffer` is its payload alone. Returns the
    /// packet if it is whole now.
    pub fn on_fragment(
        &mut self,
        now: Instant,
        header: &Header,
        buffer: B,
        counters: &mut IpCounters,
    ) -> Option<Whole<B>> {
        counters.reassembly_required += 1;
        let (offset, len) = (usize::from(header.fragment_offset), buffer.data().len());
        let ragged = header.more_fragments && len % 8 != 0;
        if len == 0 || ragged || offset + len > MAX_PAYLOAD {
            counters.reassembly_malformed += 1;
            return None;
        }
        let packet = self.find_or_start(now, header, counters)?;
        if self.accept(packet, header, buffer, counters) {
            self.complete(packet, counters)
        } else {
            None
        }
    }

    /// Whether the fragment was added to the packet.
    fn accept(
        &mut self,
        packet: Handle,
        header: &Header,
        buffer: B,
        counters: &mut IpCounters,
    ) -> bool {
        let (offset, len) = (usize::from(header.fragment_offset), buffer.data().len());
        let after = match self.place(packet, offset, len) {
            Insert::After(before) => before,
            Insert::Duplicate => return false,
            Insert::Overlap => {
                counters.reassembly_malformed += 1;
                self.give_up(packet);
                return false;
            }
        };
        let Some(partial) = self.packets.get_mut(packet) else { return false };
        let end = offset + len;
        let contradicts = match partial.total {
            Some(total) => end > total || (!header.more_fragments && end != total),
            None => false,
        };
        if contradicts {
            counters.reassembly_malformed += 1;
            self.give_up(packet);
            return false;
        }
        let full = usize::from(partial.fragments) >= MAX_FRAGMENTS;
        let next = match after {
            Some(before) => self.fragments.get(before).and_then(|f| f.next),
            None => partial.first,
        };
        let inserted =
            if full { None } else { self.fragments.insert(Fragment { buffer, offset, next }).ok() };
        let Some(handle) = inserted else {
            counters.reassembly_full += 1;
            self.give_up(packet);
            return false;
        };
        partial.fragments += 1;
        partial.have += len;
        if offset == 0 {
            partial.head = Some(*header);
        }
        if !header.more_fragments {
            partial.total = Some(end);
        }
        match after.and_then(|before| self.fragments.get_mut(before)) {
            Some(before) => before.next = Some(handle),
            None => partial.first = Some(handle),
        }
        true
    }

    /// Where a fragment belongs among those that are here.
    fn place(&self, packet: Handle, offset: usize, len: usize) -> Insert {
        let mut before = None;
        let mut at = self.packets.get(packet).and_then(|p| p.first);
        while let Some((handle, fragment)) = at.and_then(|h| Some((h, self.fragments.get(h)?))) {
            let (start, end) = (fragment.offset, fragment.offset + fragment.buffer.data().len());
            if start == offset && end == offset + len {
                return Insert::Duplicate;
            }
            if start < offset + len && offset < end {
                return Insert::Overlap;
            }
            if start > offset {
                break;
            }
            before = Some(handle);
            at = fragment.next;
        }
        Insert::After(before)
    }

    fn complete(&mut self, packet: Handle, counters: &mut IpCounters) -> Option<Whole<B>> {
        let partial = self.packets.get(packet)?;
        let len = partial.total.filter(|total| *total == partial.have)?;
        let header = partial.head?;
        let head = self.fragments.remove(partial.first?)?;
        let mut at = head.next;
        let mut rest = Pieces::new();
        while let Some(fragment) = at.and_then(|handle| self.fragments.remove(handle)) {
            rest.push(Some(fragment.buffer));
            at = fragment.next;
        }
        self.timers.cancel(packet.index());
        self.packets.remove(packet);
        counters.reassembly_ok += 1;
        Some(Whole { header, len, first: head.buffer, rest })
    }

    fn find_or_start(
        &mut self,
        now: Instant,
        header: &Header,
        counters: &mut IpCounters,
    ) -> Option<Handle> {
        let Header { source, destination, identification, protocol, .. } = *header;
        let key = Key { source, destination, identification, protocol };
        if let Some((handle, _)) = self.packets.iter().find(|(_, partial)| partial.key == key) {
            return Some(handle);
        }
        if self.packets.is_full() || self.fragments.is_full() {
            // The oldest is the least likely ever to be whole.
            let oldest = self.packets.iter().min_by_key(|(_, p)| p.started).map(|(h, _)| h)?;
            self.give_up(oldest);
            counters.reassembly_full += 1;
        }
        let (first, total, head) = (None, None, None);
        let partial = Partial { key, first, fragments: 0, have: 0, total, head, started: now };
        let handle = self.packets.insert(partial).ok()?;
        self.timers.arm(handle.index(), now + TIMEOUT);
        Some(handle)
    }

    fn give_up(&mut self, packet: Handle) {
        self.timers.cancel(packet.index());
        let mut at = self.packets.remove(packet).and_then(|partial| partial.first);
        while let Some(fragment) = at.and_then(|handle| self.fragments.remove(handle)) {
            at = fragment.next;
        }
    }

    /// Gives up what took too long.
    pub fn on_timeouts(&mut self, now: Instant, counters: &mut IpCounters) {
        while let Some(index) = self.timers.expire(now) {
            if let Some(packet) = self.packets.handle_at(index) {
                counters.reassembly_timeouts += 1;
                self.give_up(packet);
            }
        }
    }

    /// When [`Reassembly::on_timeouts`] has something to do.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.timers.is_empty() { None } else { self.timers.next_expiry() }
    }

    /// Fragments held.
    #[must_use]
    pub fn occupancy(&self) -> usize {
        self.fragments.len()
    }
}

impl<B: Buffer> Default for Reassembly<B> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::HeapBuffer;

    struct Bench {
        table: Reassembly<HeapBuffer>,
        counters: IpCounters,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::from_millis(1);
            Bench { table: Reassembly::new(), counters: IpCounters::default(), now }
        }

        /// A fragment of packet `id` with `len` octets that count up from its offset.
        fn fragment(&mut self, id: u16, offset: usize, len: usize, more: bool) -> Option<Vec<u8>> {
            let header = Header {
                header_len: 20,
                traffic_class: 0,
                total_len: 20 + len as u16,
                identification: id,
                dont_fragment: false,
                more_fragments: more,
                fragment_offset: offset as u16,
                hop_limit: 64,
                protocol: Protocol::Udp,
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
            };
            let bytes: Vec<u8> = (offset..offset + len).map(|n| n as u8).collect();
            let buffer = HeapBuffer::from_bytes(&bytes);
            let whole = self.table.on_fragment(self.now, &header, buffer, &mut self.counters)?;
            let mut bytes = whole.first.data().to_vec();
            whole.rest.iter().flatten().for_each(|piece| bytes.extend(piece.data()));
            assert_eq!(bytes.len(), whole.len);
            assert_eq!(whole.header.fragment_offset, 0);
            Some(bytes)
        }
    }

    fn expected(len: usize) -> Vec<u8> {
        (0..len).map(|n| n as u8).collect()
    }

    #[test]
    fn any_order_and_duplicates_make_the_packet() {
        let mut b = Bench::new();
        assert_eq!(b.fragment(1, 16, 5, false), None);
        assert_eq!(b.fragment(1, 8, 8, true), None);
        assert_eq!(b.fragment(1, 8, 8, true), None);
        assert_eq!(b.fragment(2, 8, 8, true), None);
        assert_eq!(b.fragment(1, 0, 8, true), Some(expected(21)));
        assert_eq!(b.table.occupancy(), 1);
    }

    #[test]
    fn rfc_5722_overlaps_give_the_packet_up() {
        let mut b = Bench::new();
        b.fragment(1, 0, 16, true);
        b.fragment(1, 8, 16, true);
        assert_eq!((b.counters.reassembly_malformed, b.table.occupancy()), (1, 0));
        b.fragment(1, 8, 16, false);
        b.fragment(1, 24, 8, true);
        assert_eq!(b.counters.reassembly_malformed, 2, "beyond the end");
    }

    #[test]
    fn ragged_empty_and_overlong_fragments_are_refused() {
        let mut b = Bench::new();
        b.fragment(1, 0, 7, true);
        b.fragment(1, 8, 0, false);
        b.fragment(1, 65_528, 8, false);
        assert_eq!((b.counters.reassembly_malformed, b.table.occupancy()), (3, 0));
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let mut b = Bench::new();
        b.fragment(1, 0, 8, true);
        b.now += TIMEOUT + Duration::from_millis(1);
        b.table.on_timeouts(b.now, &mut b.counters);
        assert_eq!((b.counters.reassembly_timeouts, b.table.occupancy()), (1, 0));
        assert_eq!(b.table.next_timeout(), None);
    }

    #[test]
    fn the_table_is_bounded_in_packets_and_fragments() {
        let mut b = Bench::new();
        for id in 0..200 {
            b.fragment(id, 0, 8, true);
            b.now += Duration::from_millis(1);
        }
        assert_eq!(b.table.packets.len(), MAX_PACKETS);
        for at in 0..MAX_FRAGMENTS {
            b.fragment(199, 8 + 8 * at, 8, true);
        }
        assert_eq!(b.table.packets.len(), MAX_PACKETS - 1, "one had too many fragments");
    }
}
