//! poll(2), ppoll(2) and their fortified forms.

use super::{Watched, concerns_us, wait_of_ms, wait_of_timespec};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::memory;
use core::ffi::c_int;
use engine::{Engine, Wait};
use libc::{nfds_t, pollfd, sigset_t, size_t, timespec};

/// The engine, if one of `entries` concerns it.
///
/// # Safety
/// `entries` is null or points to `count` entries.
unsafe fn concerned<'a>(
    entries: *mut pollfd,
    count: nfds_t,
) -> Option<(&'static Engine, &'a mut [pollfd])> {
    let engine = engine::get()?;
    let count = usize::try_from(count).ok()?;
    // What cannot be written is the kernel's to refuse.
    memory::writable(entries, count.checked_mul(size_of::<pollfd>())?).ok()?;
    if entries.is_null() {
        return None;
    }
    // SAFETY: they can be read and written.
    let entries = unsafe { core::slice::from_raw_parts_mut(entries, count) };
    entries.iter().any(|entry| concerns_us(entry.fd)).then_some((engine, entries))
}

/// poll(2).
///
/// # Safety
/// As the C function; likewise for every function here.
pub unsafe fn poll(entries: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int {
    // SAFETY: the program's list.
    match unsafe { concerned(entries, count) } {
        Some((engine, list)) => {
            errno::answer(|| wait_on(engine, list, wait_of_ms(engine, timeout_ms), None))
        }
        // SAFETY: passed on.
        None => unsafe { real::poll(entries, count, timeout_ms) },
    }
}

/// ppoll(2).
///
/// # Safety
/// As the C function.
pub unsafe fn ppoll(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's list and pointers, null or valid.
    unsafe {
        match concerned(entries, count) {
            Some((engine, list)) => errno::answer(|| {
                let wait = wait_of_timespec(engine, timeout.as_ref())?;
                wait_on(engine, list, wait, mask.as_ref())
            }),
            None => real::ppoll(entries, count, timeout, mask),
        }
    }
}

/// poll, fortified: the real one aborts when the list is shorter than its count.
///
/// # Safety
/// As the C function.
pub unsafe fn __poll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout_ms: c_int,
    room: size_t,
) -> c_int {
    // SAFETY: passed on.
    unsafe {
        if room / size_of::<pollfd>() < count as usize {
            return real::__poll_chk(entries, count, timeout_ms, room);
        }
        poll(entries, count, timeout_ms)
    }
}

/// ppoll, fortified.
///
/// # Safety
/// As the C function.
pub unsafe fn __ppoll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    // SAFETY: passed on.
    unsafe {
        if room / size_of::<pollfd>() < count as usize {
            return real::__ppoll_chk(entries, count, timeout, mask, room);
        }
        ppoll(entries, count, timeout, mask)
    }
}

fn wait_on(
    engine: &Engine,
    list: &mut [pollfd],
    wait: Wait,
    mask: Option<&sigset_t>,
) -> Result<c_int, Errno> {
    let mut watched = Watched::default();
    for (index, entry) in list.iter().enumerate().filter(|(_, entry)| entry.fd >= 0) {
        watched.add(engine, index, entry.fd, entry.events);
    }
    engine.poll(&mut watched.stack, &mut watched.kernel, wait, mask)?;
    list.iter_mut().for_each(|entry| entry.revents = 0);
    watched.for_each_ready(|index, found| list[index].revents |= found);
    Ok(list.iter().filter(|entry| entry.revents != 0).count() as c_int)
}
