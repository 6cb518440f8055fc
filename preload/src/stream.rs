//! Data on a TCP socket of the stack: what recvmsg(2) and sendmsg(2) do beyond moving octets.
//!
//! Called by `transfer.rs`. Owns the blocking rules of a stream: how much one call waits for, what
//! a partial transfer returns, when a broken pipe signals.

use crate::descriptors::Open;
use crate::errno::Errno;
use crate::messages::{self, ControlWriter};
use crate::{memory, naming, signals, stamps};
use core::ffi::{c_int, c_void};
use engine::Wait;
use libc::msghdr;
use stack::error::Error;
use stack::options::Timestamping;
use stack::readiness::Readiness;
use stack::socket::{ReceiveFlags, SendFlags};
use std::io::{IoSlice, IoSliceMut};

/// `TCP_INQ`'s control message.
const TCP_CM_INQ: c_int = 36;

/// Receives into a message.
///
/// # Errors
/// As recvmsg(2).
///
/// # Safety
/// The message is the program's.
pub unsafe fn receive(open: &Open, message: &mut msghdr, flags: c_int) -> Result<usize, Errno> {
    if flags & libc::MSG_ERRQUEUE != 0 {
        // SAFETY: as the caller says.
        return unsafe { stamps::receive_report(open, message) };
    }
    let received = if flags & libc::MSG_TRUNC != 0 {
        discard(open, message, flags)?
    } else {
        // SAFETY: as the caller says.
        unsafe { messages::with_room(message, |room| octets(open, room, flags)) }?
    };
    // A stream has no sender's address to tell (tcp(7)).
    message.msg_namelen = 0;
    message.msg_flags = flags & (libc::MSG_CMSG_CLOEXEC | libc::MSG_OOB);
    // SAFETY: as the caller says.
    let mut control = unsafe { ControlWriter::new(message) };
    if !message.msg_control.is_null() {
        stamps::put_received(open, &mut control);
        if let Some(left) = in_queue(open) {
            control.put_value(libc::IPPROTO_TCP, TCP_CM_INQ, left);
        }
    }
    control.finish(message);
    Ok(received)
}

/// Flags of recv(2) that need nothing but the octets.
pub const SIMPLE: c_int =
    libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// Receives into one buffer, with [`SIMPLE`] flags.
///
/// # Errors
/// As recv(2).
///
/// # Safety
/// The buffer is the program's.
#[inline]
pub unsafe fn receive_into(
    open: &Open,
    into: *mut c_void,
    count: usize,
    flags: c_int,
) -> Result<usize, Errno> {
    if isize::try_from(count).is_err() {
        return Err(Errno::EINVAL);
    }
    octets_into(open, &mut Raw { at: into.cast(), len: count, checked: 0 }, flags)
}

/// One buffer of the program's, of which no more is looked at than what is written: it may be large,
/// and what comes small.
struct Raw {
    at: *mut u8,
    len: usize,
    /// So much of it is there.
    checked: usize,
}

impl Room for Raw {
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn with<R>(
        &mut self,
        available: usize,
        f: impl FnOnce(&mut [IoSliceMut<'_>]) -> R,
    ) -> Result<R, Errno> {
        let len = self.len.min(available.max(1));
        if len > self.checked {
            memory::writable(self.at.wrapping_add(self.checked), len - self.checked)?;
            self.checked = len;
        }
        if len == 0 {
            return Ok(f(&mut []));
        }
        // SAFETY: checked to be there, and the program's, who leaves it alone during the call.
        let room = unsafe { core::slice::from_raw_parts_mut(self.at, len) };
        Ok(f(&mut [IoSliceMut::new(room)]))
    }

    #[inline]
    fn advance(&mut self, n: usize) {
        self.at = self.at.wrapping_add(n);
        self.len -= n;
        self.checked -= n;
    }
}

/// Where received octets go.
trait Room {
    /// How many it takes.
    fn len(&self) -> usize;
    /// Runs `f` on as much of it as `available` octets can fill.
    fn with<R>(
        &mut self,
        available: usize,
        f: impl FnOnce(&mut [IoSliceMut<'_>]) -> R,
    ) -> Result<R, Errno>;
    /// The first `n` are filled.
    fn advance(&mut self, n: usize);
}

/// Buffers that have been checked.
struct Checked<'a, 'b>(&'a mut [IoSliceMut<'b>]);

impl Room for Checked<'_, '_> {
    fn len(&self) -> usize {
        self.0.iter().map(|slice| slice.len()).sum()
    }

    fn with<R>(
        &mut self,
        _: usize,
        f: impl FnOnce(&mut [IoSliceMut<'_>]) -> R,
    ) -> Result<R, Errno> {
        Ok(f(self.0))
    }

    fn advance(&mut self, n: usize) {
        IoSliceMut::advance_slices(&mut self.0, n);
    }
}

/// Sends one buffer.
///
/// # Errors
/// As send(2).
///
/// # Safety
/// The buffer is the program's.
#[inline]
pub unsafe fn send_from(
    open: &Open,
    from: *const c_void,
    count: usize,
    flags: c_int,
) -> Result<usize, Errno> {
    if isize::try_from(count).is_err() {
        return Err(Errno::EINVAL);
    }
    if count == 0 {
        return send_octets(open, &mut [], flags);
    }
    memory::readable(from, count)?;
    // SAFETY: checked to be there, and the program's.
    let data = unsafe { core::slice::from_raw_parts(from.cast::<u8>(), count) };
    send_octets(open, &mut [IoSlice::new(data)], flags)
}

/// `MSG_TRUNC`: the octets are thrown away, and the program's buffers, which need not be there, are
/// not touched.
fn discard(open: &Open, message: &msghdr, flags: c_int) -> Result<usize, Errno> {
    const MOST: usize = 1 << 20;
    let mut nowhere = vec![0; messages::room(message)?.min(MOST)];
    octets(open, &mut [IoSliceMut::new(&mut nowhere)], flags)
}

/// What `TCP_INQ` reports, if the program asked for it.
fn in_queue(open: &Open) -> Option<c_int> {
    let left = open.engine.with(open.id, |shard, socket, _| {
        if !shard.options(socket)?.report_in_queue {
            return Ok(None);
        }
        shard.receive_hint(socket).map(Some)
    });
    left.ok().flatten().map(|left| c_int::try_from(left).unwrap_or(c_int::MAX))
}

fn waits(open: &Open, flags: c_int, timeout: Wait) -> Wait {
    if flags & libc::MSG_DONTWAIT != 0 || open.file.nonblocking() { Wait::No } else { timeout }
}

/// Receives octets: as many as there are, or as `MSG_WAITALL` and `SO_RCVLOWAT` say.
///
/// # Errors
/// As recv(2).
pub fn octets(open: &Open, room: &mut [IoSliceMut<'_>], flags: c_int) -> Result<usize, Errno> {
    octets_into(open, &mut Checked(room), flags)
}

fn octets_into(open: &Open, room: &mut impl Room, flags: c_int) -> Result<usize, Errno> {
    let how = ReceiveFlags {
        peek: flags & libc::MSG_PEEK != 0,
        urgent: flags & libc::MSG_OOB != 0,
        truncate: flags & libc::MSG_TRUNC != 0,
    };
    let whole = room.len();
    let wait = if how.urgent { Wait::No } else { waits(open, flags, Wait::ReceiveTimeout) };
    let all = flags & libc::MSG_WAITALL != 0;
    let mut fault = None;
    let mut done = 0;
    let handlers = engine::thread::handlers();
    let outcome = open.engine.blocking(open.id, Readiness::READABLE, wait, |shard, socket, now| {
        if done > 0 && engine::thread::handlers() != handlers {
            return Ok(()); // Restarting is for calls that have done nothing.
        }
        let low_water = shard.options(socket)?.receive_low_water as usize;
        let target = if all { whole } else { low_water.clamp(1, whole.max(1)) };
        loop {
            let available = shard.receive_hint(socket).unwrap_or(0) as usize;
            let received = room.with(available, |room| shard.read(now, socket, room, how));
            let received = received.unwrap_or_else(|errno| {
                fault = Some(errno);
                Err(Error::InvalidArgument)
            });
            let n = match received {
                Ok(received) => received,
                Err(Error::WouldBlock) => return Err(Error::WouldBlock),
                // What came before an error is told first.
                Err(_) if done > 0 => return Ok(()),
                Err(error) => return Err(error),
            };
            if how.peek {
                // Nothing was taken, so the next look sees the same octets and more.
                done = n;
                let enough = n == 0 || n >= target || wait == Wait::No;
                return if enough { Ok(()) } else { Err(Error::WouldBlock) };
            }
            done += n;
            if n == 0 || done >= target {
                return Ok(());
            }
            room.advance(n);
        }
    });
    match outcome {
        Ok(()) => Ok(done),
        Err(_) if done > 0 => Ok(done),
        Err(error) => Err(fault.unwrap_or_else(|| error.into())),
    }
}

/// Sends a message.
///
/// # Errors
/// As sendmsg(2).
///
/// # Safety
/// The message is the program's.
pub unsafe fn send(open: &Open, message: &msghdr, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: as the caller says, for both.
    unsafe {
        let stamps = messages::decode_stream_control(message)?.stamps;
        messages::with_data(message, |data| send_stamped(open, data, flags, stamps))
    }
}

/// Sends octets: all of them if the socket blocks, else as many as there is room for.
///
/// # Errors
/// As send(2).
pub fn send_octets(open: &Open, data: &mut [IoSlice<'_>], flags: c_int) -> Result<usize, Errno> {
    send_stamped(open, data, flags, None)
}

/// The same, where the message may say what to report of it.
fn send_stamped(
    open: &Open,
    data: &mut [IoSlice<'_>],
    flags: c_int,
    stamps: Option<Timestamping>,
) -> Result<usize, Errno> {
    let wait = waits(open, flags, Wait::SendTimeout);
    let mut how = SendFlags {
        more: flags & libc::MSG_MORE != 0,
        urgent: flags & libc::MSG_OOB != 0,
        end_of_record: flags & libc::MSG_EOR != 0,
        zero_copy: flags & libc::MSG_ZEROCOPY != 0,
        dont_route: flags & libc::MSG_DONTROUTE != 0,
        confirm: flags & libc::MSG_CONFIRM != 0,
        waits: wait != Wait::No,
        stamps,
    };
    let whole: usize = data.iter().map(|slice| slice.len()).sum();
    let mut rest = data;
    let mut done = 0;
    let handlers = engine::thread::handlers();
    let outcome = open.engine.blocking(open.id, Readiness::WRITABLE, wait, |shard, socket, now| {
        if done > 0 && engine::thread::handlers() != handlers {
            return Ok(());
        }
        loop {
            match shard.send(now, socket, rest, how) {
                Ok(n) => {
                    done += n;
                    how.zero_copy = false; // One number for the call, however long it takes.
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(_) if done > 0 && wait == Wait::No => return Ok(()),
                Err(error) => return Err(error),
            }
            if done >= whole {
                return Ok(());
            }
        }
    });
    match outcome {
        Ok(()) => Ok(done),
        Err(_) if done > 0 => Ok(done),
        Err(Error::InProgress) => naming::send_first(open, rest, flags),
        Err(error) => {
            if error == Error::BrokenPipe && flags & libc::MSG_NOSIGNAL == 0 {
                signals::raise_pipe();
            }
            Err(error.into())
        }
    }
}
