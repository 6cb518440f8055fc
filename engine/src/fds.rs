//! The descriptors that are ours or the driver's, in this process: programs that close everything
//! must not close these. A bitmap for the usual numbers, read without a lock.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering};

/// Descriptors that can be protected have lower numbers than this.
const HIGHEST: usize = 65_536;

static PROTECTED: [AtomicU64; HIGHEST / 64] = [const { AtomicU64::new(0) }; HIGHEST / 64];

fn place(fd: c_int) -> Option<(&'static AtomicU64, u64)> {
    let fd = usize::try_from(fd).ok()?;
    Some((PROTECTED.get(fd / 64)?, 1 << (fd % 64)))
}

/// From now on `fd` is ours.
pub fn protect_fd(fd: c_int) {
    if let Some((word, bit)) = place(fd) {
        word.fetch_or(bit, Ordering::AcqRel);
    }
}

/// `fd` is about to be closed.
pub fn unprotect_fd(fd: c_int) {
    if let Some((word, bit)) = place(fd) {
        word.fetch_and(!bit, Ordering::AcqRel);
    }
}

/// Whether `fd` belongs to the engine or the driver: close, dup2, close_range must not touch it.
#[must_use]
pub fn protected_fd(fd: c_int) -> bool {
    is_ours(fd) || dpdk::owns_descriptor(fd)
}

fn is_ours(fd: c_int) -> bool {
    place(fd).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
}

/// The lowest protected descriptor that is at least `first`, for close_range.
#[must_use]
pub fn next_protected_fd(first: c_int) -> Option<c_int> {
    let ours = next_of_ours(first);
    let drivers = dpdk::descriptors().into_iter().find(|fd| *fd >= first);
    match (ours, drivers) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The lowest of the engine's descriptors that is at least `first`.
fn next_of_ours(first: c_int) -> Option<c_int> {
    let first = usize::try_from(first).unwrap_or(0);
    let mut word_index = first / 64;
    let mut mask = u64::MAX << (first % 64);
    while let Some(word) = PROTECTED.get(word_index) {
        let found = word.load(Ordering::Acquire) & mask;
        if found != 0 {
            return c_int::try_from(word_index * 64 + found.trailing_zeros() as usize).ok();
        }
        mask = u64::MAX;
        word_index += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_descriptors_are_found_in_order() {
        protect_fd(130);
        protect_fd(4_000);
        assert!(is_ours(130) && !is_ours(131) && !is_ours(-1));
        assert_eq!(next_of_ours(100), Some(130));
        assert_eq!(next_of_ours(131), Some(4_000));
        unprotect_fd(130);
        assert_eq!(next_of_ours(-5), Some(4_000));
        unprotect_fd(4_000);
        assert_eq!(next_of_ours(0), None);
    }
}
