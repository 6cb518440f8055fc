//! `SIGIO` and `SIGURG`: the owner of a description is told of its events (fcntl(2), F_SETOWN).
//!
//! Called when the lock has been given back, by whoever drove the stack: perhaps a relative of the
//! owner, or the keeper. Nothing here looks at a socket.

use crate::file::{File, Notice};
use crate::sys;
use core::ffi::{c_int, c_long};
use stack::readiness::Readiness;

/// Linux's `POLL_IN` … and what `si_band` says beside it, the most telling first.
const REASONS: [(Readiness, c_int, u32); 5] = [
    (Readiness::ERROR, 4, Readiness::ERROR.bits()),
    (Readiness::HANGUP, 6, Readiness::HANGUP.bits() | Readiness::ERROR.bits()),
    (Readiness::PRIORITY, 5, Readiness::PRIORITY.bits() | Readiness::READ_BAND.bits()),
    (Readiness::READABLE, 1, Readiness::READABLE.bits() | Readiness::READ_NORMAL.bits()),
    (
        Readiness::WRITABLE,
        2,
        Readiness::WRITABLE.bits() | Readiness::WRITE_NORMAL.bits() | Readiness::WRITE_BAND.bits(),
    ),
];

/// Tells the owner of `file`, if it has one, what is new.
pub(crate) fn tell(file: &File, edges: Readiness) {
    let Some((owner, notice)) = file.owner() else { return };
    if edges.contains(Readiness::PRIORITY) {
        // Urgent data is told of whether O_ASYNC is on or not.
        send(owner, notice, libc::SIGURG);
    }
    if !notice.is_async() {
        return;
    }
    for (edge, code, band) in REASONS {
        if edges.contains(edge) {
            if notice.signal() == 0 || !inform(owner, notice, code, band) {
                send(owner, notice, libc::SIGIO);
            }
            return;
        }
    }
}

/// A plain signal. An owner that is gone is told nothing.
fn send(owner: i32, notice: Notice, signal: c_int) {
    if notice.to_thread() {
        let _ = sys::kill_thread(owner, signal);
    } else {
        let _ = sys::kill(owner, signal);
    }
}

/// Linux's `siginfo_t` for `SIGPOLL`.
#[repr(C)]
struct PollInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    pad: c_int,
    band: c_long,
    fd: c_int,
    rest: [c_int; 25],
}

const _: () = assert!(size_of::<PollInfo>() == size_of::<libc::siginfo_t>());

/// The signal of `F_SETSIG` with what happened; whether it was taken. Only a process itself can be
/// sent what looks as if the kernel had sent it; others get the bare signal.
fn inform(owner: i32, notice: Notice, code: c_int, band: u32) -> bool {
    let signal = notice.signal();
    let own = sys::getpid() as i32;
    if owner != own || notice.to_thread() {
        send(owner, notice, signal);
        return true;
    }
    let (errno, pad, band, fd, rest) = (0, 0, c_long::from(band), notice.fd(), [0; 25]);
    let info = PollInfo { signal, errno, code, pad, band, fd, rest };
    // SAFETY: as large as a siginfo_t, and laid out like one for this code.
    unsafe { sys::queue_signal(own, signal, (&raw const info).cast()) }.is_ok()
}
