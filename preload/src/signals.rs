//! Signal handlers: what the program installs is wrapped, so that a handler never runs while its
//! thread holds the shard's lock, and so that a call that waits in the stack learns that one ran.
//!
//! Owns the program's own view of its handlers, which sigaction(2) queries return. Called by the
//! hooks of the signals family and by the kernel. Never keeps a handler from running: one that
//! comes at the wrong moment is sent again, to the same thread with the same siginfo, when the
//! engine says so; the kernel then applies mask, alternate stack and context as always.

use crate::errno::{self, Errno};
use crate::guard;
use crate::hook::real;
use crate::memory;
use crate::raw_syscall;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use engine::thread::{Deferral, Restart};
use libc::{SIG_DFL, SIG_ERR, SIG_IGN, sighandler_t, siginfo_t, sigset_t};

/// libc's `struct sigaction` (whose name is a function's as well).
#[allow(non_camel_case_types)]
pub type sigaction_t = libc::sigaction;

const SIGNALS: usize = 65;
/// `SIG_HOLD` of sigset(3).
const SIG_HOLD: sighandler_t = 2;
/// `SA_INTERRUPT`: no meaning in Linux, but sysv_signal sets it and queries show it.
const SA_INTERRUPT: c_int = 0x2000_0000;

/// What the program installed for a signal, as far as the wrapper needs it.
struct Action {
    handler: AtomicUsize,
    flags: AtomicI32,
}

static ACTIONS: [Action; SIGNALS] =
    [const { Action { handler: AtomicUsize::new(SIG_DFL), flags: AtomicI32::new(0) } }; SIGNALS];
/// Signals that siginterrupt(3) made interrupting, for signal(3): one bit each.
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);
/// Held while [`ACTIONS`] and the kernel's table change together, with all signals blocked.
static CHANGING: AtomicBool = AtomicBool::new(false);

/// Tells the engine how deferred signals are delivered. Called by the constructor.
pub fn init() {
    engine::thread::set_runner(send_again);
}

/// In a fork's child: another thread of the parent may have been changing a handler.
pub fn reset_in_child() {
    CHANGING.store(false, Ordering::Release);
}

fn action(signal: c_int) -> Option<&'static Action> {
    usize::try_from(signal).ok().and_then(|at| ACTIONS.get(at))
}

/// The handler that the kernel knows, in place of the program's.
extern "C" fn wrapper(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid context.
    if is_fault(signal) && unsafe { memory::recover(context) } {
        return;
    }
    let errno = errno::get();
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let deferred = !is_synchronous(signal)
        && engine::thread::defer(signal, unsafe { &*info }) == Deferral::Deferred;
    if !deferred {
        run(signal, info, context);
    }
    errno::set(errno);
}

/// Faults, and abort: putting them off would repeat the fault or change what a crash means.
fn is_synchronous(signal: c_int) -> bool {
    matches!(
        signal,
        libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGABRT
            | libc::SIGSYS
    )
}

/// The signals of memory that is not there.
const fn is_fault(signal: c_int) -> bool {
    matches!(signal, libc::SIGSEGV | libc::SIGBUS)
}

/// From now on faults of the probes of `memory.rs` are caught; others go to the program's handlers,
/// or kill as they would have.
pub fn catch_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        let _changing = Changing::begin();
        // SAFETY: zero is a valid sigaction, which the kernel fills in, or we do.
        unsafe {
            let mut current: sigaction_t = core::mem::zeroed();
            real::sigaction(signal, core::ptr::null(), &mut current);
            let ours = wrapper as *const () as sighandler_t;
            if current.sa_sigaction != ours {
                let Some(slot) = action(signal) else { continue };
                slot.handler.store(current.sa_sigaction, Ordering::Release);
                slot.flags.store(current.sa_flags, Ordering::Release);
                current.sa_sigaction = ours;
                current.sa_flags |= libc::SA_SIGINFO | libc::SA_ONSTACK;
                real::sigaction(signal, &current, core::ptr::null_mut());
            }
        }
    }
    memory::faults_are_caught();
}

/// A fault of the program's own that it has no handler for.
///
/// # Safety
/// `info` is the kernel's.
unsafe fn default_fault(signal: c_int, handler: sighandler_t, info: &mut siginfo_t) {
    let was_sent = info.si_code <= 0;
    if was_sent && handler == SIG_IGN {
        return;
    }
    // SAFETY: zero is a valid sigaction: the default action.
    let default: sigaction_t = unsafe { core::mem::zeroed() };
    // SAFETY: a valid action. What faulted faults again; what was sent is sent again.
    unsafe {
        real::sigaction(signal, &default, core::ptr::null_mut());
        if was_sent {
            send_again(signal, info);
        }
    }
}

/// Runs the program's handler.
fn run(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(action) = action(signal) else { return };
    let handler = action.handler.load(Ordering::Acquire);
    let flags = action.flags.load(Ordering::Acquire);
    if is_fault(signal) && (handler == SIG_DFL || handler == SIG_IGN) {
        // SAFETY: the kernel's siginfo.
        unsafe { default_fault(signal, handler, &mut *info) };
        return;
    }
    if handler == SIG_DFL || handler == SIG_IGN {
        return; // Changed between the kernel's decision and here.
    }
    if flags & libc::SA_RESETHAND != 0 {
        reset(signal, action);
    }
    let restarts = flags & libc::SA_RESTART != 0;
    engine::thread::handler_ran(if restarts { Restart::Yes } else { Restart::No });
    // SAFETY: the program installed this function as a handler; one that takes the number alone
    // does not look at the other two registers.
    unsafe {
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            core::mem::transmute(handler);
        handler(signal, info, context);
    }
}

/// `SA_RESETHAND`: the next signal has the default action.
fn reset(signal: c_int, action: &Action) {
    action.handler.store(SIG_DFL, Ordering::Release);
    // SAFETY: zero is a valid sigaction: the default action.
    let default: sigaction_t = unsafe { core::mem::zeroed() };
    // SAFETY: a valid action and no place for the old one.
    unsafe { real::sigaction(signal, &default, core::ptr::null_mut()) };
}

/// Delivers a deferred signal to this thread.
///
/// # Safety
/// `info` is what the kernel passed with `signal`.
unsafe fn send_again(signal: c_int, info: &mut siginfo_t) {
    // SAFETY: the kernel copies the siginfo. To itself a thread may send any.
    let sent = unsafe {
        let (process, thread) = (libc::getpid() as usize, libc::gettid() as usize);
        let info = core::ptr::from_mut(info) as usize;
        let arguments = [process, thread, signal as usize, info, 0, 0];
        raw_syscall::call(libc::SYS_rt_tgsigqueueinfo, arguments)
    };
    if sent < 0 {
        // The queue of signals is full. The handler still runs, without a machine context.
        let mut context = MaybeUninit::<libc::ucontext_t>::zeroed();
        run(signal, info, context.as_mut_ptr().cast());
    }
}

/// Blocks every signal of this thread and takes the lock; gives both back when dropped.
struct Changing {
    mask: sigset_t,
}

impl Changing {
    fn begin() -> Self {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: sigfillset and sigprocmask fill what they are given.
        let mask = unsafe {
            let mut all = MaybeUninit::uninit();
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), mask.as_mut_ptr());
            mask.assume_init()
        };
        while CHANGING.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Changing { mask }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        CHANGING.store(false, Ordering::Release);
        // SAFETY: the mask is what it was before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask, core::ptr::null_mut()) };
    }
}

/// sigaction(2).
///
/// # Safety
/// The pointers are null or valid.
pub unsafe fn sigaction(signal: c_int, new: *const sigaction_t, old: *mut sigaction_t) -> c_int {
    // SAFETY: as the caller says.
    unsafe {
        match action(signal) {
            Some(slot) if guard::ours() => errno::answer(|| change(signal, slot, new, old)),
            _ => real::sigaction(signal, new, old),
        }
    }
}

pub use self::sigaction as __sigaction;

/// # Safety
/// As [`sigaction`].
unsafe fn change(
    signal: c_int,
    slot: &Action,
    new: *const sigaction_t,
    old: *mut sigaction_t,
) -> Result<c_int, Errno> {
    let _changing = Changing::begin();
    let before = (slot.handler.load(Ordering::Acquire), slot.flags.load(Ordering::Acquire));
    // SAFETY: null or valid, as the caller says.
    let wrapped = unsafe { new.as_ref() }.map(|new| wrap(signal, new, slot));
    let new = wrapped.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: `new` is null or ours, `old` as the caller says.
    if let Err(errno) = errno::check(unsafe { real::sigaction(signal, new, old) }) {
        slot.handler.store(before.0, Ordering::Release);
        slot.flags.store(before.1, Ordering::Release);
        return Err(errno);
    }
    // SAFETY: null or valid, as the caller says.
    if let Some(old) = unsafe { old.as_mut() }
        && old.sa_sigaction == wrapper as *const () as sighandler_t
    {
        old.sa_sigaction = before.0;
        old.sa_flags = before.1;
    }
    Ok(0)
}

/// The action that the kernel gets for the program's, which is noted.
fn wrap(signal: c_int, new: &sigaction_t, slot: &Action) -> sigaction_t {
    let mut wrapped = *new;
    slot.flags.store(new.sa_flags, Ordering::Release);
    slot.handler.store(new.sa_sigaction, Ordering::Release);
    let handles = new.sa_sigaction != SIG_DFL && new.sa_sigaction != SIG_IGN;
    if !handles && memory::catches() && is_fault(signal) {
        wrapped.sa_sigaction = wrapper as *const () as sighandler_t;
        wrapped.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    }
    if handles {
        wrapped.sa_sigaction = wrapper as *const () as sighandler_t;
        // A deferred signal comes twice: the wrapper resets the handler itself.
        wrapped.sa_flags = (new.sa_flags | libc::SA_SIGINFO) & !libc::SA_RESETHAND;
    }
    wrapped
}

/// Installs `handler` and returns the one before.
fn install(signal: c_int, handler: sighandler_t, flags: c_int, mask_itself: bool) -> sighandler_t {
    if handler == SIG_ERR || action(signal).is_none() {
        errno::set(Errno::EINVAL);
        return SIG_ERR;
    }
    // SAFETY: zero is a valid sigaction, whose mask is then given one valid signal.
    let (new, mut old) = unsafe {
        let mut new: sigaction_t = core::mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = flags;
        if mask_itself {
            libc::sigaddset(&mut new.sa_mask, signal);
        }
        (new, core::mem::zeroed::<sigaction_t>())
    };
    // SAFETY: valid pointers.
    if unsafe { sigaction(signal, &new, &mut old) } < 0 { SIG_ERR } else { old.sa_sigaction }
}

/// signal(2) as glibc has it.
///
/// # Safety
/// `handler` is a handler.
pub unsafe fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    let bit = 1u64.checked_shl(signal as u32 & 63).unwrap_or(0);
    let interrupts = INTERRUPTING.load(Ordering::Relaxed) & bit != 0;
    install(signal, handler, if interrupts { 0 } else { libc::SA_RESTART }, true)
}

pub use self::signal as bsd_signal;
pub use self::signal as ssignal;

/// System V's signal.
///
/// # Safety
/// `handler` is a handler.
pub unsafe fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    install(signal, handler, libc::SA_RESETHAND | libc::SA_NODEFER | SA_INTERRUPT, false)
}

pub use self::sysv_signal as __sysv_signal;

/// sigset(3).
///
/// # Safety
/// `handler` is a handler or `SIG_HOLD`.
pub unsafe fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the sets are filled before they are read.
    unsafe {
        let mut this = MaybeUninit::uninit();
        let mut before = MaybeUninit::<sigset_t>::uninit();
        libc::sigemptyset(this.as_mut_ptr());
        if libc::sigaddset(this.as_mut_ptr(), signal) < 0 {
            return SIG_ERR;
        }
        let (how, old) = if handler == SIG_HOLD {
            let mut old: sigaction_t = core::mem::zeroed();
            let asked = sigaction(signal, core::ptr::null(), &mut old);
            (libc::SIG_BLOCK, if asked < 0 { SIG_ERR } else { old.sa_sigaction })
        } else {
            (libc::SIG_UNBLOCK, install(signal, handler, 0, false))
        };
        if old == SIG_ERR {
            return SIG_ERR;
        }
        libc::pthread_sigmask(how, this.as_ptr(), before.as_mut_ptr());
        if libc::sigismember(before.as_ptr(), signal) == 1 { SIG_HOLD } else { old }
    }
}

/// siginterrupt(3).
///
/// # Safety
/// None beyond the C function's.
pub unsafe fn siginterrupt(signal: c_int, flag: c_int) -> c_int {
    // SAFETY: valid pointers to a whole sigaction.
    unsafe {
        let mut current: sigaction_t = core::mem::zeroed();
        if sigaction(signal, core::ptr::null(), &mut current) < 0 {
            return -1;
        }
        let bit = 1u64 << (signal as u32 & 63);
        if flag != 0 {
            INTERRUPTING.fetch_or(bit, Ordering::Relaxed);
            current.sa_flags &= !libc::SA_RESTART;
        } else {
            INTERRUPTING.fetch_and(!bit, Ordering::Relaxed);
            current.sa_flags |= libc::SA_RESTART;
        }
        sigaction(signal, &current, core::ptr::null_mut())
    }
}

/// Sends `SIGPIPE` to this thread, as the kernel does when a stream cannot be written to.
pub fn raise_pipe() {
    // SAFETY: the thread signals itself.
    unsafe {
        let arguments =
            [libc::getpid() as usize, libc::gettid() as usize, libc::SIGPIPE as usize, 0, 0, 0];
        raw_syscall::call(libc::SYS_tgkill, arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    static RUNS: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count(_: c_int) {
        RUNS.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn the_program_sees_its_own_handler_and_it_runs() {
        let handler = count as *const () as sighandler_t;
        // SAFETY: a handler that is async-signal-safe, for a signal that nothing else here uses.
        unsafe {
            assert_eq!(signal(libc::SIGUSR1, handler), SIG_DFL);
            let mut current: sigaction_t = core::mem::zeroed();
            assert_eq!(sigaction(libc::SIGUSR1, core::ptr::null(), &mut current), 0);
            assert_eq!(current.sa_sigaction, handler);
            assert_eq!(current.sa_flags & libc::SA_SIGINFO, 0);
            assert_ne!(current.sa_flags & libc::SA_RESTART, 0);
            let before = engine::thread::interruptions();
            libc::raise(libc::SIGUSR1);
            assert_eq!((RUNS.load(Ordering::SeqCst), engine::thread::interruptions()), (1, before));
            siginterrupt(libc::SIGUSR1, 1);
            libc::raise(libc::SIGUSR1);
            assert_eq!(
                (RUNS.load(Ordering::SeqCst), engine::thread::interruptions()),
                (2, before + 1)
            );
            // A deferred signal comes again by way of the kernel.
            let mut info: siginfo_t = core::mem::zeroed();
            info.si_signo = libc::SIGUSR1;
            send_again(libc::SIGUSR1, &mut info);
            assert_eq!(RUNS.load(Ordering::SeqCst), 3);
            assert_eq!(signal(libc::SIGUSR1, SIG_IGN), handler);
        }
    }

    #[test]
    fn a_handler_that_resets_runs_once() {
        let handler = count_once as *const () as sighandler_t;
        // SAFETY: as above, with another signal.
        unsafe {
            sysv_signal(libc::SIGWINCH, handler);
            libc::raise(libc::SIGWINCH);
            libc::raise(libc::SIGWINCH); // Ignored by default.
            assert_eq!(ONCE.load(Ordering::SeqCst), 1);
            assert_eq!(signal(libc::SIGWINCH, SIG_DFL), SIG_DFL);
        }
    }

    static ONCE: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count_once(_: c_int) {
        ONCE.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn numbers_that_are_no_signals_are_refused() {
        // SAFETY: SIG_IGN is a handler.
        unsafe {
            assert_eq!(signal(65, SIG_IGN), SIG_ERR);
            assert_eq!(signal(libc::SIGKILL, SIG_IGN), SIG_ERR);
            assert_eq!(signal(-1, SIG_IGN), SIG_ERR);
        }
    }

    #[test]
    fn memory_that_is_not_there_is_found_without_a_crash() {
        use crate::errno::Errno;
        use crate::memory::{readable, writable};
        const PAGE: usize = 4_096;
        catch_faults();
        // SAFETY: fresh mappings of our own, the middle one not to be written.
        let pages = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let pages = libc::mmap(core::ptr::null_mut(), 3 * PAGE, libc::PROT_READ, flags, -1, 0);
            assert_eq!(libc::mprotect(pages, PAGE, libc::PROT_READ | libc::PROT_WRITE), 0);
            assert_eq!(libc::munmap(pages.byte_add(2 * PAGE), PAGE), 0);
            pages
        };
        assert_eq!(readable(pages, 2 * PAGE), Ok(()));
        assert_eq!(readable(pages, 2 * PAGE + 1), Err(Errno::EFAULT));
        assert_eq!(writable(pages, PAGE), Ok(()));
        assert_eq!(writable(pages, PAGE + 1), Err(Errno::EFAULT));
        assert_eq!(writable(8 as *const u8, 1), Err(Errno::EFAULT));
        assert_eq!(readable(core::ptr::null::<u8>(), 0), Ok(()));
        assert_eq!(readable(usize::MAX as *const u8, 2), Err(Errno::EFAULT));
        // SAFETY: what is left of the mappings.
        unsafe { libc::munmap(pages, 2 * PAGE) };
    }
}
