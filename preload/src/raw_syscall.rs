//! The syscall instruction itself: for what must work before libc's functions have been found,
//! and for what must not come back to our own hooks.

use core::arch::asm;

/// Makes a syscall. The answer is the kernel's: a negative errno on failure.
///
/// # Safety
/// As the syscall demands of its arguments.
#[inline]
pub unsafe fn call(number: i64, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: the x86-64 syscall convention; rcx and r11 are clobbered by the instruction. What
    // the kernel does with the arguments is the caller's responsibility.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// An argument that fits a register.
pub trait Word {
    /// Its bits.
    fn word(self) -> usize;
}

macro_rules! words {
    ($($t:ty)*) => {
        $(impl Word for $t {
            #[inline]
            fn word(self) -> usize {
                self as usize
            }
        })*
    };
}
words!(i32 u32 i64 u64 usize);

impl<T> Word for *const T {
    #[inline]
    fn word(self) -> usize {
        self as usize
    }
}
impl<T> Word for *mut T {
    #[inline]
    fn word(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        // SAFETY: getpid takes no arguments; close of -1 is refused.
        unsafe {
            assert_eq!(super::call(libc::SYS_getpid, [0; 6]), std::process::id() as isize);
            let bad = super::call(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0]);
            assert_eq!(bad, -(libc::EBADF as isize));
        }
    }
}
