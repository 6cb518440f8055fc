//! `struct msghdr`: its buffers as slices, its control messages in both directions (cmsg(3)).
//!
//! Called by `stream.rs` and `datagram.rs`. Knows the layout and Linux's rules for room; not what
//! the messages mean for a socket.

use crate::errno::Errno;
use crate::memory;
use arrayvec::ArrayVec;
use core::ffi::{c_int, c_void};
use libc::{cmsghdr, iovec, msghdr};
use stack::options::Timestamping;
use stack::socket::SendControl;
use stack::tcp::SendStamp;
use stack::time::{Duration, Instant};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr};

/// Buffers that one call may name (`UIO_MAXIOV`).
const MAX_BUFFERS: usize = 1024;
/// Buffers that need no allocation.
const FEW: usize = 8;

/// The `count` buffers at `iov`, checked.
///
/// # Safety
/// `iov` points to `count` buffers, if `count` is not zero.
unsafe fn buffers<'a>(
    iov: *const iovec,
    count: usize,
    check: fn(*const c_void, usize) -> Result<(), Errno>,
) -> Result<&'a [iovec], Errno> {
    if count == 0 {
        return Ok(&[]);
    }
    memory::readable(iov, count * size_of::<iovec>())?;
    // SAFETY: as the caller says.
    let buffers = unsafe { core::slice::from_raw_parts(iov, count) };
    let mut total = 0usize;
    for buffer in buffers {
        total = total.checked_add(buffer.iov_len).ok_or(Errno::EINVAL)?;
    }
    if isize::try_from(total).is_err() {
        return Err(Errno::EINVAL);
    }
    for buffer in buffers {
        check(buffer.iov_base, buffer.iov_len)?;
    }
    Ok(buffers)
}

/// Calls `f` with the message's buffers, to be written to.
///
/// # Errors
/// `EMSGSIZE`, `EFAULT`, `EINVAL` as recvmsg(2), or what `f` says.
///
/// # Safety
/// The message's buffers are the program's, and writable.
pub unsafe fn with_room<R>(
    message: &msghdr,
    f: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<R, Errno>,
) -> Result<R, Errno> {
    if message.msg_iovlen > MAX_BUFFERS {
        return Err(Errno::EMSGSIZE);
    }
    // SAFETY: as the caller says, for both.
    let slices = unsafe { buffers(message.msg_iov, message.msg_iovlen, memory::writable) }?
        .iter()
        .filter(|buffer| buffer.iov_len > 0)
        .map(|buffer| {
            // SAFETY: checked to be there.
            IoSliceMut::new(unsafe {
                core::slice::from_raw_parts_mut(buffer.iov_base.cast(), buffer.iov_len)
            })
        });
    if message.msg_iovlen <= FEW {
        return f(&mut slices.collect::<ArrayVec<_, FEW>>());
    }
    f(&mut slices.collect::<Vec<_>>())
}

/// Calls `f` with the message's buffers, to be read from.
///
/// # Errors
/// As [`with_room`].
///
/// # Safety
/// The message's buffers are the program's, and readable.
pub unsafe fn with_data<R>(
    message: &msghdr,
    f: impl FnOnce(&mut [IoSlice<'_>]) -> Result<R, Errno>,
) -> Result<R, Errno> {
    if message.msg_iovlen > MAX_BUFFERS {
        return Err(Errno::EMSGSIZE);
    }
    // SAFETY: as the caller says.
    let slices = unsafe { buffers(message.msg_iov, message.msg_iovlen, memory::readable) }?
        .iter()
        .filter(|buffer| buffer.iov_len > 0)
        .map(|buffer| {
            // SAFETY: checked to be there.
            IoSlice::new(unsafe {
                core::slice::from_raw_parts(buffer.iov_base.cast(), buffer.iov_len)
            })
        });
    if message.msg_iovlen <= FEW {
        return f(&mut slices.collect::<ArrayVec<_, FEW>>());
    }
    f(&mut slices.collect::<Vec<_>>())
}

/// Octets that the message's buffers claim to have room for.
///
/// # Errors
/// As [`with_room`], but for buffers that are not there.
pub fn room(message: &msghdr) -> Result<usize, Errno> {
    if message.msg_iovlen > MAX_BUFFERS {
        return Err(Errno::EMSGSIZE);
    }
    // SAFETY: the list is checked, and the buffers are not looked at.
    let buffers = unsafe { buffers(message.msg_iov, message.msg_iovlen, |_, _| Ok(())) }?;
    Ok(buffers.iter().map(|buffer| buffer.iov_len).sum())
}

/// A message of one buffer and nothing else.
pub fn plain(buffer: &mut iovec) -> msghdr {
    // SAFETY: zero is a valid msghdr: no name, no buffers, no control messages.
    let mut message: msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = buffer;
    message.msg_iovlen = 1;
    message
}

/// What can be read octet by octet.
///
/// # Safety
/// Without padding: each octet of a value has a value.
pub unsafe trait Plain: Copy {}

// SAFETY: numbers.
unsafe impl Plain for c_int {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for u16 {}
// SAFETY: numbers.
unsafe impl Plain for i64 {}
// SAFETY: an array has no padding between its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Writes control messages into a program's buffer, cutting as Linux's `put_cmsg` does.
pub struct ControlWriter {
    at: *mut u8,
    room: usize,
    written: usize,
    cut: bool,
}

impl ControlWriter {
    /// The control buffer of `message`.
    ///
    /// # Safety
    /// `msg_control` has `msg_controllen` writable octets, or is null.
    #[must_use]
    pub unsafe fn new(message: &msghdr) -> Self {
        let room = if message.msg_control.is_null() { 0 } else { message.msg_controllen };
        ControlWriter { at: message.msg_control.cast(), room, written: 0, cut: false }
    }

    /// Adds a message.
    pub fn put(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        const HEADER: usize = size_of::<cmsghdr>();
        let left = self.room - self.written;
        if left < HEADER {
            self.cut = true;
            return;
        }
        let len = (HEADER + data.len()).min(left);
        self.cut |= len < HEADER + data.len();
        let header = cmsghdr { cmsg_len: len, cmsg_level: level, cmsg_type: kind };
        // SAFETY: `len` octets are left in the program's buffer.
        unsafe {
            let at = self.at.add(self.written);
            at.cast::<cmsghdr>().write_unaligned(header);
            core::ptr::copy_nonoverlapping(data.as_ptr(), at.add(HEADER), len - HEADER);
        }
        self.written += align(HEADER + data.len()).min(left);
    }

    /// Adds a message whose data is a C struct or number.
    pub fn put_value<T: Plain>(&mut self, level: c_int, kind: c_int, value: T) {
        let octets = (&raw const value).cast::<u8>();
        // SAFETY: `Plain` promises that each of the value's octets has a value.
        let data = unsafe { core::slice::from_raw_parts(octets, size_of::<T>()) };
        self.put(level, kind, data);
    }

    /// Adds `SCM_TIMESTAMPING`: three times, of which the first is the software's.
    pub fn put_timestamping(&mut self, at: Duration) {
        let (seconds, nanos) = (at.as_secs() as i64, i64::from(at.subsec_nanos()));
        let times = [seconds, nanos, 0, 0, 0, 0];
        self.put_value(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, times);
    }

    /// Tells the message how much was written, and whether something was cut.
    pub fn finish(self, message: &mut msghdr) {
        message.msg_controllen = self.written;
        if self.cut {
            message.msg_flags |= libc::MSG_CTRUNC;
        }
    }
}

/// `sock_extended_err` of linux/errqueue.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are Linux's.
pub struct ExtendedError {
    pub errno: u32,
    pub origin: u8,
    pub kind: u8,
    pub code: u8,
    pub pad: u8,
    pub info: u32,
    pub data: u32,
    /// A `sockaddr_in`, zero where nobody is to blame.
    pub offender: [u8; 16],
}

// SAFETY: three words and four octets, then the address, 32 octets in all: there is no gap.
unsafe impl Plain for ExtendedError {}
const _: () = assert!(size_of::<ExtendedError>() == 4 * 4 + 16);

impl ExtendedError {
    /// Sends with `MSG_ZEROCOPY` from number `first` to number `last` are complete, their data
    /// having been copied.
    #[must_use]
    pub fn copied(first: u32, last: u32) -> Self {
        const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
        const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;
        ExtendedError {
            origin: SO_EE_ORIGIN_ZEROCOPY,
            code: SO_EE_CODE_ZEROCOPY_COPIED,
            info: first,
            data: last,
            ..ExtendedError::default()
        }
    }

    /// The last octet of a send has come so far.
    #[must_use]
    pub fn stamp(stamp: &SendStamp) -> Self {
        const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
        ExtendedError {
            errno: libc::ENOMSG as u32,
            origin: SO_EE_ORIGIN_TIMESTAMPING,
            info: stamp.stage as u32,
            data: stamp.key,
            ..ExtendedError::default()
        }
    }
}

/// What recvmsg(2) with `MSG_ERRQUEUE` tells of a stream.
#[derive(Debug, Clone, Copy)]
pub enum Report {
    /// How far a send has come; the socket's `SO_TIMESTAMPING` says what is told of it.
    Stamp(SendStamp, Timestamping),
    /// Sends with `MSG_ZEROCOPY` that are complete: the first and the last.
    Completed(u32, u32),
}

impl Report {
    /// Writes it as Linux does. `wall_clock` turns a moment into time since 1970.
    ///
    /// # Safety
    /// As [`ControlWriter::new`].
    pub unsafe fn put(self, message: &mut msghdr, wall_clock: impl FnOnce(Instant) -> Duration) {
        message.msg_namelen = 0;
        message.msg_flags = libc::MSG_ERRQUEUE;
        // SAFETY: as the caller says.
        let mut control = unsafe { ControlWriter::new(message) };
        let error = match self {
            Report::Completed(first, last) => ExtendedError::copied(first, last),
            Report::Stamp(stamp, options) => {
                if !options.contains(Timestamping::OPT_TSONLY) {
                    message.msg_flags |= libc::MSG_TRUNC; // The packet would come along.
                }
                if options.contains(Timestamping::SOFTWARE) {
                    control.put_timestamping(wall_clock(stamp.at));
                }
                ExtendedError::stamp(&stamp)
            }
        };
        control.put_value(libc::IPPROTO_IP, libc::IP_RECVERR, error);
        control.finish(message);
    }
}

/// Octets that a message of `len` octets takes (`CMSG_ALIGN`).
const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

const UDP_SEGMENT: c_int = 103;

/// The control messages of a datagram to be sent.
///
/// # Errors
/// `EINVAL` for what is malformed or unknown, as Linux's `ip_cmsg_send`.
///
/// # Safety
/// `msg_control` has `msg_controllen` readable octets, or is null.
pub unsafe fn decode_control(message: &msghdr) -> Result<SendControl, Errno> {
    let mut control = SendControl::default();
    if message.msg_control.is_null() {
        return Ok(control);
    }
    // SAFETY: as the caller says.
    let mut rest = unsafe {
        core::slice::from_raw_parts(message.msg_control.cast::<u8>(), message.msg_controllen)
    };
    const HEADER: usize = size_of::<cmsghdr>();
    while rest.len() >= HEADER {
        // SAFETY: there are enough octets for a header, which has no invalid values.
        let header = unsafe { rest.as_ptr().cast::<cmsghdr>().read_unaligned() };
        if !(HEADER..=rest.len()).contains(&header.cmsg_len) {
            return Err(Errno::EINVAL);
        }
        decode_one(&header, &rest[HEADER..header.cmsg_len], &mut control)?;
        rest = rest.get(align(header.cmsg_len)..).unwrap_or(&[]);
    }
    Ok(control)
}

fn decode_one(header: &cmsghdr, data: &[u8], control: &mut SendControl) -> Result<(), Errno> {
    let int = || data.try_into().map(c_int::from_ne_bytes).map_err(|_| Errno::EINVAL);
    match (header.cmsg_level, header.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_TOS) => {
            let value = if data.len() == 1 { c_int::from(data[0]) } else { int()? };
            control.traffic_class = Some(u8::try_from(value).map_err(|_| Errno::EINVAL)?);
        }
        (libc::IPPROTO_IP, libc::IP_TTL) => {
            let value = u8::try_from(int()?).ok().filter(|ttl| *ttl > 0).ok_or(Errno::EINVAL)?;
            control.hop_limit = Some(value);
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let info: [u8; 12] = data.try_into().map_err(|_| Errno::EINVAL)?;
            let source = Ipv4Addr::new(info[4], info[5], info[6], info[7]); // ipi_spec_dst
            control.source = (!source.is_unspecified()).then_some(IpAddr::V4(source));
        }
        (libc::IPPROTO_UDP, UDP_SEGMENT) => {
            let size: [u8; 2] = data.try_into().map_err(|_| Errno::EINVAL)?;
            control.segment_size = Some(u16::from_ne_bytes(size));
        }
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPING) => {
            let asked = Timestamping::from_bits_retain(int()? as u32);
            if !Timestamping::SENDABLE.contains(asked) {
                return Err(Errno::EINVAL);
            }
            control.stamps = Some(asked);
        }
        // These belong to Unix sockets, and Linux looks away here.
        (libc::SOL_SOCKET, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS) => {}
        (libc::SOL_SOCKET | libc::IPPROTO_IP, _) => return Err(Errno::EINVAL),
        _ => {}
    }
    Ok(())
}

/// The control messages of data for a stream: Linux looks at those of `SOL_SOCKET` alone.
///
/// # Errors
/// `EINVAL` for what is malformed or unknown.
///
/// # Safety
/// As [`decode_control`].
pub unsafe fn decode_stream_control(message: &msghdr) -> Result<SendControl, Errno> {
    // SAFETY: as the caller says.
    unsafe { decode_control(message) }
}

/// Turns the pointer of a C call into one that `iovec` takes.
pub fn buffer(base: *const c_void, len: usize) -> iovec {
    // Linux transfers at most this much in one call (`MAX_RW_COUNT`).
    const MOST: usize = 0x7fff_f000;
    iovec { iov_base: base.cast_mut(), iov_len: len.min(MOST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_control(control: &mut [u8]) -> msghdr {
        // SAFETY: zero is a valid msghdr.
        let mut message: msghdr = unsafe { core::mem::zeroed() };
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len();
        message
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut room = [0u8; 128];
        let mut message = with_control(&mut room);
        // SAFETY: the buffer is as long as the message says.
        let mut writer = unsafe { ControlWriter::new(&message) };
        writer.put_value(libc::IPPROTO_IP, libc::IP_TTL, 7 as c_int);
        writer.put(libc::IPPROTO_IP, libc::IP_TOS, &[0x10]);
        writer.put_value(libc::IPPROTO_IP, libc::IP_PKTINFO, [0u32, 0x0100_000a, 0]);
        writer.put_value(libc::IPPROTO_UDP, UDP_SEGMENT, 1200u16);
        writer.finish(&mut message);
        assert_eq!((message.msg_controllen, message.msg_flags), (24 + 24 + 32 + 24, 0));
        // SAFETY: as above.
        let control = unsafe { decode_control(&message) }.unwrap();
        assert_eq!(control.hop_limit, Some(7));
        assert_eq!(control.traffic_class, Some(0x10));
        assert_eq!(control.source, Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(control.segment_size, Some(1200));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said() {
        for (room, written) in [(8, 0), (18, 18), (24, 24)] {
            let mut octets = vec![0u8; room];
            let mut message = with_control(&mut octets);
            // SAFETY: the buffer is as long as the message says.
            let mut writer = unsafe { ControlWriter::new(&message) };
            writer.put_value(libc::IPPROTO_IP, libc::IP_TTL, 7 as c_int);
            writer.finish(&mut message);
            assert_eq!(message.msg_controllen, written);
            assert_eq!(message.msg_flags & libc::MSG_CTRUNC != 0, room < 20, "{room}");
        }
    }

    #[test]
    fn malformed_control_messages_are_invalid() {
        let mut octets = [0u8; 32];
        octets[0] = 200; // Longer than the buffer.
        let message = with_control(&mut octets);
        // SAFETY: the buffer is as long as the message says.
        assert_eq!(unsafe { decode_control(&message) }, Err(Errno::EINVAL));
        let mut octets = [0u8; 20];
        let mut message = with_control(&mut octets);
        // SAFETY: as above.
        let mut writer = unsafe { ControlWriter::new(&message) };
        writer.put_value(libc::IPPROTO_IP, libc::IP_TTL, 0 as c_int);
        writer.finish(&mut message);
        // SAFETY: as above.
        assert_eq!(unsafe { decode_control(&message) }, Err(Errno::EINVAL));
    }

    #[test]
    fn null_buffers_fault_and_empty_ones_vanish() {
        let mut octets = [1u8, 2];
        let iov = [
            iovec { iov_base: core::ptr::null_mut(), iov_len: 0 },
            iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: 2 },
        ];
        // SAFETY: zero is a valid msghdr; the buffers are valid.
        unsafe {
            let mut message: msghdr = core::mem::zeroed();
            message.msg_iov = iov.as_ptr().cast_mut();
            message.msg_iovlen = 2;
            assert_eq!(with_room(&message, |slices| Ok(slices.len())), Ok(1));
            message.msg_iovlen = 1025;
            assert_eq!(with_data(&message, |_| Ok(())), Err(Errno::EMSGSIZE));
            let null = [iovec { iov_base: core::ptr::null_mut(), iov_len: 1 }];
            message.msg_iov = null.as_ptr().cast_mut();
            message.msg_iovlen = 1;
            assert_eq!(with_data(&message, |_| Ok(())), Err(Errno::EFAULT));
        }
    }
}
