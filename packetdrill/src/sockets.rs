//! Sockets come, are named, connect, listen, accept, end.

use crate::station::Station;
use crate::world::{File, Socket, World, is_ours};
use abi::errno::{self, Errno};
use abi::memory;
use core::ffi::{c_int, c_long};
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use libc::{sockaddr, sockaddr_in, socklen_t};
use stack::error::Error;
use stack::shard::{SocketId, SocketKind};
use stack::socket::{First, Shutdown};
use stack::tcp::State;

/// The bits of a socket's type that are not its type.
const TYPE_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// A kernel socket: its number, and what Linux says of options.
fn placeholder(kind: SocketKind) -> Result<c_int, Errno> {
    let kind = match kind {
        SocketKind::Tcp => libc::SOCK_STREAM,
        SocketKind::Udp => libc::SOCK_DGRAM,
    };
    // SAFETY: no pointers.
    errno::check(unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0) })
}

/// Closes a number that this library took.
pub fn close_number(fd: c_int) -> c_int {
    // SAFETY: no pointers. Not libc's close: that symbol is this library's own.
    unsafe { libc::syscall(libc::SYS_close, c_long::from(fd)) as c_int }
}

/// socket(2).
///
/// # Errors
/// The kernel's; `EAFNOSUPPORT` for what is not IPv4.
pub fn socket(station: &Station, domain: c_int, kind: c_int) -> Result<c_int, Errno> {
    if domain != libc::AF_INET {
        return Err(Errno::EAFNOSUPPORT);
    }
    let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
    let kind = match kind & !TYPE_FLAGS {
        libc::SOCK_STREAM => SocketKind::Tcp,
        libc::SOCK_DGRAM => SocketKind::Udp,
        _ => return Err(Errno::EINVAL),
    };
    let fd = placeholder(kind)?;
    station.call(|world| {
        let id = world.create(kind)?;
        world.insert(fd, File::Socket(Socket { id, kind, nonblocking, connecting: false }));
        Ok(fd)
    })
}

/// Reads an IPv4 address.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EAFNOSUPPORT`.
///
/// # Safety
/// `address` has `len` octets, if it is there.
pub unsafe fn decode(address: *const sockaddr, len: socklen_t) -> Result<SocketAddr, Errno> {
    if (len as usize) < size_of::<sockaddr_in>() {
        return Err(Errno::EINVAL);
    }
    memory::readable(address, size_of::<sockaddr_in>())?;
    // SAFETY: as the caller says.
    let inet = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
    if c_int::from(inet.sin_family) != libc::AF_INET {
        return Err(Errno::EAFNOSUPPORT);
    }
    let ip = Ipv4Addr::from_bits(u32::from_be(inet.sin_addr.s_addr));
    Ok(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(inet.sin_port))))
}

/// Writes an IPv4 address, as much as there is room for.
///
/// # Safety
/// The pointers are null, or `len` octets can be written.
pub unsafe fn encode(from: SocketAddr, address: *mut sockaddr, len: *mut socklen_t) {
    let SocketAddr::V4(from) = from else { return };
    if address.is_null() || len.is_null() {
        return;
    }
    let inet = sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: from.port().to_be(),
        sin_addr: libc::in_addr { s_addr: from.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: as the caller says.
    unsafe {
        let room = (*len as usize).min(size_of::<sockaddr_in>());
        core::ptr::copy_nonoverlapping((&raw const inet).cast::<u8>(), address.cast(), room);
        *len = size_of::<sockaddr_in>() as socklen_t;
    }
}

/// bind(2).
///
/// # Errors
/// The stack's.
pub fn bind(station: &Station, fd: c_int, local: SocketAddr) -> Result<c_int, Errno> {
    station.call(|world| {
        let socket = world.socket(fd)?;
        world.shard.bind(world.now, socket.id, local)?;
        Ok(0)
    })
}

/// listen(2).
///
/// # Errors
/// The stack's.
pub fn listen(station: &Station, fd: c_int, backlog: c_int) -> Result<c_int, Errno> {
    station.call(|world| {
        let socket = world.socket(fd)?;
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
        world.shard.listen(world.now, socket.id, backlog)?;
        Ok(0)
    })
}

/// accept(2).
///
/// # Errors
/// The stack's.
pub fn accept(station: &Station, fd: c_int) -> Result<(c_int, SocketAddr), Errno> {
    let nonblocking = station.call(|world| world.socket(fd))?.nonblocking;
    let accepted = blocking(station, nonblocking, |world| {
        let socket = world.socket(fd)?;
        Ok(world.shard.accept(world.now, socket.id)?)
    });
    let (id, peer) = accepted?;
    let number = placeholder(SocketKind::Tcp)?;
    station.call(|world| {
        let (kind, connecting) = (SocketKind::Tcp, false);
        world.insert(number, File::Socket(Socket { id, kind, nonblocking: false, connecting }));
    });
    Ok((number, peer))
}

/// Repeats `attempt` until it does not say `EAGAIN`, unless `nonblocking`.
///
/// # Errors
/// `attempt`'s.
pub fn blocking<T>(
    station: &Station,
    nonblocking: bool,
    mut attempt: impl FnMut(&mut World) -> Result<T, Errno>,
) -> Result<T, Errno> {
    if nonblocking {
        return station.call(attempt);
    }
    let answer = station.wait(None, |world| match attempt(world) {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    });
    answer.unwrap_or(Err(Errno::EAGAIN))
}

/// connect(2); with `first`, `MSG_FASTOPEN`: returns how much of it the SYN carried.
///
/// # Errors
/// The stack's; `EINPROGRESS` when it does not block.
pub fn connect(
    station: &Station,
    fd: c_int,
    remote: SocketAddr,
    first: Option<First<'_>>,
    nonblocking: bool,
) -> Result<usize, Errno> {
    let begun = station.call(|world| begin_connect(world, fd, remote, first, nonblocking))?;
    let sent = match begun {
        Begun::Done(sent) => return Ok(sent),
        Begun::Waits(sent) => sent,
    };
    let outcome = blocking(station, false, |world| {
        let id = world.socket(fd)?.id;
        progress(world, id)
    });
    station.call(|world| {
        if let Some(socket) = world.socket_mut(fd) {
            socket.connecting = false;
        }
    });
    outcome.map(|_| sent)
}

/// What became of a connect; the number is how much data the SYN carries.
enum Begun {
    Done(usize),
    Waits(usize),
}

fn begin_connect(
    world: &mut World,
    fd: c_int,
    remote: SocketAddr,
    first: Option<First<'_>>,
    nonblocking: bool,
) -> Result<Begun, Errno> {
    let socket = world.socket(fd)?;
    let mut sent = 0;
    match world.shard.connect_fast(world.now, socket.id, remote, first) {
        Ok(_) if socket.kind == SocketKind::Udp => return Ok(Begun::Done(0)),
        Ok(octets) => sent = octets,
        Err(Error::Already) if !nonblocking => {}
        Err(Error::IsConnected) if socket.connecting => {
            if let Some(socket) = world.socket_mut(fd) {
                socket.connecting = false;
            }
            return Ok(Begun::Done(0));
        }
        Err(error) => return Err(error.into()),
    }
    if world.shard.awaits_data(socket.id) {
        return Ok(Begun::Done(0)); // `TCP_FASTOPEN_CONNECT`: it begins with the first data.
    }
    if let Some(socket) = world.socket_mut(fd) {
        socket.connecting = true;
    }
    match (nonblocking, sent) {
        (true, 0) => Err(Errno::EINPROGRESS),
        (true, sent) => Ok(Begun::Done(sent)),
        (false, sent) => Ok(Begun::Waits(sent)),
    }
}

fn progress(world: &mut World, id: SocketId) -> Result<c_int, Errno> {
    if let Some(error) = world.shard.take_error(id) {
        return Err(error.into());
    }
    match world.shard.state(id) {
        Some(State::SynSent | State::SynReceived) => Err(Errno::EAGAIN),
        Some(State::Closed) | None => Err(Error::ConnectionAborted.into()),
        _ => Ok(0),
    }
}

/// shutdown(2).
///
/// # Errors
/// The stack's; `EINVAL`.
pub fn shutdown(station: &Station, fd: c_int, how: c_int) -> Result<c_int, Errno> {
    let how = match how {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    station.call(|world| {
        let socket = world.socket(fd)?;
        world.shard.shutdown(world.now, socket.id, how)?;
        Ok(0)
    })
}

/// close(2), of whatever.
pub fn close(station: Option<&Station>, fd: c_int) -> c_int {
    if let Some(station) = station
        && is_ours(fd)
    {
        station.call(|world| world.close(fd));
    }
    close_number(fd)
}
