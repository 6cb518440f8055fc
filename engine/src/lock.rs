//! A lock that processes share and that survives the death of its owner.
//!
//! The word holds the owner's thread id, a bit that says that somebody sleeps, and one that says
//! that somebody has slept for too long: who spins takes a free lock back before a sleeper has even
//! woken. So a lock that is given back with that bit is reserved, for whoever waits long enough.
//! An owner that is gone is noticed by whoever waits, who takes the lock over and learns about it.

use crate::{clock, sys};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

const CONTENDED: u32 = 1 << 31;
/// Somebody has waited for [`PATIENCE`]: who gives the lock back leaves it to the waiters.
const STARVING: u32 = 1 << 30;
const OWNER: u32 = STARVING - 1;

/// A waiter that has waited for so long is next.
const PATIENCE: Duration = Duration::from_micros(100);

/// How often a waiter looks whether the owner is still alive.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// What the lock was when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// What it protects is whole.
    Clean,
    /// An owner died, or panicked, in the middle of a change: what it protects is not to be
    /// trusted.
    Dirty,
}

/// The lock. All-zero is unlocked and clean.
#[derive(Debug, Default)]
pub struct SharedLock {
    word: AtomicU32,
    /// The owner is changing what is protected. Still set when the lock is found: it died then.
    dirty: AtomicBool,
}

impl SharedLock {
    /// An unlocked, clean lock.
    #[must_use]
    pub const fn new() -> Self {
        SharedLock { word: AtomicU32::new(0), dirty: AtomicBool::new(false) }
    }

    /// As [`SharedLock::lock`] where nothing can be dirty.
    pub fn lock_quietly(&self, tid: u32) {
        let _ = self.lock(tid);
    }

    /// Takes the lock for the thread `tid` (its kernel id, not 0).
    #[inline]
    pub fn lock(&self, tid: u32) -> Taken {
        let free = self.word.compare_exchange(0, tid, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            self.lock_slowly(tid);
        }
        if self.dirty.load(Ordering::Relaxed) { Taken::Dirty } else { Taken::Clean }
    }

    /// Takes the lock if nobody has it.
    #[inline]
    pub fn try_lock(&self, tid: u32) -> Option<Taken> {
        self.word.compare_exchange(0, tid, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(if self.dirty.load(Ordering::Relaxed) { Taken::Dirty } else { Taken::Clean })
    }

    #[cold]
    fn lock_slowly(&self, tid: u32) {
        // A turn of the stack takes microseconds: spinning is cheaper than sleeping, up to a point.
        for _ in 0..200 {
            core::hint::spin_loop();
            if self.word.load(Ordering::Relaxed) == 0
                && self.word.compare_exchange(0, tid, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
        let since = clock::now();
        loop {
            let waited = clock::now().saturating_since(since);
            // From here on others may sleep too: take it with the bit set.
            let word = self.word.load(Ordering::Relaxed);
            let next = word & STARVING == 0 || waited >= PATIENCE;
            if word & OWNER == 0 && next {
                let taken = self.word.compare_exchange(
                    word,
                    tid | CONTENDED,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if taken.is_ok() {
                    return;
                }
                continue;
            }
            let starving = if waited >= PATIENCE { STARVING } else { 0 };
            let waiting = word | CONTENDED | starving;
            if word != waiting
                && self
                    .word
                    .compare_exchange(word, waiting, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            let patience = if waited >= PATIENCE { CHECK_EVERY } else { PATIENCE };
            let slept = sys::futex_wait(&self.word, waiting, Some(patience));
            let checks = waited >= PATIENCE && waiting & OWNER != 0;
            if checks && slept == Err(sys::Errno(libc::ETIMEDOUT)) && self.take_over(waiting, tid) {
                return;
            }
        }
    }

    /// Takes the lock from an owner that is gone.
    fn take_over(&self, word: u32, tid: u32) -> bool {
        let alive = self.word.load(Ordering::Relaxed) != word || is_alive(word & OWNER);
        !alive
            && self
                .word
                .compare_exchange(word, tid | CONTENDED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// The owner says that it is about to change what is protected.
    #[inline]
    pub fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// The owner says that what is protected is whole.
    #[inline]
    pub fn mark_clean(&self) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.dirty.store(false, Ordering::Relaxed);
    }

    /// Whether the owner has said that it changes something.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// The flag, for whoever marks on the owner's behalf.
    pub fn dirty_flag(&self) -> &AtomicBool {
        &self.dirty
    }

    /// Whether somebody waits for the lock and has gone to sleep, or is about to.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CONTENDED != 0
    }

    /// Gives the lock back.
    #[inline]
    pub fn unlock(&self) {
        let word = self.word.load(Ordering::Relaxed);
        let alone = word & (CONTENDED | STARVING) == 0;
        if !alone
            || self.word.compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed).is_err()
        {
            self.unlock_for_waiters();
        }
    }

    #[cold]
    fn unlock_for_waiters(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let left = if word & STARVING != 0 { STARVING | CONTENDED } else { 0 };
            let given =
                self.word.compare_exchange(word, left, Ordering::Release, Ordering::Relaxed);
            match given {
                Ok(_) => break,
                Err(changed) => word = changed,
            }
        }
        // Which of them is starving is not known here.
        sys::futex_wake(&self.word, if word & STARVING != 0 { i32::MAX as u32 } else { 1 });
    }

    /// Whether nobody has it and it is kept for a waiter.
    #[inline]
    pub fn is_reserved(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (STARVING | OWNER) == STARVING
    }
}

/// Whether the thread runs. A process that is dead but not yet waited for does not.
pub(crate) fn is_alive(tid: u32) -> bool {
    if !sys::exists(tid) {
        return false;
    }
    // A pidfd becomes readable when its process has ended, waited for or not, and needs no /proc.
    if let Ok(fd) = sys::pidfd_open(tid) {
        let mut poll = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
        let ended = sys::ppoll(&mut poll, Some(Duration::ZERO), None) == Ok(1);
        sys::close(fd);
        return !ended;
    }
    // Not the first thread of its process, or an old kernel, or no descriptor left.
    !is_zombie(tid)
}

/// Whether `/proc` says so; without /proc: no.
fn is_zombie(tid: u32) -> bool {
    let mut path = [0_u8; 32];
    let mut at = b"/proc/".len();
    path[..at].copy_from_slice(b"/proc/");
    at += write_number(&mut path[at..], tid);
    path[at..at + 5].copy_from_slice(b"/stat");
    let Ok(path) = core::ffi::CStr::from_bytes_until_nul(&path) else { return false };
    let Ok(fd) = sys::open(path, libc::O_RDONLY) else { return false };
    let mut stat = [0_u8; 256];
    let len = sys::read(fd, &mut stat).unwrap_or(0);
    sys::close(fd);
    // The state follows the name, which is in parentheses and may contain some.
    let Some(end) = stat[..len].iter().rposition(|octet| *octet == b')') else { return false };
    matches!(stat.get(end + 2), Some(b'Z' | b'X'))
}

/// Writes a number in decimal, without allocating; returns how many octets.
pub(crate) fn write_number(into: &mut [u8], mut number: u32) -> usize {
    let mut digits = [0_u8; 10];
    let mut len = 0;
    loop {
        digits[len] = b'0' + (number % 10) as u8;
        number /= 10;
        len += 1;
        if number == 0 {
            break;
        }
    }
    for (to, from) in into.iter_mut().zip(digits[..len].iter().rev()) {
        *to = *from;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut text = [0; 12];
        let len = write_number(&mut text, 4_096);
        assert_eq!(&text[..len], b"4096");
        assert_eq!(write_number(&mut text, 0), 1);
    }

    #[test]
    fn a_thread_that_is_gone_is_not_alive() {
        let tid = std::thread::spawn(sys::gettid).join().unwrap();
        assert!(!is_alive(tid));
        assert!(is_alive(sys::gettid()));
        assert!(is_alive(sys::getpid()));
    }

    #[test]
    fn the_lock_of_a_dead_thread_is_taken_over() {
        let lock = SharedLock::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(lock.lock(sys::gettid()), Taken::Clean);
                lock.mark_dirty();
            });
        });
        assert_eq!(lock.lock(sys::gettid()), Taken::Dirty);
        lock.mark_clean();
        lock.unlock();
        assert_eq!(lock.lock(sys::gettid()), Taken::Clean);
        assert!(lock.try_lock(sys::gettid()).is_none());
        lock.unlock();
    }

    #[test]
    fn who_takes_the_lock_back_at_once_does_not_starve_a_waiter() {
        let (lock, done) = (&SharedLock::default(), &AtomicBool::new(false));
        let worst = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    let tid = sys::gettid();
                    while !done.load(Ordering::Relaxed) {
                        // As a spinning receiver does: away for less time than a waking takes.
                        if lock.try_lock(tid).is_some() {
                            for _ in 0..100 {
                                core::hint::spin_loop();
                            }
                            lock.unlock();
                        } else if lock.is_reserved() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut worst = Duration::ZERO;
            for _ in 0..100 {
                let since = std::time::Instant::now();
                let _ = lock.lock(sys::gettid());
                worst = worst.max(since.elapsed());
                lock.unlock();
                std::thread::sleep(Duration::from_micros(100));
            }
            done.store(true, Ordering::Relaxed);
            worst
        });
        assert!(worst < Duration::from_millis(500), "{worst:?}");
    }

    #[test]
    fn a_lock_that_is_reserved_for_a_dead_waiter_is_taken() {
        let lock = SharedLock::default();
        lock.word.store(STARVING | CONTENDED, Ordering::Relaxed);
        assert!(lock.is_reserved() && lock.try_lock(sys::gettid()).is_none());
        assert_eq!(lock.lock(sys::gettid()), Taken::Clean);
        lock.unlock();
        assert!(lock.try_lock(sys::gettid()).is_some());
    }

    #[test]
    fn contending_threads_exclude_each_other() {
        struct Shared(SharedLock, core::cell::UnsafeCell<u64>);
        // SAFETY: the counter is touched under the lock only.
        unsafe impl Sync for Shared {}
        let shared = &Shared(SharedLock::default(), core::cell::UnsafeCell::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let _ = shared.0.lock(sys::gettid());
                        // SAFETY: under the lock.
                        unsafe { *shared.1.get() += 1 };
                        shared.0.unlock();
                    }
                });
            }
        });
        // SAFETY: the threads are gone.
        assert_eq!(unsafe { *shared.1.get() }, 80_000);
    }
}
