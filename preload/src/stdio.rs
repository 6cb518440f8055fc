//! stdio on a socket. libc's own streams call read and write inside libc, where no hook sees them,
//! and would find the kernel's socket.
//!
//! Owns the streams that were made here (fopencookie(3)), so that fileno(3) still answers.

use crate::descriptors;
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::variadic::VaList;
use crate::{lifecycle, transfer};
use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use libc::{FILE, off64_t, size_t, ssize_t};

/// Streams that can be open at once; further ones work, but have no fileno(3).
const STREAMS: usize = 1024;

struct Stream {
    stream: AtomicPtr<FILE>,
    fd: AtomicI32,
}

static OPEN: [Stream; STREAMS] =
    [const { Stream { stream: AtomicPtr::new(core::ptr::null_mut()), fd: AtomicI32::new(-1) } };
        STREAMS];
/// Whether any stream was ever made here: fileno(3) looks no further if not.
static ANY: AtomicI32 = AtomicI32::new(0);

#[repr(C)]
struct CookieFunctions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: Option<unsafe extern "C" fn(*mut c_void, *mut off64_t, c_int) -> c_int>,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(
        cookie: *mut c_void,
        mode: *const c_char,
        functions: CookieFunctions,
    ) -> *mut FILE;
    fn vsnprintf(
        into: *mut c_char,
        room: size_t,
        format: *const c_char,
        list: *mut VaList,
    ) -> c_int;
}

/// fdopen(3). The cookie is the descriptor's number.
///
/// # Safety
/// As the C function.
pub unsafe fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    if descriptors::socket(fd).is_none() {
        // SAFETY: passed on.
        return unsafe { real::fdopen(fd, mode) };
    }
    let functions = CookieFunctions { read, write, seek: None, close };
    let cookie = core::ptr::without_provenance_mut(fd as usize);
    // SAFETY: the functions take the cookie; libc checks the mode.
    let stream = unsafe { fopencookie(cookie, mode, functions) };
    if !stream.is_null() {
        note(stream, fd);
    }
    stream
}

fn note(stream: *mut FILE, fd: c_int) {
    ANY.store(1, Ordering::Release);
    let none = core::ptr::null_mut();
    for place in &OPEN {
        if place.stream.compare_exchange(none, stream, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            place.fd.store(fd, Ordering::Release);
            return;
        }
    }
}

unsafe extern "C" fn read(cookie: *mut c_void, into: *mut c_char, count: size_t) -> ssize_t {
    // SAFETY: libc passes its buffer.
    crate::guard::point(|| unsafe { transfer::read(cookie as c_int, into.cast(), count) })
}

/// Zero means failure to fopencookie, so this writes everything or nothing.
unsafe extern "C" fn write(cookie: *mut c_void, from: *const c_char, count: size_t) -> ssize_t {
    // SAFETY: libc passes its buffer.
    let written = crate::guard::hook(|| unsafe { write_all(cookie as c_int, from, count) });
    written.max(0)
}

unsafe extern "C" fn close(cookie: *mut c_void) -> c_int {
    let fd = cookie as c_int;
    for place in &OPEN {
        if place.fd.compare_exchange(fd, -1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            place.stream.store(core::ptr::null_mut(), Ordering::Release);
        }
    }
    // SAFETY: the stream owns its descriptor.
    crate::guard::hook(|| unsafe { lifecycle::close(fd) })
}

/// Writes until all is written or an error comes; returns what was written.
///
/// # Safety
/// `from` has `count` readable octets.
unsafe fn write_all(fd: c_int, from: *const c_char, count: size_t) -> ssize_t {
    let mut done = 0;
    while done < count {
        // SAFETY: what is left of the buffer.
        let n = unsafe { transfer::write(fd, from.add(done).cast(), count - done) };
        if n <= 0 {
            break;
        }
        done += n as usize;
    }
    if done == 0 && count > 0 { -1 } else { done as ssize_t }
}

/// fileno(3).
///
/// # Safety
/// As the C function.
pub unsafe fn fileno(stream: *mut FILE) -> c_int {
    // SAFETY: passed on.
    known(stream).unwrap_or_else(|| unsafe { real::fileno(stream) })
}

/// fileno_unlocked(3).
///
/// # Safety
/// As the C function.
pub unsafe fn fileno_unlocked(stream: *mut FILE) -> c_int {
    // SAFETY: passed on.
    known(stream).unwrap_or_else(|| unsafe { real::fileno_unlocked(stream) })
}

fn known(stream: *mut FILE) -> Option<c_int> {
    if ANY.load(Ordering::Acquire) == 0 {
        return None;
    }
    let place = OPEN.iter().find(|place| place.stream.load(Ordering::Acquire) == stream)?;
    Some(place.fd.load(Ordering::Acquire)).filter(|fd| *fd >= 0)
}

/// vdprintf(3).
///
/// # Safety
/// As the C function.
pub unsafe fn vdprintf(fd: c_int, format: *const c_char, list: *mut VaList) -> c_int {
    if descriptors::socket(fd).is_none() {
        // SAFETY: passed on.
        return unsafe { real::vdprintf(fd, format, list) };
    }
    // SAFETY: the program's format and arguments.
    unsafe { print(fd, format, list) }
}

/// vdprintf, fortified.
///
/// # Safety
/// As the C function.
pub unsafe fn __vdprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    list: *mut VaList,
) -> c_int {
    if descriptors::socket(fd).is_none() {
        // SAFETY: passed on.
        return unsafe { real::__vdprintf_chk(fd, flag, format, list) };
    }
    // SAFETY: the program's format and arguments.
    unsafe { print(fd, format, list) }
}

/// # Safety
/// `list` has the arguments that `format` names.
unsafe fn print(fd: c_int, format: *const c_char, list: *mut VaList) -> c_int {
    // SAFETY: vsnprintf consumes its list, so the first call gets a copy.
    unsafe {
        let mut copy = core::ptr::read(list);
        let len = vsnprintf(core::ptr::null_mut(), 0, format, &mut copy);
        let Ok(room) = usize::try_from(len) else { return -1 };
        let mut text = vec![0u8; room + 1];
        vsnprintf(text.as_mut_ptr().cast(), text.len(), format, list);
        if write_all(fd, text.as_ptr().cast(), room) < room as ssize_t {
            if room == 0 {
                errno::set(Errno::EIO);
            }
            return -1;
        }
        len
    }
}
