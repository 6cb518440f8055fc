//! The exports that Rust cannot write as plain functions: those with `...` in their prototype.
//!
//! Each is a few instructions that lay the arguments out as a `va_list` (System V ABI, x86-64,
//! §3.5.7) and call a Rust function with it. Owns [`VaList`].

use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_uint, c_void};

/// C's `va_list` on x86-64: the struct that it is an array of one of.
#[repr(C)]
#[derive(Debug)]
pub struct VaList {
    general_offset: c_uint,
    float_offset: c_uint,
    overflow: *mut c_void,
    saved: *mut c_void,
}

/// Octets of saved general registers.
const GENERAL: c_uint = 48;

impl VaList {
    /// The next argument that is a pointer.
    ///
    /// # Safety
    /// There is one.
    pub unsafe fn next_pointer<T>(&mut self) -> *const T {
        let at = if self.general_offset < GENERAL {
            // SAFETY: the save area has six general registers, and the offset lies within.
            let at = unsafe { self.saved.byte_add(self.general_offset as usize) };
            self.general_offset += 8;
            at
        } else {
            let at = self.overflow;
            // SAFETY: the caller says that there is an argument, which is on the stack then.
            self.overflow = unsafe { self.overflow.byte_add(8) };
            at
        };
        // SAFETY: `at` is where the ABI keeps the argument.
        unsafe { at.cast::<*const T>().read() }
    }
}

/// An exported variadic function with `$fixed` octets of fixed general registers that calls `$call`
/// with those and the list as the next argument, in `$list`.
macro_rules! variadic {
    ($name:ident($($arg:ident: $ty:ty),*), $fixed:literal, $list:literal => $call:path) => {
        /// See the table in `symbols.rs`.
        ///
        /// # Safety
        /// As the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> c_int {
            // Frame: [rsp, +48) general registers, [+48, +176) vector registers, [+176, +200) the
            // va_list; 216 keeps the call aligned.
            naked_asm!(
                "sub rsp, 216",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "test al, al",
                "je 2f",
                "movaps [rsp + 48], xmm0",
                "movaps [rsp + 64], xmm1",
                "movaps [rsp + 80], xmm2",
                "movaps [rsp + 96], xmm3",
                "movaps [rsp + 112], xmm4",
                "movaps [rsp + 128], xmm5",
                "movaps [rsp + 144], xmm6",
                "movaps [rsp + 160], xmm7",
                "2:",
                concat!("mov dword ptr [rsp + 176], ", $fixed),
                "mov dword ptr [rsp + 180], 48",
                "lea rax, [rsp + 224]",
                "mov [rsp + 184], rax",
                "mov [rsp + 192], rsp",
                concat!("lea ", $list, ", [rsp + 176]"),
                "call {call}",
                "add rsp, 216",
                "ret",
                call = sym $call,
            )
        }
    };
}

variadic!(dprintf(fd: c_int, format: *const c_char), "16", "rdx" => vdprintf);
variadic!(
    __dprintf_chk(fd: c_int, flag: c_int, format: *const c_char), "24", "rcx" => vdprintf_chk
);
variadic!(execl(path: *const c_char, first: *const c_char), "16", "rdx" => execl_list);
variadic!(execlp(file: *const c_char, first: *const c_char), "16", "rdx" => execlp_list);
variadic!(execle(path: *const c_char, first: *const c_char), "16", "rdx" => execle_list);

unsafe extern "C" fn vdprintf(fd: c_int, format: *const c_char, list: *mut VaList) -> c_int {
    // SAFETY: the arguments are the program's, as for dprintf(3).
    crate::guard::hook(|| unsafe { crate::stdio::vdprintf(fd, format, list) })
}

unsafe extern "C" fn vdprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    list: *mut VaList,
) -> c_int {
    // SAFETY: as above.
    crate::guard::hook(|| unsafe { crate::stdio::__vdprintf_chk(fd, flag, format, list) })
}

unsafe extern "C" fn execl_list(
    path: *const c_char,
    first: *const c_char,
    list: *mut VaList,
) -> c_int {
    // SAFETY: execl(3)'s list ends in a null pointer.
    crate::guard::hook(|| unsafe { crate::process::execv(path, collect(first, list).as_ptr()) })
}

unsafe extern "C" fn execlp_list(
    file: *const c_char,
    first: *const c_char,
    list: *mut VaList,
) -> c_int {
    // SAFETY: as above.
    crate::guard::hook(|| unsafe { crate::process::execvp(file, collect(first, list).as_ptr()) })
}

unsafe extern "C" fn execle_list(
    path: *const c_char,
    first: *const c_char,
    list: *mut VaList,
) -> c_int {
    // SAFETY: as above, and the environment follows the null pointer.
    crate::guard::hook(|| unsafe {
        let arguments = collect(first, list);
        let environment = (*list).next_pointer::<*const c_char>();
        crate::process::execve(path, arguments.as_ptr(), environment)
    })
}

/// The arguments up to and with the null pointer that ends them. (A vfork child that comes here
/// leaves them behind in its parent's heap: a few octets that the parent then cannot free.)
///
/// # Safety
/// A null pointer ends the list.
unsafe fn collect(first: *const c_char, list: *mut VaList) -> Vec<*const c_char> {
    let mut arguments = vec![first];
    while arguments.last().is_some_and(|last| !last.is_null()) {
        // SAFETY: the null pointer has not come yet, so there is another argument.
        arguments.push(unsafe { (*list).next_pointer() });
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins its arguments' first letters, for want of a program that looks.
    unsafe extern "C" fn letters(
        first: *const c_char,
        _: *const c_char,
        list: *mut VaList,
    ) -> c_int {
        // SAFETY: the test ends its list in a null pointer.
        let all = unsafe { collect(first, list) };
        let mut sum = 0;
        for (at, argument) in all[..all.len() - 1].iter().enumerate() {
            // SAFETY: the test passes C strings.
            sum += (at as c_int + 1) * c_int::from(unsafe { **argument });
        }
        sum
    }

    variadic!(joined(first: *const c_char, unused: *const c_char), "16", "rdx" => letters);

    #[test]
    fn arguments_come_from_registers_and_then_from_the_stack() {
        type Joined = unsafe extern "C" fn(*const c_char, *const c_char, ...) -> c_int;
        // SAFETY: the prototype of a variadic function, which `joined` implements.
        let joined: Joined = unsafe { core::mem::transmute(joined as *const ()) };
        let one = c"\x01".as_ptr();
        // SAFETY: C strings and a null pointer at the end.
        let sum =
            unsafe { joined(one, one, one, one, one, one, one, one, core::ptr::null::<c_char>()) };
        assert_eq!(sum, 1 + 2 + 3 + 4 + 5 + 6 + 7);
    }
}
