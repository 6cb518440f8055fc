//! The few words of each thread that every call looks at.
//!
//! Owns one block of thread-local storage in the initial-exec model: its place is one addition
//! away, where `thread_local!` in a shared library calls `__tls_get_addr`, a dozen times for a
//! message. The price: the library must be there when the program starts (LD_PRELOAD, or linked),
//! which hooks need anyway. The loader refuses to load it later (dlopen(3)), because storage of this
//! model, the driver's with it, does not fit what is kept in reserve. All-zero at first, and nothing
//! to drop: it may be looked at in signal handlers and to a thread's very end.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

/// Only its own thread touches it, but handlers interrupt it anywhere: hence atomics, relaxed.
#[derive(Debug)]
pub(crate) struct Words {
    /// Locks of shards held, one in the other.
    pub(crate) inside: AtomicU32,
    /// Guards against interposition.
    pub(crate) bypass: AtomicU32,
    /// The kernel's name for the thread; 0 while not asked.
    pub(crate) tid: AtomicU32,
    /// See [`crate::thread::enter_vfork_child`].
    pub(crate) vforks: AtomicU32,
    /// Signal handlers that ran.
    pub(crate) ran: AtomicU32,
    /// Those of them without `SA_RESTART`.
    pub(crate) ran_without_restart: AtomicU32,
    /// Where in the queue of deferred signals its first one is, and where the next is put.
    pub(crate) head: AtomicU32,
    pub(crate) tail: AtomicU32,
    /// The futex word this thread is about to sleep on, or sleeps on.
    pub(crate) sleeping_on: AtomicPtr<AtomicU32>,
    /// How long it spins, in nanoseconds, with all bits turned: at first for as long as may be.
    pub(crate) spin: AtomicU64,
}

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .tbss.onwire_words, \"awT\", @nobits",
    ".globl onwire_words",
    ".hidden onwire_words",
    ".type onwire_words, @object",
    ".size onwire_words, {size}",
    ".balign {align}",
    "onwire_words: .zero {size}",
    ".popsection",
    size = const size_of::<Words>(),
    align = const align_of::<Words>(),
);

/// Runs `f` on this thread's.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&Words) -> R) -> R {
    let at: *const Words;
    // SAFETY: the thread's pointer, and the offset of the block from it, which the loader has written
    // down for this object; nothing else is read, and neither ever changes.
    unsafe {
        core::arch::asm!(
            "mov {at}, qword ptr fs:[0]",
            "add {at}, qword ptr [rip + onwire_words@GOTTPOFF]",
            at = out(reg) at,
            options(pure, nomem, nostack),
        );
    }
    // SAFETY: the block has this size and alignment, is all-zero at first, which is what these
    // atomics need, and lives as long as the thread, which cannot end in `f`.
    f(unsafe { &*at })
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use portable::with;

#[cfg(not(target_arch = "x86_64"))]
mod portable {
    use super::Words;

    thread_local! {
        // SAFETY: all-zero is what these atomics need.
        static WORDS: Words = const { unsafe { core::mem::zeroed() } };
    }

    /// Runs `f` on this thread's.
    pub(crate) fn with<R>(f: impl FnOnce(&Words) -> R) -> R {
        WORDS.with(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn each_thread_has_its_own_words_zero_at_first() {
        let place = |words: &Words| core::ptr::from_ref(words).addr();
        let own = with(|words| {
            words.spin.store(7, Ordering::Relaxed);
            place(words)
        });
        assert!(own.is_multiple_of(align_of::<Words>()));
        assert_eq!(with(place), own);
        let (other, spin) = std::thread::spawn(move || {
            with(|words| (place(words), words.spin.load(Ordering::Relaxed)))
        })
        .join()
        .unwrap();
        assert!(other != own && spin == 0);
        assert_eq!(with(|words| words.spin.load(Ordering::Relaxed)), 7);
    }
}
