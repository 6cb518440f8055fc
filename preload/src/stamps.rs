//! `SO_TIMESTAMPING` on a TCP socket of the stack, and what its error queue tells.
//!
//! Called by `options.rs` and `stream.rs`. The kernel's socket is asked about the value, but not
//! about numbers: it has no connection that could begin to count.

use crate::datagram::wall_clock;
use crate::descriptors::Open;
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::messages::{ControlWriter, Report};
use core::ffi::c_int;
use libc::{msghdr, socklen_t};
use stack::error::Error;
use stack::options::Timestamping;

/// What getsockopt(2) tells: `struct so_timestamping`, the flags and no clock.
pub fn value(open: &Open) -> Result<Vec<u8>, Errno> {
    let set = open.engine.with(open.id, |shard, socket, _| Ok(shard.options(socket)?.timestamping));
    Ok([set?.bits().to_ne_bytes(), [0; 4]].concat())
}

/// setsockopt(2).
///
/// # Errors
/// `EINVAL` for flags that are unknown or do not go together, and for numbers where there is no
/// connection; `ENOBUFS` when too many sockets ask.
pub fn set(open: &Open, wanted: Timestamping) -> Result<c_int, Errno> {
    let numbers = Timestamping::OPT_ID | Timestamping::OPT_ID_TCP;
    if wanted & numbers == Timestamping::OPT_ID_TCP {
        return Err(Errno::EINVAL);
    }
    let flags = (wanted - numbers).bits();
    let (level, name, len) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPING, size_of::<u32>());
    // SAFETY: the value is a number of ours, as long as it says.
    errno::check(unsafe {
        real::setsockopt(open.fd, level, name, (&raw const flags).cast(), len as socklen_t)
    })?;
    open.engine.with(open.id, |shard, socket, _| shard.set_timestamping(socket, wanted))?;
    Ok(0)
}

/// `MSG_ERRQUEUE`: how far a send has come, or which sends with `MSG_ZEROCOPY` are complete.
///
/// # Safety
/// The message is the program's.
pub unsafe fn receive_report(open: &Open, message: &mut msghdr) -> Result<usize, Errno> {
    let (report, now) = open.engine.with(open.id, |shard, socket, now| {
        let report = match shard.receive_stamp(socket) {
            Ok(stamp) => Report::Stamp(stamp, shard.options(socket)?.timestamping),
            Err(Error::WouldBlock) => {
                let (first, last) = shard.receive_completions(socket)?;
                Report::Completed(first, last)
            }
            Err(error) => return Err(error),
        };
        Ok((report, now))
    })?;
    // SAFETY: as the caller says.
    unsafe { report.put(message, |at| wall_clock(at, now)) };
    Ok(0)
}

/// Adds the time at which what was read had come, if the program asked for it.
pub fn put_received(open: &Open, control: &mut ControlWriter) {
    let told = Timestamping::RX_SOFTWARE | Timestamping::SOFTWARE;
    let at = open.engine.with(open.id, |shard, socket, now| {
        let asked = shard.options(socket)?.timestamping.contains(told);
        Ok(if asked { shard.received_at(socket).map(|at| (at, now)) } else { None })
    });
    if let Ok(Some((at, now))) = at {
        control.put_timestamping(wall_clock(at, now));
    }
}
