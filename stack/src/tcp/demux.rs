//! Which connection a segment belongs to: one hash table over the four addresses.
//!
//! Linear hashing: the table grows by one bucket at a time as entries come, so that what it takes of
//! its reserved memory goes with what it holds, and no insertion waits for a copy of the whole. A
//! bucket is a cache line, and nearly every lookup ends in the first: with four entries each on
//! average few of them overflow. The key of an entry is wherever its kind keeps it; the table holds
//! 32 bits of the hash, which settle nearly every comparison.

use crate::rng::{HashKey, TableKey};
use core::net::{IpAddr, SocketAddr};
use prefetch_index::prefetch_index;

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub local_port: u16,
    pub remote_port: u16,
}

impl Tuple {
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Tuple {
            local: local.ip(),
            remote: remote.ip(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    pub fn local_address(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    pub fn remote_address(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }

    pub fn is_v6(&self) -> bool {
        self.local.is_ipv6()
    }

    /// Where the tuple belongs in a table under `key`.
    #[inline]
    pub fn place(&self, key: TableKey) -> u64 {
        let ports = u64::from(self.local_port) << 16 | u64::from(self.remote_port);
        match (self.local, self.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                key.hash(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()), ports)
            }
            _ => self.place_v6(key, ports),
        }
    }

    #[cold]
    fn place_v6(&self, key: TableKey, ports: u64) -> u64 {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
            IpAddr::V6(a) => a.to_bits(),
        };
        let (local, remote) = (bits(self.local), bits(self.remote));
        let first = key.hash(local as u64, (local >> 64) as u64) ^ ports;
        key.hash_four([first, remote as u64, (remote >> 64) as u64, ports])
    }

    /// The tuple's hash under `key`, for what leaves the host.
    pub fn hash(&self, key: HashKey) -> u64 {
        match (self.local, self.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let [a, b] = self.local_port.to_be_bytes();
                let [c, d] = self.remote_port.to_be_bytes();
                let [l0, l1, l2, l3] = local.octets();
                let [r0, r1, r2, r3] = remote.octets();
                key.hash(&[l0, l1, l2, l3, r0, r1, r2, r3, a, b, c, d])
            }
            _ => {
                let mut octets = [0; 36];
                let v6 = |address: IpAddr| match address {
                    IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
                    IpAddr::V6(a) => a.octets(),
                };
                octets[..16].copy_from_slice(&v6(self.local));
                octets[16..32].copy_from_slice(&v6(self.remote));
                octets[32..34].copy_from_slice(&self.local_port.to_be_bytes());
                octets[34..].copy_from_slice(&self.remote_port.to_be_bytes());
                key.hash(&octets)
            }
        }
    }
}

/// What a table entry names: an index into the table of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A socket: connected, or connecting.
    Socket(u32),
    /// An embryonic connection of a listener.
    Opening(u32),
    /// An entry in TIME-WAIT.
    TimeWait(u32),
}

impl Target {
    fn encode(self) -> u32 {
        match self {
            Target::Socket(index) => 1 << 30 | index,
            Target::Opening(index) => 2 << 30 | index,
            Target::TimeWait(index) => 3 << 30 | index,
        }
    }

    fn decode(code: u32) -> Option<Self> {
        let index = code & ((1 << 30) - 1);
        match code >> 30 {
            1 => Some(Target::Socket(index)),
            2 => Some(Target::Opening(index)),
            3 => Some(Target::TimeWait(index)),
            _ => None,
        }
    }
}

/// Entries of a bucket.
const SLOTS: usize = 7;
/// Buckets in the smallest table.
const LEAST: usize = 16;
/// Entries for each bucket, on average, from which on the table grows. A bucket that has not been
/// split in this round holds up to half as many again.
const FILL: usize = 4;

/// Seven entries and where others with this place are: a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    /// 32 bits of each hash. The lowest say which bucket, the others tell its entries apart.
    tags: [u32; SLOTS],
    /// Encoded [`Target`]s; 0 from the first free slot on.
    targets: [u32; SLOTS],
    /// The overflow bucket behind this one, as index + 1. Only the last of a chain has room.
    more: u32,
}

impl Bucket {
    const EMPTY: Bucket = Bucket { tags: [0; SLOTS], targets: [0; SLOTS], more: 0 };

    /// A bit for each slot with this tag.
    #[inline]
    fn matching(&self, tag: u32) -> u32 {
        let bits = self.tags.iter().enumerate();
        bits.fold(0, |bits, (slot, found)| bits | u32::from(*found == tag) << slot)
    }

    fn len(&self) -> usize {
        self.targets.iter().take_while(|target| **target != 0).count()
    }
}

/// A bucket of a chain: the first is in the table itself, the others overflowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Home(usize),
    Overflow(usize),
}

/// The table.
#[derive(Debug)]
pub(crate) struct Demux {
    /// Grows up to its capacity, which is reserved.
    buckets: Vec<Bucket>,
    /// No more than a seventh of the entries can need one: all before the last are full.
    overflow: Vec<Bucket>,
    /// The first of `overflow` that is free, as index + 1; `more` leads to the next.
    free: u32,
    /// The largest power of two that is not above the number of buckets, less one.
    mask: usize,
    len: usize,
}

impl Demux {
    /// Octets for each entry in a table of any size: a quarter of a bucket, and its share of those
    /// that overflowed.
    pub const EACH: usize = size_of::<Bucket>() / FILL + 2;

    /// A table for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let mut buckets = Vec::with_capacity((capacity / FILL).max(LEAST) + 1);
        buckets.resize(LEAST, Bucket::EMPTY);
        let overflow = Vec::with_capacity(capacity / SLOTS + 1);
        Demux { buckets, overflow, free: 0, mask: LEAST - 1, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The bucket in which what has `tag` belongs. Buckets up to the number of those that were
    /// added in this round have been split: for them one more bit counts.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        let split = tag as usize & (2 * self.mask + 1);
        if split < self.buckets.len() { split } else { tag as usize & self.mask }
    }

    /// Asks for the bucket of `hash`, so that it is in a cache when it is needed.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch_index(&self.buckets, self.home(hash as u32));
    }

    /// The entry with this hash that `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Target) -> bool) -> Option<Target> {
        let tag = hash as u32;
        let mut bucket = self.buckets.get(self.home(tag))?;
        loop {
            // All at once: a branch for each would be guessed wrong in every lookup.
            let mut matching = bucket.matching(tag);
            while matching != 0 {
                let slot = matching.trailing_zeros() as usize;
                if let Some(target) = Target::decode(bucket.targets[slot])
                    && is_it(target)
                {
                    return Some(target);
                }
                matching &= matching - 1;
            }
            bucket = self.overflow.get(bucket.more.checked_sub(1)? as usize)?;
        }
    }

    fn at(&mut self, place: Place) -> Option<&mut Bucket> {
        match place {
            Place::Home(at) => self.buckets.get_mut(at),
            Place::Overflow(at) => self.overflow.get_mut(at),
        }
    }

    fn following(&mut self, place: Place) -> Option<Place> {
        let more = self.at(place)?.more.checked_sub(1)?;
        Some(Place::Overflow(more as usize))
    }

    /// Adds an entry. The caller has made sure that its key is not there; a table that is full
    /// beyond its capacity ignores it (the tables of the targets are smaller).
    pub fn insert(&mut self, hash: u64, target: Target) {
        if self.len >= FILL * self.buckets.len() && self.buckets.len() < self.buckets.capacity() {
            self.split();
        }
        if self.put(hash as u32, target.encode()) {
            self.len += 1;
        }
    }

    /// Whether there was room.
    fn put(&mut self, tag: u32, code: u32) -> bool {
        let mut last = Place::Home(self.home(tag));
        while let Some(next) = self.following(last) {
            last = next;
        }
        let Some(bucket) = self.at(last) else { return false };
        let len = bucket.len();
        if len < SLOTS {
            (bucket.tags[len], bucket.targets[len]) = (tag, code);
            return true;
        }
        let Some(at) = self.take_overflow() else { return false };
        if let Some(bucket) = self.at(last) {
            bucket.more = at as u32 + 1;
        }
        let bucket = &mut self.overflow[at];
        (bucket.tags[0], bucket.targets[0]) = (tag, code);
        true
    }

    /// A fresh overflow bucket.
    fn take_overflow(&mut self) -> Option<usize> {
        if let Some(at) = self.free.checked_sub(1) {
            let bucket = self.overflow.get_mut(at as usize)?;
            self.free = core::mem::take(&mut bucket.more);
            return Some(at as usize);
        }
        let at = self.overflow.len();
        (at < self.overflow.capacity()).then(|| {
            self.overflow.push(Bucket::EMPTY);
            at
        })
    }

    /// Removes the entry of `target`.
    pub fn remove(&mut self, hash: u64, target: Target) {
        let tag = hash as u32;
        let code = target.encode();
        if self.take(self.home(tag), |found, target| found == tag && target == code).is_some() {
            self.len -= 1;
        }
    }

    /// Takes the first entry that `is_it` out of the chain of a bucket: its tag and target. The
    /// chain's last entry takes its place.
    fn take(&mut self, home: usize, is_it: impl Fn(u32, u32) -> bool) -> Option<(u32, u32)> {
        let mut place = Place::Home(home);
        let (slot, found) = loop {
            let bucket = self.at(place)?;
            let mut slots = bucket.tags.iter().zip(&bucket.targets);
            match slots.position(|(tag, target)| *target != 0 && is_it(*tag, *target)) {
                Some(slot) => break (slot, (bucket.tags[slot], bucket.targets[slot])),
                None => place = self.following(place)?,
            }
        };
        let mut last = place;
        while let Some(next) = self.following(last) {
            last = next;
        }
        let bucket = self.at(last)?;
        let end = bucket.len().checked_sub(1)?;
        let moved = (bucket.tags[end], bucket.targets[end]);
        bucket.targets[end] = 0;
        if (place, slot) != (last, end) {
            let bucket = self.at(place)?;
            (bucket.tags[slot], bucket.targets[slot]) = moved;
        }
        if end == 0 {
            self.free_overflow(home, last);
        }
        Some(found)
    }

    /// The last bucket of a chain is empty: it is given back, unless it is the first.
    fn free_overflow(&mut self, home: usize, last: Place) {
        let Place::Overflow(at) = last else { return };
        let mut before = Place::Home(home);
        while let Some(next) = self.following(before).filter(|next| *next != last) {
            before = next;
        }
        if let Some(bucket) = self.at(before) {
            bucket.more = 0;
        }
        self.overflow[at].more = self.free;
        self.free = at as u32 + 1;
    }

    /// Adds a bucket, for half of the entries of the one before its place (Litwin's linear
    /// hashing): a table that grows by a bucket at a time never copies more than that.
    fn split(&mut self) {
        let fresh = self.buckets.len();
        let home = fresh & self.mask;
        self.buckets.push(Bucket::EMPTY);
        let all = 2 * self.mask + 1;
        while let Some((tag, target)) = self.take(home, |tag, _| tag as usize & all == fresh) {
            self.put(tag, target);
        }
        if self.buckets.len() == all + 1 {
            self.mask = all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    /// Lines that a lookup of each of `hashes` touches in the table, and the most for one.
    fn lines(table: &Demux, hashes: &[u64]) -> (usize, usize) {
        let (mut all, mut most) = (0, 0);
        for hash in hashes {
            let mut bucket = table.buckets[table.home(*hash as u32)];
            let mut lines = 1;
            while !bucket.tags.contains(&(*hash as u32)) {
                bucket = table.overflow[bucket.more as usize - 1];
                lines += 1;
            }
            all += lines;
            most = most.max(lines);
        }
        (all, most)
    }

    #[test]
    fn a_lookup_touches_one_line_however_many_entries_there_are() {
        let mut rng = Rng::new([5; 32]);
        let mut table = Demux::new(200_000);
        let mut hashes = Vec::new();
        for index in 0..200_000 {
            let hash = rng.next_u64();
            hashes.push(hash);
            table.insert(hash, Target::Socket(index));
            if [100, 1_000, 10_000, 50_000, 100_000, 150_000, 200_000].contains(&hashes.len()) {
                let (all, most) = lines(&table, &hashes);
                // The round in which half of the buckets are split is the worst.
                assert!(all * 100 <= hashes.len() * 106, "{all} of {}", hashes.len());
                assert!(most <= 4, "{most}");
            }
        }
        assert_eq!(table.len(), 200_000);
        let octets = (table.buckets.len() + table.overflow.len()) * size_of::<Bucket>();
        assert!(octets <= Demux::EACH * table.len(), "{octets}");
        for (index, hash) in hashes.iter().enumerate() {
            table.remove(*hash, Target::Socket(index as u32));
        }
        assert_eq!(table.len(), 0);
        assert!(table.buckets.iter().all(|bucket| bucket.len() == 0 && bucket.more == 0));
    }

    #[test]
    fn room_for_all_however_they_fall() {
        let mut table = Demux::new(100);
        for index in 0..100 {
            table.insert(7, Target::Opening(index));
        }
        assert_eq!(table.len(), 100);
        for index in 0..100 {
            assert!(table.find(7, |found| found == Target::Opening(index)).is_some());
        }
        for index in (0..100).rev() {
            table.remove(7, Target::Opening(index));
        }
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn agrees_with_a_plain_list_on_random_work() {
        let mut rng = Rng::new([3; 32]);
        let mut table = Demux::new(64);
        let mut model: Vec<(u64, u32)> = Vec::new();
        for step in 0..50_000u32 {
            if model.len() < 64 && rng.below(2) == 0 {
                let hash = u64::from(rng.below(40)); // Collisions on purpose.
                model.push((hash, step));
                table.insert(hash, Target::Socket(step));
            } else if !model.is_empty() {
                let (hash, index) = model.swap_remove(rng.below(model.len() as u32) as usize);
                table.remove(hash, Target::Socket(index));
                assert_eq!(table.find(hash, |t| t == Target::Socket(index)), None);
            }
            assert_eq!(table.len(), model.len());
        }
        for (hash, index) in &model {
            let found = table.find(*hash, |t| t == Target::Socket(*index));
            assert_eq!(found, Some(Target::Socket(*index)));
        }
    }
}
