//! Kernel sockets that are used again: making one and closing it takes 3 to 6 µs, more than the stack
//! takes for a whole short connection, and the kernel's half of a stack connection does nothing.
//!
//! Each TCP socket is made with a second descriptor for the same kernel socket, the *spare*, at a high
//! number. When the program closes a socket whose kernel half nobody has touched, the spare is what
//! the next socket is made from: a dup instead of a socket, and closing a descriptor that was not
//! the last. Whoever is about to change something about the kernel's half, or to give the
//! description to others (dup, fork, `SCM_RIGHTS`), calls [`touch`] first; then the spare is gone and
//! the socket is like any other.
//!
//! No locks, for close(2) may be called by a signal handler: a place is claimed by exchanging its user.
//! Everything happens within [`descriptors::change`], so that a fork sees no claimed place.

use crate::descriptors;
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::raw_syscall;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};

/// Places, if the limit of descriptors is 1,024 or more: a sixteenth of it.
const PLACES: usize = 64;
/// What is in a place that no descriptor of the program uses.
const EMPTY: c_int = -1;
const IDLE: c_int = -2;
const CLAIMED: c_int = -3;
/// Where all places are taken, one of so many new sockets takes another's: those that live long lose
/// their spares in the end, and those that come and go keep theirs.
const EVICTION: u32 = 16;

struct Place {
    /// The program's descriptor that is the same kernel socket, or one of the constants above.
    user: AtomicI32,
    spare: AtomicI32,
    domain: AtomicI32,
    /// The kernel's `O_NONBLOCK` of the two.
    nonblocking: AtomicBool,
}

static PLACE: [Place; PLACES] = [const {
    Place {
        user: AtomicI32::new(EMPTY),
        spare: AtomicI32::new(-1),
        domain: AtomicI32::new(0),
        nonblocking: AtomicBool::new(false),
    }
}; PLACES];

/// One more than the highest place that was ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// New sockets that found no place.
static TURNED_AWAY: AtomicU32 = AtomicU32::new(0);

impl Place {
    fn claim(&self, from: c_int) -> bool {
        self.user.load(Ordering::Relaxed) == from
            && self
                .user
                .compare_exchange(from, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    fn leave(&self, user: c_int) {
        self.user.store(user, Ordering::Release);
    }

    /// Closes the spare of a claimed place.
    fn empty(&self) {
        let spare = self.spare.swap(-1, Ordering::Relaxed);
        if spare >= 0 {
            engine::unprotect_fd(spare);
            close_raw(spare);
        }
        self.leave(EMPTY);
    }
}

fn places() -> &'static [Place] {
    PLACE.get(..USED.load(Ordering::Acquire)).unwrap_or(&[])
}

/// The place of `fd`, claimed.
fn of(fd: c_int) -> Option<&'static Place> {
    places().iter().find(|place| fd >= 0 && place.claim(fd))
}

/// Runs `f` with the place of `fd`, claimed, if it has one.
fn with_place(fd: c_int, f: impl FnOnce(&Place)) {
    if places().iter().any(|place| fd >= 0 && place.user.load(Ordering::Relaxed) == fd) {
        descriptors::change(|| {
            if let Some(place) = of(fd) {
                f(place);
            }
        });
    }
}

fn close_raw(fd: c_int) -> isize {
    // Not libc's, in which a cancelled thread would end here and now.
    // SAFETY: no pointers.
    unsafe { raw_syscall::call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) }
}

/// socket(2) for a TCP socket whose domain is `AF_INET` or `AF_INET6`; `kind` has its flags. Within a
/// change.
///
/// # Errors
/// As socket(2).
pub fn socket(domain: c_int, kind: c_int) -> Result<c_int, Errno> {
    if let Some(fd) = reuse(domain, kind) {
        return Ok(fd);
    }
    let make = || {
        // SAFETY: no pointers.
        errno::check(unsafe { real::socket(domain, kind, 0) })
    };
    let fd = match make() {
        Err(Errno(libc::EMFILE | libc::ENFILE)) if give_up_all() => make()?,
        made => made?,
    };
    touch(fd); // What it was, if it was closed behind our back.
    keep(fd, domain, kind);
    Ok(fd)
}

/// A descriptor for a kernel socket that is left over.
fn reuse(domain: c_int, kind: c_int) -> Option<c_int> {
    let is_left =
        |place: &&Place| place.domain.load(Ordering::Relaxed) == domain && place.claim(IDLE);
    let place = places().iter().find(is_left)?;
    let closes = kind & libc::SOCK_CLOEXEC != 0;
    let command = if closes { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    // SAFETY: no pointers.
    let fd = unsafe { real::fcntl(place.spare.load(Ordering::Relaxed), command, 0) };
    if fd < 0 {
        place.empty();
        return None;
    }
    touch(fd); // As in `socket`.
    let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
    if place.nonblocking.swap(nonblocking, Ordering::Relaxed) != nonblocking {
        let flags = if nonblocking { libc::O_RDWR | libc::O_NONBLOCK } else { libc::O_RDWR };
        // SAFETY: no pointers.
        unsafe { real::fcntl(fd, libc::F_SETFL, flags as usize) };
    }
    place.leave(fd);
    Some(fd)
}

/// Makes a spare of the new socket `fd`, where there is a place for it.
fn keep(fd: c_int, domain: c_int, kind: c_int) {
    let Some((index, place)) = free_place() else { return };
    let lowest = usize::try_from(floor()).unwrap_or_default();
    // SAFETY: no pointers.
    let spare = unsafe { real::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) };
    if spare < 0 {
        place.leave(EMPTY);
        return;
    }
    engine::protect_fd(spare);
    place.spare.store(spare, Ordering::Relaxed);
    place.domain.store(domain, Ordering::Relaxed);
    place.nonblocking.store(kind & libc::SOCK_NONBLOCK != 0, Ordering::Relaxed);
    place.leave(fd);
    USED.fetch_max(index + 1, Ordering::AcqRel);
}

/// A place without a spare, claimed.
fn free_place() -> Option<(usize, &'static Place)> {
    let limit = (limit_of_descriptors() / 16).min(PLACES);
    let places = PLACE.get(..limit)?;
    if let Some(found) = places.iter().enumerate().find(|(_, place)| place.claim(EMPTY)) {
        return Some(found);
    }
    let turned_away = TURNED_AWAY.fetch_add(1, Ordering::Relaxed);
    if limit == 0 || !turned_away.is_multiple_of(EVICTION) {
        return None;
    }
    let index = (turned_away / EVICTION) as usize % limit;
    let place = places.get(index)?;
    let user = place.user.load(Ordering::Relaxed);
    if user == CLAIMED || !place.claim(user) {
        return None;
    }
    place.empty();
    place.claim(EMPTY).then_some((index, place))
}

/// `RLIMIT_NOFILE`.
fn limit_of_descriptors() -> usize {
    static LIMIT: AtomicUsize = AtomicUsize::new(0);
    let known = LIMIT.load(Ordering::Relaxed);
    if known > 0 {
        return known;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure of ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let found = usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX).max(1);
    LIMIT.store(found, Ordering::Relaxed);
    found
}

/// The lowest number of a spare: below the engine's own, which select(2) can have as well.
fn floor() -> c_int {
    (limit_of_descriptors().min(1_024) as c_int - 160 - PLACES as c_int).max(16)
}

/// close(2) of the program's descriptor; the kernel's answer.
pub fn close(fd: c_int) -> isize {
    let place = of(fd);
    let answer = close_raw(fd);
    if let Some(place) = place {
        place.leave(IDLE);
    }
    answer
}

/// The kernel's half of `fd` is about to be changed, or shared.
pub fn touch(fd: c_int) {
    with_place(fd, Place::empty);
}

/// The kernel's `O_NONBLOCK` of `fd` was set or cleared.
pub fn note_nonblocking(fd: c_int, nonblocking: bool) {
    with_place(fd, |place| {
        place.nonblocking.store(nonblocking, Ordering::Relaxed);
        place.leave(fd);
    });
}

/// Closes all spares; whether there was one.
fn give_up_all() -> bool {
    let mut any = false;
    for place in places() {
        let user = place.user.load(Ordering::Relaxed);
        if !matches!(user, EMPTY | CLAIMED) && place.claim(user) {
            place.empty();
            any = true;
        }
    }
    any
}

/// Before a fork: what the program has open will be the child's as well.
pub fn share_with_child() {
    for place in places() {
        let user = place.user.load(Ordering::Relaxed);
        if user >= 0 && place.claim(user) {
            place.empty();
        }
    }
}

/// In a fork's child: what is left over is the parent's.
pub fn leave_to_parent() {
    give_up_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new socket, and which kernel socket it is.
    fn made(kind: c_int) -> (c_int, u64) {
        let fd = socket(libc::AF_INET, libc::SOCK_STREAM | kind).unwrap();
        // SAFETY: all-zero is a valid stat, which fstat fills.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: a structure of ours.
        assert_eq!(unsafe { libc::fstat(fd, &raw mut stat) }, 0);
        (fd, stat.st_ino)
    }

    #[test]
    fn a_kernel_socket_is_used_again_until_it_is_touched() {
        let (fd, first) = made(0);
        assert_eq!(close(fd), 0);
        let (fd, second) = made(libc::SOCK_NONBLOCK);
        assert_eq!(first, second);
        // SAFETY: no pointers.
        assert_ne!(unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_NONBLOCK, 0);
        of(fd).expect("it has a place").empty(); // As `touch`, without what a fork waits for.
        assert_eq!(close(fd), 0);
        let (fd, third) = made(0);
        assert_ne!(second, third);
        share_with_child();
        assert_eq!(close(fd), 0);
        let (fd, fourth) = made(0);
        assert_ne!(third, fourth);
        assert_eq!(close(fd), 0);
        leave_to_parent();
        assert!(places().iter().all(|place| place.user.load(Ordering::Relaxed) == EMPTY));
    }
}
