//! The greatest of late: a windowed maximum that needs three places only
//! (draft-cardwell-iccrg-bbr-congestion-control-00 §4.1.1.3 wants one; the method is Kathleen
//! Nichols').

/// A value and when it was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    value: u32,
    at: u16,
}

/// The maximum of the last so many rounds: the best, the best of what came after it, and the best
/// of what came after that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxFilter {
    values: [u32; 3],
    rounds: [u16; 3],
}

impl MaxFilter {
    pub fn max(&self) -> u32 {
        self.values[0]
    }

    /// `value` was seen in round `now`; what is older than `window` rounds is forgotten.
    pub fn update(&mut self, window: u16, now: u16, value: u32) {
        let [a, b, c] = self.values;
        let [d, e, f] = self.rounds;
        let seen = |value, at| Seen { value, at };
        let best = updated([seen(a, d), seen(b, e), seen(c, f)], window, seen(value, now));
        self.values = best.map(|seen| seen.value);
        self.rounds = best.map(|seen| seen.at);
    }
}

fn updated(mut best: [Seen; 3], window: u16, seen: Seen) -> [Seen; 3] {
    let seen_at = seen.at;
    let [first, _, third] = best;
    let age = |seen: Seen| seen_at.wrapping_sub(seen.at);
    if seen.value >= first.value || age(third) > window {
        return [seen; 3];
    }
    if seen.value >= best[1].value {
        (best[1], best[2]) = (seen, seen);
    } else if seen.value >= best[2].value {
        best[2] = seen;
    }
    // The best has had its time, or a quarter or half of the window brought nothing better
    // than the same second: the later ones are what remains.
    if age(best[0]) > window {
        best = [best[1], best[2], seen];
        if age(best[0]) > window {
            best = [best[1], best[2], seen];
        }
    } else if best[1].at == best[0].at && age(best[1]) > window / 4 {
        (best[1], best[2]) = (seen, seen);
    } else if best[2].at == best[1].at && age(best[0]) > window / 2 {
        best[2] = seen;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Never more than the true maximum, never less than the newest.
        #[test]
        fn the_maximum_is_one_of_the_window(values in proptest::collection::vec(0u32..100, 1..200)) {
            let mut filter = MaxFilter::default();
            for (at, value) in values.iter().enumerate() {
                filter.update(10, at as u16, *value);
                let from = at.saturating_sub(10);
                let most = *values[from..=at].iter().max().unwrap();
                prop_assert!(filter.max() <= most && filter.max() >= *value);
                prop_assert!(values[from..=at].contains(&filter.max()));
            }
        }

        #[test]
        fn a_peak_stays_for_the_window(rest in proptest::collection::vec(0u32..100, 10)) {
            let mut filter = MaxFilter::default();
            filter.update(10, 0, 1000);
            for (n, value) in rest.iter().enumerate() {
                filter.update(10, n as u16 + 1, *value);
                prop_assert_eq!(filter.max(), 1000);
            }
            filter.update(10, 11, 5);
            prop_assert!(filter.max() < 1000);
        }
    }
}
