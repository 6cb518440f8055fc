//! Addresses and connections: bind, listen, connect, accept and the questions about both ends.
//!
//! This is where a socket's path is decided (`policy.rs`).

use crate::address::{self, AddressOut, INET6_LEAST};
use crate::descriptors::{self, Entry, Open};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::mapped::Target;
use crate::policy::{self, BOUND_STACK, CONNECTING, MAPPED};
use crate::{guard, lifecycle, messages, spares, stream, waiting};
use core::ffi::c_int;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::Ordering;
use engine::{Kind, Path, Reason, Wait};
use libc::{msghdr, sockaddr, socklen_t};
use stack::error::Error;
use stack::options::Linger;
use stack::readiness::Readiness;
use stack::socket::{Family, First};
use stack::tcp::State;
use std::io::IoSlice;

const ANYWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// bind(2).
///
/// # Safety
/// As the C function; likewise for every function here.
pub unsafe fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::bind(fd, address, len) };
    };
    errno::answer(|| {
        let least = if open.is_mapped() {
            INET6_LEAST
        } else {
            size_of::<libc::sockaddr_in>() as socklen_t
        };
        if len < least {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the program's address.
        match unsafe { open.target(address, len) }? {
            Target::V4(local) => bind_to(&open, local),
            Target::V6(local) => bind_in_kernel(&open, SocketAddr::V6(local), Reason::Family),
            // As Linux does for old programs.
            Target::Unspecified(local) if local.ip().is_unspecified() && !open.is_mapped() => {
                bind_to(&open, local)
            }
            Target::Unspecified(_) => Err(Errno::EAFNOSUPPORT),
        }
    })
}

fn bind_to(open: &Open, local: SocketAddrV4) -> Result<c_int, Errno> {
    if open.file.path() != Path::Undecided {
        // Bound already, or connected: the stack says what Linux says.
        return bind_in_stack(open, local);
    }
    let decision = policy::bound(open, local);
    match decision.path {
        Path::Kernel => return bind_in_kernel(open, SocketAddr::V4(local), decision.reason),
        Path::Both => policy::bind_both(open, local)?,
        Path::Stack | Path::Undecided => {
            bind_in_stack(open, local)?;
            open.mark(BOUND_STACK);
        }
    }
    open.file.set_path(decision.path, decision.reason);
    if decision.path == Path::Both && open.file.kind() == Kind::Udp {
        policy::bring_to_life(open);
    }
    Ok(0)
}

/// The kernel judges before the stack gives up its half.
fn bind_in_kernel(open: &Open, local: SocketAddr, reason: Reason) -> Result<c_int, Errno> {
    spares::touch(open.fd);
    let (storage, len) = address::encode(open.present(local));
    // SAFETY: an address of ours.
    errno::check(unsafe { real::bind(open.fd, (&raw const storage).cast(), len) })?;
    if open.file.path() != Path::Undecided {
        return Ok(0); // Already bound, and the kernel has taken it twice: unheard of.
    }
    Ok(policy::hand_over(open, reason, || 0))
}

fn bind_in_stack(open: &Open, local: SocketAddrV4) -> Result<c_int, Errno> {
    let at = SocketAddr::V4(local);
    open.engine.bind(open.id, at)?;
    Ok(0)
}

/// listen(2).
///
/// # Safety
/// As the C function.
pub unsafe fn listen(fd: c_int, backlog: c_int) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::listen(fd, backlog) };
    };
    errno::answer(|| {
        if open.file.kind() == Kind::Udp {
            return Err(Errno::EOPNOTSUPP);
        }
        if open.file.path() == Path::Undecided {
            bind_to(&open, ANYWHERE)?;
        }
        if open.file.path() == Path::Kernel {
            // SAFETY: a kernel socket.
            return errno::check(unsafe { real::listen(fd, backlog) });
        }
        if open.file.path() == Path::Both {
            listen_in_kernel(&open, backlog)?;
        }
        // A negative backlog is a large one, as in Linux.
        let backlog = backlog as u32;
        open.engine.listen(open.id, backlog)?;
        Ok(0)
    })
}

/// The kernel's half listens; it never blocks from now on, because accept asks both halves.
fn listen_in_kernel(open: &Open, backlog: c_int) -> Result<(), Errno> {
    spares::touch(open.fd);
    // SAFETY: the descriptor is a kernel socket.
    unsafe {
        errno::check(real::listen(open.fd, backlog))?;
        let flags = real::fcntl(open.fd, libc::F_GETFL, 0);
        real::fcntl(open.fd, libc::F_SETFL, (flags | libc::O_NONBLOCK) as usize);
    }
    policy::bring_to_life(open);
    Ok(())
}

/// connect(2).
///
/// # Safety
/// As the C function.
pub unsafe fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::connect(fd, address, len) };
    };
    // SAFETY: the program's address.
    errno::answer(|| match unsafe { open.target(address, len) }? {
        Target::V4(remote) => connect_to(&open, remote, None, open.file.nonblocking()).map(|_| 0),
        Target::V6(remote) => connect_in_kernel(&open, SocketAddr::V6(remote), Reason::Family),
        Target::Unspecified(_) => disconnect(&open),
    })
}

fn connect_to(
    open: &Open,
    remote: SocketAddrV4,
    first: Option<First<'_>>,
    nonblocking: bool,
) -> Result<usize, Errno> {
    let decision = match open.file.path() {
        Path::Stack if open.file.kind() == Kind::Tcp || open.has(BOUND_STACK) => {
            policy::Decision { path: Path::Stack, reason: open.file.reason() }
        }
        _ => policy::towards(open, remote),
    };
    if decision.path == Path::Kernel {
        return connect_in_kernel(open, SocketAddr::V4(remote), decision.reason).map(|_| 0);
    }
    let remote = if remote.ip().is_unspecified() {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, remote.port())
    } else {
        remote
    };
    let listening = open.is_dual() && open.file.kind() == Kind::Tcp;
    if !listening && open.file.path() != Path::Stack {
        open.file.set_path(Path::Stack, decision.reason);
    }
    match open.file.kind() {
        Kind::Udp => {
            let to = SocketAddr::V4(remote);
            open.engine.with(open.id, |shard, socket, now| shard.connect(now, socket, to))?;
            Ok(0)
        }
        Kind::Tcp => connect_stream(open, SocketAddr::V4(remote), first, nonblocking),
    }
}

/// `MSG_FASTOPEN` (tcp(7)): connects and sends. With a cookie from that server the SYN carries the
/// data's beginning; without one all of it waits for the connection.
///
/// # Errors
/// As connect(2) and sendmsg(2).
///
/// # Safety
/// The message is the program's.
pub unsafe fn connect_and_send(
    open: &Open,
    message: &msghdr,
    flags: c_int,
) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    let target = unsafe { open.target(message.msg_name.cast_const().cast(), message.msg_namelen) }?;
    let decision = match target {
        Target::V4(remote) => policy::towards(open, remote),
        Target::V6(_) => policy::Decision { path: Path::Kernel, reason: Reason::Family },
        Target::Unspecified(_) => return Err(Errno::EOPNOTSUPP),
    };
    if decision.path == Path::Kernel && open.file.path() == Path::Undecided {
        // SAFETY: as the caller says.
        let call = || errno::check(unsafe { real::sendmsg(open.fd, message, flags) });
        return policy::hand_over(open, decision.reason, call).map(|n| n as usize);
    }
    let Target::V4(remote) = target else { return Err(Errno::EAFNOSUPPORT) };
    let nonblocking = open.file.nonblocking() || flags & libc::MSG_DONTWAIT != 0;
    let send = |data: &mut [IoSlice<'_>]| {
        let zero_copy = flags & libc::MSG_ZEROCOPY != 0;
        let first = First { data, zero_copy, waits: !nonblocking };
        let sent = connect_to(open, remote, Some(first), nonblocking)?;
        send_rest(open, data, sent, flags)
    };
    // SAFETY: as the caller says.
    unsafe { messages::with_data(message, send) }
}

/// The first data on a socket with `TCP_FASTOPEN_CONNECT`: its SYN, which waited for it, leaves.
///
/// # Errors
/// As connect(2) and send(2).
pub fn send_first(open: &Open, data: &mut [IoSlice<'_>], flags: c_int) -> Result<usize, Errno> {
    let nonblocking = open.file.nonblocking() || flags & libc::MSG_DONTWAIT != 0;
    let zero_copy = flags & libc::MSG_ZEROCOPY != 0;
    let first = First { data, zero_copy, waits: !nonblocking };
    // The address was given to connect(2) and is not asked for again.
    let anywhere = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let sent = connect_stream(open, anywhere, Some(first), nonblocking)?;
    send_rest(open, data, sent, flags)
}

/// What the SYN did not carry, `sent` octets of it, follows.
fn send_rest(
    open: &Open,
    data: &mut [IoSlice<'_>],
    sent: usize,
    flags: c_int,
) -> Result<usize, Errno> {
    let mut rest = data;
    IoSlice::advance_slices(&mut rest, sent);
    if rest.is_empty() && sent > 0 {
        return Ok(sent);
    }
    // One report for the call.
    let flags = if sent > 0 { flags & !libc::MSG_ZEROCOPY } else { flags };
    match stream::send_octets(open, rest, flags) {
        Ok(more) => Ok(sent + more),
        Err(_) if sent > 0 => Ok(sent),
        Err(error) => Err(error),
    }
}

fn connect_in_kernel(open: &Open, remote: SocketAddr, reason: Reason) -> Result<c_int, Errno> {
    let (storage, len) = address::encode(open.present(remote));
    let call = || {
        // SAFETY: an address of ours.
        errno::check(unsafe { real::connect(open.fd, (&raw const storage).cast(), len) })
    };
    policy::hand_over(open, reason, call)
}

/// Begins a TCP connection and waits for it as the socket says; returns how much of `first` its SYN
/// carried.
fn connect_stream(
    open: &Open,
    remote: SocketAddr,
    first: Option<First<'_>>,
    nonblocking: bool,
) -> Result<usize, Errno> {
    let mut sent = 0;
    let began = open.engine.connect(open.id, remote, first).map(|(carried, awaits)| {
        sent = carried;
        awaits
    });
    match began {
        // `TCP_FASTOPEN_CONNECT`: it begins with the first data.
        Ok(true) => return Ok(0),
        Ok(false) if nonblocking => {
            open.mark(CONNECTING);
            return if sent > 0 { Ok(sent) } else { Err(Errno::EINPROGRESS) };
        }
        // A connect that began earlier, or was interrupted, is waited for by the next one.
        Ok(false) => {}
        Err(Error::Already) if !nonblocking => {}
        Err(Error::IsConnected) if open.unmark(CONNECTING) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    open.mark(CONNECTING);
    let waited = open.engine.blocking(
        open.id,
        Readiness::WRITABLE,
        Wait::SendTimeout,
        |shard, socket, _| {
            if let Some(error) = shard.take_error(socket) {
                return Err(error);
            }
            match shard.state(socket) {
                Some(State::SynSent | State::SynReceived) => Err(Error::WouldBlock),
                Some(State::Closed) | None => Err(Error::ConnectionAborted),
                _ => Ok(()),
            }
        },
    );
    match waited {
        Ok(()) => {
            open.unmark(CONNECTING);
            Ok(sent)
        }
        Err(Error::WouldBlock) => Err(Errno::EINPROGRESS),
        Err(Error::Interrupted) => Err(Errno::EINTR),
        Err(error) => {
            open.unmark(CONNECTING);
            Err(error.into())
        }
    }
}

/// connect(2) with `AF_UNSPEC`.
fn disconnect(open: &Open) -> Result<c_int, Errno> {
    open.unmark(CONNECTING);
    if open.file.kind() == Kind::Tcp {
        return descriptors::change(|| start_again(open));
    }
    open.engine.with(open.id, |shard, socket, _| shard.disconnect(socket))?;
    if !open.has(BOUND_STACK) {
        let path = if open.has(policy::KERNEL_BOUND) { Path::Both } else { Path::Undecided };
        open.file.set_path(path, Reason::None);
    }
    Ok(0)
}

/// A TCP socket is disconnected by resetting it and putting a new one, with the same options,
/// under the descriptor. (Copies of the descriptor keep the old one.)
fn start_again(open: &Open) -> Result<c_int, Errno> {
    let options = open.engine.with(open.id, |shard, socket, _| shard.options(socket).copied())?;
    let fresh = open.engine.create(Kind::Tcp, Family::V4)?;
    open.engine.with(fresh, |shard, socket, now| {
        shard.update_options(now, socket, |current| *current = options)
    })?;
    if let Some(file) = open.engine.file(fresh) {
        file.set_nonblocking(open.file.nonblocking());
        file.caller_flags.store(if open.is_mapped() { MAPPED } else { 0 }, Ordering::Release);
    }
    descriptors::replace(open.fd, Entry::Socket(fresh));
    open.engine.with(open.id, |shard, socket, now| {
        shard.update_options(now, socket, |current| current.linger = Linger::Reset)
    })?;
    open.engine.release(open.id);
    Ok(0)
}

/// accept(2).
///
/// # Safety
/// As the C function.
pub unsafe fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return plain(unsafe { real::accept(fd, address, len) });
    };
    // SAFETY: the program's pointers.
    errno::answer(|| unsafe { accept_from(&open, AddressOut::new(address, len), 0) })
}

/// accept4(2).
///
/// # Safety
/// As the C function.
pub unsafe fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return plain(unsafe { real::accept4(fd, address, len, flags) });
    };
    // SAFETY: the program's pointers.
    errno::answer(|| unsafe { accept_from(&open, AddressOut::new(address, len), flags) })
}

/// A descriptor that the kernel made: its number means nothing else any more.
fn plain(fd: c_int) -> c_int {
    if guard::ours() {
        lifecycle::forget(fd);
    }
    fd
}

/// # Safety
/// `out` holds the program's pointers.
unsafe fn accept_from(open: &Open, out: AddressOut, flags: c_int) -> Result<c_int, Errno> {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if open.file.kind() == Kind::Udp {
        return Err(Errno::EOPNOTSUPP);
    }
    let wait = if open.file.nonblocking() { Wait::No } else { Wait::ReceiveTimeout };
    let mut waiter = waiting::Waiter::new(open, Readiness::READABLE, wait);
    loop {
        if let Some(fd) = accept_in_stack(open, out, flags)? {
            return Ok(fd);
        }
        if open.is_dual() {
            // SAFETY: as accept4; the kernel's half never blocks.
            match errno::check(unsafe { out.accept_in_kernel(open.fd, flags) }) {
                Err(Errno::EAGAIN) => {}
                accepted => return accepted.map(plain),
            }
        }
        waiter.wait()?;
    }
}

/// A connection from the stack's queue under a descriptor of its own, or `None`. As in Linux the
/// descriptor comes first: when there is none left, the connection stays in the queue.
fn accept_in_stack(open: &Open, out: AddressOut, flags: c_int) -> Result<Option<c_int>, Errno> {
    if !open.engine.has_connections(open.id)? {
        return Ok(None);
    }
    let fd = descriptors::change(|| spares::socket(open.domain(), libc::SOCK_STREAM | flags))?;
    lifecycle::forget(fd);
    let accepted = descriptors::change(|| {
        let (id, peer) = open.engine.accept(open.id, Wait::No)?;
        if let Some(file) = open.engine.file(id) {
            file.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
            file.caller_flags.store(if open.is_mapped() { MAPPED } else { 0 }, Ordering::Release);
        }
        if descriptors::replace(fd, Entry::Socket(id)).is_none() {
            open.engine.release(id);
            return Err(Error::TooManyFiles);
        }
        Ok(peer)
    });
    // SAFETY: the program's pointers; a descriptor that nobody else knows.
    unsafe {
        match accepted {
            Ok(peer) => {
                if out.wanted()
                    && let Err(errno) = out.write(open.present(peer))
                {
                    lifecycle::close(fd);
                    return Err(errno);
                }
                Ok(Some(fd))
            }
            Err(error) => {
                descriptors::change(|| spares::close(fd));
                if error == Error::WouldBlock { Ok(None) } else { Err(error.into()) }
            }
        }
    }
}

/// getsockname(2).
///
/// # Safety
/// As the C function.
pub unsafe fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::getsockname(fd, address, len) };
    };
    if open.file.path() == Path::Both && kernel_names(&open) {
        // SAFETY: passed on.
        return unsafe { real::getsockname(fd, address, len) };
    }
    errno::answer(|| {
        let local = open.engine.with(open.id, |shard, socket, _| shard.local_address(socket))?;
        // SAFETY: the program's pointers.
        unsafe { AddressOut::new(address, len).write(open.present(local)) }?;
        Ok(0)
    })
}

/// Whether only the kernel's half has a name: an unbound datagram socket that has sent through it.
fn kernel_names(open: &Open) -> bool {
    let local = open.engine.with(open.id, |shard, socket, _| shard.local_address(socket));
    local.is_ok_and(|local| local.port() == 0)
}

/// getpeername(2).
///
/// # Safety
/// As the C function.
pub unsafe fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::getpeername(fd, address, len) };
    };
    errno::answer(|| {
        let peer = open.engine.with(open.id, |shard, socket, _| shard.remote_address(socket))?;
        // SAFETY: the program's pointers.
        unsafe { AddressOut::new(address, len).write(open.present(peer)) }?;
        Ok(0)
    })
}
