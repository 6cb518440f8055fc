//! What packetdrill calls on a descriptor itself, without asking the interface: for these the
//! library is preloaded. For descriptors that are not ours they are the system calls.

use crate::data;
use crate::interface::interface;
use crate::sockets;
use crate::station::station;
use crate::world::is_ours;
use abi::errno;
use core::ffi::{c_int, c_long, c_void};
use libc::{off64_t, size_t, socklen_t, ssize_t};

/// close(2).
///
/// # Safety
/// As the C function; likewise below.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    sockets::close(station(), fd)
}

/// getsockopt(2).
///
/// # Safety
/// As the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    match station().filter(|_| is_ours(fd)) {
        Some(station) => {
            let interface = interface(station);
            // SAFETY: as the caller says.
            unsafe { (interface.getsockopt)(interface.userdata, fd, level, name, value, len) }
        }
        // SAFETY: as the caller says.
        None => unsafe { crate::options::kernel_getsockopt(fd, level, name, value, len) },
    }
}

/// sendfile(2).
///
/// # Safety
/// As the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off64_t,
    len: size_t,
) -> ssize_t {
    let Some(station) = station().filter(|_| is_ours(to)) else {
        let (to, from) = (c_long::from(to), c_long::from(from));
        // SAFETY: passed on.
        return unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, len) as ssize_t };
    };
    // SAFETY: null, or the caller's number.
    let offset = unsafe { offset.as_mut() };
    errno::answer(|| data::sendfile(station, to, from, offset, len).map(|n| n as ssize_t))
}

/// sendfile(2) under the name that `_FILE_OFFSET_BITS=64` gives it.
///
/// # Safety
/// As the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sendfile64(
    to: c_int,
    from: c_int,
    offset: *mut off64_t,
    len: size_t,
) -> ssize_t {
    // SAFETY: as the caller says.
    unsafe { sendfile(to, from, offset, len) }
}
