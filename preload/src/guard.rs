//! What stands between the program and every hook: no panic leaves, and nothing of ours happens
//! where it must not.
//!
//! Owns: the catch at the FFI boundary, and the question whether a call is the program's ([`ours`]).

use crate::errno::{self, Encode, Errno};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a hook's body. A panic ends here: one line, `EIO`.
#[inline]
pub fn hook<T: Encode>(body: impl FnOnce() -> T) -> T {
    // What a panic leaves half done is the engine's business: it declares the shard inconsistent.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(_) => failed(),
    }
}

unsafe extern "C-unwind" {
    /// Ends the thread if it has been cancelled; otherwise nothing.
    safe fn pthread_testcancel();
}

/// Runs the body of a hook in which a thread may be cancelled (pthreads(7)). libc's own call may
/// end the thread in the middle by unwinding, so nothing here or above catches or has anything to
/// drop; what is ours catches panics itself ([`errno::answer`]), and its waits end by themselves.
#[inline]
pub fn point<T: Encode + PartialEq>(body: impl Fn() -> T) -> T {
    if engine::cancel::ever() {
        pthread_testcancel();
    }
    loop {
        let answer = body();
        if answer != T::FAILURE || !engine::cancel::take_ended() {
            return answer;
        }
        // Unless it was meant for another thread of that name, this does not return.
        pthread_testcancel();
    }
}

#[cold]
fn failed<T: Encode>() -> T {
    // The panic's own message has been printed already.
    say("internal error; this call fails with EIO");
    errno::set(Errno::EIO);
    T::FAILURE
}

/// Answers for a function that this libc does not have.
#[cold]
pub fn missing<T: Encode>() -> T {
    errno::set(Errno::ENOSYS);
    T::FAILURE
}

/// Whether a call comes from the program, as opposed to the engine, the driver below it or a vfork
/// child: only then may it change anything of ours.
#[inline]
#[must_use]
pub fn ours() -> bool {
    !engine::thread::bypassed()
}

/// One line on standard error, past every hook and lock.
pub fn say(message: &str) {
    let line = format!("onwire: {message}\n");
    // SAFETY: the line is valid for its length. What cannot be written is lost.
    unsafe {
        crate::raw_syscall::call(
            libc::SYS_write,
            [libc::STDERR_FILENO as usize, line.as_ptr() as usize, line.len(), 0, 0, 0],
        );
    }
}
