//! The dice of a simulation: everything that is not decided by the stack is decided here, by the
//! seed.

use stack::rng::Rng;
use stack::time::Duration;

/// A source of choices.
#[derive(Debug, Clone)]
pub struct Chance(Rng);

impl Chance {
    /// Streams of one seed with different names are independent.
    pub fn new(seed: u64, name: u64) -> Self {
        let mut state = [0u8; 32];
        for (n, bytes) in state.chunks_exact_mut(8).enumerate() {
            let word = mix(seed ^ mix(name.wrapping_add(1 + ((n as u64) << 32))));
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Chance(Rng::new(state))
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0.below(bound)
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True in `per_10_000` of ten thousand cases.
    pub fn hits(&mut self, per_10_000: u32) -> bool {
        per_10_000 > 0 && self.below(10_000) < per_10_000
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    /// A time up to `most`.
    pub fn duration(&mut self, most: Duration) -> Duration {
        let micros = u32::try_from(most.as_micros()).unwrap_or(u32::MAX);
        Duration::from_micros(u64::from(self.below(micros.saturating_add(1))))
    }

    /// A size up to `2^bits`, all magnitudes alike.
    pub fn size(&mut self, bits: u32) -> u64 {
        let magnitude = self.below(bits + 1);
        (1 << magnitude) / 2 + u64::from(self.below(1 << magnitude))
    }

    /// A seed for a shard.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        for bytes in seed.chunks_exact_mut(8) {
            bytes.copy_from_slice(&self.0.next_u64().to_le_bytes());
        }
        seed
    }
}

/// splitmix64's finish.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
