//! Time and entropy: the two things the stack asks of the world.

use crate::sys;
use stack::time::Instant;

/// `CLOCK_MONOTONIC`, through the vdso.
#[must_use]
#[inline]
pub fn now() -> Instant {
    read(libc::CLOCK_MONOTONIC)
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
