//! The engine's public calls.

use crate::epoll::{EpollChange, EpollEntry, EpollError, EpollId};
use crate::file::{File, FileId, Kind};
use crate::seam::{Settings, Shard, SocketId};
use crate::wait::{PollEntry, Wait};
use core::ffi::c_int;
use core::fmt;
use stack::error::Error;
use stack::readiness::Readiness;
use stack::socket::Family;
use stack::time::Instant;
use std::net::SocketAddr;

const LATER: &str = "the engine is being written";

/// Why the engine did not start: one line that names the setting and the remedy.
#[derive(Debug, Clone)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// The engine of this family of processes, as seen from this process.
#[derive(Debug)]
pub struct Engine {
    _private: (),
}

/// Brings the engine up: device, region, shard, keeper. Idempotent; a second caller waits for the
/// first. Takes about 110 ms. A failed start is remembered and returned again.
///
/// # Errors
/// One line that names the setting and the remedy; nothing is left behind.
pub fn start(settings: &Settings) -> Result<&'static Engine, StartError> {
    let _ = settings;
    Err(StartError(LATER.into()))
}

/// The engine, if it has been started (in this process or before the fork).
#[must_use]
pub fn get() -> Option<&'static Engine> {
    None
}

impl Engine {
    /// The clock of every deadline: `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn now(&self) -> Instant {
        unreachable!("{LATER}")
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        unreachable!("{LATER}")
    }

    /// A new socket of the stack and its description, held once by this process.
    ///
    /// # Errors
    /// `TooManyFiles`, `NoBufferSpace`, `AddressFamilyNotSupported`, `NetworkDown`.
    pub fn create(&self, kind: Kind, family: Family) -> Result<FileId, Error> {
        let _ = (kind, family);
        unreachable!("{LATER}")
    }

    /// Takes a connection off a listener's queue, waiting as `wait` says (`O_NONBLOCK` is the
    /// caller's to look at). The new description is blocking, on [`crate::Path::Stack`], and held
    /// once by this process.
    ///
    /// # Errors
    /// As accept(2): `WouldBlock`, `Interrupted`, `InvalidArgument`, `TooManyFiles`, ….
    pub fn accept(&self, listener: FileId, wait: Wait) -> Result<(FileId, SocketAddr), Error> {
        let _ = (listener, wait);
        unreachable!("{LATER}")
    }

    /// This process holds one more descriptor of `file`.
    ///
    /// # Errors
    /// `BadDescriptor` if it is gone, `TooManyFiles` if the table of references is full.
    pub fn retain(&self, file: FileId) -> Result<(), Error> {
        let _ = file;
        unreachable!("{LATER}")
    }

    /// This process holds one descriptor less. The last one anywhere closes the socket, as its
    /// `SO_LINGER` says (waits then, at most as long as set).
    pub fn release(&self, file: FileId) {
        let _ = file;
        unreachable!("{LATER}")
    }

    /// Closes the stack's socket of `file` because the kernel carries it from now on; the
    /// description stays (for flags, path and listings) with [`File::socket`] `None`. Its epoll
    /// entries are removed: list them first ([`Engine::epoll_entries`]).
    pub fn surrender(&self, file: FileId, reason: crate::Reason) {
        let _ = (file, reason);
        unreachable!("{LATER}")
    }

    /// The description; `None` if it is gone.
    #[must_use]
    pub fn file(&self, file: FileId) -> Option<&File> {
        let _ = file;
        unreachable!("{LATER}")
    }

    /// Runs `f` under the lock, for calls that never wait. The port is polled first if nobody has
    /// for a few microseconds. Wakes whoever became ready.
    ///
    /// # Errors
    /// `BadDescriptor` if the description or its socket is gone, `NetworkDown` if the engine
    /// failed, or what `f` says.
    pub fn with<R>(
        &self,
        file: FileId,
        f: impl FnOnce(&mut Shard, SocketId, Instant) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let _ = (file, f);
        unreachable!("{LATER}")
    }

    /// As [`Engine::with`] for questions about no socket in particular (routes, addresses).
    ///
    /// # Errors
    /// `NetworkDown` if the engine failed, or what `f` says.
    pub fn with_shard<R>(
        &self,
        f: impl FnOnce(&mut Shard, Instant) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let _ = f;
        unreachable!("{LATER}")
    }

    /// Runs `op`; when it says `WouldBlock`, drives the port, spins, then sleeps until the socket
    /// is ready for a part of `interest` (`ERROR` and `HANGUP` always count) and runs it again.
    /// `op` may have done a part: what it did stays done.
    ///
    /// # Errors
    /// What `op` says but `WouldBlock`; `WouldBlock` when the wait is over; `Interrupted` when a
    /// signal handler ran and the call must end: a handler without `SA_RESTART`, or any handler
    /// if `wait` has an end (as Linux does for `SO_RCVTIMEO`). Restarting is done inside.
    pub fn blocking<T>(
        &self,
        file: FileId,
        interest: Readiness,
        wait: Wait,
        op: impl FnMut(&mut Shard, SocketId, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _ = (file, interest, wait, op);
        unreachable!("{LATER}")
    }

    /// What `file` is ready for at this moment (drives the port once).
    ///
    /// # Errors
    /// `BadDescriptor`, `NetworkDown`.
    pub fn readiness(&self, file: FileId) -> Result<Readiness, Error> {
        let _ = file;
        unreachable!("{LATER}")
    }

    /// poll(2), ppoll(2), select(2), pselect(2), and waiting on sockets that live in both worlds:
    /// waits until a stack socket or a kernel descriptor is ready. Fills `found` of every entry and
    /// `revents` of every kernel descriptor. `wait` is `No`, `Until` or `Forever`; `mask` is in
    /// force while waiting, as in ppoll(2).
    ///
    /// # Errors
    /// `Interrupted` when a handler ran; `NetworkDown`.
    pub fn poll(
        &self,
        entries: &mut [PollEntry],
        kernel: &mut [libc::pollfd],
        wait: Wait,
        mask: Option<&libc::sigset_t>,
    ) -> Result<usize, Error> {
        let _ = (entries, kernel, wait, mask);
        unreachable!("{LATER}")
    }

    /// A set beside the kernel's `epfd`, held once by this process.
    ///
    /// # Errors
    /// `TooManyFiles`.
    pub fn epoll_create(&self) -> Result<EpollId, Error> {
        unreachable!("{LATER}")
    }

    /// One more descriptor of the set in this process (`dup`).
    pub fn epoll_retain(&self, set: EpollId) {
        let _ = set;
        unreachable!("{LATER}")
    }

    /// One descriptor less; the last one anywhere frees the set.
    pub fn epoll_release(&self, set: EpollId) {
        let _ = set;
        unreachable!("{LATER}")
    }

    /// epoll_ctl(2) for a socket of the stack. (A socket on [`crate::Path::Both`] is registered in
    /// the kernel's epfd as well, by the caller.)
    ///
    /// # Errors
    /// As Linux.
    pub fn epoll_ctl(&self, set: EpollId, change: EpollChange) -> Result<(), EpollError> {
        let _ = (set, change);
        unreachable!("{LATER}")
    }

    /// The caller added (+1) or removed (-1) a kernel descriptor in the real epfd. While the count
    /// is zero the kernel is asked only when sleeping.
    pub fn epoll_kernel_count(&self, set: EpollId, change: i32) {
        let _ = (set, change);
        unreachable!("{LATER}")
    }

    /// The epfd itself is about to be watched by the kernel (added to another epfd, polled,
    /// selected): from now on it becomes readable when a stack socket of the set is ready.
    /// Idempotent and cheap.
    ///
    /// # Errors
    /// `TooManyFiles` when the socket for it cannot be made.
    pub fn epoll_expose(&self, set: EpollId, epfd: c_int) -> Result<(), Error> {
        let _ = (set, epfd);
        unreachable!("{LATER}")
    }

    /// Calls `each` with every entry for `file` in any set, outside the lock.
    pub fn epoll_entries(&self, file: FileId, each: &mut dyn FnMut(EpollEntry)) {
        let _ = (file, each);
        unreachable!("{LATER}")
    }

    /// epoll_wait(2), epoll_pwait(2): stack sockets and the kernel descriptors of `epfd`.
    ///
    /// # Errors
    /// `Interrupted`; `BadDescriptor` if the set is gone; `NetworkDown`.
    pub fn epoll_wait(
        &self,
        set: EpollId,
        epfd: c_int,
        events: &mut [libc::epoll_event],
        wait: Wait,
        mask: Option<&libc::sigset_t>,
    ) -> Result<usize, Error> {
        let _ = (set, epfd, events, wait, mask);
        unreachable!("{LATER}")
    }
}

/// What [`prepare_fork`] prepared.
#[derive(Debug)]
#[must_use]
pub struct ForkToken {
    _private: (),
}

/// Before a fork: a slot for the child with a copy of this process's references, and its lifeline
/// to the keeper, so that there is no moment in which a child holds sockets that nobody knows of.
/// Works before [`start`] too (then it waits for a start under way in another thread).
pub fn prepare_fork() -> ForkToken {
    ForkToken { _private: () }
}

/// In the parent after a fork: the child's pid, or `None` if it failed. (An atfork handler, which
/// does not learn the outcome, calls [`fork_parent_unknown`](fork_parent) with `Some(0)`.)
pub fn fork_parent(token: ForkToken, child: Option<libc::pid_t>) {
    let _ = (token, child);
}

/// In the child after a fork.
pub fn fork_child(token: ForkToken) {
    let _ = token;
}

/// The process is leaving by exit or _exit: what it holds is closed gracefully once it is gone,
/// and the keeper sends what is unsent. Cheap; call it as late as possible.
pub fn exiting() {}

/// The process is about to exec; `kept` are the descriptions behind descriptors without
/// `FD_CLOEXEC` (they stay open until this process ends; the others are closed by the exec).
pub fn exec_begin(kept: &[FileId]) {
    let _ = kept;
}

/// The exec failed: nothing changed.
pub fn exec_failed() {}

/// Whether `fd` belongs to the engine or the driver: close, dup2, close_range must not touch it.
#[must_use]
pub fn protected_fd(fd: c_int) -> bool {
    let _ = fd;
    false
}

/// The lowest protected descriptor that is at least `first`, for close_range.
#[must_use]
pub fn next_protected_fd(first: c_int) -> Option<c_int> {
    let _ = first;
    None
}
