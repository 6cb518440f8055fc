//! Data: every way that libc has of reading and writing a descriptor, brought down to receiving
//! and sending one `msghdr`.

use crate::descriptors::{self, Open};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::messages::{buffer, plain};
use crate::{copying, datagram, memory, naming, passing, stream, waiting};
use core::ffi::{c_int, c_uint, c_void};
use engine::{Kind, Wait};
use libc::{iovec, mmsghdr, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t, timespec};
use stack::time::Duration;

/// # Safety
/// The message is the program's.
pub unsafe fn receive(open: &Open, message: &mut msghdr, flags: c_int) -> Result<ssize_t, Errno> {
    // SAFETY: as the caller says.
    let received = unsafe {
        match open.file.kind() {
            Kind::Tcp => stream::receive(open, message, flags),
            Kind::Udp => datagram::receive(open, message, flags),
        }
    };
    received.map(|n| n as ssize_t)
}

/// # Safety
/// The message is the program's.
pub unsafe fn transmit(open: &Open, message: &msghdr, flags: c_int) -> Result<ssize_t, Errno> {
    // SAFETY: as the caller says.
    let sent = unsafe {
        match open.file.kind() {
            Kind::Tcp if flags & libc::MSG_FASTOPEN != 0 && !message.msg_name.is_null() => {
                naming::connect_and_send(open, message, flags)
            }
            Kind::Tcp => stream::send(open, message, flags),
            Kind::Udp => datagram::send(open, message, flags),
        }
    };
    sent.map(|n| n as ssize_t)
}

/// read(2).
///
/// # Safety
/// As the C function; likewise for every function here.
pub unsafe fn read(fd: c_int, into: *mut c_void, count: size_t) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::read(fd, into, count) };
    };
    if count == 0 {
        return 0; // Unlike recv, read does not ask the socket then.
    }
    // SAFETY: the program's buffer.
    errno::answer(|| unsafe { receive_into(&open, into, count, 0) })
}

/// Receives into one buffer, without an address or control messages.
///
/// # Safety
/// The buffer is the program's.
#[inline]
unsafe fn receive_into(
    open: &Open,
    into: *mut c_void,
    count: size_t,
    flags: c_int,
) -> Result<ssize_t, Errno> {
    // SAFETY: as the caller says.
    unsafe {
        if open.file.kind() == Kind::Tcp && flags & !stream::SIMPLE == 0 {
            return stream::receive_into(open, into, count, flags).map(|n| n as ssize_t);
        }
        receive(open, &mut plain(&mut buffer(into, count)), flags)
    }
}

/// Sends one buffer, without control messages, to whom the socket is connected.
///
/// # Safety
/// The buffer is the program's.
#[inline]
unsafe fn transmit_from(
    open: &Open,
    from: *const c_void,
    count: size_t,
    flags: c_int,
) -> Result<ssize_t, Errno> {
    // SAFETY: as the caller says.
    unsafe {
        if open.file.kind() == Kind::Tcp && flags & libc::MSG_FASTOPEN == 0 {
            return stream::send_from(open, from, count, flags).map(|n| n as ssize_t);
        }
        transmit(open, &plain(&mut buffer(from, count)), flags)
    }
}

/// readv(2).
///
/// # Safety
/// As the C function.
pub unsafe fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::readv(fd, iov, count) };
    };
    // SAFETY: the program's buffers.
    errno::answer(|| unsafe { receive(&open, &mut of_vector(iov, count)?, 0) })
}

/// A message of several buffers; `EINVAL` for a count that readv(2) refuses.
fn of_vector(iov: *const iovec, count: c_int) -> Result<msghdr, Errno> {
    let mut message = plain(&mut buffer(core::ptr::null(), 0));
    message.msg_iov = iov.cast_mut();
    message.msg_iovlen =
        usize::try_from(count).ok().filter(|count| *count <= 1024).ok_or(Errno::EINVAL)?;
    Ok(message)
}

const RWF_HIPRI: c_int = 1;
const RWF_NOWAIT: c_int = 8;

/// The flags of preadv2(2) as those of recvmsg(2).
fn rwf(flags: c_int) -> Result<c_int, Errno> {
    if flags & !(RWF_HIPRI | RWF_NOWAIT) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(if flags & RWF_NOWAIT != 0 { libc::MSG_DONTWAIT } else { 0 })
}

/// preadv2(2).
///
/// # Safety
/// As the C function.
pub unsafe fn preadv2(
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    match descriptors::socket(fd) {
        Some(open) if offset == -1 => {
            // SAFETY: the program's buffers.
            errno::answer(|| unsafe { receive(&open, &mut of_vector(iov, count)?, rwf(flags)?) })
        }
        // SAFETY: passed on; a socket has no offsets, says the kernel.
        _ => unsafe { real::preadv2(fd, iov, count, offset, flags) },
    }
}

pub use self::preadv2 as preadv64v2;

/// write(2).
///
/// # Safety
/// As the C function.
pub unsafe fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::write(fd, from, count) };
    };
    // SAFETY: the program's buffer.
    errno::answer(|| unsafe { transmit_from(&open, from, count, 0) })
}

/// writev(2).
///
/// # Safety
/// As the C function.
pub unsafe fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::writev(fd, iov, count) };
    };
    // SAFETY: the program's buffers.
    errno::answer(|| unsafe { transmit(&open, &of_vector(iov, count)?, 0) })
}

/// pwritev2(2).
///
/// # Safety
/// As the C function.
pub unsafe fn pwritev2(
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    match descriptors::socket(fd) {
        Some(open) if offset == -1 => {
            // SAFETY: the program's buffers.
            errno::answer(|| unsafe { transmit(&open, &of_vector(iov, count)?, rwf(flags)?) })
        }
        // SAFETY: passed on.
        _ => unsafe { real::pwritev2(fd, iov, count, offset, flags) },
    }
}

pub use self::pwritev2 as pwritev64v2;

/// recv(2).
///
/// # Safety
/// As the C function.
pub unsafe fn recv(fd: c_int, into: *mut c_void, count: size_t, flags: c_int) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::recv(fd, into, count, flags) };
    };
    // SAFETY: the program's buffer.
    errno::answer(|| unsafe { receive_into(&open, into, count, flags) })
}

/// recvfrom(2).
///
/// # Safety
/// As the C function.
pub unsafe fn recvfrom(
    fd: c_int,
    into: *mut c_void,
    count: size_t,
    flags: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::recvfrom(fd, into, count, flags, address, len) };
    };
    // SAFETY: the program's pointers.
    errno::answer(|| unsafe {
        let mut storage = buffer(into, count);
        let mut message = plain(&mut storage);
        if !address.is_null() {
            memory::writable(len, size_of::<socklen_t>())?;
            let room = &*len;
            message.msg_name = address.cast();
            message.msg_namelen =
                if (*room as i32) < 0 { return Err(Errno::EINVAL) } else { *room };
        }
        if open.file.kind() == Kind::Tcp && flags & !stream::SIMPLE == 0 {
            let received = stream::receive_into(&open, into, count, flags)?;
            if !address.is_null() {
                *len = 0; // A stream has no sender's address to tell (tcp(7)).
            }
            return Ok(received as ssize_t);
        }
        let received = receive(&open, &mut message, flags)?;
        if !address.is_null() {
            *len = message.msg_namelen;
        }
        Ok(received)
    })
}

/// recvmsg(2).
///
/// # Safety
/// As the C function.
pub unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { passing::receive(message, || real::recvmsg(fd, message, flags)) };
    };
    // SAFETY: the program's message, null or valid.
    errno::answer(|| unsafe {
        memory::writable(message, size_of::<msghdr>())?;
        receive(&open, &mut *message, flags)
    })
}

/// recvmmsg(2). The timeout is looked at after each datagram only, as in Linux (whose manual calls
/// that a bug).
///
/// # Safety
/// As the C function.
pub unsafe fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::recvmmsg(fd, messages, count, flags, timeout) };
    };
    // SAFETY: the program's pointers, null or valid.
    errno::answer(|| unsafe {
        let list = message_list(messages, count)?;
        let timeout = timeout.as_mut();
        let limit = timeout.as_deref().map(duration).transpose()?;
        let end = limit.map(|limit| waiting::after(open.engine.now(), limit));
        let received = receive_list(&open, list, flags, end);
        if let (Some(timeout), Some(Wait::Until(end))) = (timeout, end) {
            let left = end.saturating_since(open.engine.now());
            timeout.tv_sec = left.as_secs() as i64;
            timeout.tv_nsec = i64::from(left.subsec_nanos());
        }
        received
    })
}

/// # Safety
/// The list is the program's.
unsafe fn receive_list(
    open: &Open,
    list: &mut [mmsghdr],
    flags: c_int,
    end: Option<Wait>,
) -> Result<c_int, Errno> {
    let mut how = flags & !libc::MSG_WAITFORONE;
    let mut done = 0;
    for message in list {
        // SAFETY: as the caller says.
        match unsafe { receive(open, &mut message.msg_hdr, how) } {
            Ok(n) => message.msg_len = n as c_uint,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
        done += 1;
        if flags & libc::MSG_WAITFORONE != 0 {
            how |= libc::MSG_DONTWAIT;
        }
        let over = match end {
            Some(Wait::No) => true,
            Some(Wait::Until(end)) => open.engine.now() >= end,
            _ => false,
        };
        // Out-of-band data comes first to whoever watches for it.
        if over || message.msg_hdr.msg_flags & libc::MSG_OOB != 0 {
            break;
        }
    }
    Ok(done)
}

/// # Safety
/// `messages` is null or points to `count` messages.
unsafe fn message_list<'a>(
    messages: *mut mmsghdr,
    count: c_uint,
) -> Result<&'a mut [mmsghdr], Errno> {
    const MOST: usize = 1024;
    if count == 0 {
        return Ok(&mut []);
    }
    let count = (count as usize).min(MOST);
    memory::writable(messages, count * size_of::<mmsghdr>())?;
    // SAFETY: they can be read and written.
    Ok(unsafe { core::slice::from_raw_parts_mut(messages, count) })
}

fn duration(time: &timespec) -> Result<Duration, Errno> {
    let seconds = u64::try_from(time.tv_sec).map_err(|_| Errno::EINVAL)?;
    let nanos = u32::try_from(time.tv_nsec).map_err(|_| Errno::EINVAL)?;
    if nanos >= 1_000_000_000 { Err(Errno::EINVAL) } else { Ok(Duration::new(seconds, nanos)) }
}

/// send(2).
///
/// # Safety
/// As the C function.
pub unsafe fn send(fd: c_int, from: *const c_void, count: size_t, flags: c_int) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::send(fd, from, count, flags) };
    };
    // SAFETY: the program's buffer.
    errno::answer(|| unsafe { transmit_from(&open, from, count, flags) })
}

/// sendto(2).
///
/// # Safety
/// As the C function.
pub unsafe fn sendto(
    fd: c_int,
    from: *const c_void,
    count: size_t,
    flags: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::sendto(fd, from, count, flags, address, len) };
    };
    if open.file.kind() == Kind::Tcp && flags & libc::MSG_FASTOPEN == 0 {
        // A stream does not look at the address.
        // SAFETY: the program's buffer.
        return errno::answer(|| unsafe { transmit_from(&open, from, count, flags) });
    }
    let mut storage = buffer(from, count);
    let mut message = plain(&mut storage);
    message.msg_name = address.cast_mut().cast();
    message.msg_namelen = len;
    // SAFETY: the program's buffer and address.
    errno::answer(|| unsafe { transmit(&open, &message, flags) })
}

/// sendmsg(2).
///
/// # Safety
/// As the C function.
pub unsafe fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { passing::send(message, || real::sendmsg(fd, message, flags)) };
    };
    // SAFETY: the program's message, null or valid.
    errno::answer(|| unsafe {
        memory::readable(message, size_of::<msghdr>())?;
        transmit(&open, &*message, flags)
    })
}

/// sendmmsg(2).
///
/// # Safety
/// As the C function.
pub unsafe fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::sendmmsg(fd, messages, count, flags) };
    };
    // SAFETY: the program's messages, null or valid.
    errno::answer(|| unsafe {
        let mut done = 0;
        for message in message_list(messages, count)? {
            match transmit(&open, &message.msg_hdr, flags) {
                Ok(n) => message.msg_len = n as c_uint,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            done += 1;
        }
        Ok(done)
    })
}

/// sendfile(2).
///
/// # Safety
/// As the C function.
pub unsafe fn sendfile(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    let Some(open) = descriptors::socket(out) else {
        // SAFETY: passed on.
        return unsafe { real::sendfile(out, input, offset, count) };
    };
    // SAFETY: the program's pointer, null or valid.
    errno::answer(|| unsafe { copying::from_file(&open, input, offset.as_mut(), count) })
}

pub use self::sendfile as sendfile64;

/// splice(2).
///
/// # Safety
/// As the C function.
pub unsafe fn splice(
    input: c_int,
    input_offset: *mut off_t,
    out: c_int,
    out_offset: *mut off_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    let (from, to) = (descriptors::socket(input), descriptors::socket(out));
    if from.is_none() && to.is_none() {
        // SAFETY: passed on.
        return unsafe { real::splice(input, input_offset, out, out_offset, count, flags) };
    }
    errno::answer(|| match (from, to) {
        // A socket cannot be read or written at an offset, says the kernel, and a pipe has none.
        (Some(_), _) if !input_offset.is_null() => Err(Errno::EINVAL),
        (_, Some(_)) if !out_offset.is_null() => Err(Errno::EINVAL),
        _ if !input_offset.is_null() || !out_offset.is_null() => Err(Errno::ESPIPE),
        (Some(from), None) => copying::to_pipe(&from, out, count, flags),
        (None, Some(to)) => copying::from_pipe(input, &to, count, flags),
        // One end must be a pipe.
        _ => Err(Errno::EINVAL),
    })
}

/// read, fortified: the real one aborts when the buffer is too small.
///
/// # Safety
/// As the C function.
pub unsafe fn __read_chk(fd: c_int, into: *mut c_void, count: size_t, room: size_t) -> ssize_t {
    // SAFETY: passed on.
    unsafe {
        if room < count { real::__read_chk(fd, into, count, room) } else { read(fd, into, count) }
    }
}

/// recv, fortified.
///
/// # Safety
/// As the C function.
pub unsafe fn __recv_chk(
    fd: c_int,
    into: *mut c_void,
    count: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: passed on.
    unsafe {
        if room < count {
            return real::__recv_chk(fd, into, count, room, flags);
        }
        recv(fd, into, count, flags)
    }
}

/// recvfrom, fortified.
///
/// # Safety
/// As the C function.
pub unsafe fn __recvfrom_chk(
    fd: c_int,
    into: *mut c_void,
    count: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: passed on.
    unsafe {
        if room < count {
            return real::__recvfrom_chk(fd, into, count, room, flags, address, len);
        }
        recvfrom(fd, into, count, flags, address, len)
    }
}
