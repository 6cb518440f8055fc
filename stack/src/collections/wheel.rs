//! A hierarchical timer wheel (Varghese and Lauck): arm and cancel in O(1).

use crate::time::Instant;

/// A tick is 2^17 ns, 131 µs: fine enough for a tail loss probe on a fast link.
const TICK_SHIFT: u32 = 17;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Six levels of 64 slots reach 104 days ahead.
const LEVELS: usize = 6;
/// The slot of what is due but not yet taken.
const DUE: usize = LEVELS * SLOTS;

/// One deadline per key, keys being small numbers.
///
/// A timer never fires early; it may fire up to one tick (131 µs) late.
#[derive(Debug)]
pub struct TimerWheel {
    /// First key of each slot, + 1.
    heads: [u32; DUE + 1],
    occupied: [u64; LEVELS],
    /// A node for each key. All-zero memory is a key that was never armed, and not touched.
    nodes: Vec<[u32; 4]>,
    elapsed: u64,
    /// No timer fires before this tick: whoever waits asks with every turn. What is disarmed leaves
    /// it as it is, the next look at what is due finds it anew.
    soonest: u64,
    len: usize,
}

/// Words of a node: the key behind, + 1; the key before, + 1, or 0 for the first of a slot; the
/// lower part of the tick; the upper part of the tick, and under it the slot, + 1, or 0 when not
/// armed. Four keys share a cache line.
const NEXT: usize = 0;
const PREV: usize = 1;
const TICK: usize = 2;
const SLOT: usize = 3;
const SLOT_MASK: u32 = 0xffff;
/// Ticks beyond are not told apart: they are a thousand years away.
const LAST_TICK: u64 = (1 << 48) - 1;

/// The slot in which a key is.
#[inline]
fn slot_of(node: &[u32; 4]) -> Option<usize> {
    ((node[SLOT] & SLOT_MASK) as usize).checked_sub(1)
}

/// The tick of a key.
#[inline]
fn tick_of(node: &[u32; 4]) -> u64 {
    u64::from(node[SLOT] >> 16) << 32 | u64::from(node[TICK])
}

impl TimerWheel {
    /// Octets for each key.
    pub const EACH: usize = size_of::<[u32; 4]>();

    /// A wheel for keys below `keys`, starting at `Instant::ZERO`.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        TimerWheel {
            heads: [0; DUE + 1],
            occupied: [0; LEVELS],
            nodes: vec![[0; 4]; keys],
            elapsed: 0,
            soonest: u64::MAX,
            len: 0,
        }
    }

    /// How many timers are armed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none is armed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When `key` will fire, rounded up to a tick; `None` if it is not armed.
    #[inline]
    #[must_use]
    pub fn deadline(&self, key: u32) -> Option<Instant> {
        let node = self.nodes.get(key as usize)?;
        slot_of(node).map(|_| from_ticks(tick_of(node)))
    }

    /// Arms `key` to fire at `deadline`, instead of when it was to fire before. A key out of
    /// range is ignored.
    pub fn arm(&mut self, key: u32, deadline: Instant) {
        if key as usize >= self.nodes.len() {
            return;
        }
        self.cancel(key);
        let shifted = deadline.as_nanos() >> TICK_SHIFT;
        let exact = deadline.as_nanos() & ((1 << TICK_SHIFT) - 1) == 0;
        let tick = (shifted + u64::from(!exact)).min(LAST_TICK);
        let node = &mut self.nodes[key as usize];
        (node[TICK], node[SLOT]) = (tick as u32, (tick >> 32 << 16) as u32);
        self.soonest = self.soonest.min(tick);
        self.place(key);
        self.len += 1;
    }

    /// Disarms `key`; no effect if it is not armed.
    pub fn cancel(&mut self, key: u32) {
        if self.nodes.get(key as usize).is_some_and(|node| slot_of(node).is_some()) {
            self.unlink(key);
            self.len -= 1;
        }
    }

    /// Takes one key whose time has come at `now`; it is disarmed. Call until `None`.
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_nanos() >> TICK_SHIFT;
        loop {
            if let Some(key) = self.heads[DUE].checked_sub(1) {
                self.unlink(key);
                self.len -= 1;
                return Some(key);
            }
            match self.earliest_slot() {
                Some((slot, start)) if start <= now => {
                    self.elapsed = self.elapsed.max(start);
                    self.cascade(slot);
                }
                next => {
                    self.elapsed = self.elapsed.max(now);
                    self.soonest = next.map_or(u64::MAX, |(_, start)| start);
                    return None;
                }
            }
        }
    }

    /// No timer fires before this moment, a lower bound.
    #[inline]
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        if self.heads[DUE] != 0 {
            return Some(from_ticks(self.elapsed));
        }
        (self.len > 0).then(|| from_ticks(self.soonest))
    }

    /// The first slot with something in it, and the tick at which it begins. Placing by the
    /// highest differing digit keeps a level free of wrap-around: the lowest level that holds
    /// anything holds the earliest.
    fn earliest_slot(&self) -> Option<(usize, u64)> {
        for (level, occupied) in self.occupied.iter().enumerate() {
            if *occupied == 0 {
                continue;
            }
            let shift = SLOT_BITS * level as u32;
            let here = (self.elapsed >> shift) as u32 & (SLOTS as u32 - 1);
            let ahead = occupied.rotate_right(here).trailing_zeros();
            let slot = (here + ahead) as usize % SLOTS;
            let window = self.elapsed >> shift >> SLOT_BITS << SLOT_BITS;
            let mut start = (window | slot as u64) << shift;
            if start < self.elapsed && level == LEVELS - 1 {
                start += 1 << (shift + SLOT_BITS); // Only the top level can wrap.
            }
            return Some((level * SLOTS + slot, start.max(self.elapsed)));
        }
        None
    }

    fn cascade(&mut self, slot: usize) {
        while let Some(key) = self.heads[slot].checked_sub(1) {
            self.unlink(key);
            self.place(key);
        }
    }

    fn place(&mut self, key: u32) {
        let tick = tick_of(&self.nodes[key as usize]);
        if tick <= self.elapsed {
            return self.link(key, DUE);
        }
        let reach = (1u64 << (SLOT_BITS * LEVELS as u32)) - 1;
        let tick = tick.min(self.elapsed.saturating_add(reach));
        let differing = (tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = (tick >> (SLOT_BITS * level)) as usize % SLOTS;
        self.link(key, level as usize * SLOTS + slot);
    }

    fn link(&mut self, key: u32, slot: usize) {
        #[cfg(test)]
        super::steps::count();
        let first = core::mem::replace(&mut self.heads[slot], key + 1);
        let node = &mut self.nodes[key as usize];
        (node[NEXT], node[PREV]) = (first, 0);
        node[SLOT] = node[SLOT] & !SLOT_MASK | (slot as u32 + 1);
        if let Some(first) = first.checked_sub(1) {
            self.nodes[first as usize][PREV] = key + 1;
        }
        if slot < DUE {
            self.occupied[slot / SLOTS] |= 1 << (slot % SLOTS);
        }
    }

    fn unlink(&mut self, key: u32) {
        #[cfg(test)]
        super::steps::count();
        let node = &mut self.nodes[key as usize];
        let Some(slot) = slot_of(node) else { return };
        node[SLOT] &= !SLOT_MASK;
        let (prev, next) = (node[PREV], node[NEXT]);
        match prev.checked_sub(1) {
            Some(prev) => self.nodes[prev as usize][NEXT] = next,
            None => self.heads[slot] = next,
        }
        if let Some(next) = next.checked_sub(1) {
            self.nodes[next as usize][PREV] = prev;
        }
        if slot < DUE && self.heads[slot] == 0 {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }
}

fn from_ticks(ticks: u64) -> Instant {
    Instant::from_nanos(ticks.saturating_mul(1 << TICK_SHIFT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::time::Duration;

    #[test]
    fn fires_in_time_and_never_early() {
        let mut wheel = TimerWheel::new(4);
        wheel.arm(0, Instant::from_millis(200));
        wheel.arm(1, Instant::from_millis(40));
        wheel.arm(2, Instant::from_millis(7_200_000));
        wheel.arm(3, Instant::from_millis(5));
        wheel.cancel(3);
        assert_eq!(wheel.expire(Instant::from_millis(39)), None);
        assert_eq!(wheel.expire(Instant::from_micros(40_140)), Some(1));
        assert_eq!(wheel.expire(Instant::from_millis(100)), None);
        wheel.arm(0, Instant::from_millis(300));
        assert_eq!(wheel.expire(Instant::from_millis(299)), None);
        assert_eq!(wheel.expire(Instant::from_millis(301)), Some(0));
        assert_eq!(wheel.expire(Instant::from_millis(7_199_999)), None);
        assert_eq!(wheel.expire(Instant::from_millis(7_200_001)), Some(2));
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_expiry(), None);
    }

    #[test]
    fn agrees_with_a_sorted_list_on_random_work() {
        let mut rng = Rng::new([7; 32]);
        let mut wheel = TimerWheel::new(64);
        let mut model = [None; 64];
        let mut now = Instant::from_millis(1);
        for _ in 0..20_000 {
            let key = rng.below(64);
            match rng.below(4) {
                0 => {
                    wheel.cancel(key);
                    model[key as usize] = None;
                }
                1 | 2 => {
                    let shift = rng.below(40);
                    let deadline = now + Duration::from_nanos(rng.next_u64() >> (63 - shift));
                    wheel.arm(key, deadline);
                    model[key as usize] = Some(deadline);
                }
                _ => {
                    let shift = rng.below(36);
                    now += Duration::from_nanos(rng.next_u64() >> (63 - shift));
                    let bound = wheel.next_expiry();
                    while let Some(key) = wheel.expire(now) {
                        let deadline = model[key as usize].take().expect("armed");
                        assert!(deadline <= now, "fired early");
                        assert!(bound.unwrap() <= deadline + Duration::from_nanos(1 << TICK_SHIFT));
                    }
                    for deadline in model.iter().flatten() {
                        let latest = *deadline + Duration::from_nanos(1 << TICK_SHIFT);
                        assert!(latest > now, "fired late");
                    }
                }
            }
            assert_eq!(wheel.len(), model.iter().flatten().count());
        }
    }
}
