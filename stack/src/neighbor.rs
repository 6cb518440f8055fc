//! Who on the link has which address: the neighbor cache with the states of RFC 4861 §7.3, for
//! ARP (RFC 826), and the packets that wait for an answer.
//!
//! Owns the table, its timers, the waiting packets and the announcements of our own addresses
//! (RFC 5227). `shard` asks it for every packet that leaves, hands it what ARP says, and emits the
//! requests, packets and failures that it yields. It never sees a frame.
//!
//! What a stranger says is believed as little as works: an entry is created by our own need, or
//! by a request for an address of ours from a host on the link; all else only refreshes entries.

use crate::addr::MacAddr;
use crate::collections::{Handle, IndexBuckets, IndexList, Slab, TimerWheel};
use crate::rng::Rng;
use crate::stats::NeighborCounters;
use crate::time::{Duration, Instant};
use core::net::IpAddr;

/// Between requests (RFC 4861 §10 `RETRANS_TIMER`).
const RETRANS_TIMER: Duration = Duration::from_secs(1);
/// Requests before giving up (`MAX_MULTICAST_SOLICIT`, `MAX_UNICAST_SOLICIT`).
const MAX_SOLICIT: u8 = 3;
/// How long a stale neighbor is used before it is probed (`DELAY_FIRST_PROBE_TIME`).
const DELAY_FIRST_PROBE_TIME: Duration = Duration::from_secs(5);
/// `REACHABLE_TIME`, spread over 0.5 to 1.5 of it.
const REACHABLE_TIME_MS: u32 = 30_000;
/// For how long a reachable neighbor's address does not change (Linux's `locktime`): the first
/// answer wins.
const LOCK_TIME: Duration = Duration::from_secs(1);
/// Packets waiting for one neighbor (Linux: 101 of the smallest).
const MAX_WAITING_EACH: u16 = 101;
/// Announcements at the start and the time between them (RFC 5227 §1.1).
const ANNOUNCE_NUM: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// Least time between two defences of our addresses (RFC 5227 §1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// What is known of a neighbor (RFC 4861 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Asked, not answered.
    Incomplete,
    /// Known to be reachable lately.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Used while stale; soon to be probed.
    Delay,
    /// Being asked again.
    Probe,
    /// Did not answer.
    Failed,
}

/// One neighbor, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborInfo {
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, once known.
    pub mac: Option<MacAddr>,
    /// What is known.
    pub state: State,
    /// When a packet was last sent to it.
    pub used: Instant,
    /// When it last confirmed its address.
    pub confirmed: Instant,
}

/// What became of a packet that wanted a neighbor's address.
#[derive(Debug)]
#[must_use]
pub enum Resolution<P> {
    /// It goes to this address.
    Ready(MacAddr, P),
    /// It waits.
    Waiting,
    /// There was no room; the reason is counted.
    Dropped(P),
}

/// A request to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicit {
    /// Whose address is asked for.
    pub target: IpAddr,
    /// Where it was last; `None` asks everybody.
    pub known: Option<MacAddr>,
}

/// A packet that waits no longer.
#[derive(Debug)]
#[must_use]
pub enum Released<P> {
    /// Its neighbor answered.
    Ready(MacAddr, P),
    /// Its neighbor did not answer (EHOSTUNREACH).
    Failed(P),
}

/// How a claim "sender has address" reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It answered a question of ours.
    Answer,
    /// It asked for an address of ours and is on the link: it will want our answer.
    AsksUs,
    /// It was said to everybody, of itself and unasked: the address has moved.
    Announced,
    /// It was said to somebody else.
    Overheard,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    mac: Option<MacAddr>,
    state: State,
    solicits: u8,
    waiting: u16,
    first: Option<Handle>,
    last: Option<Handle>,
    reachable_until: Instant,
    used: Instant,
    confirmed: Instant,
}

#[derive(Debug)]
struct Waiting<P> {
    packet: P,
    next: Option<Handle>,
}

/// The cache. `P` is what waits: a packet ready but for its link header.
#[derive(Debug)]
pub struct Neighbors<P> {
    entries: Slab<Entry>,
    buckets: IndexBuckets,
    mask: u64,
    key: u64,
    waiting: Slab<Waiting<P>>,
    timers: TimerWheel,
    /// Entries that want a request sent.
    solicits: IndexList,
    /// Entries whose packets wait no longer.
    released: IndexList,
    /// The entry that was last sent to.
    last: u32,
    announcements: u8,
    next_announcement: Instant,
    defended: Option<Instant>,
}

impl<P> Neighbors<P> {
    /// A cache of `capacity` neighbors, for which `waiting` packets can wait altogether. Our own
    /// addresses are to be announced at once.
    #[must_use]
    pub fn new(capacity: usize, waiting: usize, rng: &mut Rng) -> Self {
        let buckets = capacity.next_power_of_two();
        Neighbors {
            entries: Slab::new(capacity),
            buckets: IndexBuckets::new(buckets, capacity),
            mask: buckets as u64 - 1,
            key: rng.next_u64(),
            waiting: Slab::new(waiting),
            timers: TimerWheel::new(capacity),
            solicits: IndexList::new(capacity),
            released: IndexList::new(capacity),
            last: 0,
            announcements: ANNOUNCE_NUM,
            next_announcement: Instant::ZERO,
            defended: None,
        }
    }

    /// The link address of the neighbor that was last sent to, if it is `address` and nothing is to
    /// be done about it; else ask [`Neighbors::send`].
    #[inline]
    pub fn ready(&mut self, now: Instant, address: IpAddr) -> Option<MacAddr> {
        let entry = self.entries.at_mut(self.last).filter(|entry| entry.address == address)?;
        let usable = match entry.state {
            State::Reachable => now < entry.reachable_until,
            State::Delay | State::Probe => true,
            State::Incomplete | State::Stale | State::Failed => false,
        };
        if !usable {
            return None;
        }
        entry.used = now;
        entry.mac
    }

    /// Finds the link address for a packet to the neighbor `address`, or keeps the packet until
    /// it is known.
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        address: IpAddr,
        packet: P,
        counters: &mut NeighborCounters,
    ) -> Resolution<P> {
        let index = match self.find(address) {
            Some(index) => index,
            None => match self.create(now, address, counters) {
                Some(index) => index,
                None => {
                    counters.dropped_table_full += 1;
                    return Resolution::Dropped(packet);
                }
            },
        };
        self.last = index;
        let Some(entry) = self.entries.at_mut(index) else { return Resolution::Dropped(packet) };
        entry.used = now;
        match (entry.state, entry.mac) {
            (State::Reachable, Some(mac)) if now < entry.reachable_until => {
                Resolution::Ready(mac, packet)
            }
            (State::Reachable | State::Stale, Some(mac)) => {
                //= RFC 4861 §7.3.3: the first packet to a stale neighbor starts the delay.
                entry.state = State::Delay;
                self.timers.arm(index, now + DELAY_FIRST_PROBE_TIME);
                Resolution::Ready(mac, packet)
            }
            (State::Delay | State::Probe, Some(mac)) => Resolution::Ready(mac, packet),
            (State::Incomplete, _) => self.wait(index, packet, counters),
            _ => {
                self.solicit_anew(index, now);
                self.wait(index, packet, counters)
            }
        }
    }

    /// A packet that proves that `address` received what we sent (RFC 4861 §7.3.1).
    pub fn confirm(&mut self, now: Instant, address: IpAddr, rng: &mut Rng) {
        let Some(index) = self.find(address) else { return };
        let Some(entry) = self.entries.at_mut(index) else { return };
        if entry.mac.is_some() && entry.state != State::Failed {
            entry.make_reachable(now, rng);
            self.timers.cancel(index);
            self.solicits.remove(index);
        }
    }

    /// Somebody says that `mac` has `address`, an address that is not ours.
    pub fn on_claim(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        claim: Claim,
        rng: &mut Rng,
        counters: &mut NeighborCounters,
    ) {
        let index = match self.find(address) {
            Some(index) => index,
            None if claim == Claim::AsksUs => match self.create(now, address, counters) {
                Some(index) => index,
                None => return,
            },
            None => return,
        };
        let Some(entry) = self.entries.at_mut(index) else { return };
        let changed = entry.mac.is_some_and(|known| known != mac);
        // As Linux: who announces himself has moved, and need not wait.
        let fresh = entry.state == State::Reachable && now - entry.confirmed < LOCK_TIME;
        if changed && fresh && claim != Claim::Announced {
            return;
        }
        let asked = matches!(entry.state, State::Incomplete | State::Probe | State::Delay);
        entry.mac = Some(mac);
        if claim == Claim::Answer && asked {
            entry.make_reachable(now, rng);
        } else if asked || changed || entry.state == State::Failed {
            //= RFC 4861 §7.2.5: unsolicited news is usable but unconfirmed.
            entry.state = State::Stale;
            entry.confirmed = now;
        } else {
            return;
        }
        self.timers.cancel(index);
        self.solicits.remove(index);
        if self.entries.at(index).is_some_and(|e| e.first.is_some()) {
            self.released.push_back(index);
        }
    }

    /// Somebody else claims an address of ours. Whether to announce it again now.
    ///
    /// //= RFC 5227 §2.4 (b)
    pub fn on_conflict(&mut self, now: Instant, counters: &mut NeighborCounters) -> bool {
        counters.conflicts += 1;
        if self.defended.is_some_and(|at| now - at < DEFEND_INTERVAL) {
            return false;
        }
        self.defended = Some(now);
        true
    }

    /// Runs the timers that are due.
    pub fn on_timeouts(&mut self, now: Instant, counters: &mut NeighborCounters) {
        while let Some(index) = self.timers.expire(now) {
            let Some(entry) = self.entries.at_mut(index) else { continue };
            match entry.state {
                State::Delay => {
                    entry.state = State::Probe;
                    entry.solicits = 1;
                    self.solicits.push_back(index);
                    self.timers.arm(index, now + RETRANS_TIMER);
                }
                State::Incomplete | State::Probe if entry.solicits < MAX_SOLICIT => {
                    entry.solicits += 1;
                    self.solicits.push_back(index);
                    self.timers.arm(index, now + RETRANS_TIMER);
                }
                State::Incomplete | State::Probe => {
                    entry.state = State::Failed;
                    entry.mac = None;
                    counters.resolution_failures += 1;
                    if entry.first.is_some() {
                        self.released.push_back(index);
                    }
                }
                State::Reachable | State::Stale | State::Failed => {}
            }
        }
    }

    /// The next request to send, until `None`.
    pub fn poll_solicit(&mut self) -> Option<Solicit> {
        let index = self.solicits.pop_front()?;
        let entry = self.entries.at(index)?;
        // //= RFC 4861 §7.3.3: probes go to where the neighbor was.
        let known = if entry.state == State::Probe { entry.mac } else { None };
        Some(Solicit { target: entry.address, known })
    }

    /// The next packet that waits no longer, until `None`.
    pub fn poll_released(&mut self) -> Option<Released<P>> {
        loop {
            let index = self.released.front()?;
            let entry = self.entries.at_mut(index);
            let taken = entry.and_then(|entry| {
                let waiting = self.waiting.remove(entry.first?)?;
                entry.first = waiting.next;
                entry.waiting -= 1;
                Some((entry.mac, waiting.packet))
            });
            match taken {
                Some((Some(mac), packet)) => return Some(Released::Ready(mac, packet)),
                Some((None, packet)) => return Some(Released::Failed(packet)),
                None => self.released.remove(index),
            }
        }
    }

    /// Our addresses have moved: they are to be announced as at the start.
    pub fn announce_anew(&mut self, now: Instant) {
        self.announcements = ANNOUNCE_NUM;
        self.next_announcement = now;
    }

    /// Whether our addresses are to be announced now; asks for the next time by itself.
    pub fn poll_announcement(&mut self, now: Instant) -> bool {
        let due = self.announcements > 0 && now >= self.next_announcement;
        if due {
            self.announcements -= 1;
            self.next_announcement = now + ANNOUNCE_INTERVAL;
        }
        due
    }

    /// When [`Neighbors::on_timeouts`] or [`Neighbors::poll_announcement`] have something to do.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let timer = if self.timers.is_empty() { None } else { self.timers.next_expiry() };
        let announcement = (self.announcements > 0).then_some(self.next_announcement);
        match (timer, announcement) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Every neighbor.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = NeighborInfo> {
        self.entries.iter().map(move |(_, entry)| {
            let expired = entry.state == State::Reachable && now >= entry.reachable_until;
            NeighborInfo {
                address: entry.address,
                mac: entry.mac,
                state: if expired { State::Stale } else { entry.state },
                used: entry.used,
                confirmed: entry.confirmed,
            }
        })
    }

    /// How many neighbors it knows, and how many packets wait.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.entries.len(), self.waiting.len())
    }

    /// Gives back every waiting packet, one by one, until `None`.
    pub fn drop_waiting(&mut self) -> Option<P> {
        let handle = self.waiting.iter().map(|(handle, _)| handle).next()?;
        let owner = self.entries.iter().find(|(_, e)| e.first == Some(handle)).map(|(h, _)| h);
        let packet = self.waiting.remove(handle)?;
        if let Some(entry) = owner.and_then(|h| self.entries.get_mut(h)) {
            entry.first = packet.next;
            entry.waiting -= 1;
        }
        Some(packet.packet)
    }

    fn bucket(&self, address: IpAddr) -> u32 {
        let bits = match address {
            IpAddr::V4(a) => u64::from(a.to_bits()),
            IpAddr::V6(a) => {
                let bits = a.to_bits();
                (bits >> 64) as u64 ^ bits as u64
            }
        };
        let mixed = (bits ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 32) & self.mask) as u32
    }

    #[inline]
    fn find(&self, address: IpAddr) -> Option<u32> {
        let mut at = self.buckets.first(self.bucket(address));
        while let Some(index) = at {
            if self.entries.at(index).is_some_and(|e| e.address == address) {
                return Some(index);
            }
            at = self.buckets.following(index);
        }
        None
    }

    /// A fresh entry, at the cost of the one least lately used if the table is full.
    fn create(
        &mut self,
        now: Instant,
        address: IpAddr,
        counters: &mut NeighborCounters,
    ) -> Option<u32> {
        if self.entries.is_full() {
            self.evict(counters);
        }
        let entry = Entry {
            address,
            mac: None,
            state: State::Failed,
            solicits: 0,
            waiting: 0,
            first: None,
            last: None,
            reachable_until: Instant::ZERO,
            used: now,
            confirmed: now,
        };
        let index = self.entries.insert(entry).ok()?.index();
        self.buckets.push_front(self.bucket(address), index);
        Some(index)
    }

    fn evict(&mut self, counters: &mut NeighborCounters) {
        let idle = self.entries.iter().filter(|(_, e)| e.first.is_none());
        // Neighbors that never answered go before any that did.
        let victim = idle.min_by_key(|(_, e)| (e.mac.is_some(), e.used)).map(|(handle, _)| handle);
        let Some(victim) = victim else { return };
        self.timers.cancel(victim.index());
        self.solicits.remove(victim.index());
        self.released.remove(victim.index());
        self.buckets.remove(victim.index());
        self.entries.remove(victim);
        counters.evictions += 1;
    }

    fn solicit_anew(&mut self, index: u32, now: Instant) {
        let Some(entry) = self.entries.at_mut(index) else { return };
        entry.state = State::Incomplete;
        entry.solicits = 1;
        self.solicits.push_back(index);
        self.timers.arm(index, now + RETRANS_TIMER);
    }

    fn wait(&mut self, index: u32, packet: P, counters: &mut NeighborCounters) -> Resolution<P> {
        let Some(entry) = self.entries.at_mut(index) else { return Resolution::Dropped(packet) };
        // The packets of an earlier failure that were not taken yet are still accounted for.
        if entry.waiting >= MAX_WAITING_EACH {
            counters.dropped_queue_full += 1;
            return Resolution::Dropped(packet);
        }
        let handle = match self.waiting.insert(Waiting { packet, next: None }) {
            Ok(handle) => handle,
            Err(rejected) => {
                counters.dropped_queue_full += 1;
                return Resolution::Dropped(rejected.packet);
            }
        };
        entry.waiting += 1;
        match entry.last.filter(|_| entry.first.is_some()) {
            Some(last) => {
                if let Some(waiting) = self.waiting.get_mut(last) {
                    waiting.next = Some(handle);
                }
            }
            None => entry.first = Some(handle),
        }
        entry.last = Some(handle);
        Resolution::Waiting
    }
}

impl Entry {
    fn make_reachable(&mut self, now: Instant, rng: &mut Rng) {
        let spread = REACHABLE_TIME_MS / 2 + rng.below(REACHABLE_TIME_MS);
        self.state = State::Reachable;
        self.confirmed = now;
        self.reachable_until = now + Duration::from_millis(u64::from(spread));
    }
}

#[cfg(test)]
mod tests;
