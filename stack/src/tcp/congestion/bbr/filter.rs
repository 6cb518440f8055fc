//! The greatest of late: a windowed maximum that needs three places only
//! (draft-cardwell-iccrg-bbr-congestion-control-00 §4.1.1.3 wants one; the method is Kathleen
//! Nichols').

/// A value and when it was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub value: u32,
    pub at: u32,
}

/// The maximum of the last so many rounds: the best, the best of what came after it, and the best
/// of what came after that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxFilter {
    pub best: [Seen; 3],
}

impl MaxFilter {
    pub fn max(&self) -> u32 {
        self.best[0].value
    }

    /// `value` was seen in round `now`; what is older than `window` rounds is forgotten.
    pub fn update(&mut self, window: u32, now: u32, value: u32) {
        let seen = Seen { value, at: now };
        let [first, _, third] = self.best;
        let age = |seen: Seen| now.wrapping_sub(seen.at);
        if value >= first.value || age(third) > window {
            self.best = [seen; 3];
            return;
        }
        if value >= self.best[1].value {
            (self.best[1], self.best[2]) = (seen, seen);
        } else if value >= self.best[2].value {
            self.best[2] = seen;
        }
        // The best has had its time, or a quarter or half of the window brought nothing better
        // than the same second: the later ones are what remains.
        if age(self.best[0]) > window {
            self.best = [self.best[1], self.best[2], seen];
            if age(self.best[0]) > window {
                self.best = [self.best[1], self.best[2], seen];
            }
        } else if self.best[1].at == self.best[0].at && age(self.best[1]) > window / 4 {
            (self.best[1], self.best[2]) = (seen, seen);
        } else if self.best[2].at == self.best[1].at && age(self.best[0]) > window / 2 {
            self.best[2] = seen;
        }
    }
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
                filter.update(10, at as u32, *value);
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
                filter.update(10, n as u32 + 1, *value);
                prop_assert_eq!(filter.max(), 1000);
            }
            filter.update(10, 11, 5);
            prop_assert!(filter.max() < 1000);
        }
    }
}
