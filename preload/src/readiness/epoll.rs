//! epoll. The program's set is a real one and holds its kernel descriptors; a part in the engine
//! is made when the first socket of the stack is added.
//!
//! Threads may be waiting in the kernel on a set at that moment, and would not hear of the stack's
//! sockets. So waits on a plain set are counted in the descriptor table, and making the engine's
//! part wakes the waiters with an event of ours, which they recognise.

use super::{wait_of_ms, wait_of_timespec};
use crate::descriptors::{self, Entry, Open};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::{guard, lifecycle, memory};
use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};
use engine::{Engine, EpollChange, EpollError, EpollId, EpollOp, Wait};
use libc::{epoll_event, sigset_t, timespec};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The data of the event that wakes the waiters of a set that gets its part in the engine. No
/// program's pointer or descriptor looks like this.
const WAKE: u64 = 0x6f6e_7769_7265_f0e1;
/// How long such waiters are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waiters that have seen that their set has a part in the engine now.
static NOTICED: AtomicU32 = AtomicU32::new(0);
/// One set at a time.
static UPGRADING: Mutex<()> = Mutex::new(());

/// epoll_create(2).
///
/// # Safety
/// As the C function; likewise for every function here.
pub unsafe fn epoll_create(size: c_int) -> c_int {
    // SAFETY: passed on.
    fresh(unsafe { real::epoll_create(size) })
}

/// epoll_create1(2).
///
/// # Safety
/// As the C function.
pub unsafe fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: passed on.
    fresh(unsafe { real::epoll_create1(flags) })
}

fn fresh(epfd: c_int) -> c_int {
    if guard::ours() {
        lifecycle::forget(epfd);
    }
    epfd
}

/// epoll_ctl(2).
///
/// # Safety
/// As the C function.
pub unsafe fn epoll_ctl(
    epfd: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { kernel_ctl(epfd, operation, fd, event) };
    };
    // SAFETY: the program's pointer.
    errno::answer(|| unsafe { stack_ctl(epfd, operation, &open, event) })
}

/// A change about a kernel descriptor.
///
/// # Safety
/// As the C function.
unsafe fn kernel_ctl(epfd: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    let inner = match (descriptors::get(fd), engine::get()) {
        (Entry::Epoll(inner), Some(engine)) => {
            let _ = engine.epoll_expose(inner, fd); // Without it the kernel shows its own part.
            Some(engine)
        }
        _ => None,
    };
    // SAFETY: passed on.
    let answer = unsafe { real::epoll_ctl(epfd, operation, fd, event) };
    if let (0, Some(engine), libc::EPOLL_CTL_ADD) = (answer, inner, operation)
        && !matches!(descriptors::get(epfd), Entry::Epoll(_))
    {
        // From now on waits on the outer set go through the engine, which looks at the inner one
        // before it believes its doorbell. Without that one may be told of what is gone.
        let _ = descriptors::change(|| {
            let _one = UPGRADING.lock().unwrap_or_else(PoisonError::into_inner);
            upgrade(engine, epfd)
        });
        return answer;
    }
    let counted = match operation {
        libc::EPOLL_CTL_ADD => 1,
        libc::EPOLL_CTL_DEL => -1,
        _ => return answer,
    };
    if let (0, Entry::Epoll(set), Some(engine)) = (answer, descriptors::get(epfd), engine::get()) {
        engine.epoll_kernel_count(set, counted);
    }
    answer
}

/// A change about a socket of ours.
///
/// # Safety
/// `event` is null or valid.
unsafe fn stack_ctl(
    epfd: c_int,
    operation: c_int,
    open: &Open,
    event: *mut epoll_event,
) -> Result<c_int, Errno> {
    let op = match operation {
        libc::EPOLL_CTL_ADD => EpollOp::Add,
        libc::EPOLL_CTL_MOD => EpollOp::Modify,
        libc::EPOLL_CTL_DEL => EpollOp::Delete,
        _ => return Err(Errno::EINVAL),
    };
    let wanted = if op == EpollOp::Delete {
        epoll_event { events: 0, u64: 0 }
    } else {
        memory::readable(event, size_of::<epoll_event>())?;
        // SAFETY: it can be read.
        unsafe { event.read_unaligned() }
    };
    let set = engine_part(epfd, open)?;
    let (events, data) = (wanted.events, wanted.u64);
    let change = EpollChange { op, fd: open.fd, file: open.id, events, data };
    open.engine.epoll_ctl(set, change).map_err(errno_of)?;
    if open.is_dual() {
        // The kernel's half follows; what the stack's half accepted, it accepts.
        // SAFETY: the program's event, or null.
        unsafe { kernel_ctl(epfd, operation, open.fd, event) };
    }
    Ok(0)
}

const fn errno_of(error: EpollError) -> Errno {
    match error {
        EpollError::Exists => Errno::EEXIST,
        EpollError::NotFound => Errno::ENOENT,
        EpollError::Invalid => Errno::EINVAL,
        EpollError::NoSpace => Errno(libc::ENOSPC),
        EpollError::BadDescriptor => Errno::EBADF,
    }
}

/// The engine's part of a set, made if there is none.
fn engine_part(epfd: c_int, open: &Open) -> Result<EpollId, Errno> {
    if let Entry::Epoll(set) = descriptors::get(epfd) {
        return Ok(set);
    }
    // The kernel knows whether this is an epoll set: removing what is not in it says so.
    // SAFETY: no event is needed to remove.
    let asked = errno::check(unsafe {
        real::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, open.fd, core::ptr::null_mut())
    });
    match asked {
        Ok(_) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    // Within the change, so that no fork copies the lock while it is held.
    descriptors::change(|| {
        let _one = UPGRADING.lock().unwrap_or_else(PoisonError::into_inner);
        upgrade(open.engine, epfd)
    })
}

fn upgrade(engine: &Engine, epfd: c_int) -> Result<EpollId, Errno> {
    if let Entry::Epoll(set) = descriptors::get(epfd) {
        return Ok(set); // Another thread was first.
    }
    let set = engine.epoll_create()?;
    engine.epoll_kernel_count(set, registered_in_kernel(epfd));
    NOTICED.store(0, Ordering::Release);
    let waiters = loop {
        let before = descriptors::get(epfd);
        if descriptors::exchange(epfd, before, Entry::Epoll(set)) {
            break if let Entry::PlainEpoll(waiters) = before { waiters } else { 0 };
        }
        if epfd as usize >= descriptors::CAPACITY {
            engine.epoll_release(set);
            return Err(Errno::ENOMEM);
        }
    };
    let waiters = waiters + share(engine, epfd, set);
    if waiters > 0 {
        wake(epfd, waiters);
    }
    Ok(set)
}

/// Gives the engine's part to the duplicates of `epfd`, which were made while the set was the
/// kernel's alone (mio makes one for every registry); how many threads wait on them.
fn share(engine: &Engine, epfd: c_int, set: EpollId) -> u32 {
    let mut waiters = 0;
    for other in duplicates(epfd) {
        engine.epoll_retain(set);
        loop {
            let before = descriptors::get(other);
            let count = match before {
                Entry::Kernel => 0,
                Entry::PlainEpoll(count) => count,
                Entry::Epoll(_) | Entry::Socket(_) => {
                    engine.epoll_release(set);
                    break;
                }
            };
            if descriptors::exchange(other, before, Entry::Epoll(set)) {
                waiters += count;
                break;
            }
        }
    }
    waiters
}

/// The other descriptors of this process that are the same set.
fn duplicates(epfd: c_int) -> Vec<c_int> {
    let _bypass = engine::thread::bypass();
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_set = |fd: &c_int| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        link.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]")
    };
    let numbers = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let usable = |fd: &c_int| *fd != epfd && (*fd as usize) < descriptors::CAPACITY;
    let others: Vec<c_int> =
        numbers.filter(usable).filter(|fd| !engine::protected_fd(*fd)).filter(is_set).collect();
    if others.is_empty() {
        return others;
    }
    // What is in a set cannot be added to it again, whichever descriptor names the set.
    let mut nothing = epoll_event { events: 0, u64: 0 };
    // SAFETY: descriptors of this process, a valid event.
    unsafe {
        let probe = libc::eventfd(0, libc::EFD_CLOEXEC);
        let event = &raw mut nothing;
        let put = |fd| real::epoll_ctl(fd, libc::EPOLL_CTL_ADD, probe, event) == 0;
        let take = |fd| real::epoll_ctl(fd, libc::EPOLL_CTL_DEL, probe, core::ptr::null_mut());
        let added = put(epfd);
        let is_same = |fd: &c_int| {
            let distinct = put(*fd);
            if distinct {
                take(*fd);
            }
            !distinct && errno::get() == Errno::EEXIST
        };
        let same = if added { others.into_iter().filter(is_same).collect() } else { Vec::new() };
        if added {
            take(epfd);
        }
        real::close(probe);
        same
    }
}

/// How many descriptors a real set holds (proc(5), /proc/pid/fdinfo).
fn registered_in_kernel(epfd: c_int) -> i32 {
    let _bypass = engine::thread::bypass();
    let Ok(text) = std::fs::read_to_string(format!("/proc/self/fdinfo/{epfd}")) else { return 1 };
    text.lines().filter(|line| line.starts_with("tfd:")).count() as i32
}

/// Makes the threads that wait in the kernel on `epfd` come back.
fn wake(epfd: c_int, waiters: u32) {
    let mut event = epoll_event { events: libc::EPOLLIN as u32, u64: WAKE };
    // SAFETY: descriptors of our own, and a valid event.
    unsafe {
        let signal = libc::eventfd(1, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if signal < 0 {
            return;
        }
        // Level-triggered, so each waiter that comes back wakes the next.
        if real::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, signal, &raw mut event) == 0 {
            let begun = Instant::now();
            while NOTICED.load(Ordering::Acquire) < waiters && begun.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
            real::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, signal, core::ptr::null_mut());
        }
        real::close(signal);
    }
}

/// epoll_wait(2).
///
/// # Safety
/// As the C function.
pub unsafe fn epoll_wait(
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the program's array; without a mask epoll_pwait is epoll_wait.
    unsafe { epoll_pwait(epfd, events, count, timeout_ms, core::ptr::null()) }
}

/// epoll_pwait(2).
///
/// # Safety
/// As the C function.
pub unsafe fn epoll_pwait(
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout_ms: c_int,
    mask: *const sigset_t,
) -> c_int {
    let mut left = timeout_ms;
    if part_of(epfd).is_none() {
        let begun = Instant::now();
        // SAFETY: passed on.
        let plain = || unsafe {
            if mask.is_null() {
                real::epoll_wait(epfd, events, count, timeout_ms)
            } else {
                real::epoll_pwait(epfd, events, count, timeout_ms, mask)
            }
        };
        // SAFETY: the program's array.
        if let Some(answer) = unsafe { wait_plain(epfd, events, timeout_ms == 0, plain) } {
            return answer;
        }
        if timeout_ms >= 0 {
            let spent = c_int::try_from(begun.elapsed().as_millis()).unwrap_or(c_int::MAX);
            left = timeout_ms.saturating_sub(spent).max(0);
        }
    }
    errno::answer(|| {
        let (engine, set) = part_of(epfd).ok_or(Errno::EBADF)?;
        // SAFETY: the program's array and mask.
        unsafe { wait_in_engine(engine, set, epfd, events, count, wait_of_ms(engine, left), mask) }
    })
}

/// epoll_pwait2(2).
///
/// # Safety
/// As the C function.
pub unsafe fn epoll_pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if part_of(epfd).is_none() {
        // SAFETY: passed on.
        let plain = || unsafe { real::epoll_pwait2(epfd, events, count, timeout, mask) };
        // SAFETY: null or valid.
        let never = unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec == 0 && t.tv_nsec == 0);
        // SAFETY: the program's array.
        if let Some(answer) = unsafe { wait_plain(epfd, events, never, plain) } {
            return answer;
        }
    }
    errno::answer(|| {
        let (engine, set) = part_of(epfd).ok_or(Errno::EBADF)?;
        // SAFETY: the program's pointers, null or valid.
        unsafe {
            let wait = wait_of_timespec(engine, timeout.as_ref())?;
            wait_in_engine(engine, set, epfd, events, count, wait, mask)
        }
    })
}

/// The engine's part of a set, if there is one and the caller is the program.
fn part_of(epfd: c_int) -> Option<(&'static Engine, EpollId)> {
    match descriptors::get(epfd) {
        Entry::Epoll(set) if guard::ours() => engine::get().map(|engine| (engine, set)),
        _ => None,
    }
}

/// # Safety
/// As epoll_pwait.
unsafe fn wait_in_engine(
    engine: &Engine,
    set: EpollId,
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    wait: Wait,
    mask: *const sigset_t,
) -> Result<c_int, Errno> {
    let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Errno::EINVAL)?;
    // The array may be shorter than it claims as long as nothing comes beyond its end.
    memory::writable(events, size_of::<epoll_event>())?;
    // SAFETY: the program's array has `count` places, and its mask is null or valid.
    let (events, mask) = unsafe { (core::slice::from_raw_parts_mut(events, count), mask.as_ref()) };
    loop {
        let found = engine.epoll_wait(set, epfd, events, wait, mask)? as c_int;
        // SAFETY: that many were filled.
        let kept = unsafe { without_wake(events.as_mut_ptr(), found) };
        if kept > 0 || found == 0 {
            return Ok(kept);
        }
        // The set gets its part just now; what woke its waiters is taken out of it at the end.
        drop(UPGRADING.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A wait that the thread does not come back from, because it is cancelled.
struct Cancelled(c_int);

impl Drop for Cancelled {
    fn drop(&mut self) {
        if leave(self.0) {
            NOTICED.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Waits on a set of the kernel's alone. `None` if it got a part in the engine meanwhile and there
/// is nothing to report yet.
///
/// # Safety
/// `events` has room for what `call` answers.
unsafe fn wait_plain(
    epfd: c_int,
    events: *mut epoll_event,
    never_waits: bool,
    call: impl FnOnce() -> c_int,
) -> Option<c_int> {
    if never_waits || !guard::ours() || !enter(epfd) {
        return Some(call());
    }
    let cancelled = Cancelled(epfd);
    let answer = call();
    core::mem::forget(cancelled);
    let errno = errno::get();
    if !leave(epfd) {
        return Some(answer);
    }
    // SAFETY: the kernel has filled that many.
    let answer = unsafe { without_wake(events, answer) };
    NOTICED.fetch_add(1, Ordering::AcqRel);
    errno::set(errno);
    if answer == 0 { None } else { Some(answer) }
}

/// Counts a waiter in; whether the set is the kernel's alone.
fn enter(epfd: c_int) -> bool {
    if usize::try_from(epfd).map_or(true, |fd| fd >= descriptors::CAPACITY) {
        return false;
    }
    loop {
        let before = descriptors::get(epfd);
        let after = match before {
            Entry::Kernel => Entry::PlainEpoll(1),
            Entry::PlainEpoll(waiters) => Entry::PlainEpoll(waiters + 1),
            Entry::Epoll(_) | Entry::Socket(_) => return false,
        };
        if descriptors::exchange(epfd, before, after) {
            return true;
        }
    }
}

/// Counts a waiter out; whether the set has got a part in the engine.
fn leave(epfd: c_int) -> bool {
    loop {
        let before = descriptors::get(epfd);
        let after = match before {
            Entry::PlainEpoll(waiters @ 2..) => Entry::PlainEpoll(waiters - 1),
            Entry::PlainEpoll(_) => Entry::Kernel,
            Entry::Kernel | Entry::Socket(_) => return false, // Closed meanwhile.
            Entry::Epoll(_) => return true,
        };
        if descriptors::exchange(epfd, before, after) {
            return false;
        }
    }
}

/// Takes our own event out of what the kernel reported; how many are left.
///
/// # Safety
/// `events` holds `count` events, if that is positive.
unsafe fn without_wake(events: *mut epoll_event, count: c_int) -> c_int {
    let Ok(len) = usize::try_from(count) else { return count };
    if len == 0 {
        return 0;
    }
    // SAFETY: as the caller says.
    let events = unsafe { core::slice::from_raw_parts_mut(events, len) };
    let mut kept = 0;
    for at in 0..len {
        if events[at].u64 != WAKE {
            events[kept] = events[at];
            kept += 1;
        }
    }
    kept as c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_event_is_taken_out() {
        let event = |u64| epoll_event { events: 1, u64 };
        let mut events = [event(1), event(WAKE), event(2)];
        // SAFETY: three events.
        assert_eq!(unsafe { without_wake(events.as_mut_ptr(), 3) }, 2);
        assert_eq!({ events[1].u64 }, 2);
        // SAFETY: a failure has no events.
        assert_eq!(unsafe { without_wake(core::ptr::null_mut(), -1) }, -1);
    }

    #[test]
    fn waiters_are_counted_in_and_out() {
        let fd = descriptors::CAPACITY as c_int - 7;
        assert!(enter(fd) && enter(fd));
        assert_eq!(descriptors::get(fd), Entry::PlainEpoll(2));
        assert!(!leave(fd) && !leave(fd));
        assert_eq!(descriptors::get(fd), Entry::Kernel);
        assert!(!enter(-1));
    }
}
