//! Random numbers for the stack: a fast generator for choices that an attacker must not steer by
//! luck alone, and a keyed hash for those that he must not predict. The caller brings the seed.

use core::hash::Hasher;
use siphasher::sip::SipHasher24;

/// xoshiro256++ (Blackman and Vigna): fast, good statistics, not for secrets on its own.
#[derive(Debug, Clone)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator whose output depends on `seed` alone.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        if state == [0; 4] {
            state[0] = 0x9e37_79b9_7f4a_7c15; // The all-zero state is a fixed point.
        }
        Rng { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `0..bound`; 0 if `bound` is 0. (Multiply-shift: no division.)
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}

/// A key for hashes that outsiders must not predict: initial sequence numbers, ports.
#[derive(Debug, Clone, Copy)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// Draws a key.
    pub fn new(rng: &mut Rng) -> Self {
        HashKey(rng.next_u64(), rng.next_u64())
    }

    /// The key whose octets these are.
    #[must_use]
    pub fn from_octets(octets: [u8; 16]) -> Self {
        let key = u128::from_le_bytes(octets);
        HashKey(key as u64, (key >> 64) as u64)
    }

    /// A key for another purpose, which tells nothing about this one.
    #[must_use]
    pub fn derive(self, purpose: &[u8]) -> Self {
        let first = self.hash(purpose);
        HashKey(first, self.hash(&first.to_le_bytes()))
    }

    /// SipHash-2-4 of `bytes` under this key.
    #[must_use]
    pub fn hash(self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// A key for the places of a table that strangers fill: they must not be able to choose what
/// collides. Nothing of the hash ever leaves the host, so two rounds of multiplying and folding
/// (as wyhash and its kin have them) under four secret words will do, at a tenth of SipHash's cost.
#[derive(Debug, Clone, Copy)]
pub struct TableKey([u64; 4]);

impl TableKey {
    /// Draws a key.
    pub fn new(rng: &mut Rng) -> Self {
        let key = HashKey::new(rng);
        TableKey([key.0, key.1, key.hash(b"third word"), key.hash(b"fourth word")])
    }

    /// The hash of two words.
    #[must_use]
    #[inline]
    pub fn hash(self, a: u64, b: u64) -> u64 {
        let [k0, k1, k2, k3] = self.0;
        let first = fold(a ^ k0, b ^ k1);
        fold(first ^ k2, k3 | 1)
    }

    /// The hash of four words.
    #[must_use]
    pub fn hash_four(self, [a, b, c, d]: [u64; 4]) -> u64 {
        self.hash(self.hash(a, b) ^ c, d)
    }
}

/// Both halves of the product, folded.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neighboring tuples, as one client's connections have them, fall like random ones: a table
    /// twice as large as their number has no long runs.
    #[test]
    fn table_places_of_neighboring_words_are_spread() {
        for seed in 0..8 {
            let key = TableKey::new(&mut Rng::new([seed; 32]));
            let mut places = vec![0u32; 1 << 15];
            for port in 0..1u64 << 14 {
                let hash = key.hash(0x0a00_0001_0a00_0002, port);
                places[hash as usize & 0x7fff] += 1;
            }
            assert!(places.iter().all(|n| *n <= 9), "seed {seed}");
            // Half as many as places: about e^-0.5 of them stay empty.
            let empty = places.iter().filter(|n| **n == 0).count();
            assert!((19_400..20_350).contains(&empty), "seed {seed}: {empty}");
        }
    }

    #[test]
    fn another_key_is_another_table() {
        let [a, b] = [1, 2].map(|seed| TableKey::new(&mut Rng::new([seed; 32])));
        let same = (0..1_000).filter(|n| (a.hash(*n, 7) ^ b.hash(*n, 7)) & 0xff == 0).count();
        assert!(same < 20, "{same}");
    }
}
