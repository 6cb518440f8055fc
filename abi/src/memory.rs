//! The program's memory, which may not be there: a system call answers `EFAULT` where a function
//! that touches it would crash.
//!
//! Owns the probes: two functions of one instruction that can fault, and the handler's way out of
//! them ([`recover`], called by a handler of SIGSEGV and SIGBUS). A hook probes what a program
//! passed before it, or the stack, touches it; each page once, which costs a few cycles of memory
//! that is about to be touched anyway.

use crate::errno::Errno;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// No program has memory below this (`vm.mmap_min_addr`): null, and fields of null.
const LOWEST: usize = 65_536;
const PAGE: usize = 4_096;

/// Whether faults in the probes are caught yet.
static CAUGHT: AtomicBool = AtomicBool::new(false);

/// From now on faults in the probes come to [`recover`].
pub fn faults_are_caught() {
    CAUGHT.store(true, Ordering::Release);
}

/// Whether they are.
pub fn catches() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}

/// Reads an octet; zero if that faults.
#[unsafe(naked)]
unsafe extern "C" fn read_probe(at: usize) -> u32 {
    naked_asm!("mov al, [rdi]", "mov eax, 1", "ret")
}

/// Writes an octet what it is (atomically, for another thread may write it as well); zero if that
/// faults.
#[unsafe(naked)]
unsafe extern "C" fn write_probe(at: usize) -> u32 {
    naked_asm!("lock or byte ptr [rdi], 0", "mov eax, 1", "ret")
}

#[unsafe(naked)]
unsafe extern "C" fn fault() -> u32 {
    naked_asm!("xor eax, eax", "ret")
}

/// In a handler: if a probe faulted, makes it answer so; whether it was one.
///
/// # Safety
/// `context` is what the kernel passed to the handler.
pub unsafe fn recover(context: *mut core::ffi::c_void) -> bool {
    // SAFETY: as the caller says.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as usize;
    // Only the first instruction of a probe can fault.
    if at != read_probe as *const () as usize && at != write_probe as *const () as usize {
        return false;
    }
    registers[libc::REG_RIP as usize] = fault as *const () as i64;
    true
}

/// Checks that `len` octets at `at` can be read.
///
/// # Errors
/// `EFAULT`.
pub fn readable<T>(at: *const T, len: usize) -> Result<(), Errno> {
    probe(at.addr(), len, read_probe)
}

/// Checks that `len` octets at `at` can be written.
///
/// # Errors
/// `EFAULT`.
pub fn writable<T>(at: *const T, len: usize) -> Result<(), Errno> {
    probe(at.addr(), len, write_probe)
}

fn probe(start: usize, len: usize, touch: unsafe extern "C" fn(usize) -> u32) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    let last = start.checked_add(len - 1).ok_or(Errno::EFAULT)?;
    if start < LOWEST {
        return Err(Errno::EFAULT);
    }
    if !catches() {
        return Ok(());
    }
    let mut at = start;
    loop {
        // SAFETY: a fault in the probe is caught, and it changes nothing.
        if unsafe { touch(at) } == 0 {
            return Err(Errno::EFAULT);
        }
        match (at & !(PAGE - 1)).checked_add(PAGE) {
            Some(next) if next <= last => at = next,
            _ => return Ok(()),
        }
    }
}
