//! Per-thread state: whether this thread is inside the stack, the signal handlers that wait until
//! it leaves, and whether interposition is bypassed.
//!
//! The interposition layer wraps the handlers that the program installs. Its wrapper calls, in
//! this order: [`defer`] — if that says [`Deferral::Deferred`] it returns at once, the engine calls
//! the runner ([`set_runner`]) when the thread leaves the stack; otherwise [`handler_ran`] and then
//! the program's handler. The runner does the same as the wrapper: the program's mask for the
//! handler, [`handler_ran`], the handler. Signals that an instruction raises (SIGSEGV, SIGBUS,
//! SIGFPE, SIGILL, SIGTRAP) and SIGABRT are never deferred.
//!
//! Everything here is async-signal-safe and works before the engine is started.

use crate::words::{self, Words};
use crate::{cancel, sys};
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Whether a handler must run now or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deferral {
    /// This thread is not inside the stack: run the handler.
    RunNow,
    /// It is queued (or an equal standard signal is already): return from the handler.
    Deferred,
}

/// Whether the handler that ran was installed with `SA_RESTART`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Without: a blocked call fails with `EINTR`.
    No,
    /// With: calls that Linux restarts are restarted.
    Yes,
}

/// Runs the program's handler of a signal that was deferred.
pub type Runner = unsafe fn(c_int, &mut libc::siginfo_t);

/// Handlers that one thread can have waiting. Standard signals coalesce, as they do while blocked;
/// real-time signals beyond this are dropped and counted.
const DEFERRED: usize = 48;

/// The first real-time signal of the kernel.
const FIRST_REALTIME: c_int = 32;

static RUNNER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static OVERFLOWS: AtomicU64 = AtomicU64::new(0);
/// While the engine starts, the driver makes threads whose calls must not be interposed.
static STARTING: AtomicBool = AtomicBool::new(false);

/// One thread's deferred signals; `head` and `tail` are among its [`Words`].
struct Queue(UnsafeCell<[MaybeUninit<(c_int, libc::siginfo_t)>; DEFERRED]>);

thread_local! {
    static QUEUE: Queue =
        const { Queue(UnsafeCell::new([const { MaybeUninit::uninit() }; DEFERRED])) };
}

/// The first place of this thread's queue.
fn queue() -> *mut MaybeUninit<(c_int, libc::siginfo_t)> {
    QUEUE.with(|queue| queue.0.get().cast())
}

/// Sets what runs deferred handlers, once for the process.
pub fn set_runner(runner: Runner) {
    RUNNER.store(runner as *mut (), Ordering::Release);
}

/// Whether this thread holds the shard's lock.
#[inline]
#[must_use]
pub fn inside() -> bool {
    words::with(|state| state.inside.load(Ordering::Relaxed) > 0)
}

/// Real-time signals that were dropped because too many waited in one thread.
#[must_use]
pub fn overflows() -> u64 {
    OVERFLOWS.load(Ordering::Relaxed)
}

/// Asks, from a signal handler's wrapper, whether the handler has to wait, and queues it if so.
pub fn defer(signal: c_int, info: &libc::siginfo_t) -> Deferral {
    const NEVER: [c_int; 6] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT];
    words::with(|state| {
        if state.inside.load(Ordering::Relaxed) == 0 || NEVER.contains(&signal) {
            return Deferral::RunNow;
        }
        // While inside, only handlers touch the queue, and they nest: whoever takes a place owns
        // it, and all have returned before the thread leaves the stack and reads.
        let queue = queue();
        let tail = state.tail.load(Ordering::Relaxed);
        if signal < FIRST_REALTIME {
            let head = state.head.load(Ordering::Relaxed);
            // SAFETY: places in head..tail are written, or being written by a handler that this
            // one interrupts: the signal's number is all that is read, and a wrong one only means
            // that an equal signal is queued twice.
            let queued = (head..tail).any(
                |at| unsafe { (*queue.add(at as usize)).as_ptr().cast::<c_int>().read() } == signal,
            );
            if queued {
                return Deferral::Deferred;
            }
        }
        if tail as usize >= DEFERRED {
            OVERFLOWS.fetch_add(1, Ordering::Relaxed);
            return Deferral::Deferred;
        }
        let at = state.tail.fetch_add(1, Ordering::Relaxed) as usize;
        if at < DEFERRED {
            // SAFETY: the place is within the array and this handler's alone.
            unsafe { (*queue.add(at)).write((signal, *info)) };
        } else {
            state.tail.store(DEFERRED as u32, Ordering::Relaxed);
            OVERFLOWS.fetch_add(1, Ordering::Relaxed);
        }
        Deferral::Deferred
    })
}

/// Notes that a handler of the program runs on this thread, so that a call that is about to sleep,
/// or sleeps, ends with `Interrupted` (or goes on, if every handler had `SA_RESTART` and Linux
/// restarts the call).
pub fn handler_ran(restart: Restart) {
    words::with(|state| {
        state.ran.fetch_add(1, Ordering::Relaxed);
        if restart == Restart::No {
            state.ran_without_restart.fetch_add(1, Ordering::Relaxed);
        }
        let word = state.sleeping_on.load(Ordering::Relaxed);
        // SAFETY: set only while the word is valid (it lives in the region). A sleep on it that
        // has begun ends by the signal itself; one that has not begun finds the word changed.
        // What somebody else has written stays: it says that this thread is on no list any more.
        if let Some(word) = unsafe { word.as_ref() } {
            let _ = word.compare_exchange(0, SELF_WOKEN, Ordering::SeqCst, Ordering::Relaxed);
        }
    });
}

/// What [`handler_ran`] writes into the word a thread sleeps on.
pub(crate) const SELF_WOKEN: u32 = 3;

/// Whether hooks must pass calls of this thread straight to libc: inside the stack, under a
/// [`bypass`] guard, in a vfork child, and on the driver's own threads while the engine starts.
#[inline]
#[must_use]
pub fn bypassed() -> bool {
    words::with(|state| {
        state.inside.load(Ordering::Relaxed) > 0
            || state.bypass.load(Ordering::Relaxed) > 0
            || state.vforks.load(Ordering::Relaxed) > 0
            || (STARTING.load(Ordering::Relaxed) && is_drivers(state))
    })
}

/// Bypasses interposition on this thread until the guard is dropped; nests.
#[must_use]
pub fn bypass() -> BypassGuard {
    words::with(|state| state.bypass.fetch_add(1, Ordering::Relaxed));
    BypassGuard { _thread: core::marker::PhantomData }
}

/// See [`bypass`].
#[derive(Debug)]
pub struct BypassGuard {
    /// Belongs to its thread.
    _thread: core::marker::PhantomData<*const ()>,
}

impl Drop for BypassGuard {
    fn drop(&mut self) {
        words::with(|state| state.bypass.fetch_sub(1, Ordering::Relaxed));
    }
}

/// This thread is about to vfork. Until it goes on, what runs on its memory, thread-locals included, is
/// the child; so the parent takes the mark away again, with [`leave_vfork_child`].
pub fn enter_vfork_child() {
    words::with(|state| state.vforks.fetch_add(1, Ordering::Relaxed));
}

/// The vfork child is gone, or running another program, and this thread goes on.
pub fn leave_vfork_child() {
    words::with(|state| state.vforks.fetch_sub(1, Ordering::Relaxed));
}

/// How many handlers of any kind have run on this thread: a call that has moved some data returns
/// when one has.
#[inline]
#[must_use]
pub fn handlers() -> u32 {
    words::with(|state| state.ran.load(Ordering::Relaxed))
}

/// Those of them without `SA_RESTART`: a wait that goes on by itself after other handlers compares.
#[must_use]
pub fn interruptions() -> u32 {
    words::with(|state| state.ran_without_restart.load(Ordering::Relaxed))
}

/// The threads there were when the start began, ascending; others are the driver's meanwhile.
static KNOWN: [AtomicU32; 1_024] = [const { AtomicU32::new(0) }; 1_024];

/// Begins the time in which threads that appear belong to the driver.
pub(crate) fn begin_start() {
    let mut known = KNOWN.iter();
    if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
        for task in tasks.flatten() {
            let tid = task.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(tid), Some(place)) = (tid, known.next()) {
                place.store(tid, Ordering::Relaxed);
            }
        }
    }
    for place in known {
        place.store(0, Ordering::Relaxed);
    }
    STARTING.store(KNOWN[0].load(Ordering::Relaxed) != 0, Ordering::Release);
}

/// Ends it.
pub(crate) fn end_start() {
    STARTING.store(false, Ordering::Release);
}

#[cold]
fn is_drivers(state: &Words) -> bool {
    let tid = own_tid(state);
    !KNOWN
        .iter()
        .map(|known| known.load(Ordering::Relaxed))
        .take_while(|t| *t != 0)
        .any(|t| t == tid)
}

#[inline]
fn own_tid(state: &Words) -> u32 {
    match state.tid.load(Ordering::Relaxed) {
        0 => {
            let tid = sys::gettid();
            state.tid.store(tid, Ordering::Relaxed);
            tid
        }
        tid => tid,
    }
}

/// This thread's kernel id.
#[inline]
pub(crate) fn tid() -> u32 {
    words::with(own_tid)
}

/// In the child after a fork: the thread has a new id, and nothing of the parent's waits.
pub(crate) fn reset_after_fork() {
    cancel::reset_after_fork();
    words::with(|state| {
        state.tid.store(0, Ordering::Relaxed);
        state.head.store(0, Ordering::Relaxed);
        state.tail.store(0, Ordering::Relaxed);
        state.sleeping_on.store(ptr::null_mut(), Ordering::Relaxed);
    });
}

/// Whether a handler waits for this thread to leave the stack.
#[inline]
pub(crate) fn is_deferring() -> bool {
    words::with(|state| state.tail.load(Ordering::Relaxed) != 0)
}

/// This thread takes the shard's lock: handlers wait from now on.
#[inline]
pub(crate) fn enter() {
    words::with(|state| {
        let depth = state.inside.load(Ordering::Relaxed);
        state.inside.store(depth + 1, Ordering::Relaxed);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    });
}

/// This thread has given the lock back: handlers that waited run now.
#[inline]
pub(crate) fn leave() {
    words::with(|state| {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        let depth = state.inside.load(Ordering::Relaxed) - 1;
        state.inside.store(depth, Ordering::Relaxed);
        if depth == 0 && state.tail.load(Ordering::Relaxed) != 0 {
            run_deferred(state);
        }
    });
}

#[cold]
fn run_deferred(state: &Words) {
    loop {
        let head = state.head.load(Ordering::Relaxed);
        let tail = state.tail.load(Ordering::Relaxed).min(DEFERRED as u32);
        if head >= tail {
            state.head.store(0, Ordering::Relaxed);
            state.tail.store(0, Ordering::Relaxed);
            return;
        }
        let queue = queue();
        // SAFETY: the place was written by the handler that queued it, which has returned. Not
        // inside, so no handler queues now.
        let (signal, mut info) = unsafe { (*queue.add(head as usize)).as_ptr().read() };
        state.head.store(head + 1, Ordering::Relaxed);
        let runner = RUNNER.load(Ordering::Acquire);
        if !runner.is_null() {
            // SAFETY: only `set_runner` stores here, and it stores a Runner.
            let runner = unsafe { core::mem::transmute::<*mut (), Runner>(runner) };
            // SAFETY: the information is that of the signal.
            unsafe { runner(signal, &mut info) };
        }
    }
}

/// How many handlers had run at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handlers {
    ran: u32,
    ran_without_restart: u32,
}

/// Whether Linux restarts a call after handlers with `SA_RESTART` (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restartable {
    /// Never: the poll and epoll families, and calls with a timeout.
    No,
    /// Yes.
    Yes,
}

impl Handlers {
    /// How many have run until now.
    pub(crate) fn until_now() -> Self {
        words::with(|state| Handlers {
            ran: state.ran.load(Ordering::Relaxed),
            ran_without_restart: state.ran_without_restart.load(Ordering::Relaxed),
        })
    }

    /// Whether a call that began then must end with `EINTR`, or because its thread is cancelled.
    pub(crate) fn interrupt(self, restartable: Restartable) -> bool {
        let now = Handlers::until_now();
        let interrupted = match restartable {
            Restartable::No => now.ran != self.ran,
            Restartable::Yes => now.ran_without_restart != self.ran_without_restart,
        };
        interrupted || cancel::is_due()
    }
}

/// Tells handlers which word this thread sleeps on, from now until the guard is dropped.
pub(crate) fn sleep_on(word: &AtomicU32) -> SleepGuard {
    words::with(|state| {
        state.sleeping_on.store(ptr::from_ref(word).cast_mut(), Ordering::SeqCst);
    });
    SleepGuard
}

/// See [`sleep_on`].
pub(crate) struct SleepGuard;

impl Drop for SleepGuard {
    fn drop(&mut self) {
        words::with(|state| state.sleeping_on.store(ptr::null_mut(), Ordering::SeqCst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn info() -> libc::siginfo_t {
        // SAFETY: all-zero is a valid siginfo_t.
        unsafe { core::mem::zeroed() }
    }

    static RAN: AtomicUsize = AtomicUsize::new(0);

    unsafe fn count(signal: c_int, _: &mut libc::siginfo_t) {
        RAN.fetch_add(signal as usize, Ordering::Relaxed);
        handler_ran(Restart::Yes);
    }

    #[test]
    fn handlers_wait_until_the_stack_is_left() {
        set_runner(count);
        let before = Handlers::until_now();
        assert_eq!(defer(libc::SIGALRM, &info()), Deferral::RunNow);
        enter();
        enter();
        assert!(inside() && bypassed());
        assert_eq!(defer(libc::SIGSEGV, &info()), Deferral::RunNow);
        assert_eq!(defer(libc::SIGALRM, &info()), Deferral::Deferred);
        assert_eq!(defer(libc::SIGALRM, &info()), Deferral::Deferred);
        assert_eq!(defer(40, &info()), Deferral::Deferred);
        assert_eq!(defer(40, &info()), Deferral::Deferred);
        leave();
        assert_eq!(RAN.load(Ordering::Relaxed), 0);
        leave();
        assert_eq!(RAN.load(Ordering::Relaxed), libc::SIGALRM as usize + 80);
        assert!(before.interrupt(Restartable::No));
        assert!(!before.interrupt(Restartable::Yes));
        enter();
        for _ in 0..DEFERRED + 3 {
            assert_eq!(defer(50, &info()), Deferral::Deferred);
        }
        leave();
        assert_eq!(overflows(), 3);
    }

    #[test]
    fn a_handler_changes_the_word_of_a_thread_about_to_sleep() {
        let word = AtomicU32::new(0);
        let guard = sleep_on(&word);
        handler_ran(Restart::No);
        assert_eq!(word.load(Ordering::Relaxed), SELF_WOKEN);
        // A wake-up that has come already is not lost.
        word.store(crate::wait::WOKEN, Ordering::Relaxed);
        handler_ran(Restart::Yes);
        assert_eq!(word.load(Ordering::Relaxed), crate::wait::WOKEN);
        drop(guard);
        word.store(0, Ordering::Relaxed);
        handler_ran(Restart::No);
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bypass_nests() {
        assert!(!bypassed());
        let outer = bypass();
        drop(bypass());
        assert!(bypassed());
        drop(outer);
        assert!(!bypassed());
    }
}
