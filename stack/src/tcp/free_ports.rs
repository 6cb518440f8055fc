//! Ports that are probably free: a bit for each, so that a busy client, most of whose ports are in
//! TIME-WAIT, finds the few that are not. It is a hint: whoever takes a port asks for its tuple, and
//! where no port is free for everybody one may be for this destination.

const WORD: u32 = u64::BITS;

/// A bit for each port that is taken.
#[derive(Debug)]
pub(crate) struct FreePorts {
    taken: Vec<u64>,
}

impl FreePorts {
    /// All ports are free. The memory is not touched.
    pub fn new() -> Self {
        FreePorts { taken: vec![0; 65_536 / WORD as usize] }
    }

    /// Somebody has the port.
    #[inline]
    pub fn take(&mut self, port: u16) {
        if let Some(word) = self.taken.get_mut(usize::from(port) / WORD as usize) {
            *word |= 1 << (u32::from(port) % WORD);
        }
    }

    /// Perhaps nobody has it any more.
    #[inline]
    pub fn give_back(&mut self, port: u16) {
        if let Some(word) = self.taken.get_mut(usize::from(port) / WORD as usize) {
            *word &= !(1 << (u32::from(port) % WORD));
        }
    }

    /// The next free one, round in `low..=high`, from `from` on: every other one.
    pub fn next(&self, (low, high): (u16, u16), from: u16) -> Option<u16> {
        let before = || self.first(low, from.checked_sub(1)?, from);
        self.first(from, high, from).or_else(before)
    }

    /// The first free one in `low..=high` that is odd, or even, as `like` is.
    fn first(&self, low: u16, high: u16, like: u16) -> Option<u16> {
        let alternate = 0x5555_5555_5555_5555 << (like & 1);
        let (low, high) = (u32::from(low), u32::from(high));
        (low / WORD..=high / WORD).find_map(|at| {
            let mut free = !self.taken.get(at as usize)? & alternate;
            if at == low / WORD {
                free &= u64::MAX << (low % WORD);
            }
            if at == high / WORD {
                free &= u64::MAX >> (WORD - 1 - high % WORD);
            }
            let port = (free != 0).then(|| at * WORD + free.trailing_zeros())?;
            (low <= high).then_some(port as u16)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_next_free_one_is_what_a_walk_finds(
            low in 1u16..400, len in 1u16..300, from in any::<u16>(),
            taken in proptest::collection::vec(any::<u16>(), 0..600),
        ) {
            let high = low + len;
            let mut free = FreePorts::new();
            let mut model = vec![true; 65_536];
            for (n, port) in taken.iter().map(|port| port % 800).enumerate() {
                let gone = n % 5 != 0;
                if gone { free.take(port) } else { free.give_back(port) }
                model[usize::from(port)] = !gone;
            }
            let from = low + from % (len + 1);
            let round = (from..=high).chain(low..from);
            let walk = round.filter(|port| port % 2 == from % 2).find(|p| model[usize::from(*p)]);
            prop_assert_eq!(free.next((low, high), from), walk);
        }
    }
}
