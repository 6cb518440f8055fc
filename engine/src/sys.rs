//! The kernel, called directly.
//!
//! The library interposes libc's functions for its own calls too, `syscall()` among them. What the
//! engine asks of the kernel must not come back to it through a hook, so these are the bare system
//! calls. Each returns the kernel's answer; an error is the errno.

use core::ffi::{c_int, c_void};
use core::sync::atomic::AtomicU32;
use core::time::Duration;

/// An errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

/// The kernel's answer.
pub type Result<T> = core::result::Result<T, Errno>;

#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn raw(number: i64, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the caller vouches for the call's own effects; the instruction clobbers rcx and r11.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn raw(number: i64, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the caller vouches for the call's own effects.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number as isize,
            inlateout("x0") a[0] as isize => answer,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    answer
}

/// A system call.
///
/// # Safety
/// Pointers among the arguments must be valid for what the call does with them.
#[inline]
pub unsafe fn call(number: i64, a: [usize; 6]) -> Result<usize> {
    // SAFETY: passed on.
    let answer = unsafe { raw(number, a) };
    if (-4095..0).contains(&answer) { Err(Errno(-answer as c_int)) } else { Ok(answer as usize) }
}

macro_rules! sys {
    ($number:ident $(, $argument:expr)*) => {{
        let given: &[usize] = &[$($argument as usize),*];
        let mut arguments = [0_usize; 6];
        arguments[..given.len()].copy_from_slice(given);
        call(libc::$number, arguments)
    }};
}

/// close(2).
pub fn close(fd: c_int) {
    // SAFETY: no pointers. Nothing can be done about an error.
    let _ = unsafe { sys!(SYS_close, fd) };
}

/// gettid(2).
pub fn gettid() -> u32 {
    // SAFETY: no pointers; cannot fail.
    unsafe { sys!(SYS_gettid) }.unwrap_or(0) as u32
}

/// getpid(2).
pub fn getpid() -> u32 {
    // SAFETY: no pointers; cannot fail.
    unsafe { sys!(SYS_getpid) }.unwrap_or(0) as u32
}

/// Whether the kernel knows a process or thread with this id (zombies count).
pub fn exists(pid: u32) -> bool {
    // SAFETY: no pointers; signal 0 sends nothing.
    !matches!(unsafe { sys!(SYS_kill, pid as c_int, 0) }, Err(Errno(libc::ESRCH)))
}

/// kill(2).
pub fn kill(pid: c_int, signal: c_int) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { sys!(SYS_kill, pid, signal) }.map(drop)
}

/// tkill(2).
pub fn kill_thread(tid: c_int, signal: c_int) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { sys!(SYS_tkill, tid, signal) }.map(drop)
}

/// rt_sigqueueinfo(2).
///
/// # Safety
/// The information is valid.
pub unsafe fn queue_signal(
    pid: c_int,
    signal: c_int,
    information: *const libc::siginfo_t,
) -> Result<()> {
    // SAFETY: as the caller says.
    unsafe { sys!(SYS_rt_sigqueueinfo, pid, signal, information) }.map(drop)
}

/// read(2).
pub fn read(fd: c_int, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    unsafe { sys!(SYS_read, fd, into.as_mut_ptr(), into.len()) }
}

/// write(2).
pub fn write(fd: c_int, data: &[u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    unsafe { sys!(SYS_write, fd, data.as_ptr(), data.len()) }
}

/// send(2) without SIGPIPE and without waiting.
pub fn send_now(fd: c_int, data: &[u8]) -> Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the buffer is valid for its length.
    unsafe { sys!(SYS_sendto, fd, data.as_ptr(), data.len(), flags, 0, 0) }
}

/// recv(2) without waiting.
pub fn receive_now(fd: c_int, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    unsafe { sys!(SYS_recvfrom, fd, into.as_mut_ptr(), into.len(), libc::MSG_DONTWAIT, 0, 0) }
}

/// socket(2), close-on-exec and nonblocking.
pub fn socket(domain: c_int, kind: c_int) -> Result<c_int> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    unsafe { sys!(SYS_socket, domain, kind, 0) }.map(|fd| fd as c_int)
}

/// socketpair(2) of sequenced packets, close-on-exec and nonblocking.
pub fn packet_pair() -> Result<[c_int; 2]> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut pair = [-1; 2];
    // SAFETY: the array has room for both.
    unsafe { sys!(SYS_socketpair, libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) }?;
    Ok(pair)
}

/// An abstract Unix address and its length.
pub fn abstract_address(name: &[u8]) -> (libc::sockaddr_un, usize) {
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let room = &mut address.sun_path[1..];
    let len = name.len().min(room.len());
    for (to, from) in room.iter_mut().zip(&name[..len]) {
        *to = *from as libc::c_char;
    }
    (address, core::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + len)
}

/// bind(2) to an abstract Unix address.
pub fn bind_abstract(fd: c_int, name: &[u8]) -> Result<()> {
    let (address, len) = abstract_address(name);
    // SAFETY: the address is valid for its length.
    unsafe { sys!(SYS_bind, fd, &raw const address, len) }.map(drop)
}

/// Sends one octet to an abstract Unix datagram address, without waiting.
pub fn send_to_abstract(fd: c_int, name: &[u8]) -> Result<()> {
    let (address, len) = abstract_address(name);
    let octet = [1_u8];
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: data and address are valid for their lengths.
    unsafe { sys!(SYS_sendto, fd, octet.as_ptr(), 1, flags, &raw const address, len) }.map(drop)
}

/// Sends `data` and a descriptor.
pub fn send_descriptor(fd: c_int, data: &[u8], descriptor: c_int) -> Result<()> {
    let mut part = libc::iovec { iov_base: data.as_ptr() as *mut c_void, iov_len: data.len() };
    let mut control = ControlBuffer::default();
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the control buffer has room for one header
    // and one descriptor.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(descriptor);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header's pointers are valid until the call returns.
    unsafe { sys!(SYS_sendmsg, fd, &raw const message, flags) }.map(drop)
}

#[repr(C, align(16))]
struct ControlBuffer([u8; 64]);

impl Default for ControlBuffer {
    fn default() -> Self {
        ControlBuffer([0; 64])
    }
}

/// Receives data and a descriptor if one came with it; `Ok((0, None))` at the end of the stream.
pub fn receive_descriptor(fd: c_int, into: &mut [u8]) -> Result<(usize, Option<c_int>)> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = ControlBuffer::default();
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<ControlBuffer>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header's pointers are valid until the call returns.
    let len = unsafe { sys!(SYS_recvmsg, fd, &raw mut message, flags) }?;
    // SAFETY: the kernel has filled in the control part and its length.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let rights = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS;
        let descriptor = rights.then(|| libc::CMSG_DATA(header).cast::<c_int>().read_unaligned());
        Ok((len, descriptor))
    }
}

/// fcntl(2) with a number as its argument.
pub fn fcntl(fd: c_int, command: c_int, argument: c_int) -> Result<c_int> {
    // SAFETY: the commands used here take numbers.
    unsafe { sys!(SYS_fcntl, fd, command, argument) }.map(|answer| answer as c_int)
}

/// Moves a descriptor of ours out of the low numbers, which programs expect to get: POSIX gives
/// the lowest free one. Not beyond 1023, which select(2) and the kernel's tables make expensive.
pub fn move_high(fd: c_int) -> c_int {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid.
    let _ = unsafe { sys!(SYS_getrlimit, libc::RLIMIT_NOFILE, &raw mut limit) };
    let lowest = (limit.rlim_cur.min(1_024) as c_int - 160).max(16);
    match fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) {
        Ok(moved) => {
            close(fd);
            moved
        }
        Err(_) => fd,
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: libc::c_long::from(duration.subsec_nanos() as i32),
    }
}

/// ppoll(2). With `mask`, that is the thread's signal mask while it waits.
pub fn ppoll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
    mask: Option<&SignalSet>,
) -> Result<usize> {
    let time = timeout.map(timespec);
    let time = time.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let mask = mask.map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: every pointer is valid or null; the kernel's signal set has 8 octets.
    unsafe { sys!(SYS_ppoll, fds.as_mut_ptr(), fds.len(), time, mask, 8) }
}

/// epoll_ctl(2).
pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, events: u32, data: u64) -> Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the event is valid until the call returns.
    unsafe { sys!(SYS_epoll_ctl, epfd, op, fd, &raw mut event) }.map(drop)
}

/// epoll_wait(2) that does not wait, or does for `timeout_ms` (-1: for ever).
pub fn epoll_wait(
    epfd: c_int,
    events: &mut [libc::epoll_event],
    timeout_ms: c_int,
) -> Result<usize> {
    let len = events.len().min(c_int::MAX as usize);
    // SAFETY: the buffer is valid for its length; a null mask changes nothing.
    unsafe { sys!(SYS_epoll_pwait, epfd, events.as_mut_ptr(), len, timeout_ms, 0, 8) }
}

/// Sleeps while `word` is `expected`, until woken or the timeout; `Err(EINTR)` after a signal.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
    let time = timeout.map(timespec);
    let time = time.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the word and the time are valid; FUTEX_WAIT (not private): other processes wake it.
    unsafe { sys!(SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, time, 0, 0) }.map(drop)
}

/// Wakes up to `count` sleepers on `word`.
pub fn futex_wake(word: &AtomicU32, count: u32) {
    // SAFETY: the word is valid.
    let _ = unsafe { sys!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count, 0, 0, 0) };
}

/// The kernel's signal set.
pub type SignalSet = u64;

/// The signals whose blocking would not defer them but kill the process, when they are raised by
/// an instruction of the thread itself.
const SYNCHRONOUS: SignalSet = 1 << (libc::SIGSEGV - 1)
    | 1 << (libc::SIGBUS - 1)
    | 1 << (libc::SIGFPE - 1)
    | 1 << (libc::SIGILL - 1)
    | 1 << (libc::SIGTRAP - 1);

/// Every signal but those that an instruction raises.
pub const ALL_SIGNALS: SignalSet = !SYNCHRONOUS;

/// Sets the thread's signal mask and returns the one before.
pub fn set_signal_mask(mask: SignalSet) -> SignalSet {
    let mut before: SignalSet = 0;
    // SAFETY: both sets are valid and have the kernel's size.
    let _ =
        unsafe { sys!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8) };
    before
}

/// The kernel's part of libc's signal set.
pub fn signal_set(set: &libc::sigset_t) -> SignalSet {
    // SAFETY: libc's set begins with the kernel's 64 bits.
    unsafe { core::ptr::from_ref(set).cast::<SignalSet>().read() }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: u32) -> Result<c_int> {
    // SAFETY: no pointers.
    unsafe { sys!(SYS_pidfd_open, pid, 0) }.map(|fd| fd as c_int)
}

/// clone(2) as fork, but without a signal to the parent at the child's end, which therefore only
/// `__WALL` finds.
///
/// # Safety
/// The child has one thread and whatever state the other threads' locks were in: it must not use
/// libc's allocator or stdio.
pub unsafe fn clone_unseen() -> Result<u32> {
    // SAFETY: as the caller promised; no pointers (the child runs on a copy of this stack).
    unsafe { sys!(SYS_clone, 0, 0, 0, 0, 0) }.map(|pid| pid as u32)
}

/// Waits for a child made by [`clone_unseen`].
pub fn wait_unseen(pid: u32) {
    loop {
        // SAFETY: null pointers: nothing is reported back.
        let answer = unsafe { sys!(SYS_wait4, pid as c_int, 0, libc::__WALL, 0) };
        if answer != Err(Errno(libc::EINTR)) {
            return;
        }
    }
}

/// exit_group(2).
pub fn exit(code: c_int) -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { sys!(SYS_exit_group, code) };
    }
}

/// alarm(2).
pub fn alarm(seconds: u32) {
    // SAFETY: no pointers.
    let _ = unsafe { sys!(SYS_alarm, seconds) };
}

/// mincore(2): which pages from `at` on are in use, an octet for each.
pub fn pages_in_use(at: usize, pages: &mut [u8]) -> Result<()> {
    // SAFETY: the kernel writes an octet for each page, as many as there is room for.
    unsafe { sys!(SYS_mincore, at, pages.len() * 4_096, pages.as_mut_ptr()) }.map(drop)
}

/// madvise(2), `MADV_COLLAPSE`: huge pages in place of small ones. Their content stays.
pub fn join_pages(at: usize, octets: usize) -> Result<()> {
    const MADV_COLLAPSE: c_int = 25; // Since Linux 6.1; libc's is not there for every target.
    // SAFETY: no memory changes that anybody could see.
    unsafe { sys!(SYS_madvise, at, octets, MADV_COLLAPSE) }.map(drop)
}

/// setsid(2).
pub fn setsid() {
    // SAFETY: no pointers.
    let _ = unsafe { sys!(SYS_setsid) };
}

/// sched_yield(2).
pub fn yield_now() {
    // SAFETY: no pointers.
    let _ = unsafe { sys!(SYS_sched_yield) };
}

/// Names the process (at most 15 octets and the final zero).
pub fn set_name(name: &core::ffi::CStr) {
    // SAFETY: the name ends with a zero.
    let _ = unsafe { sys!(SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// chdir(2).
pub fn chdir(path: &core::ffi::CStr) {
    // SAFETY: the path ends with a zero.
    let _ = unsafe { sys!(SYS_chdir, path.as_ptr()) };
}

/// dup3(2), close-on-exec not set.
pub fn dup_to(fd: c_int, to: c_int) {
    // SAFETY: no pointers.
    let _ = unsafe { sys!(SYS_dup3, fd, to, 0) };
}

/// open(2), close-on-exec.
pub fn open(path: &core::ffi::CStr, flags: c_int) -> Result<c_int> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero.
    unsafe { sys!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }.map(|fd| fd as c_int)
}

/// Sets a signal's disposition to the default.
pub fn default_signal(signal: c_int) {
    // The kernel's struct sigaction: handler, flags, restorer, mask; zero is SIG_DFL.
    let action = [0_u64; 4];
    // SAFETY: the structure is valid and has the kernel's size.
    let _ = unsafe { sys!(SYS_rt_sigaction, signal, action.as_ptr(), 0, 8) };
}

/// getrandom(2): fills `into`.
pub fn random(into: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        let rest = &mut into[filled..];
        // SAFETY: the buffer is valid for its length.
        match unsafe { sys!(SYS_getrandom, rest.as_mut_ptr(), rest.len(), 0) } {
            Ok(len) => filled += len,
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A line on standard error, without stdio.
pub fn complain(line: &str) {
    let mut text = [0_u8; 512];
    let line = line.as_bytes();
    let len = line.len().min(text.len() - 1);
    text[..len].copy_from_slice(&line[..len]);
    text[len] = b'\n';
    // A complaint is not worth waiting for: a pipe that nobody empties would hold up the program,
    // and with it, where a lock is held, its relatives.
    let mut stderr = [libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 }];
    let _ = ppoll(&mut stderr, Some(Duration::ZERO), None);
    if stderr[0].revents & libc::POLLOUT != 0 {
        let _ = write(2, &text[..=len]);
    }
}

/// Closes every descriptor from `first` to `last`, both included.
pub fn close_between(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: no pointers.
    if unsafe { sys!(SYS_close_range, first, last, 0) }.is_err() {
        for fd in first..=last.min(65_536) {
            close(fd);
        }
    }
}
