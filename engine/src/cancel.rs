//! pthread_cancel(3): a thread that sleeps here wakes when it is cancelled.
//!
//! A cancelled thread must not unwind through the stack, which holds locks and catches panics. So a
//! wait only ends, as if a handler had interrupted it, and whoever called acts on the cancellation
//! when everything of ours has been left ([`take_ended`], then pthread_testcancel). Nothing tells a
//! thread whether it has been cancelled but acting on it; hence the hook of pthread_cancel says so
//! here first ([`request`]) and wakes the thread afterwards ([`wake`]).

use crate::sys;
use crate::thread::SELF_WOKEN;
use core::cell::Cell;
use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Threads that were cancelled and have not acted on it yet; more than these replace the oldest.
const REQUESTS: usize = 64;
/// Threads that can sleep and be woken by this; others find out when they wake.
const SLEEPERS: usize = 1_024;

/// Whether any thread of this process was ever cancelled.
static EVER: AtomicBool = AtomicBool::new(false);
static REQUESTED: [AtomicU64; REQUESTS] = [const { AtomicU64::new(0) }; REQUESTS];
static NEXT: AtomicU32 = AtomicU32::new(0);
static ASLEEP: [Sleeper; SLEEPERS] = [const { Sleeper::new() }; SLEEPERS];

thread_local! {
    /// A wait of this thread ended because it was cancelled.
    static ENDED: Cell<bool> = const { Cell::new(false) };
    /// Where this thread slept last.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// A thread that sleeps, or is about to.
struct Sleeper {
    /// As pthread_self(3) names it; 0 is a free place.
    thread: AtomicU64,
    /// What it sleeps on; in the region.
    word: AtomicPtr<AtomicU32>,
    /// Its doorbell's number + 1; 0 if it has none.
    doorbell: AtomicU32,
}

impl Sleeper {
    const fn new() -> Self {
        Sleeper {
            thread: AtomicU64::new(0),
            word: AtomicPtr::new(ptr::null_mut()),
            doorbell: AtomicU32::new(0),
        }
    }
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

const ENABLE: c_int = 0;
const DISABLE: c_int = 1;

fn own() -> u64 {
    // SAFETY: no arguments; cannot fail.
    unsafe { libc::pthread_self() }
}

/// Whether any thread of this process was ever cancelled: until then there is nothing to look for.
#[inline]
#[must_use]
pub fn ever() -> bool {
    EVER.load(Ordering::Relaxed)
}

/// `thread` is about to be cancelled.
pub fn request(thread: libc::pthread_t) {
    if !REQUESTED.iter().any(|place| place.load(Ordering::SeqCst) == thread) {
        let free = |place: &&AtomicU64| {
            place.compare_exchange(0, thread, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        if REQUESTED.iter().find(free).is_none() {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) as usize % REQUESTS;
            REQUESTED[next].store(thread, Ordering::SeqCst);
        }
    }
    EVER.store(true, Ordering::SeqCst);
}

/// `thread` has been cancelled: if it sleeps here, it wakes.
pub fn wake(thread: libc::pthread_t) {
    for sleeper in &ASLEEP {
        if sleeper.thread.load(Ordering::SeqCst) != thread {
            continue;
        }
        let word = sleeper.word.load(Ordering::SeqCst);
        // SAFETY: words lie in the region, which is never unmapped. If the place has changed hands
        // meanwhile, somebody wakes for nothing.
        if let Some(word) = unsafe { word.as_ref() } {
            let _ = word.compare_exchange(0, SELF_WOKEN, Ordering::SeqCst, Ordering::Relaxed);
            sys::futex_wake(word, 1);
        }
        let doorbell = sleeper.doorbell.load(Ordering::SeqCst);
        if let (Some(doorbell), Some(engine)) = (doorbell.checked_sub(1), crate::get()) {
            engine.shared.doorbells.ring(doorbell);
        }
    }
}

/// Whether a wait of this thread ended because it was cancelled; the caller acts on it now.
#[must_use]
pub fn take_ended() -> bool {
    if !ever() || !ENDED.replace(false) {
        return false;
    }
    forget(own());
    true
}

/// Whether a wait of this thread has ended because it was cancelled: it is not to be restarted.
#[must_use]
pub fn has_ended() -> bool {
    ever() && ENDED.get()
}

fn forget(thread: u64) {
    for place in &REQUESTED {
        let _ = place.compare_exchange(thread, 0, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// Whether this thread's wait has to end.
#[inline]
pub(crate) fn is_due() -> bool {
    ever() && look()
}

#[cold]
fn look() -> bool {
    let own = own();
    if !REQUESTED.iter().any(|place| place.load(Ordering::SeqCst) == own) {
        return false;
    }
    let mut state = ENABLE;
    // SAFETY: a place for the old state; asking means changing it for a moment.
    unsafe {
        pthread_setcancelstate(DISABLE, &raw mut state);
        pthread_setcancelstate(state, ptr::null_mut());
    }
    let due = state == ENABLE;
    ENDED.set(due);
    due
}

/// This thread sleeps on `word`, and hears the doorbell, until the guard is dropped. Whether it is
/// cancelled already is to be asked afterwards.
pub(crate) fn sleep(word: &AtomicU32, doorbell: Option<u32>) -> Sleeping {
    let first = PLACE.get();
    for step in 0..SLEEPERS {
        let place = (first + step) % SLEEPERS;
        let sleeper = &ASLEEP[place];
        if sleeper.thread.load(Ordering::Relaxed) != 0 {
            continue;
        }
        sleeper.word.store(ptr::null_mut(), Ordering::SeqCst);
        let free = sleeper.thread.compare_exchange(0, own(), Ordering::SeqCst, Ordering::Relaxed);
        if free.is_ok() {
            sleeper.doorbell.store(doorbell.map_or(0, |bell| bell + 1), Ordering::SeqCst);
            sleeper.word.store(ptr::from_ref(word).cast_mut(), Ordering::SeqCst);
            PLACE.set(place);
            return Sleeping { place };
        }
    }
    Sleeping { place: SLEEPERS }
}

/// See [`sleep`].
pub(crate) struct Sleeping {
    place: usize,
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some(sleeper) = ASLEEP.get(self.place) {
            sleeper.thread.store(0, Ordering::SeqCst);
        }
    }
}

/// In the child after a fork: the other threads are not there.
pub(crate) fn reset_after_fork() {
    let threads = ASLEEP.iter().map(|sleeper| &sleeper.thread);
    // What is not written to is not copied.
    for place in threads.chain(&REQUESTED).filter(|place| place.load(Ordering::Relaxed) != 0) {
        place.store(0, Ordering::Relaxed);
    }
    ENDED.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_sleeper_is_woken_and_told_once() {
        let word = AtomicU32::new(0);
        let guard = sleep(&word, None);
        assert!(!is_due());
        request(own());
        wake(own());
        assert_eq!(word.load(Ordering::SeqCst), SELF_WOKEN);
        drop(guard);
        assert!(is_due() && has_ended());
        assert!(take_ended() && !take_ended());
        assert!(!is_due());
        // Whoever has forbidden it is left alone.
        request(own());
        // SAFETY: no old state is wanted.
        unsafe { pthread_setcancelstate(DISABLE, ptr::null_mut()) };
        assert!(!is_due());
        // SAFETY: as above.
        unsafe { pthread_setcancelstate(ENABLE, ptr::null_mut()) };
        forget(own());
    }
}
