//! The one place where an error becomes a number.
//!
//! Owns: [`Errno`], its conversion from the stack's errors, and the C convention of "-1 and errno".
//! Called by every hook. Never decides what to do about an error.

use core::ffi::c_int;
use stack::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A Linux error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

macro_rules! errno_constants {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`.")] pub const $name: Errno = Errno(libc::$name);)*
        }
    };
}

errno_constants! {
    EAFNOSUPPORT EAGAIN EBADF EBUSY EEXIST EFAULT EINTR EINVAL EIO EINPROGRESS EMSGSIZE ENODEV
    ENOENT ENOMEM ENOPROTOOPT ENOSYS ENOTCONN EOPNOTSUPP ESPIPE
}

/// The number of each error of the stack. Exhaustive: a new error must say its number here.
impl From<Error> for Errno {
    fn from(error: Error) -> Errno {
        Errno(match error {
            Error::WouldBlock => libc::EAGAIN,
            Error::InProgress => libc::EINPROGRESS,
            Error::Already => libc::EALREADY,
            Error::IsConnected => libc::EISCONN,
            Error::NotConnected => libc::ENOTCONN,
            Error::ConnectionRefused => libc::ECONNREFUSED,
            Error::ConnectionReset => libc::ECONNRESET,
            Error::ConnectionAborted => libc::ECONNABORTED,
            Error::BrokenPipe => libc::EPIPE,
            Error::TimedOut => libc::ETIMEDOUT,
            Error::HostUnreachable => libc::EHOSTUNREACH,
            Error::NetworkUnreachable => libc::ENETUNREACH,
            Error::NetworkDown => libc::ENETDOWN,
            Error::ProtocolError => libc::EPROTO,
            Error::NoProtocolOption => libc::ENOPROTOOPT,
            Error::AddressInUse => libc::EADDRINUSE,
            Error::AddressNotAvailable => libc::EADDRNOTAVAIL,
            Error::AddressFamilyNotSupported => libc::EAFNOSUPPORT,
            Error::DestinationRequired => libc::EDESTADDRREQ,
            Error::MessageTooLong => libc::EMSGSIZE,
            Error::InvalidArgument => libc::EINVAL,
            Error::OperationNotSupported => libc::EOPNOTSUPP,
            Error::PermissionDenied => libc::EACCES,
            Error::NotPermitted => libc::EPERM,
            Error::NoBufferSpace => libc::ENOBUFS,
            Error::OutOfMemory => libc::ENOMEM,
            Error::TooManyFiles => libc::ENFILE,
            Error::Interrupted => libc::EINTR,
            Error::BadDescriptor => libc::EBADF,
            Error::OutOfRange => libc::EDOM,
        })
    }
}

/// The calling thread's errno.
pub fn get() -> Errno {
    // SAFETY: __errno_location always returns the calling thread's valid errno.
    Errno(unsafe { *libc::__errno_location() })
}

/// Sets the calling thread's errno.
pub fn set(errno: Errno) {
    // SAFETY: as in `get`.
    unsafe { *libc::__errno_location() = errno.0 };
}

/// A return type of a C function, and its value for failure.
pub trait Encode: Sized {
    /// What the function returns when errno is set.
    const FAILURE: Self;
}

impl Encode for c_int {
    const FAILURE: c_int = -1;
}
impl Encode for isize {
    const FAILURE: isize = -1;
}
impl Encode for i64 {
    const FAILURE: i64 = -1;
}
/// A signal handler: `SIG_ERR`.
impl Encode for libc::sighandler_t {
    const FAILURE: libc::sighandler_t = libc::SIG_ERR;
}
impl<T> Encode for *mut T {
    const FAILURE: *mut T = core::ptr::null_mut();
}
impl Encode for () {
    const FAILURE: () = ();
}

/// Runs the body of a hook and answers as libc does: the value with errno as it was, or the
/// failure value with errno set. (Successful calls into the engine make syscalls that fail along
/// the way, and programs look at errno later than they should.) A panic, which has said its line
/// by then, is `EIO`; what it leaves half done is the engine's business.
pub fn answer<T: Encode>(body: impl FnOnce() -> Result<T, Errno>) -> T {
    let before = get();
    match catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Errno::EIO)) {
        Ok(value) => {
            set(before);
            value
        }
        Err(errno) => {
            set(errno);
            T::FAILURE
        }
    }
}

/// Turns the answer of a real libc function into a result, reading errno if it failed.
pub fn check<T: Encode + PartialEq>(answer: T) -> Result<T, Errno> {
    if answer == T::FAILURE { Err(get()) } else { Ok(answer) }
}

/// Turns the answer of a raw syscall (a negative errno on failure) into libc's convention.
pub fn from_raw(answer: isize) -> isize {
    if (-4095..0).contains(&answer) {
        set(Errno(-(answer as c_int)));
        return -1;
    }
    answer
}

/// The number of an errno's name, for the names that [`Error::errno_name`] gives.
#[cfg(test)]
fn number_of(name: &str) -> Option<c_int> {
    macro_rules! names {
        ($($name:ident)*) => {
            [$((stringify!($name), libc::$name),)*]
        };
    }
    names! {
        EAGAIN EINPROGRESS EALREADY EISCONN ENOTCONN ECONNREFUSED ECONNRESET ECONNABORTED EPIPE
        ETIMEDOUT EHOSTUNREACH ENETUNREACH ENETDOWN EPROTO ENOPROTOOPT EADDRINUSE EADDRNOTAVAIL
        EAFNOSUPPORT
        EDESTADDRREQ EMSGSIZE EINVAL EOPNOTSUPP EACCES EPERM ENOBUFS ENOMEM ENFILE EINTR EBADF EDOM
    }
    .iter()
    .find(|(known, _)| *known == name)
    .map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_stack_has_the_number_of_its_name() {
        for error in Error::ALL {
            assert_eq!(Some(Errno::from(*error).0), number_of(error.errno_name()), "{error}");
        }
    }

    #[test]
    fn success_leaves_errno_alone_and_failure_sets_it() {
        set(Errno::EIO);
        let value: c_int = answer(|| {
            set(Errno::EAGAIN);
            Ok(3)
        });
        assert_eq!((value, get()), (3, Errno::EIO));
        let value: isize = answer(|| Err(Errno::EINVAL));
        assert_eq!((value, get()), (-1, Errno::EINVAL));
    }

    #[test]
    fn a_panic_is_an_error() {
        let value: c_int = answer(|| panic!("as a test"));
        assert_eq!((value, get()), (-1, Errno::EIO));
    }

    #[test]
    fn raw_answers_follow_libcs_convention() {
        assert_eq!(from_raw(7), 7);
        assert_eq!(from_raw(-(libc::EBADF as isize)), -1);
        assert_eq!(get(), Errno::EBADF);
    }
}
