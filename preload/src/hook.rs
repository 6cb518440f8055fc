//! What becomes of the table of `symbols.rs`: an exported function and a pointer to the real one
//! for each row.
//!
//! The `redhook` crate was tried and not taken. Its `hook!` finds the real function with dlsym
//! inside a `std::sync::Once`, which deadlocks when dlsym allocates and the allocator reads a file
//! (jemalloc's first call does); it has no early answer; and a panic in a hook would go on with
//! the kernel's socket as if nothing had happened.

use crate::guard;
use crate::raw_syscall::{self, Word};
use crate::signals::sigaction_t;
use crate::variadic::VaList;
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use libc::{
    FILE, epoll_event, fd_set, iovec, mmsghdr, msghdr, nfds_t, off_t, pid_t, pollfd, pthread_t,
    sighandler_t, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec, timeval,
};

/// A row of the table.
pub struct Symbol {
    /// The function's name, as exported.
    pub name: &'static CStr,
    /// What the hook does.
    #[cfg(test)]
    pub doc: &'static str,
    slot: &'static Slot,
}

/// Where the real function is, once it has been found.
pub struct Slot(AtomicPtr<c_void>);

impl Slot {
    const fn new() -> Self {
        Slot(AtomicPtr::new(core::ptr::null_mut()))
    }

    #[inline]
    fn get(&self) -> *mut c_void {
        // Relaxed: the pointed-to code was there before any of ours could run.
        self.0.load(Ordering::Relaxed)
    }

    #[cold]
    fn find(&self, name: &CStr) -> *mut c_void {
        // SAFETY: dlsym with a valid handle and a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        self.0.store(found, Ordering::Relaxed);
        found
    }
}

/// Finds every real function. Called by the constructor, so that no hook has to later, when
/// somebody may hold a lock that dlsym wants.
pub fn find_all() {
    for symbol in TABLE {
        symbol.slot.find(symbol.name);
    }
}

macro_rules! symbols {
    ($(
        $(#[doc = $about:literal])*
        $family:ident {
            $(
                $(#[doc = $doc:literal])*
                fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty
                    $(, $kind:ident)? $(= $number:ident)?;
            )*
        }
    )*) => {
        /// Every interposed function.
        pub static TABLE: &[Symbol] = &[$($(Symbol {
            name: symbols!(@cstr $name),
            #[cfg(test)]
            doc: concat!($($doc),*),
            slot: &slots::$name,
        },)*)*];

        #[allow(non_upper_case_globals)]
        mod slots {
            use super::Slot;
            $($(pub static $name: Slot = Slot::new();)*)*
        }

        /// The real functions.
        pub mod real {
            use super::*;
            $($(symbols!(@real [$($kind)?] $name($($arg: $ty),*) -> $ret, [$($number)?]);)*)*
        }

        /// The exported functions.
        mod export {
            use super::*;
            $($(symbols!(
                @export [$($kind)?] [$(#[doc = $doc])*] $family $name($($arg: $ty),*) -> $ret
            );)*)*
        }
    };
    (@cstr $name:ident) => {
        // The literal ends in the one NUL that a C string needs.
        match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!("a function's name has a NUL in it"),
        }
    };
    (
        @real [$($kind:ident)?] $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty,
        [$($number:ident)?]
    ) => {
        /// The real function of this name.
        ///
        /// # Safety
        /// As the C function.
        #[inline]
        #[allow(clippy::missing_safety_doc, clippy::too_many_arguments, non_snake_case, dead_code)]
        pub unsafe fn $name($($arg: $ty),*) -> $ret {
            let found = match slots::$name.get() {
                absent if absent.is_null() => {
                    symbols!(@absent [$($number)?] $name($($arg),*) -> $ret)
                }
                found => found,
            };
            // SAFETY: libc's function of this name has this signature; the caller answers for the
            // arguments.
            unsafe {
                let function: unsafe extern "C" fn($($ty),*) -> $ret = core::mem::transmute(found);
                function($($arg),*)
            }
        }
    };
    (@absent [] $name:ident($($arg:ident),*) -> $ret:ty) => {
        match slots::$name.find(symbols!(@cstr $name)) {
            absent if absent.is_null() => return guard::missing(),
            found => found,
        }
    };
    (@absent [$number:ident] $name:ident($($arg:ident),*) -> $ret:ty) => {
        return early(libc::$number, &[$($arg.word()),*]) as $ret
    };
    (
        @export [asm] [$(#[$doc:meta])*] $family:ident $name:ident($($arg:ident: $ty:ty),*)
        -> $ret:ty
    ) => {};
    (
        @export [cancel] [$(#[$doc:meta])*] $family:ident $name:ident($($arg:ident: $ty:ty),*)
        -> $ret:ty
    ) => {
        $(#[$doc])*
        #[allow(clippy::missing_safety_doc, clippy::too_many_arguments, non_snake_case)]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the program calls this as it would call libc's.
            guard::point(|| unsafe { crate::$family::$name($($arg),*) })
        }
    };
    (
        @export [] [$(#[$doc:meta])*] $family:ident $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty
    ) => {
        $(#[$doc])*
        #[allow(clippy::missing_safety_doc, clippy::too_many_arguments, non_snake_case)]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the program calls this as it would call libc's.
            guard::hook(|| unsafe { crate::$family::$name($($arg),*) })
        }
    };
}

include!("symbols.rs");

/// Answers for a function that has not been found yet.
#[cold]
fn early(number: c_long, words: &[usize]) -> isize {
    let mut arguments = [0; 6];
    arguments[..words.len()].copy_from_slice(words);
    // SAFETY: the program asked for this syscall, by the name of its libc function.
    crate::errno::from_raw(unsafe { raw_syscall::call(number, arguments) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_once_in_the_table_and_known_to_libc() {
        let mut names: Vec<_> = TABLE.iter().map(|symbol| symbol.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for symbol in TABLE {
            // SAFETY: a valid handle and a C string.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.name.as_ptr()) };
            assert!(!found.is_null(), "{:?} is not in this libc", symbol.name);
            assert!(symbol.doc.ends_with('.'), "{:?} has no proper description", symbol.name);
        }
    }

    #[test]
    fn an_early_call_reaches_the_kernel() {
        assert_eq!(early(libc::SYS_close, &[usize::MAX]), -1);
        assert_eq!(crate::errno::get(), crate::errno::Errno::EBADF);
    }
}
