//! Descriptors handed from process to process over Unix sockets (`SCM_RIGHTS`, unix(7)).
//!
//! The kernel passes its half. On the way out the engine learns that the stack's half travels with
//! it; on the way in the kernel's cookie of the socket says which description that is. A process
//! outside the family gets the kernel's half alone.

use crate::descriptors::{self, Entry};
use crate::hook::real;
use crate::{guard, lifecycle, spares};
use core::ffi::{c_int, c_void};
use engine::Engine;
use libc::{cmsghdr, msghdr, socklen_t};

/// Calls `each` with every descriptor in the message's control data.
///
/// # Safety
/// The message is one that the kernel has taken or given.
unsafe fn for_each_descriptor(message: &msghdr, mut each: impl FnMut(c_int)) {
    // SAFETY: the macros of cmsg(3) stay within the control data.
    unsafe {
        let mut header: *const cmsghdr = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
                let octets = found.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let first = libc::CMSG_DATA(header).cast::<c_int>();
                for at in 0..octets / size_of::<c_int>() {
                    each(first.add(at).read_unaligned());
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// The kernel's name of a socket, which no other ever has.
fn cookie(fd: c_int) -> Option<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as socklen_t;
    let at = (&raw mut cookie).cast::<c_void>();
    // SAFETY: room for the cookie.
    let answer =
        unsafe { real::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, at, &raw mut len) };
    (answer == 0 && cookie != 0).then_some(cookie)
}

/// The engine, if a message that comes or goes may carry descriptors.
fn concerned(message: *const msghdr) -> Option<&'static Engine> {
    let engine = engine::get()?;
    if message.is_null() || !guard::ours() {
        return None;
    }
    // SAFETY: not null; what the kernel refuses to read crashes nobody who is about to be refused.
    let control = unsafe { ((*message).msg_control, (*message).msg_controllen) };
    (!control.0.is_null() && control.1 >= size_of::<cmsghdr>()).then_some(engine)
}

/// sendmsg(2) on a socket of the kernel.
///
/// # Safety
/// The message is the program's.
pub unsafe fn send(message: *const msghdr, call: impl FnOnce() -> isize) -> isize {
    if crate::memory::readable(message, size_of::<msghdr>()).is_err() {
        return call();
    }
    let Some(engine) = concerned(message) else { return call() };
    let mut passed = Vec::new();
    // SAFETY: as the caller says.
    unsafe {
        for_each_descriptor(&*message, |fd| {
            spares::touch(fd);
            if let (Entry::Socket(id), Some(cookie)) = (descriptors::get(fd), cookie(fd))
                && engine.pass(id, cookie).is_ok()
            {
                passed.push(cookie);
            }
        });
    }
    let answer = call();
    if answer < 0 {
        let errno = crate::errno::get();
        for id in passed.into_iter().filter_map(|cookie| engine.take_passed(cookie)) {
            engine.release(id);
        }
        crate::errno::set(errno);
    }
    answer
}

/// recvmsg(2) on a socket of the kernel.
///
/// # Safety
/// The message is the program's.
pub unsafe fn receive(message: *mut msghdr, call: impl FnOnce() -> isize) -> isize {
    let answer = call();
    if answer < 0 {
        return answer;
    }
    let Some(engine) = concerned(message) else { return answer };
    // SAFETY: the kernel has just filled it in.
    unsafe { for_each_descriptor(&*message, |fd| arrived(engine, fd)) };
    answer
}

/// A descriptor that the kernel has made: its number means what it was passed as.
fn arrived(engine: &Engine, fd: c_int) {
    let errno = crate::errno::get();
    lifecycle::forget(fd);
    descriptors::change(|| {
        let Some(id) = cookie(fd).and_then(|cookie| engine.take_passed(cookie)) else { return };
        if descriptors::replace(fd, Entry::Socket(id)).is_none() {
            engine.release(id);
        }
    });
    crate::errno::set(errno);
}
