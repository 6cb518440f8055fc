//! sendfile(2) and splice(2): the kernel cannot move data to a socket that it does not have, so it
//! goes through a buffer of the calling thread.
//!
//! Nothing is lost when the socket takes less than was read: files are read at an offset, pipes are
//! looked into with tee(2) before they are emptied, and what goes to a pipe is peeked at first.

use crate::descriptors::Open;
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::stream;
use core::cell::RefCell;
use core::ffi::{c_int, c_uint};
use engine::Kind;
use libc::{off_t, size_t, ssize_t};
use std::io::{IoSlice, IoSliceMut};

/// Octets moved at once.
const CHUNK: usize = 64 * 1024;
/// Octets that Linux moves in one call at most.
const MOST: usize = 0x7fff_f000;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with this thread's buffer; with a fresh one if a signal handler copies as well.
fn with_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            buffer.resize(CHUNK, 0);
            f(&mut buffer)
        }
        Err(_) => f(&mut vec![0; CHUNK]),
    })
}

fn send(open: &Open, data: &[u8], flags: c_int) -> Result<usize, Errno> {
    match open.file.kind() {
        Kind::Tcp => stream::send_octets(open, &mut [IoSlice::new(data)], flags),
        Kind::Udp => {
            let mut storage = crate::messages::buffer(data.as_ptr().cast(), data.len());
            let message = crate::messages::plain(&mut storage);
            // SAFETY: the message names `data`.
            unsafe { crate::datagram::send(open, &message, flags) }
        }
    }
}

/// sendfile(2): from `offset`, which moves on, or from the file's own position, which does then.
///
/// # Errors
/// As sendfile(2).
pub fn from_file(
    open: &Open,
    input: c_int,
    offset: Option<&mut off_t>,
    count: size_t,
) -> Result<ssize_t, Errno> {
    // SAFETY: lseek and the pread of a descriptor that the program passed.
    let position = match errno::check(unsafe { libc::lseek(input, 0, libc::SEEK_CUR) }) {
        // Linux sends from what it can map: nothing without a position.
        Err(Errno::ESPIPE) => return Err(Errno::EINVAL),
        position => position?,
    };
    let start = offset.as_deref().copied().unwrap_or(position);
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let sent = with_buffer(|buffer| send_file_range(open, input, start, count.min(MOST), buffer))?;
    match offset {
        Some(offset) => *offset = start + sent,
        None => {
            // SAFETY: as above.
            unsafe { libc::lseek(input, start + sent, libc::SEEK_SET) };
        }
    }
    Ok(sent as ssize_t)
}

fn send_file_range(
    open: &Open,
    input: c_int,
    start: off_t,
    count: usize,
    buffer: &mut [u8],
) -> Result<off_t, Errno> {
    let mut done = 0;
    while done < count {
        let want = (count - done).min(buffer.len());
        // SAFETY: the buffer has room for `want`.
        let read =
            unsafe { libc::pread(input, buffer.as_mut_ptr().cast(), want, start + done as off_t) };
        let read = match errno::check(read) {
            Ok(0) => break,
            Ok(read) => read as usize,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        let more = if done + read < count { libc::MSG_MORE } else { 0 };
        match send(open, &buffer[..read], more) {
            Ok(sent) => {
                done += sent;
                if sent < read {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done as off_t)
}

/// splice(2) from a socket to a pipe.
///
/// # Errors
/// As splice(2).
pub fn to_pipe(open: &Open, pipe: c_int, count: size_t, flags: c_uint) -> Result<ssize_t, Errno> {
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    let how = if nonblock { libc::MSG_DONTWAIT } else { 0 };
    with_buffer(|buffer| {
        let want = count.min(buffer.len());
        if want > 0 && stands_at_urgent(open) {
            // As Linux's splice, which never goes past urgent data.
            return if open.file.nonblocking() { Err(Errno::EAGAIN) } else { Ok(0) };
        }
        let seen = receive(open, &mut buffer[..want], how | libc::MSG_PEEK)?;
        if seen == 0 {
            return Ok(0);
        }
        if nonblock && !pipe_has_room(pipe) {
            return Err(Errno::EAGAIN);
        }
        // SAFETY: the buffer holds `seen` octets.
        let written = errno::check(unsafe { real::write(pipe, buffer.as_ptr().cast(), seen) })?;
        // They are there: another reader of this socket is the program's own mistake.
        receive(open, &mut buffer[..written as usize], libc::MSG_DONTWAIT)?;
        Ok(written)
    })
}

/// Whether the next octet is the urgent one, and there.
fn stands_at_urgent(open: &Open) -> bool {
    if open.file.kind() != Kind::Tcp {
        return false;
    }
    let stands = open.engine.with(open.id, |shard, socket, _| {
        Ok(shard.at_urgent_mark(socket)? && shard.receive_hint(socket)? > 0)
    });
    stands.unwrap_or(false)
}

fn pipe_has_room(pipe: c_int) -> bool {
    let mut entry = libc::pollfd { fd: pipe, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry.
    unsafe { real::poll(&raw mut entry, 1, 0) == 1 }
}

fn receive(open: &Open, into: &mut [u8], flags: c_int) -> Result<usize, Errno> {
    match open.file.kind() {
        Kind::Tcp => stream::octets(open, &mut [IoSliceMut::new(into)], flags),
        Kind::Udp => {
            let mut storage = crate::messages::buffer(into.as_ptr().cast(), into.len());
            let mut message = crate::messages::plain(&mut storage);
            // SAFETY: the message names `into`.
            unsafe { crate::datagram::receive(open, &mut message, flags) }
        }
    }
}

/// A pipe of our own, to look into another with.
struct Pipe([c_int; 2]);

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        errno::check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        Ok(Pipe(ends))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for end in self.0 {
            // SAFETY: descriptors of our own.
            unsafe { real::close(end) };
        }
    }
}

/// splice(2) from a pipe to a socket.
///
/// # Errors
/// As splice(2).
pub fn from_pipe(pipe: c_int, open: &Open, count: size_t, flags: c_uint) -> Result<ssize_t, Errno> {
    let nonblock = flags & libc::SPLICE_F_NONBLOCK;
    let glass = Pipe::new()?;
    with_buffer(|buffer| {
        let want = count.min(buffer.len());
        // SAFETY: descriptors of pipes; tee fails for what is none.
        let seen = errno::check(unsafe { libc::tee(pipe, glass.0[1], want, nonblock) })?;
        if seen == 0 {
            return Ok(0);
        }
        // SAFETY: the buffer has room for `seen`.
        let seen = errno::check(unsafe {
            real::read(glass.0[0], buffer.as_mut_ptr().cast(), seen as usize)
        })?;
        let more = if flags & libc::SPLICE_F_MORE != 0 { libc::MSG_MORE } else { 0 };
        let how = more | if nonblock != 0 { libc::MSG_DONTWAIT } else { 0 };
        let sent = send(open, &buffer[..seen as usize], how)?;
        // What was sent leaves the pipe; the rest stays in it.
        // SAFETY: the buffer has room for `sent`.
        errno::check(unsafe { real::read(pipe, buffer.as_mut_ptr().cast(), sent) })
    })
}
