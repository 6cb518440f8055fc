//! Data on a UDP socket: one datagram a call, with what came or goes beside it.
//!
//! Called by `transfer.rs`. A socket can live in both worlds: what is sent goes where its
//! destination is, what is received comes from whichever half has something.

use crate::address;
use crate::descriptors::Open;
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::mapped::Target;
use crate::messages::{self, ControlWriter, ExtendedError};
use crate::policy::{self, BOUND_STACK, TIMESTAMP_NS};
use crate::raw_syscall;
use crate::waiting::Waiter;
use core::ffi::{c_int, c_void};
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use engine::{Path, Reason, Wait};
use libc::{msghdr, sockaddr};
use stack::error::Error;
use stack::options::Options;
use stack::readiness::Readiness;
use stack::shard::Received;
use stack::socket::{ReceiveFlags, SendFlags};
use stack::time::{Duration, Instant};
use stack::udp::{ErrorOrigin, ErrorReport};
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of `lo`, in every network namespace.
const LOOPBACK_INTERFACE: u32 = 1;

/// Receives a datagram.
///
/// # Errors
/// As recvmsg(2).
///
/// # Safety
/// The message is the program's.
pub unsafe fn receive(open: &Open, message: &mut msghdr, flags: c_int) -> Result<usize, Errno> {
    let nonblocking = flags & libc::MSG_DONTWAIT != 0 || open.file.nonblocking();
    let wait = if nonblocking { Wait::No } else { Wait::ReceiveTimeout };
    if flags & libc::MSG_ERRQUEUE != 0 {
        // SAFETY: as the caller says.
        return unsafe { receive_error(open, message, flags) };
    }
    if !open.is_dual() {
        // SAFETY: as the caller says.
        return unsafe { receive_in_stack(open, message, flags, wait) };
    }
    let mut waiter = Waiter::new(open, Readiness::READABLE, wait);
    loop {
        // SAFETY: as the caller says.
        let ended = match unsafe { receive_in_stack(open, message, flags, Wait::No) } {
            Err(Errno::EAGAIN) => is_shut(open),
            outcome => return outcome,
        };
        let flags = flags | libc::MSG_DONTWAIT;
        let words = [open.fd as usize, &raw mut *message as usize, flags as usize, 0, 0, 0];
        // Not libc's, in which a cancelled thread would end in the midst of ours.
        // SAFETY: as the caller says; the kernel's half has options of its own.
        let answer = errno::from_raw(unsafe { raw_syscall::call(libc::SYS_recvmsg, words) });
        match errno::check(answer) {
            Err(Errno::EAGAIN) if ended && wait != Wait::No => return Ok(0),
            Err(Errno::EAGAIN) => waiter.wait()?,
            outcome => return outcome.map(|n| n as usize),
        }
    }
}

/// Whether the reading side was shut: whoever waits is told of the end then.
fn is_shut(open: &Open) -> bool {
    let ended = Readiness::READ_HANGUP;
    open.engine.readiness(open.id).is_ok_and(|readiness| readiness.contains(ended))
}

/// # Safety
/// The message is the program's.
unsafe fn receive_in_stack(
    open: &Open,
    message: &mut msghdr,
    flags: c_int,
    wait: Wait,
) -> Result<usize, Errno> {
    let how = ReceiveFlags {
        peek: flags & libc::MSG_PEEK != 0,
        urgent: flags & libc::MSG_OOB != 0,
        truncate: flags & libc::MSG_TRUNC != 0,
    };
    // What is to be told beside the datagram matters to who has room for it.
    let tells = !message.msg_control.is_null();
    let mut asked = None;
    // SAFETY: as the caller says.
    let received = unsafe {
        messages::with_room(message, |room| {
            let received =
                open.engine.blocking(open.id, Readiness::READABLE, wait, |shard, socket, now| {
                    if tells {
                        asked = Some(*shard.options(socket)?);
                    }
                    match shard.receive(now, socket, room, how) {
                        // After shutdown(2) only a call that would wait is told of the end.
                        Ok(end) if end.source.is_none() && wait == Wait::No => {
                            Err(Error::WouldBlock)
                        }
                        outcome => outcome,
                    }
                });
            Ok(received?)
        })
    }?;
    // SAFETY: as the caller says.
    unsafe { describe(open, message, &received, asked.as_ref()) };
    message.msg_flags |= flags & libc::MSG_CMSG_CLOEXEC;
    Ok(if how.truncate { received.datagram_len } else { received.len })
}

/// Fills in where a datagram came from and what came with it.
///
/// # Safety
/// The message is the program's.
unsafe fn describe(
    open: &Open,
    message: &mut msghdr,
    received: &Received,
    asked: Option<&Options>,
) {
    message.msg_flags = if received.datagram_len > received.len { libc::MSG_TRUNC } else { 0 };
    // SAFETY: as the caller says.
    unsafe { put_name(message, received.source.map(|source| open.present(source))) };
    // SAFETY: as the caller says.
    let mut control = unsafe { ControlWriter::new(message) };
    if received.source.is_some()
        && let Some(asked) = asked
    {
        put_control(open, &mut control, received, asked);
    }
    control.finish(message);
}

/// Writes the sender's address, cut to the room there is.
///
/// # Safety
/// `msg_name` has `msg_namelen` writable octets, or is null.
unsafe fn put_name(message: &mut msghdr, name: Option<SocketAddr>) {
    let Some(name) = name else {
        message.msg_namelen = 0;
        return;
    };
    let (storage, full) = address::encode(name);
    if message.msg_name.is_null() {
        return;
    }
    let copied = (message.msg_namelen as usize).min(full as usize);
    // SAFETY: as the caller says.
    unsafe {
        core::ptr::copy_nonoverlapping(
            (&raw const storage).cast(),
            message.msg_name.cast::<u8>(),
            copied,
        );
    }
    message.msg_namelen = full;
}

/// Linux's order: the timestamp, then what IP has to say.
fn put_control(open: &Open, control: &mut ControlWriter, received: &Received, asked: &Options) {
    if asked.receive_timestamp {
        let now = open.engine.now();
        let at = wall_clock(received.at.unwrap_or(now), now);
        let (seconds, nanos) = (at.as_secs() as i64, i64::from(at.subsec_nanos()));
        if open.has(TIMESTAMP_NS) {
            control.put_value(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, [seconds, nanos]);
        } else {
            control.put_value(libc::SOL_SOCKET, libc::SO_TIMESTAMP, [seconds, nanos / 1_000]);
        }
    }
    if asked.receive_packet_info
        && let Some(IpAddr::V4(address)) = received.destination
    {
        let to = address.to_bits().to_be();
        // The stack's interface has no number in the kernel; zero means any to who sends it back.
        let interface = if address.is_loopback() { LOOPBACK_INTERFACE } else { 0 };
        control.put_value(libc::IPPROTO_IP, libc::IP_PKTINFO, [interface, to, to]);
    }
    if asked.receive_hop_limit {
        control.put_value(libc::IPPROTO_IP, libc::IP_TTL, c_int::from(received.hop_limit));
    }
    if asked.receive_traffic_class {
        control.put(libc::IPPROTO_IP, libc::IP_TOS, &[received.traffic_class]);
    }
}

/// A moment of the engine's clock as time since 1970.
pub fn wall_clock(at: Instant, now: Instant) -> Duration {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    today.saturating_sub(now.saturating_since(at))
}

/// `MSG_ERRQUEUE`: the next report of ICMP; never waits.
///
/// # Safety
/// The message is the program's.
unsafe fn receive_error(open: &Open, message: &mut msghdr, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    let report: Result<ErrorReport, Errno> = unsafe {
        messages::with_room(message, |room| {
            Ok(open.engine.with(open.id, |shard, socket, _| shard.receive_error(socket, room))?)
        })
    };
    let report = match report {
        Err(Errno::EAGAIN) if open.is_dual() => {
            // SAFETY: as the caller says.
            return errno::check(unsafe { real::recvmsg(open.fd, message, flags) })
                .map(|n| n as usize);
        }
        report => report?,
    };
    message.msg_flags = libc::MSG_ERRQUEUE;
    if report.datagram_len > report.len {
        message.msg_flags |= libc::MSG_TRUNC;
    }
    // SAFETY: as the caller says, for both.
    let mut control = unsafe {
        put_name(message, Some(open.present(report.report.remote)));
        ControlWriter::new(message)
    };
    control.put_value(libc::IPPROTO_IP, libc::IP_RECVERR, extended(&report));
    control.finish(message);
    Ok(report.len)
}

fn extended(report: &ErrorReport) -> ExtendedError {
    const LOCAL: u8 = 1;
    const ICMP: u8 = 2;
    let report = &report.report;
    let mut offender = [0; 16];
    if let Some(ip) = report.offender {
        let ip = if let IpAddr::V4(ip) = ip { ip } else { Ipv4Addr::UNSPECIFIED };
        offender[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        offender[4..8].copy_from_slice(&ip.octets());
    }
    ExtendedError {
        errno: Errno::from(report.error).0 as u32,
        origin: if report.origin == ErrorOrigin::Local { LOCAL } else { ICMP },
        kind: report.kind,
        code: report.code,
        info: report.info,
        offender,
        ..ExtendedError::default()
    }
}

/// Sends a datagram.
///
/// # Errors
/// As sendmsg(2).
///
/// # Safety
/// The message is the program's.
pub unsafe fn send(open: &Open, message: &msghdr, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    let to = match unsafe { destination(open, message) }? {
        Some(SocketAddr::V4(to)) if path_to(open, to) == Path::Kernel => {
            // SAFETY: as the caller says.
            return unsafe { send_in_kernel(open, message, flags) };
        }
        Some(SocketAddr::V6(_)) => {
            open.file.set_path(Path::Both, Reason::Family);
            // SAFETY: as the caller says.
            return unsafe { send_in_kernel(open, message, flags) };
        }
        to => to,
    };
    // SAFETY: as the caller says.
    let control = unsafe { messages::decode_control(message) }?;
    if control.stamps.is_some() {
        return Err(Errno::EINVAL); // So far only a stream reports when it left.
    }
    let how = SendFlags {
        zero_copy: false,
        more: flags & libc::MSG_MORE != 0,
        urgent: flags & libc::MSG_OOB != 0,
        end_of_record: flags & libc::MSG_EOR != 0,
        dont_route: flags & libc::MSG_DONTROUTE != 0,
        confirm: flags & libc::MSG_CONFIRM != 0,
        waits: false,
        stamps: None,
    };
    let nonblocking = flags & libc::MSG_DONTWAIT != 0 || open.file.nonblocking();
    let wait = if nonblocking { Wait::No } else { Wait::SendTimeout };
    let to_everybody = to.is_some_and(|to| to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST));
    // SAFETY: as the caller says.
    unsafe {
        messages::with_data(message, |data| {
            let sent =
                open.engine.blocking(open.id, Readiness::WRITABLE, wait, |shard, socket, now| {
                    if to_everybody && !shard.options(socket)?.broadcast {
                        return Err(Error::PermissionDenied);
                    }
                    shard.send_to(now, socket, data, to, &control, how)
                });
            Ok(sent?)
        })
    }
}

/// The message's destination, if it has one.
///
/// # Safety
/// `msg_name` has `msg_namelen` readable octets, or is null.
unsafe fn destination(open: &Open, message: &msghdr) -> Result<Option<SocketAddr>, Errno> {
    if message.msg_name.is_null() || message.msg_namelen == 0 {
        return Ok(None);
    }
    if !open.is_mapped() && (message.msg_namelen as usize) < size_of::<libc::sockaddr_in>() {
        return Err(Errno::EINVAL);
    }
    let at: *const c_void = message.msg_name;
    // SAFETY: as the caller says.
    let target = unsafe { open.target(at.cast::<sockaddr>(), message.msg_namelen) }?;
    match target {
        Target::V6(to) => Ok(Some(SocketAddr::V6(to))),
        // With AF_UNSPEC an AF_INET6 socket sends as if there were no address.
        Target::Unspecified(_) if open.is_mapped() => Ok(None),
        Target::V4(to) | Target::Unspecified(to) if to.port() == 0 => Err(Errno::EINVAL),
        // Linux takes AF_UNSPEC for AF_INET here, and the wildcard for the loopback address.
        Target::V4(to) | Target::Unspecified(to) if to.ip().is_unspecified() => {
            Ok(Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, to.port()))))
        }
        Target::V4(to) | Target::Unspecified(to) => Ok(Some(SocketAddr::V4(to))),
    }
}

/// Which half sends to `to`; the socket's path follows what it is used for.
fn path_to(open: &Open, to: SocketAddrV4) -> Path {
    if open.has(BOUND_STACK) {
        return Path::Stack;
    }
    let decision = policy::towards(open, to);
    let now = match (open.file.path(), decision.path) {
        (Path::Undecided, Path::Stack) => Some(Path::Stack),
        // The stack's half stays: the next datagram may be for it.
        (Path::Undecided | Path::Stack, Path::Kernel) => Some(Path::Both),
        _ => None,
    };
    if let Some(path) = now {
        open.file.set_path(path, decision.reason);
    }
    decision.path
}

/// # Safety
/// The message is the program's.
unsafe fn send_in_kernel(open: &Open, message: &msghdr, flags: c_int) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    let sent = errno::check(unsafe { real::sendmsg(open.fd, message, flags) });
    // Sending has bound the kernel's half, so answers can come.
    policy::bring_to_life(open);
    sent.map(|n| n as usize)
}
