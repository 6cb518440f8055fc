//! Time and entropy: the two things the stack asks of the world.
//!
//! The time is `CLOCK_MONOTONIC`. Asking the vdso takes 25 ns in a virtual machine, and a turn of
//! the stack that finds nothing takes less than twice as long without. So where the processor's
//! time stamp counter is what the kernel itself counts by, it is read here directly, for at most
//! [`TRUSTED`] after the kernel was asked last: rate and offset are measured again each time.

use crate::sys;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use stack::time::Instant;

/// How long the counter is believed before the kernel is asked again, in nanoseconds.
const TRUSTED: u64 = 1_000_000;
/// The least and the longest time over which the counter's rate is measured, in nanoseconds.
const MEASURED_LEAST: u64 = 1_000_000;
const MEASURED_MOST: u64 = 1_000_000_000;

/// What this process knows about the counter. Whoever changes it makes `version` odd meanwhile;
/// everybody else asks the kernel then.
#[derive(Debug)]
struct Counter {
    usable: AtomicBool,
    version: AtomicU32,
    /// Nanoseconds per tick, 32 bits of them behind the point; 0 while not measured.
    scale: AtomicU64,
    /// When the kernel was asked last: the counter, and what the kernel said.
    ticks: AtomicU64,
    nanos: AtomicU64,
    /// Ticks for which that is good.
    span: AtomicU64,
    /// Where the rate is measured from.
    base_ticks: AtomicU64,
    base_nanos: AtomicU64,
}

static COUNTER: Counter = Counter {
    usable: AtomicBool::new(false),
    version: AtomicU32::new(0),
    scale: AtomicU64::new(0),
    ticks: AtomicU64::new(0),
    nanos: AtomicU64::new(0),
    span: AtomicU64::new(0),
    base_ticks: AtomicU64::new(0),
    base_nanos: AtomicU64::new(0),
};

/// `CLOCK_MONOTONIC`. May step back by some nanoseconds where the counter was ahead of the kernel.
#[must_use]
#[inline]
pub fn now() -> Instant {
    match COUNTER.read() {
        Some(nanos) => Instant::from_nanos(nanos),
        None => COUNTER.ask_kernel(),
    }
}

/// From now on the processor's counter is read, if the kernel trusts it.
pub(crate) fn use_counter() {
    let trusted = std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let trusted = trusted.is_ok_and(|name| name.trim_ascii() == b"tsc");
    COUNTER.usable.store(trusted && cfg!(target_arch = "x86_64"), Ordering::Release);
}

/// In the child after a fork: a change that another thread of the parent was making ends nowhere.
pub(crate) fn reset_after_fork() {
    if COUNTER.version.load(Ordering::Relaxed) & 1 != 0 {
        COUNTER.scale.store(0, Ordering::Relaxed);
        COUNTER.base_ticks.store(0, Ordering::Relaxed);
        COUNTER.version.store(0, Ordering::Release);
    }
}

/// The counter.
#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction; it reads and no more.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

impl Counter {
    /// The time by the counter, while it is to be believed.
    #[inline]
    fn read(&self) -> Option<u64> {
        let version = self.version.load(Ordering::Acquire);
        let scale = self.scale.load(Ordering::Relaxed);
        let since = self.ticks.load(Ordering::Relaxed);
        let nanos = self.nanos.load(Ordering::Relaxed);
        let span = self.span.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let changed = version & 1 != 0 || self.version.load(Ordering::Relaxed) != version;
        if changed || scale == 0 {
            return None;
        }
        // Another core's counter may be a little behind: the difference is huge then.
        let passed = ticks().wrapping_sub(since);
        // Within the span the product fits: a millisecond in nanoseconds, and 32 bits.
        (passed < span).then(|| nanos + (passed.wrapping_mul(scale) >> 32))
    }

    /// The time by the kernel, to which the counter is set.
    #[cold]
    fn ask_kernel(&self) -> Instant {
        let version = self.version.load(Ordering::Relaxed);
        let free = self.usable.load(Ordering::Acquire) && version & 1 == 0;
        if !free
            || self
                .version
                .compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return read(libc::CLOCK_MONOTONIC);
        }
        let before = ticks();
        let now = read(libc::CLOCK_MONOTONIC);
        let after = ticks();
        self.set(before + after.wrapping_sub(before) / 2, now.as_nanos());
        self.version.store(version.wrapping_add(2), Ordering::Release);
        now
    }

    /// The counter showed `ticks` when the kernel said `nanos`.
    fn set(&self, ticks: u64, nanos: u64) {
        let (base_ticks, base_nanos) =
            (self.base_ticks.load(Ordering::Relaxed), self.base_nanos.load(Ordering::Relaxed));
        let (passed, time) = (ticks.wrapping_sub(base_ticks), nanos.saturating_sub(base_nanos));
        let measurable = base_ticks != 0 && time >= MEASURED_LEAST && ticks > base_ticks;
        if measurable {
            let scale = (u128::from(time) << 32) / u128::from(passed);
            // A little slow, so that the correction leads forward.
            let scale = scale - (scale >> 16);
            let span = u128::from(TRUSTED) * u128::from(passed) / u128::from(time);
            self.scale.store(u64::try_from(scale).unwrap_or(0), Ordering::Relaxed);
            self.span.store(u64::try_from(span).unwrap_or(0), Ordering::Relaxed);
        }
        if base_ticks == 0 || ticks <= base_ticks || time > MEASURED_MOST {
            self.base_ticks.store(ticks, Ordering::Relaxed);
            self.base_nanos.store(nanos, Ordering::Relaxed);
        }
        self.ticks.store(ticks, Ordering::Relaxed);
        self.nanos.store(nanos, Ordering::Relaxed);
    }
}

/// Nanoseconds since 1970-01-01 00:00 UTC.
#[must_use]
pub fn wall_nanos() -> u64 {
    read(libc::CLOCK_REALTIME).as_nanos()
}

#[inline]
fn read(clock: libc::clockid_t) -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Thirty-two octets of entropy.
///
/// # Errors
/// Those of getrandom(2).
pub fn seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    sys::random(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_keeps_to_the_kernels_time() {
        use_counter();
        let begun = std::time::Instant::now();
        let mut by_counter = 0u64;
        let mut worst = 0;
        while begun.elapsed() < core::time::Duration::from_millis(60) {
            let before = read(libc::CLOCK_MONOTONIC).as_nanos();
            by_counter += u64::from(COUNTER.read().is_some());
            let between = now().as_nanos();
            let after = read(libc::CLOCK_MONOTONIC).as_nanos();
            worst = worst.max(before.saturating_sub(between)).max(between.saturating_sub(after));
        }
        // Where the counter is read at all, it is read nearly always.
        assert!(!COUNTER.usable.load(Ordering::Relaxed) || by_counter > 1_000, "{by_counter}");
        assert!(worst < 20_000, "{worst} ns off");
    }
}
