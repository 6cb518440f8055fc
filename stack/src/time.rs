//! Time as the stack sees it: a number that callers hand in. Nothing here reads a clock.

use core::ops::{Add, AddAssign, Sub};
pub use core::time::Duration;

/// A moment on the caller's monotonic clock, in nanoseconds since an arbitrary start.
// Four octets of alignment are enough, and tables with many moments have no gaps between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(Rust, packed(4))]
pub struct Instant(u64);

impl Instant {
    /// The clock's start.
    pub const ZERO: Instant = Instant(0);
    /// Later than every moment a clock will show.
    pub const FAR_FUTURE: Instant = Instant(u64::MAX);

    /// The moment `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// The moment `micros` microseconds after the clock's start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Instant(micros * 1_000)
    }

    /// The moment `millis` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Instant(millis * 1_000_000)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds since the clock's start, rounded down.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Milliseconds since the clock's start, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The microseconds from `earlier` to `self`, rounded down, or zero if `earlier` is later.
    /// Where every segment asks: a [`Duration`] costs divisions.
    #[inline]
    #[must_use]
    pub const fn micros_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// The moment `micros` microseconds later.
    #[inline]
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Instant(self.0.saturating_add(micros.saturating_mul(1_000)))
    }

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// `duration` in microseconds, rounded down, as a plain word: half a million years fit.
#[inline]
#[must_use]
pub const fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros() as u64)
}

/// A moment to the millisecond in four octets, for tables with many: what it says is right for
/// 49 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp(u32);

impl Stamp {
    /// No moment.
    pub const NEVER: Stamp = Stamp(0);

    /// How long ago it was; `Duration::MAX` for `NEVER`.
    #[must_use]
    pub const fn elapsed(self, now: Instant) -> Duration {
        if self.0 == 0 {
            return Duration::MAX;
        }
        Duration::from_millis(self.elapsed_ms(now))
    }

    /// How long ago it was, milliseconds; `u64::MAX` for `NEVER`.
    #[inline]
    #[must_use]
    pub const fn elapsed_ms(self, now: Instant) -> u64 {
        if self.0 == 0 { u64::MAX } else { now.stamp().0.wrapping_sub(self.0) as u64 }
    }
}

impl Instant {
    /// To the millisecond.
    #[must_use]
    pub const fn stamp(self) -> Stamp {
        let ms = self.as_millis() as u32;
        Stamp(if ms == 0 { 1 } else { ms })
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    /// Saturates at zero: clocks handed in by different threads may be a little out of step.
    fn sub(self, rhs: Instant) -> Duration {
        self.saturating_since(rhs)
    }
}
