//! Sequence numbers: a circle of 2^32, where "before" only makes sense within half of it.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A sequence number (RFC 9293 §3.4). It has no total order: compare with [`SeqNumber::before`]
/// and its kin, which are right while both lie within 2^31 of each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// Whether `self` comes before `other`.
    #[must_use]
    pub const fn before(self, other: SeqNumber) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether `self` comes after `other`.
    #[must_use]
    pub const fn after(self, other: SeqNumber) -> bool {
        other.before(self)
    }

    /// Whether `self` is `other` or comes before it.
    #[must_use]
    pub const fn at_or_before(self, other: SeqNumber) -> bool {
        !other.before(self)
    }

    /// Whether `self` is `other` or comes after it.
    #[must_use]
    pub const fn at_or_after(self, other: SeqNumber) -> bool {
        !self.before(other)
    }

    /// Whether `self` lies in `start..=end`, going up from `start`.
    #[must_use]
    pub const fn between(self, start: SeqNumber, end: SeqNumber) -> bool {
        end.0.wrapping_sub(start.0) >= self.0.wrapping_sub(start.0)
    }

    /// Octets from `earlier` up to `self`; 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: SeqNumber) -> u32 {
        let distance = self.0.wrapping_sub(earlier.0);
        if (distance as i32) < 0 { 0 } else { distance }
    }

    /// The later of both.
    #[must_use]
    pub const fn max(self, other: SeqNumber) -> SeqNumber {
        if self.before(other) { other } else { self }
    }

    /// The earlier of both.
    #[must_use]
    pub const fn min(self, other: SeqNumber) -> SeqNumber {
        if self.before(other) { self } else { other }
    }
}

impl Add<u32> for SeqNumber {
    type Output = SeqNumber;
    fn add(self, rhs: u32) -> SeqNumber {
        SeqNumber(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for SeqNumber {
    fn add_assign(&mut self, rhs: u32) {
        self.0 = self.0.wrapping_add(rhs);
    }
}

impl Sub<u32> for SeqNumber {
    type Output = SeqNumber;
    fn sub(self, rhs: u32) -> SeqNumber {
        SeqNumber(self.0.wrapping_sub(rhs))
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SeqNumber;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_holds_across_the_wrap(start in any::<u32>(), a in 0u32..1 << 30, b in 0u32..1 << 30) {
            let (x, y) = (SeqNumber(start) + a, SeqNumber(start) + b);
            prop_assert_eq!(x.before(y), a < b);
            prop_assert_eq!(x.after(y), a > b);
            prop_assert_eq!(x.at_or_before(y), a <= b);
            prop_assert_eq!(x.at_or_after(y), a >= b);
            prop_assert_eq!(x.max(y), SeqNumber(start) + a.max(b));
            prop_assert_eq!(x.min(y), SeqNumber(start) + a.min(b));
            prop_assert_eq!(x.since(y), a.saturating_sub(b));
            prop_assert_eq!(x.between(SeqNumber(start), y), a <= b);
        }
    }
}
