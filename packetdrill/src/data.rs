//! Octets: reading, writing, messages, splice and sendfile.

use crate::sockets;
use crate::station::Station;
use crate::world::{Socket, World, is_ours};
use abi::errno::{self, Errno};
use abi::messages::{self, ControlWriter, Report};
use core::ffi::{c_int, c_void};
use core::net::SocketAddr;
use libc::{iovec, msghdr, off64_t};
use stack::readiness::Readiness;
use stack::socket::{First, ReceiveFlags, SendControl, SendFlags};
use stack::time::Instant;
use std::io::{IoSlice, IoSliceMut};

/// `TCP_INQ`'s control message.
const TCP_CM_INQ: c_int = 36;
/// How much splice and sendfile move at once.
const PIECE: usize = 65_536;

fn nonblocking(socket: &Socket, flags: c_int) -> bool {
    socket.nonblocking || flags & libc::MSG_DONTWAIT != 0
}

/// recvmsg(2) and all that are a case of it.
///
/// # Errors
/// The stack's.
///
/// # Safety
/// The message is packetdrill's.
pub unsafe fn receive(
    station: &Station,
    fd: c_int,
    message: &mut msghdr,
    flags: c_int,
) -> Result<usize, Errno> {
    if !is_ours(fd) {
        // SAFETY: as the caller says; a pipe or a file.
        let n = unsafe { libc::readv(fd, message.msg_iov, message.msg_iovlen as c_int) };
        return errno::check(n).map(|n| n as usize);
    }
    let socket = station.call(|world| world.socket(fd))?;
    if flags & libc::MSG_ERRQUEUE != 0 {
        // SAFETY: as the caller says.
        return unsafe { receive_report(station, &socket, message) };
    }
    let how = ReceiveFlags {
        peek: flags & libc::MSG_PEEK != 0,
        urgent: flags & libc::MSG_OOB != 0,
        truncate: flags & libc::MSG_TRUNC != 0,
    };
    let nonblocking = nonblocking(&socket, flags) || how.urgent;
    let all = flags & libc::MSG_WAITALL != 0;
    let mut nowhere = Vec::new();
    if how.truncate {
        nowhere.resize(messages::room(message)?.min(1 << 20), 0u8);
    }
    let take = |room: &mut [IoSliceMut<'_>]| {
        let whole: usize = room.iter().map(|slice| slice.len()).sum();
        let (mut rest, mut done) = (room, 0);
        let outcome = sockets::blocking(station, nonblocking, |world| {
            let received = world.shard.receive(world.now, socket.id, rest, how)?;
            done += received.len;
            IoSliceMut::advance_slices(&mut rest, received.len);
            let more = all && !how.peek && received.len > 0 && done < whole;
            if more { Err(Errno::EAGAIN) } else { Ok(received) }
        });
        if done > 0 { Ok((done, outcome.ok())) } else { outcome.map(|last| (0, Some(last))) }
    };
    let (len, last) = if how.truncate {
        take(&mut [IoSliceMut::new(&mut nowhere)])?
    } else {
        // SAFETY: as the caller says.
        unsafe { messages::with_room(message, take) }?
    };
    message.msg_flags = flags & (libc::MSG_CMSG_CLOEXEC | libc::MSG_OOB);
    let mut name_len = message.msg_namelen;
    match last.and_then(|last| last.source) {
        // SAFETY: as the caller says.
        Some(source) => unsafe {
            sockets::encode(source, message.msg_name.cast(), &raw mut name_len);
        },
        None => name_len = 0,
    }
    message.msg_namelen = name_len;
    // SAFETY: as the caller says.
    let mut control = unsafe { ControlWriter::new(message) };
    if let Some(left) = station.call(|world| in_queue(world, &socket)) {
        control.put_value(libc::IPPROTO_TCP, TCP_CM_INQ, left);
    }
    control.finish(message);
    Ok(len)
}

/// `MSG_ERRQUEUE`: how far a send has come, or which sends with `MSG_ZEROCOPY` are complete.
///
/// # Safety
/// The message is packetdrill's.
unsafe fn receive_report(
    station: &Station,
    socket: &Socket,
    message: &mut msghdr,
) -> Result<usize, Errno> {
    let report = station.call(|world| match world.shard.receive_stamp(socket.id) {
        Ok(stamp) => Ok(Report::Stamp(stamp, world.shard.options(socket.id)?.timestamping)),
        Err(_) => world.shard.receive_completions(socket.id).map(|(a, b)| Report::Completed(a, b)),
    })?;
    // SAFETY: as the caller says.
    unsafe { report.put(message, |at| at - Instant::ZERO) };
    Ok(0)
}

/// What `TCP_INQ` reports, if it was asked for.
fn in_queue(world: &World, socket: &Socket) -> Option<c_int> {
    let asked = world.shard.options(socket.id).is_ok_and(|options| options.report_in_queue);
    let left = world.shard.receive_hint(socket.id).ok().filter(|_| asked);
    left.and_then(|left| c_int::try_from(left).ok())
}

/// sendmsg(2) and all that are a case of it.
///
/// # Errors
/// The stack's.
///
/// # Safety
/// The message is packetdrill's.
pub unsafe fn send(
    station: &Station,
    fd: c_int,
    message: &msghdr,
    flags: c_int,
) -> Result<usize, Errno> {
    if !is_ours(fd) {
        // SAFETY: as the caller says; a pipe.
        let n = unsafe { libc::writev(fd, message.msg_iov, message.msg_iovlen as c_int) };
        return errno::check(n).map(|n| n as usize);
    }
    let to = if message.msg_name.is_null() {
        None
    } else {
        // SAFETY: as the caller says.
        Some(unsafe { sockets::decode(message.msg_name.cast_const().cast(), message.msg_namelen) })
    };
    let fast = flags & libc::MSG_FASTOPEN != 0;
    let send = |data: &mut [IoSlice<'_>]| match to {
        Some(Err(Errno::EAFNOSUPPORT)) if fast => Err(Errno::EOPNOTSUPP),
        Some(to) if fast => connect_and_send(station, fd, data, to?, flags),
        to => send_octets(station, fd, data, to.and_then(Result::ok), flags),
    };
    // SAFETY: as the caller says.
    unsafe {
        messages::decode_stream_control(message)?;
        messages::with_data(message, send)
    }
}

/// `MSG_FASTOPEN`: the SYN carries the data's beginning, if there is a cookie.
fn connect_and_send(
    station: &Station,
    fd: c_int,
    data: &mut [IoSlice<'_>],
    to: SocketAddr,
    flags: c_int,
) -> Result<usize, Errno> {
    let socket = station.call(|world| world.socket(fd))?;
    let nonblocking = nonblocking(&socket, flags);
    let zero_copy = flags & libc::MSG_ZEROCOPY != 0;
    let first = First { data, zero_copy, waits: !nonblocking };
    let sent = sockets::connect(station, fd, to, Some(first), nonblocking)?;
    let flags = if sent > 0 { flags & !libc::MSG_ZEROCOPY } else { flags };
    let mut rest = data;
    IoSlice::advance_slices(&mut rest, sent);
    if rest.is_empty() && sent > 0 {
        return Ok(sent);
    }
    match send_octets(station, fd, rest, None, flags) {
        Ok(more) => Ok(sent + more),
        Err(_) if sent > 0 => Ok(sent),
        Err(error) => Err(error),
    }
}

fn send_octets(
    station: &Station,
    fd: c_int,
    data: &mut [IoSlice<'_>],
    to: Option<SocketAddr>,
    flags: c_int,
) -> Result<usize, Errno> {
    let socket = station.call(|world| world.socket(fd))?;
    let mut how = SendFlags {
        more: flags & libc::MSG_MORE != 0,
        urgent: flags & libc::MSG_OOB != 0,
        end_of_record: flags & libc::MSG_EOR != 0,
        zero_copy: flags & libc::MSG_ZEROCOPY != 0,
        dont_route: flags & libc::MSG_DONTROUTE != 0,
        confirm: flags & libc::MSG_CONFIRM != 0,
        waits: !nonblocking(&socket, flags),
        stamps: None,
    };
    let whole: usize = data.iter().map(|slice| slice.len()).sum();
    let (mut rest, mut done) = (data, 0);
    let control = SendControl::default();
    let mut blocked = false;
    let outcome = sockets::blocking(station, nonblocking(&socket, flags), |world| {
        // Who waits for room is woken when it is worth the while, not by every octet.
        let ready = Readiness::WRITABLE | Readiness::ERROR | Readiness::HANGUP;
        if blocked && !world.shard.readiness(socket.id).intersects(ready) {
            return Err(Errno::EAGAIN);
        }
        blocked = true;
        loop {
            done += {
                let (now, id) = (world.now, socket.id);
                let n = world.shard.send_to(now, id, rest, to, &control, how)?;
                IoSlice::advance_slices(&mut rest, n);
                how.zero_copy = false; // One number for the call, however long it takes.
                n
            };
            if done >= whole {
                return Ok(());
            }
        }
    });
    match outcome {
        _ if done > 0 => Ok(done),
        Err(Errno(libc::EINPROGRESS)) => {
            // The SYN waited for this; its destination is known.
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            connect_and_send(station, fd, rest, anywhere, flags)
        }
        outcome => outcome.map(|()| 0),
    }
}

/// A message of one buffer.
///
/// # Safety
/// `f` treats the buffer as packetdrill's.
pub fn one<R>(buffer: *const c_void, len: usize, f: impl FnOnce(&mut msghdr) -> R) -> R {
    let mut buffer: iovec = messages::buffer(buffer, len);
    let mut message = messages::plain(&mut buffer);
    f(&mut message)
}

/// Whether the next octet of `fd` is the urgent one, and there.
fn stands_at_urgent(world: &World, fd: c_int) -> bool {
    let Ok(socket) = world.socket(fd) else { return false };
    let at_mark = world.shard.at_urgent_mark(socket.id).unwrap_or(false);
    at_mark && world.shard.receive_hint(socket.id).is_ok_and(|left| left > 0)
}

/// splice(2) between a socket and a pipe.
///
/// # Errors
/// Those of the two halves.
pub fn splice(station: &Station, from: c_int, to: c_int, len: usize) -> Result<usize, Errno> {
    if len > 0 && is_ours(from) && station.call(|world| stands_at_urgent(world, from)) {
        return Ok(0); // As Linux's, which never goes past urgent data.
    }
    let mut octets = vec![0u8; len.min(PIECE)];
    let n = one(octets.as_mut_ptr().cast(), octets.len(), |message| {
        // SAFETY: a buffer of ours.
        unsafe { receive(station, from, message, 0) }
    })?;
    one(octets.as_ptr().cast(), n, |message| {
        // SAFETY: a buffer of ours, `n` octets of it filled.
        unsafe { send(station, to, message, 0) }
    })
}

/// sendfile(2) to a socket: from `offset`, or from where the file is.
///
/// # Errors
/// Those of the two halves.
pub fn sendfile(
    station: &Station,
    to: c_int,
    from: c_int,
    offset: Option<&mut off64_t>,
    len: usize,
) -> Result<usize, Errno> {
    let mut octets = vec![0u8; len.min(PIECE)];
    let room = octets.as_mut_ptr().cast();
    let read = match &offset {
        // SAFETY: a buffer of ours, as long as it says.
        Some(offset) => unsafe { libc::pread64(from, room, octets.len(), **offset) },
        // SAFETY: as above.
        None => unsafe { libc::read(from, room, octets.len()) },
    };
    let read = errno::check(read)? as usize;
    let sent = one(octets.as_ptr().cast(), read, |message| {
        // SAFETY: a buffer of ours, `read` octets of it filled.
        unsafe { send(station, to, message, 0) }
    })?;
    if let Some(offset) = offset {
        *offset += sent as off64_t;
    }
    Ok(sent)
}
