//! Processes: what becomes of the descriptors when the program forks, execs or leaves.
//!
//! Called by the hooks of the process family, by atfork handlers (which see libc's own forks, too)
//! and at exit. Never keeps a process from doing what it wants: if the engine cannot follow, the
//! kernel's answer stands.

use crate::descriptors::{self, Entry};
use crate::errno;
use crate::guard;
use crate::hook::real;
use crate::{signals, spares};
use core::arch::naked_asm;
use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_char, c_int};
use engine::{FileId, ForkToken};
use libc::pid_t;

thread_local! {
    /// Our fork hook is waiting for the outcome, so the atfork handler leaves the end to it.
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// What the engine prepared for the fork under way.
struct Prepared(UnsafeCell<Option<ForkToken>>);

// SAFETY: touched only between `descriptors::begin_fork` and `end_fork`, by the forking thread.
unsafe impl Sync for Prepared {}

static PREPARED: Prepared = Prepared(UnsafeCell::new(None));

impl Prepared {
    fn put(&self, token: ForkToken) {
        // SAFETY: see `Sync`.
        unsafe { *self.0.get() = Some(token) };
    }

    fn take(&self) -> Option<ForkToken> {
        // SAFETY: see `Sync`; a thread that did not prepare sees `None` or, by `HOOKED`'s absence,
        // never gets here.
        unsafe { (*self.0.get()).take() }
    }
}

/// Registers the atfork handlers. Called by the constructor.
pub fn init() {
    // SAFETY: three functions that live as long as the process (the library is never unloaded).
    unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
}

unsafe extern "C" fn before_fork() {
    if guard::ours() {
        descriptors::begin_fork();
        spares::share_with_child();
        PREPARED.put(engine::prepare_fork());
    }
}

unsafe extern "C" fn in_parent() {
    if !HOOKED.get() {
        end_in_parent(Some(0)); // A fork inside libc: the outcome is not known here.
    }
}

fn end_in_parent(child: Option<pid_t>) {
    if guard::ours()
        && let Some(token) = PREPARED.take()
    {
        engine::fork_parent(token, child);
        descriptors::end_fork();
    }
}

unsafe extern "C" fn in_child() {
    HOOKED.set(false);
    signals::reset_in_child();
    if guard::ours()
        && let Some(token) = PREPARED.take()
    {
        engine::fork_child(token);
        spares::leave_to_parent();
        descriptors::forget_waiters();
        descriptors::end_fork_in_child();
    }
}

/// fork(2).
///
/// # Safety
/// As fork.
pub unsafe fn fork() -> pid_t {
    HOOKED.set(true);
    // SAFETY: libc's fork runs the atfork handlers above.
    let child = unsafe { real::fork() };
    if child != 0 {
        HOOKED.set(false);
        let errno = errno::get();
        end_in_parent((child > 0).then_some(child));
        errno::set(errno);
    }
    child
}

/// vfork(2). The child returns on its parent's stack, and would trample on the frame of any
/// function that had called the syscall for it; so the return address waits in a register.
///
/// # Safety
/// As vfork.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn vfork() -> pid_t {
    naked_asm!(
        "sub rsp, 8",
        "call {enter}",
        "add rsp, 8",
        "pop rdi",
        "mov eax, 58", // SYS_vfork; the kernel keeps rdi.
        "syscall",
        "push rdi",
        "test eax, eax",
        "je 2f",
        "mov rdi, rax",
        "sub rsp, 8",
        "call {leave}",
        "add rsp, 8",
        "2:",
        "ret",
        enter = sym enter_vfork,
        leave = sym leave_vfork,
    )
}

extern "C" fn enter_vfork() {
    engine::thread::enter_vfork_child();
}

extern "C" fn leave_vfork(answer: isize) -> isize {
    engine::thread::leave_vfork_child();
    errno::from_raw(answer)
}

/// daemon(3): fork, and what the parent leaves behind is closed gracefully.
///
/// # Safety
/// As fork.
pub unsafe fn daemon(keep_directory: c_int, keep_stdio: c_int) -> c_int {
    // SAFETY: the calls that daemon(3) is documented to make.
    unsafe {
        match fork() {
            -1 => return -1,
            0 => {}
            _ => _exit(0),
        }
        if libc::setsid() < 0 {
            return -1;
        }
        if keep_directory == 0 {
            libc::chdir(c"/".as_ptr());
        }
        if keep_stdio == 0 { null_stdio() } else { 0 }
    }
}

/// # Safety
/// None: what it replaces are descriptors 0 to 2.
unsafe fn null_stdio() -> c_int {
    // SAFETY: a C string; descriptors that were just opened.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null < 0 {
            return -1;
        }
        for standard in 0..=2 {
            crate::lifecycle::dup2(null, standard);
        }
        if null > 2 {
            crate::lifecycle::close(null);
        }
    }
    0
}

/// Makes an exec call, telling the engine which sockets stay open.
fn exec(call: impl FnOnce() -> c_int) -> c_int {
    if !guard::ours() || engine::get().is_none() {
        return call();
    }
    let kept: Vec<FileId> = descriptors::ours_from(0)
        .filter_map(|(fd, entry)| match entry {
            Entry::Socket(id) if !closes_on_exec(fd) => Some(id),
            _ => None,
        })
        .collect();
    engine::exec_begin(&kept);
    let answer = call();
    let errno = errno::get();
    engine::exec_failed();
    errno::set(errno);
    answer
}

fn closes_on_exec(fd: c_int) -> bool {
    // SAFETY: fcntl with a command that takes no argument.
    let flags = unsafe { real::fcntl(fd, libc::F_GETFD, 0) };
    flags < 0 || flags & libc::FD_CLOEXEC != 0
}

type Strings = *const *const c_char;

/// execve(2).
///
/// # Safety
/// As the C function; likewise for the rest of the family.
pub unsafe fn execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the program's arguments, passed on.
    exec(|| unsafe { real::execve(path, arguments, environment) })
}

/// execv(3).
///
/// # Safety
/// As [`execve`].
pub unsafe fn execv(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as above.
    exec(|| unsafe { real::execv(path, arguments) })
}

/// execvp(3).
///
/// # Safety
/// As [`execve`].
pub unsafe fn execvp(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as above.
    exec(|| unsafe { real::execvp(file, arguments) })
}

/// execvpe(3).
///
/// # Safety
/// As [`execve`].
pub unsafe fn execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: as above.
    exec(|| unsafe { real::execvpe(file, arguments, environment) })
}

/// fexecve(3).
///
/// # Safety
/// As [`execve`].
pub unsafe fn fexecve(fd: c_int, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: as above.
    exec(|| unsafe { real::fexecve(fd, arguments, environment) })
}

/// execveat(2).
///
/// # Safety
/// As [`execve`].
pub unsafe fn execveat(
    directory: c_int,
    path: *const c_char,
    arguments: Strings,
    environment: Strings,
    flags: c_int,
) -> c_int {
    // SAFETY: as above.
    exec(|| unsafe { real::execveat(directory, path, arguments, environment, flags) })
}

/// The process leaves: tells the engine, once it is known that this is no vfork child.
pub fn leaving() {
    if guard::ours() && engine::get().is_some() {
        engine::exiting();
    }
}

/// _exit(2).
///
/// # Safety
/// None.
pub unsafe fn _exit(status: c_int) {
    leaving();
    // SAFETY: ends the process.
    unsafe { real::_exit(status) }
}

/// _Exit(3).
///
/// # Safety
/// None.
#[allow(non_snake_case)] // The name is C's.
pub unsafe fn _Exit(status: c_int) {
    leaving();
    // SAFETY: ends the process.
    unsafe { real::_Exit(status) }
}

/// quick_exit(3): its handlers may still use sockets, which works until the very end.
///
/// # Safety
/// As the C function.
pub unsafe fn quick_exit(status: c_int) {
    leaving();
    // SAFETY: ends the process.
    unsafe { real::quick_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vfork_child_is_marked_and_its_parent_is_not() {
        // SAFETY: the child does nothing but leave.
        unsafe {
            let child = vfork();
            if child == 0 {
                real::_exit(if guard::ours() { 1 } else { 42 });
            }
            assert!(child > 0 && guard::ours());
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(libc::WEXITSTATUS(status), 42);
        }
    }

    #[test]
    fn a_fork_ends_in_both_processes() {
        init();
        // SAFETY: the child makes one change to the table, which must not wait, and leaves.
        unsafe {
            let child = fork();
            if child == 0 {
                descriptors::change(|| ());
                libc::_exit(43);
            }
            descriptors::change(|| ());
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(libc::WEXITSTATUS(status), 43);
        }
    }
}
