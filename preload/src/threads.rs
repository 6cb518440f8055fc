//! Cancelling threads.
//!
//! Called by the hook of pthread_cancel(3). The thread itself acts on it in `guard.rs`, when it has
//! left the stack; nothing here ends a thread.

use crate::hook::real;
use core::ffi::c_int;
use libc::pthread_t;

/// pthread_cancel(3).
///
/// # Safety
/// As the C function.
pub unsafe fn pthread_cancel(thread: pthread_t) -> c_int {
    // The thread looks at the first before it sleeps, and is woken by the last if it did not.
    engine::cancel::request(thread);
    // SAFETY: passed on.
    let answer = unsafe { real::pthread_cancel(thread) };
    engine::cancel::wake(thread);
    answer
}
