//! Which connection a segment belongs to: one hash table over the four addresses.
//!
//! Open addressing with linear probing and backward-shift deletion: no tombstones, so the cost of
//! a lookup depends on the load alone, which the capacity keeps at half or less. The key of an
//! entry is wherever its kind keeps it; the table holds 32 bits of the hash, which settle nearly
//! every comparison.

use crate::rng::{HashKey, TableKey};
use core::net::{IpAddr, SocketAddr};

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

/// The table. Zero entries are free, so it is untouched memory until used.
#[derive(Debug)]
pub(crate) struct Demux {
    entries: Vec<u64>,
    mask: usize,
    len: usize,
}

impl Demux {
    /// A table for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let size = (capacity * 2).next_power_of_two().max(16);
        Demux { entries: vec![0; size], mask: size - 1, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The entry with this hash that `is_it`.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Target) -> bool) -> Option<Target> {
        let tag = hash as u32;
        let mut at = tag as usize & self.mask;
        loop {
            let entry = *self.entries.get(at)?;
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == tag
                && let Some(target) = Target::decode(entry as u32)
                && is_it(target)
            {
                return Some(target);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds an entry. The caller has made sure that its key is not there; a table that is full
    /// beyond its capacity ignores it (the tables of the targets are smaller).
    pub fn insert(&mut self, hash: u64, target: Target) {
        if self.len + 1 >= self.entries.len() {
            return;
        }
        let mut at = hash as u32 as usize & self.mask;
        while self.entries[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = (hash << 32) | u64::from(target.encode());
        self.len += 1;
    }

    /// Removes the entry of `target`.
    pub fn remove(&mut self, hash: u64, target: Target) {
        let wanted = (hash << 32) | u64::from(target.encode());
        let mut at = hash as u32 as usize & self.mask;
        while self.entries[at] != wanted {
            if self.entries[at] == 0 {
                return;
            }
            at = (at + 1) & self.mask;
        }
        self.len -= 1;
        let mut hole = at;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry == 0 {
                break;
            }
            let home = (entry >> 32) as usize & self.mask;
            // An entry may move into the hole if its home does not lie behind the hole.
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(hole) & self.mask) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

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
