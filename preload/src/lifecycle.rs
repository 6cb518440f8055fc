//! Making, copying, changing and closing descriptors.
//!
//! The kernel's call comes first and its answer is the program's; then the descriptor table and
//! the engine's counts follow, within one [`descriptors::change`].

use crate::descriptors::{self, Entry, Open};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::policy::{self, KERNEL_FLAGS, KERNEL_LIVE, MAPPED};
use crate::{guard, memory, spares, startup};
use core::ffi::{c_int, c_uint, c_ulong};
use core::sync::atomic::{AtomicBool, Ordering};
use engine::{Engine, Kind, Path};
use stack::error::Error;
use stack::socket::{Family, Shutdown};

/// socket(2).
///
/// # Safety
/// As the C function; likewise for every function here.
pub unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let wanted = if guard::ours() { policy::candidate(domain, kind, protocol) } else { None };
    let Some(wanted) = wanted else {
        // SAFETY: passed on.
        let fd = unsafe { real::socket(domain, kind, protocol) };
        if guard::ours() {
            forget(fd);
        }
        return fd;
    };
    errno::answer(|| {
        let engine = startup::engine();
        let fd = match wanted {
            Kind::Tcp => descriptors::change(|| spares::socket(domain, kind))?,
            // SAFETY: passed on.
            Kind::Udp => errno::check(unsafe { real::socket(domain, kind, protocol) })?,
        };
        forget(fd);
        let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
        let flags = if domain == libc::AF_INET6 { MAPPED } else { 0 };
        adopt_new(engine, fd, wanted, nonblocking, flags);
        Ok(fd)
    })
}

/// Puts a socket of the stack beside the kernel's new one.
fn adopt_new(engine: &'static Engine, fd: c_int, kind: Kind, nonblocking: bool, flags: u32) {
    descriptors::change(|| {
        let made = engine.create(kind, Family::V4);
        let id = match made {
            Ok(id) => id,
            Err(error) => {
                // The kernel's socket is complete without us, and this is said, not hidden.
                guard::say(&format!("a socket stays with the kernel: {error} (tables full?)"));
                spares::touch(fd);
                return;
            }
        };
        if let Some(file) = engine.file(id) {
            file.set_nonblocking(nonblocking);
            file.caller_flags.store(flags, Ordering::Release);
        }
        if descriptors::replace(fd, Entry::Socket(id)).is_none() {
            spares::touch(fd);
            engine.release(id);
        }
    });
}

/// What a number meant before is gone: its descriptor was closed where no hook sees it.
pub fn forget(fd: c_int) {
    if fd >= 0 && descriptors::get(fd) != Entry::Kernel {
        descriptors::change(|| drop_entry(fd));
    }
}

/// Takes the table's entry away and gives back what it held.
fn drop_entry(fd: c_int) {
    spares::touch(fd);
    let entry = descriptors::replace(fd, Entry::Kernel);
    let Some(engine) = engine::get() else { return };
    match entry {
        Some(Entry::Socket(id)) => engine.release(id),
        Some(Entry::Epoll(id)) => engine.epoll_release(id),
        Some(Entry::PlainEpoll(_) | Entry::Kernel) | None => {}
    }
}

/// socketpair(2): never ours, but its numbers may have been.
///
/// # Safety
/// As the C function.
pub unsafe fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
    // SAFETY: passed on; on success there are two descriptors.
    unsafe {
        let answer = real::socketpair(domain, kind, protocol, pair);
        if answer == 0 && guard::ours() {
            forget(*pair);
            forget(*pair.add(1));
        }
        answer
    }
}

/// close(2).
///
/// # Safety
/// As the C function.
pub unsafe fn close(fd: c_int) -> c_int {
    if !guard::ours() {
        // SAFETY: passed on.
        return unsafe { real::close(fd) };
    }
    if descriptors::get(fd) == Entry::Kernel {
        if is_protected(fd) {
            return errno::answer(|| Err(Errno::EBADF));
        }
        // SAFETY: passed on.
        return unsafe { real::close(fd) };
    }
    linger(fd);
    descriptors::change(|| {
        // The number must mean nothing before the kernel can give it to another thread.
        let entry = descriptors::replace(fd, Entry::Kernel);
        let answer = errno::from_raw(spares::close(fd)) as c_int;
        let errno = errno::get();
        match (entry, engine::get()) {
            (Some(Entry::Socket(id)), Some(engine)) => engine.release(id),
            (Some(Entry::Epoll(id)), Some(engine)) => engine.epoll_release(id),
            _ => {}
        }
        errno::set(errno);
        answer
    })
}

/// Whether a socket of this process was ever told to linger.
static LINGERS: AtomicBool = AtomicBool::new(false);

/// From now on close(2) asks whether it has to wait.
pub fn note_linger() {
    LINGERS.store(true, Ordering::Relaxed);
}

/// What `SO_LINGER` waits for when `fd` is closed. Before anything else, because nothing may be
/// held meanwhile.
fn linger(fd: c_int) {
    if LINGERS.load(Ordering::Relaxed)
        && guard::ours()
        && let (Entry::Socket(id), Some(engine)) = (descriptors::get(fd), engine::get())
    {
        engine.linger(id);
    }
}

/// Whether a descriptor belongs to the engine or the driver.
fn is_protected(fd: c_int) -> bool {
    engine::get().is_some() && engine::protected_fd(fd)
}

/// shutdown(2).
///
/// # Safety
/// As the C function.
pub unsafe fn shutdown(fd: c_int, how: c_int) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::shutdown(fd, how) };
    };
    errno::answer(|| {
        let which = match how {
            libc::SHUT_RD => Shutdown::Read,
            libc::SHUT_WR => Shutdown::Write,
            libc::SHUT_RDWR => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        if open.is_dual() {
            // SAFETY: the descriptor is a kernel socket as well.
            unsafe { real::shutdown(fd, how) };
        }
        open.engine.with(open.id, |shard, socket, now| shard.shutdown(now, socket, which))?;
        Ok(0)
    })
}

/// Makes `new` mean what `old` means, after the kernel has made it a copy.
fn inherit(old: c_int, new: c_int) {
    drop_entry(new);
    let Some(engine) = engine::get() else { return };
    let entry = match descriptors::get(old) {
        Entry::Socket(id) if engine.retain(id).is_ok() => Entry::Socket(id),
        Entry::Epoll(id) => {
            engine.epoll_retain(id);
            Entry::Epoll(id)
        }
        _ => return,
    };
    if descriptors::replace(new, entry).is_none() {
        match entry {
            Entry::Socket(id) => engine.release(id),
            Entry::Epoll(id) => engine.epoll_release(id),
            Entry::Kernel | Entry::PlainEpoll(_) => {}
        }
    }
}

/// Runs the kernel's copying call, and copies the entry.
fn copy(old: c_int, call: impl FnOnce() -> c_int) -> c_int {
    if !guard::ours() {
        return call();
    }
    descriptors::change(|| {
        spares::touch(old);
        let new = call();
        if new >= 0 && new != old {
            let errno = errno::get();
            inherit(old, new);
            errno::set(errno);
        }
        new
    })
}

/// dup(2).
///
/// # Safety
/// As the C function.
pub unsafe fn dup(fd: c_int) -> c_int {
    // SAFETY: passed on.
    copy(fd, || unsafe { real::dup(fd) })
}

/// dup2(2).
///
/// # Safety
/// As the C function.
pub unsafe fn dup2(fd: c_int, new: c_int) -> c_int {
    if guard::ours() && is_protected(new) {
        return errno::answer(|| Err(Errno::EBUSY));
    }
    if fd != new {
        linger(new);
    }
    // SAFETY: passed on.
    copy(fd, || unsafe { real::dup2(fd, new) })
}

/// dup3(2).
///
/// # Safety
/// As the C function.
pub unsafe fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
    if guard::ours() && is_protected(new) {
        return errno::answer(|| Err(Errno::EBUSY));
    }
    if fd != new {
        linger(new);
    }
    // SAFETY: passed on.
    copy(fd, || unsafe { real::dup3(fd, new, flags) })
}

/// fcntl(2).
///
/// # Safety
/// As the C function.
pub unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: passed on, in every call.
    unsafe {
        match command {
            libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
                copy(fd, || real::fcntl(fd, command, argument))
            }
            libc::F_SETFL | libc::F_GETFL => match descriptors::any_socket(fd) {
                Some(open) => status_flags(&open, command, argument),
                None => real::fcntl(fd, command, argument),
            },
            libc::F_SETOWN | F_SETOWN_EX | F_SETSIG => set_owner(fd, command, argument),
            _ => real::fcntl(fd, command, argument),
        }
    }
}

pub use self::fcntl as fcntl64;

/// `F_GETFL` and `F_SETFL` of a socket that the engine knows. The kernel's half of a listener in
/// both worlds never blocks, whatever the program chose.
///
/// # Safety
/// As the C function.
unsafe fn status_flags(open: &Open, command: c_int, argument: usize) -> c_int {
    const NONBLOCK: usize = libc::O_NONBLOCK as usize;
    /// What F_SETFL can change besides.
    const OTHERS: usize =
        (libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME) as usize;
    let sets = command == libc::F_SETFL;
    if sets && argument & OTHERS != 0 {
        open.mark(KERNEL_FLAGS);
    }
    if is_the_stacks_alone(open) {
        if sets {
            open.file.set_nonblocking(argument & NONBLOCK != 0);
            return 0;
        }
        return libc::O_RDWR | if open.file.nonblocking() { libc::O_NONBLOCK } else { 0 };
    }
    // SAFETY: passed on.
    unsafe {
        if sets {
            if argument & OTHERS != 0 {
                spares::touch(open.fd);
            }
            let forced = if never_blocks_in_kernel(open) { NONBLOCK } else { 0 };
            let answer = real::fcntl(open.fd, command, argument | forced);
            if answer == 0 {
                spares::note_nonblocking(open.fd, (argument | forced) & NONBLOCK != 0);
                open.file.set_nonblocking(argument & NONBLOCK != 0);
                open.file.set_async(argument & libc::O_ASYNC as usize != 0, open.fd);
            }
            return answer;
        }
        let answer = real::fcntl(open.fd, command, 0);
        if answer < 0 {
            return answer;
        }
        let nonblocking = if open.file.nonblocking() { libc::O_NONBLOCK } else { 0 };
        answer & !libc::O_NONBLOCK | nonblocking
    }
}

/// Whether the kernel's half of the socket does nothing and never will, so that its status flags
/// need not be what the program chose.
fn is_the_stacks_alone(open: &Open) -> bool {
    open.file.kind() == Kind::Tcp && open.file.path() == Path::Stack && !open.has(KERNEL_FLAGS)
}

const F_SETSIG: c_int = 10;
const F_SETOWN_EX: c_int = 15;

/// `struct f_owner_ex`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Owner {
    kind: c_int,
    pid: c_int,
}

/// Who is told of a socket's events, and by which signal. The kernel checks it, and answers when
/// the program asks again.
///
/// # Safety
/// As fcntl(2).
unsafe fn set_owner(fd: c_int, command: c_int, argument: usize) -> c_int {
    const F_OWNER_TID: c_int = 0;
    const F_OWNER_PGRP: c_int = 2;
    spares::touch(fd);
    // SAFETY: passed on.
    let answer = unsafe { real::fcntl(fd, command, argument) };
    if let (0, Some(open)) = (answer, descriptors::any_socket(fd)) {
        match command {
            F_SETSIG => open.file.set_signal(argument as u8),
            libc::F_SETOWN => open.file.set_owner(argument as c_int, false),
            _ => {
                // SAFETY: the kernel has read it there.
                let Owner { kind, pid } = unsafe { *(argument as *const Owner) };
                let owner = if kind == F_OWNER_PGRP { -pid } else { pid };
                open.file.set_owner(owner, kind == F_OWNER_TID);
            }
        }
    }
    answer
}

/// See [`status_flags`].
fn never_blocks_in_kernel(open: &Open) -> bool {
    open.file.kind() == Kind::Tcp && open.file.path() == Path::Both && open.has(KERNEL_LIVE)
}

const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;
const SIOCOUTQNSD: c_ulong = 0x894b;
const SIOCATMARK: c_ulong = 0x8905;

/// ioctl(2).
///
/// # Safety
/// As the C function.
pub unsafe fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int {
    match request {
        libc::FIONBIO
        | libc::FIOASYNC
        | FIOSETOWN
        | SIOCSPGRP
        | libc::FIONREAD
        | libc::TIOCOUTQ
        | SIOCOUTQNSD
        | SIOCATMARK => {}
        // SAFETY: passed on.
        _ => return unsafe { real::ioctl(fd, request, argument) },
    }
    let Some(open) = descriptors::any_socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::ioctl(fd, request, argument) };
    };
    // SAFETY: passed on.
    unsafe { socket_ioctl(&open, request, argument) }
}

/// # Safety
/// As the C function.
unsafe fn socket_ioctl(open: &Open, request: c_ulong, argument: usize) -> c_int {
    let value = argument as *mut c_int;
    if request == libc::FIONBIO {
        if let Err(errno) = memory::readable(value, size_of::<c_int>()) {
            return errno::answer(|| Err(errno));
        }
        // SAFETY: it can be read.
        let on = unsafe { *value } != 0;
        open.file.set_nonblocking(on);
        if is_the_stacks_alone(open) {
            return 0;
        }
        let forced = on || never_blocks_in_kernel(open);
        let mut value = c_int::from(forced);
        spares::note_nonblocking(open.fd, forced);
        // SAFETY: a pointer to an int of ours.
        return unsafe { real::ioctl(open.fd, request, (&raw mut value) as usize) };
    }
    let known = memory::readable(value, size_of::<c_int>()).is_ok();
    // SAFETY: it can be read.
    let given = if known { unsafe { *value } } else { 0 };
    if open.file.path() == Path::Kernel || matches!(request, libc::FIOASYNC | FIOSETOWN | SIOCSPGRP)
    {
        open.mark(KERNEL_FLAGS);
        spares::touch(open.fd);
        // SAFETY: passed on.
        let answer = unsafe { real::ioctl(open.fd, request, argument) };
        match request {
            libc::FIOASYNC if answer == 0 => open.file.set_async(given != 0, open.fd),
            FIOSETOWN | SIOCSPGRP if answer == 0 => open.file.set_owner(given, false),
            _ => {}
        }
        return answer;
    }
    errno::answer(|| {
        let count = queue_size(open, request)?;
        memory::writable(value, size_of::<c_int>())?;
        // SAFETY: it can be written.
        unsafe { *value = count };
        Ok(0)
    })
}

/// What `FIONREAD` and its kin answer.
fn queue_size(open: &Open, request: c_ulong) -> Result<c_int, Errno> {
    let count = open.engine.with(open.id, |shard, socket, _| match request {
        libc::FIONREAD => shard.receive_available(socket),
        libc::TIOCOUTQ => shard.send_queued(socket),
        SIOCOUTQNSD => shard.send_unsent(socket),
        _ => shard.at_urgent_mark(socket).map(u32::from),
    });
    let count = match count {
        Err(Error::OperationNotSupported) => return Err(Errno(libc::ENOTTY)),
        other => other?,
    };
    if count == 0 && open.is_dual() && request == libc::FIONREAD {
        let mut waiting: c_int = 0;
        // SAFETY: a pointer to an int.
        unsafe { real::ioctl(open.fd, request, (&raw mut waiting) as usize) };
        return Ok(waiting);
    }
    Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
}

/// close_range(2), which must not close the engine's own descriptors.
///
/// # Safety
/// As the C function.
pub unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    const CLOEXEC: c_int = 4;
    let only_marks = flags & CLOEXEC != 0;
    if !guard::ours() || only_marks || first > last {
        // SAFETY: passed on.
        return unsafe { real::close_range(first, last, flags) };
    }
    let ours = |fd: &c_int| *fd as c_uint <= last;
    let from = c_int::try_from(first).unwrap_or(c_int::MAX);
    let known: Vec<c_int> =
        descriptors::ours_from(from).map(|(fd, _)| fd).take_while(ours).collect();
    for fd in known {
        // SAFETY: the program wants it closed.
        unsafe { close(fd) };
    }
    close_gaps(first, last, flags)
}

/// Closes the range but for the protected descriptors in it.
fn close_gaps(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let mut from = first;
    loop {
        let start = c_int::try_from(from).unwrap_or(c_int::MAX);
        let next = engine::get().and_then(|_| engine::next_protected_fd(start));
        let stop = next.map(|fd| fd as c_uint).filter(|stop| *stop <= last);
        let end = stop.map_or(last, |stop| stop.wrapping_sub(1));
        if stop != Some(from) {
            // SAFETY: a range of the program's.
            let answer = unsafe { real::close_range(from, end, flags) };
            if answer < 0 {
                return answer;
            }
        }
        match stop {
            Some(stop) if stop < last => from = stop + 1,
            _ => return 0,
        }
    }
}

/// closefrom(3).
///
/// # Safety
/// As the C function.
pub unsafe fn closefrom(first: c_int) {
    // SAFETY: passed on.
    unsafe {
        let first = first.max(0);
        if close_range(first as c_uint, c_uint::MAX, 0) < 0 {
            real::closefrom(first); // A kernel without close_range.
        }
    }
}
