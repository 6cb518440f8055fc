//! The descriptors that the driver holds: out of the program's way, closed on exec, known.
//!
//! DPDK's own code makes its descriptors through `glue/libc.c`, which moves each of them up at
//! once, also those that a control thread opens or receives later. Libraries that are loaded
//! lazily (libxdp, libibverbs, libpcap) go to libc directly: around calls that may end in them the
//! low numbers are filled, and what they opened is found by comparing `/proc/self/fd`.

use std::collections::BTreeSet;
use std::os::fd::RawFd;

/// Where the driver's descriptors begin when the program's limit has room above.
const PREFERRED_FLOOR: RawFd = 700;

/// Descriptors that the driver needs at most, so the floor stays this far below the limit.
const ROOM: RawFd = 200;

/// Whether the driver holds this descriptor: the program must not close or replace it.
#[must_use]
pub fn owns_descriptor(fd: RawFd) -> bool {
    // SAFETY: reads one word of a static table; any number is allowed.
    unsafe { dpdk_sys::onwire_dpdk_owns_descriptor(fd) != 0 }
}

/// All descriptors that the driver holds now, ascending.
#[must_use]
pub fn descriptors() -> Vec<RawFd> {
    // SAFETY: reads a static table; any number is allowed.
    let next = |from| unsafe { dpdk_sys::onwire_dpdk_next_descriptor(from) };
    let mut found = Vec::new();
    let mut fd = next(0);
    while fd >= 0 {
        found.push(fd);
        fd = next(fd + 1);
    }
    found
}

/// The lowest number for the driver's descriptors under the current limit; 0 when the limit is too
/// low for any distance.
pub(crate) fn floor() -> RawFd {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    floor_under(RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX))
}

fn floor_under(limit: RawFd) -> RawFd {
    PREFERRED_FLOOR.min(limit - ROOM).max(0)
}

/// The process's open descriptors.
pub(crate) fn open_descriptors() -> BTreeSet<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let mut open: BTreeSet<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The folder's own descriptor is in the list and gone by now.
    // SAFETY: F_GETFD changes nothing; any number is allowed.
    open.retain(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
    open
}

/// Runs `action` with every number below the floor taken, then notes what it opened, marks that
/// close-on-exec, and frees the numbers again.
pub(crate) fn with_filled_numbers<R>(action: impl FnOnce() -> R) -> R {
    let before = open_descriptors();
    let fillers = fill();
    let result = action();
    for fd in open_descriptors() {
        if before.contains(&fd) || fillers.contains(&fd) || owns_descriptor(fd) {
            continue;
        }
        // SAFETY: the driver's libraries opened it a moment ago; only a flag is set.
        unsafe {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            dpdk_sys::onwire_dpdk_note_descriptor(fd);
        }
    }
    for fd in fillers {
        // SAFETY: made by fill() and used by nobody.
        unsafe { libc::close(fd) };
    }
    result
}

fn fill() -> BTreeSet<RawFd> {
    let floor = floor();
    let mut fillers = BTreeSet::new();
    loop {
        // SAFETY: opens a file that is always there.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd < 0 {
            return fillers;
        }
        if fd >= floor {
            // SAFETY: opened a line above.
            unsafe { libc::close(fd) };
            return fillers;
        }
        fillers.insert(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_follows_the_limit() {
        assert_eq!(floor_under(1024), 700);
        assert_eq!(floor_under(20_000), 700);
        assert_eq!(floor_under(512), 312);
        assert_eq!(floor_under(64), 0);
    }

    #[test]
    fn filled_numbers_are_free_again_and_what_was_opened_is_known() {
        let before = open_descriptors();
        // SAFETY: opens a file that is always there.
        let fd =
            with_filled_numbers(|| unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) });
        assert!(fd >= floor(), "{fd} is below the floor");
        assert!(owns_descriptor(fd));
        // SAFETY: opened above.
        unsafe { libc::close(fd) };
        assert_eq!(open_descriptors(), before);
    }
}
