//! The identification of packets that may be fragmented.

use crate::rng::{HashKey, Rng};
use core::net::IpAddr;

const BUCKETS: usize = 256;

/// Counters per destination bucket, so that a peer learns little about our traffic with others,
/// and numbers repeat towards one destination as late as they can.
///
/// //= RFC 7739 §5.3; RFC 6864 §4.1: packets with DF need none and get zero.
#[derive(Debug)]
pub struct Identification {
    key: HashKey,
    counters: [u16; BUCKETS],
}

impl Identification {
    /// With counters that start at random.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Self {
        let key = HashKey::new(rng);
        let mut counters = [0; BUCKETS];
        counters.iter_mut().for_each(|counter| *counter = rng.next_u32() as u16);
        Identification { key, counters }
    }

    /// The next number for a packet from `source` to `destination`.
    pub fn next(&mut self, source: IpAddr, destination: IpAddr, protocol: u8) -> u16 {
        let mut bytes = [protocol; 33];
        for (at, address) in [(0, source), (16, destination)] {
            match address {
                IpAddr::V4(a) => bytes[at..at + 4].copy_from_slice(&a.octets()),
                IpAddr::V6(a) => bytes[at..at + 16].copy_from_slice(&a.octets()),
            }
        }
        let hash = self.key.hash(&bytes);
        let counter = &mut self.counters[hash as usize % BUCKETS];
        *counter = counter.wrapping_add(1);
        // The rest of the hash keeps destinations that share a bucket apart.
        counter.wrapping_add((hash >> 16) as u16)
    }
}
