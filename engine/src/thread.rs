//! Per-thread state: whether this thread is inside the stack, the signal handlers that wait until
//! it leaves, and whether interposition is bypassed.
//!
//! The interposition layer wraps the handlers that the program installs. Its wrapper calls, in
//! this order: [`defer`] — if that says [`Deferral::Deferred`] it returns at once, the engine calls
//! the runner ([`set_runner`]) when the thread leaves the stack; otherwise [`handler_ran`] and then
//! the program's handler. The runner does the same as the wrapper: the program's mask for the
//! handler, [`handler_ran`], the handler. Handlers of SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP and
//! SIGABRT are never deferred: they call the program's handler directly.
//!
//! Everything here is async-signal-safe and works before the engine is started.

use core::ffi::c_int;

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

/// Sets what runs deferred handlers, once for the process.
pub fn set_runner(runner: Runner) {
    let _ = runner;
}

/// Whether this thread holds the shard's lock.
#[must_use]
pub fn inside() -> bool {
    false
}

/// Asks, from a signal handler's wrapper, whether the handler has to wait, and queues it if so.
pub fn defer(signal: c_int, info: &libc::siginfo_t) -> Deferral {
    let _ = (signal, info);
    Deferral::RunNow
}

/// Notes that a handler of the program runs on this thread, so that a call that is about to sleep,
/// or sleeps, ends with `Interrupted` (or goes on, if every handler had `SA_RESTART` and Linux
/// restarts the call).
pub fn handler_ran(restart: Restart) {
    let _ = restart;
}

/// Whether hooks must pass calls of this thread straight to libc: inside the stack, under a
/// [`bypass`] guard, and on the driver's own threads while the engine starts.
#[must_use]
pub fn bypassed() -> bool {
    false
}

/// Bypasses interposition on this thread until the guard is dropped; nests.
#[must_use]
pub fn bypass() -> BypassGuard {
    BypassGuard { _private: () }
}

/// See [`bypass`].
#[derive(Debug)]
pub struct BypassGuard {
    _private: (),
}
