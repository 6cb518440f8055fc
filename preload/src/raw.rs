//! syscall(2): programs that pass libc's functions by, but not its door.
//!
//! A number that a hook stands for goes to the hook; `io_uring_setup` answers `ENOSYS`, because a
//! ring would carry socket calls past us (libuv falls back cleanly); every other number goes to the
//! kernel as it came.

use crate::errno::{self, Errno};
use crate::{guard, raw_syscall};
use crate::{lifecycle, naming, options, process, readiness, transfer};
use core::ffi::{c_int, c_long};
use libc::{sigset_t, timespec};

/// Octets of the kernel's signal set, which its calls want to hear.
const KERNEL_SIGSET: usize = 8;

/// syscall(2).
///
/// # Safety
/// As the syscall.
pub unsafe fn syscall(
    n: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    if guard::ours() {
        // SAFETY: the program's arguments for that function.
        if let Some(answer) = unsafe { hooked(n, [a, b, c, d, e, f]) } {
            return answer;
        }
    }
    // SAFETY: passed on.
    errno::from_raw(unsafe { raw_syscall::call(n, [a, b, c, d, e, f]) }) as c_long
}

macro_rules! route {
    ($number:expr, $words:expr, {
        $($name:ident => $module:ident::$hook:ident($($i:literal),*),)*
    }) => {
        match $number {
            $(libc::$name => {
                // SAFETY: the caller's arguments, in registers, are what the function takes.
                #[allow(clippy::cast_possible_truncation)]
                let answer = unsafe { $module::$hook($($words[$i].into_argument()),*) };
                Some(answer as c_long)
            })*
            _ => None,
        }
    };
}

/// A register as an argument of whatever type the hook takes.
trait IntoArgument {
    /// # Safety
    /// The register holds a `T`.
    unsafe fn into_argument<T: Copy>(self) -> T;
}

impl IntoArgument for usize {
    unsafe fn into_argument<T: Copy>(self) -> T {
        const { assert!(size_of::<T>() <= size_of::<usize>()) };
        // SAFETY: x86-64 is little-endian, so the low octets are the value's; the caller says that
        // they are a `T`.
        unsafe { core::mem::transmute_copy(&self) }
    }
}

/// # Safety
/// As the syscall.
unsafe fn hooked(number: c_long, w: [usize; 6]) -> Option<c_long> {
    if number == libc::SYS_io_uring_setup {
        errno::set(Errno::ENOSYS);
        return Some(-1);
    }
    // SAFETY: as the caller says.
    if let Some(answer) = unsafe { with_kernel_mask(number, w) } {
        return Some(answer);
    }
    route!(number, w, {
        SYS_socket => lifecycle::socket(0, 1, 2),
        SYS_socketpair => lifecycle::socketpair(0, 1, 2, 3),
        SYS_close => lifecycle::close(0),
        SYS_shutdown => lifecycle::shutdown(0, 1),
        SYS_dup => lifecycle::dup(0),
        SYS_dup2 => lifecycle::dup2(0, 1),
        SYS_dup3 => lifecycle::dup3(0, 1, 2),
        SYS_fcntl => lifecycle::fcntl(0, 1, 2),
        SYS_ioctl => lifecycle::ioctl(0, 1, 2),
        SYS_close_range => lifecycle::close_range(0, 1, 2),
        SYS_bind => naming::bind(0, 1, 2),
        SYS_listen => naming::listen(0, 1),
        SYS_connect => naming::connect(0, 1, 2),
        SYS_accept => naming::accept(0, 1, 2),
        SYS_accept4 => naming::accept4(0, 1, 2, 3),
        SYS_getsockname => naming::getsockname(0, 1, 2),
        SYS_getpeername => naming::getpeername(0, 1, 2),
        SYS_read => transfer::read(0, 1, 2),
        SYS_readv => transfer::readv(0, 1, 2),
        SYS_preadv2 => transfer::preadv2(0, 1, 2, 3, 5),
        SYS_write => transfer::write(0, 1, 2),
        SYS_writev => transfer::writev(0, 1, 2),
        SYS_pwritev2 => transfer::pwritev2(0, 1, 2, 3, 5),
        SYS_recvfrom => transfer::recvfrom(0, 1, 2, 3, 4, 5),
        SYS_recvmsg => transfer::recvmsg(0, 1, 2),
        SYS_recvmmsg => transfer::recvmmsg(0, 1, 2, 3, 4),
        SYS_sendto => transfer::sendto(0, 1, 2, 3, 4, 5),
        SYS_sendmsg => transfer::sendmsg(0, 1, 2),
        SYS_sendmmsg => transfer::sendmmsg(0, 1, 2, 3),
        SYS_sendfile => transfer::sendfile(0, 1, 2, 3),
        SYS_splice => transfer::splice(0, 1, 2, 3, 4, 5),
        SYS_select => readiness::select(0, 1, 2, 3, 4),
        SYS_poll => readiness::poll(0, 1, 2),
        SYS_epoll_create => readiness::epoll_create(0),
        SYS_epoll_create1 => readiness::epoll_create1(0),
        SYS_epoll_ctl => readiness::epoll_ctl(0, 1, 2, 3),
        SYS_epoll_wait => readiness::epoll_wait(0, 1, 2, 3),
        SYS_getsockopt => options::getsockopt(0, 1, 2, 3, 4),
        SYS_setsockopt => options::setsockopt(0, 1, 2, 3, 4),
        SYS_fork => process::fork(),
        SYS_execve => process::execve(0, 1, 2),
        SYS_execveat => process::execveat(0, 1, 2, 3, 4),
    })
}

/// The calls that take a signal mask: the kernel's is 8 octets, libc's 128.
///
/// # Safety
/// As the syscall.
unsafe fn with_kernel_mask(number: c_long, w: [usize; 6]) -> Option<c_long> {
    let (fd, count) = (w[0] as c_int, w[2] as c_int);
    // SAFETY: as the caller says, in each of the arms; a mask of the wrong length is the kernel's
    // to refuse.
    let answer = unsafe {
        match number {
            libc::SYS_ppoll => {
                let mask = Mask::widen(w[3], w[4])?;
                let timeout = (w[2] as *const timespec).as_ref().copied();
                let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
                readiness::ppoll(w[0] as *mut libc::pollfd, w[1] as u64, timeout, mask.pointer())
            }
            libc::SYS_epoll_pwait => {
                let mask = Mask::widen(w[4], w[5])?;
                let events = w[1] as *mut libc::epoll_event;
                readiness::epoll_pwait(fd, events, count, w[3] as c_int, mask.pointer())
            }
            libc::SYS_epoll_pwait2 => {
                let mask = Mask::widen(w[4], w[5])?;
                let events = w[1] as *mut libc::epoll_event;
                readiness::epoll_pwait2(fd, events, count, w[3] as *const timespec, mask.pointer())
            }
            libc::SYS_pselect6 => {
                let [set, len] = (w[5] as *const [usize; 2]).as_ref().copied().unwrap_or([0, 0]);
                let mask = Mask::widen(set, len)?;
                let sets = [w[1], w[2], w[3]].map(|set| set as *mut libc::fd_set);
                let timeout = w[4] as *const timespec;
                readiness::pselect(fd, sets[0], sets[1], sets[2], timeout, mask.pointer())
            }
            libc::SYS_exit_group => {
                process::leaving();
                return None;
            }
            _ => return None,
        }
    };
    Some(c_long::from(answer))
}

/// A kernel's signal mask in the form that libc's functions take.
struct Mask(Option<sigset_t>);

impl Mask {
    /// `None` if the length is one that the kernel refuses.
    ///
    /// # Safety
    /// `set` is zero or points to `len` octets.
    unsafe fn widen(set: usize, len: usize) -> Option<Mask> {
        if set == 0 {
            return Some(Mask(None));
        }
        if len != KERNEL_SIGSET {
            return None;
        }
        // SAFETY: zero is a valid sigset_t, and its first eight octets are the kernel's mask.
        unsafe {
            let mut wide: sigset_t = core::mem::zeroed();
            core::ptr::copy_nonoverlapping(set as *const u8, (&raw mut wide).cast(), KERNEL_SIGSET);
            Some(Mask(Some(wide)))
        }
    }

    fn pointer(&self) -> *const sigset_t {
        self.0.as_ref().map_or(core::ptr::null(), core::ptr::from_ref)
    }
}
