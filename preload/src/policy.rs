//! Which network carries a socket: the stack's, the kernel's, or both.
//!
//! Owns the rules of that decision and the steps of carrying it out on the kernel's side: handing a
//! socket over, and bringing the kernel's half of a socket to life. Called by the naming hooks,
//! by UDP's send and by options that only the kernel has. Never looks at data.

use crate::address::{self, Address};
use crate::descriptors::{self, Entry, Open};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::{spares, startup};
use control::rules::{Direction, Path as Side, Protocol, Question};
use control::settings::Loopback;
use core::ffi::c_int;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::Ordering;
use engine::{EpollEntry, Kind, Path, Reason};
use stack::error::Error;

/// The kernel's half takes part: a listener that listens there, a datagram socket that is bound
/// there. Kept in [`engine::File::caller_flags`], as the next ones.
pub const KERNEL_LIVE: u32 = 1;
/// bind(2) chose an address of the stack alone: datagrams never leave through the kernel.
pub const BOUND_STACK: u32 = 2;
/// A nonblocking connect(2) has begun and its success was not told yet.
pub const CONNECTING: u32 = 4;
/// `SO_TIMESTAMPNS` rather than `SO_TIMESTAMP`.
pub const TIMESTAMP_NS: u32 = 8;
/// The kernel's half is bound.
pub const KERNEL_BOUND: u32 = 16;

/// Status flags were set that only the kernel's half has (fcntl(2), `F_SETFL`).
pub const KERNEL_FLAGS: u32 = 64;

/// An `AF_INET6` socket, whose IPv4 half the stack may carry.
pub const MAPPED: u32 = 32;

/// A path and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Who carries the socket.
    pub path: Path,
    /// Why, for listings.
    pub reason: Reason,
}

const fn decided(path: Path, reason: Reason) -> Decision {
    Decision { path, reason }
}

/// Whether socket(2) with these arguments makes a socket that the stack may carry.
#[must_use]
pub fn candidate(domain: c_int, kind: c_int, protocol: c_int) -> Option<Kind> {
    let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    if !matches!(domain, libc::AF_INET | libc::AF_INET6) {
        return None;
    }
    match (kind, protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Some(Kind::Tcp),
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Some(Kind::Udp),
        _ => None,
    }
}

/// What the decision needs to know of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    rule: Option<Side>,
    /// 127.0.0.0/8 is the stack's.
    loopback_is_ours: bool,
    /// The socket has an IPv6 half, which only the kernel carries.
    dual_stack: bool,
    /// It is one of the stack's own.
    is_ours: bool,
    /// The stack has a route to it.
    is_routed: bool,
}

fn facts(open: &Open, direction: Direction, at: SocketAddrV4) -> Facts {
    let engine = open.engine;
    let settings = engine.settings();
    let ip = (*at.ip()).into();
    let known =
        engine.with_shard(|shard, _| Ok((shard.is_local(ip), shard.route_to(ip).is_some())));
    let (is_ours, is_routed) = known.unwrap_or((false, false));
    Facts {
        rule: settings.rules.decide(&Question {
            program: startup::program(),
            protocol: match open.file.kind() {
                Kind::Tcp => Protocol::Tcp,
                Kind::Udp => Protocol::Udp,
            },
            direction,
            address: ip,
            port: at.port(),
        }),
        loopback_is_ours: settings.loopback == Loopback::Stack,
        dual_stack: open.is_mapped(),
        is_ours,
        is_routed,
    }
}

/// Where a socket bound to `local` belongs.
#[must_use]
pub fn bound(open: &Open, local: SocketAddrV4) -> Decision {
    decide_bound(facts(open, Direction::Listen, local), *local.ip())
}

fn decide_bound(facts: Facts, ip: Ipv4Addr) -> Decision {
    match facts.rule {
        Some(Side::Kernel) => return decided(Path::Kernel, Reason::Rule),
        Some(Side::Stack) => return decided(Path::Stack, Reason::Rule),
        None => {}
    }
    match facts {
        Facts { loopback_is_ours: true, dual_stack: false, .. } if ip.is_unspecified() => {
            decided(Path::Stack, Reason::Wildcard)
        }
        _ if ip.is_unspecified() => decided(Path::Both, Reason::Wildcard),
        Facts { loopback_is_ours: true, .. } if ip.is_loopback() => {
            decided(Path::Stack, Reason::Loopback)
        }
        _ if ip.is_loopback() => decided(Path::Kernel, Reason::Loopback),
        Facts { is_ours: true, .. } => decided(Path::Stack, Reason::Routed),
        _ => decided(Path::Kernel, Reason::HostAddress),
    }
}

/// Where what is sent to `remote` belongs.
#[must_use]
pub fn towards(open: &Open, remote: SocketAddrV4) -> Decision {
    decide_towards(facts(open, Direction::Connect, remote), *remote.ip())
}

fn decide_towards(facts: Facts, ip: Ipv4Addr) -> Decision {
    match facts.rule {
        Some(Side::Kernel) => return decided(Path::Kernel, Reason::Rule),
        Some(Side::Stack) => return decided(Path::Stack, Reason::Rule),
        None => {}
    }
    // Linux takes the wildcard address as a destination for the loopback address.
    if ip.is_loopback() || ip.is_unspecified() {
        let path = if facts.loopback_is_ours { Path::Stack } else { Path::Kernel };
        return decided(path, Reason::Loopback);
    }
    if ip.is_multicast() || ip.is_broadcast() {
        return decided(Path::Kernel, Reason::HostAddress);
    }
    if facts.is_ours || facts.is_routed {
        return decided(Path::Stack, Reason::Routed);
    }
    decided(Path::Kernel, Reason::NoRoute)
}

impl Open {
    /// Whether a bit of this module is set.
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.file.caller_flags.load(Ordering::Acquire) & flag != 0
    }

    /// Sets a bit; whether it was clear.
    pub fn mark(&self, flag: u32) -> bool {
        self.file.caller_flags.fetch_or(flag, Ordering::AcqRel) & flag == 0
    }

    /// Clears a bit; whether it was set.
    pub fn unmark(&self, flag: u32) -> bool {
        self.file.caller_flags.fetch_and(!flag, Ordering::AcqRel) & flag != 0
    }

    /// Whether calls must look at the kernel's half as well.
    #[must_use]
    pub fn is_dual(&self) -> bool {
        self.file.path() == Path::Both && self.has(KERNEL_LIVE)
    }
}

/// Gives the socket to the kernel for good: `act` makes the kernel's call that shows the socket in
/// its new state, then the epoll sets that watched it watch the kernel's half. (The other way
/// round they would report the hang-up of an unconnected kernel socket.)
pub fn hand_over<R>(open: &Open, reason: Reason, act: impl FnOnce() -> R) -> R {
    spares::touch(open.fd);
    let entries = watchers(open);
    open.engine.surrender(open.id, reason);
    // A call that would block is not waited for here: its epoll entries must be in place before.
    if open.file.nonblocking() {
        let answer = act();
        let errno = errno::get();
        watch_in_kernel(open.fd, &entries);
        errno::set(errno);
        return answer;
    }
    watch_in_kernel(open.fd, &entries);
    act()
}

/// The kernel's half takes part from now on.
pub fn bring_to_life(open: &Open) {
    if open.mark(KERNEL_LIVE) {
        watch_in_kernel(open.fd, &watchers(open));
    }
}

fn watchers(open: &Open) -> Vec<EpollEntry> {
    let mut entries = Vec::new();
    open.engine.epoll_entries(open.id, &mut |entry| entries.push(entry));
    entries
}

/// Adds the kernel's half to the real epoll sets of this process that `entries` name.
fn watch_in_kernel(fd: c_int, entries: &[EpollEntry]) {
    for entry in entries {
        let set = descriptors::ours_from(0).find(|(_, found)| *found == Entry::Epoll(entry.set));
        let Some((epfd, _)) = set else { continue }; // Another process's set.
        let mut event = libc::epoll_event { events: entry.events, u64: entry.data };
        // A dup of the descriptor that was added may be the one we were called with.
        for fd in [entry.fd, fd] {
            // SAFETY: a valid event; what the kernel refuses is tried with the next descriptor.
            if unsafe { real::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, &raw mut event) } == 0 {
                if let Some(engine) = engine::get() {
                    engine.epoll_kernel_count(entry.set, 1);
                }
                break;
            }
        }
    }
}

/// Binds the stack's half and the kernel's to one port. With port 0 the kernel chooses.
///
/// # Errors
/// As bind(2).
pub fn bind_both(open: &Open, local: SocketAddrV4) -> Result<(), Errno> {
    const ATTEMPTS: u32 = 16;
    for _ in 0..ATTEMPTS {
        let port = bind_kernel(open, local)?;
        let at = SocketAddr::V4(SocketAddrV4::new(*local.ip(), port));
        match open.engine.bind(open.id, at) {
            Ok(()) => {
                open.mark(KERNEL_BOUND);
                return Ok(());
            }
            Err(error) => {
                replace_kernel_half(open)?;
                if error != Error::AddressInUse || local.port() != 0 {
                    return Err(error.into());
                }
            }
        }
    }
    Err(Error::AddressInUse.into())
}

/// Binds the kernel's half; its port.
fn bind_kernel(open: &Open, local: SocketAddrV4) -> Result<u16, Errno> {
    spares::touch(open.fd);
    let (mut storage, mut len) = address::encode(open.present(SocketAddr::V4(local)));
    let at = (&raw mut storage).cast::<libc::sockaddr>();
    // SAFETY: a valid address, which getsockname overwrites with one of the same length.
    unsafe {
        errno::check(real::bind(open.fd, at, len))?;
        errno::check(real::getsockname(open.fd, at, &raw mut len))?;
        match address::decode(at, len)? {
            Address::Inet(bound) => Ok(bound.port()),
            Address::Inet6(bound) => Ok(bound.port()),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Puts a fresh kernel socket under the descriptor, because the one there is bound to a port that
/// the stack's half cannot have, and there is no unbinding. Options that only the kernel's half
/// had are lost with it; those of the table in `option_table.rs` are kept by the stack.
fn replace_kernel_half(open: &Open) -> Result<(), Errno> {
    let kind = match open.file.kind() {
        Kind::Tcp => libc::SOCK_STREAM,
        Kind::Udp => libc::SOCK_DGRAM,
    };
    // SAFETY: descriptors of ours; the flags are what the old socket had.
    unsafe {
        let status = real::fcntl(open.fd, libc::F_GETFL, 0);
        let closes = real::fcntl(open.fd, libc::F_GETFD, 0) & libc::FD_CLOEXEC != 0;
        let fresh = errno::check(real::socket(open.domain(), kind, 0))?;
        real::fcntl(fresh, libc::F_SETFL, status as usize);
        real::dup3(fresh, open.fd, if closes { libc::O_CLOEXEC } else { 0 });
        real::close(fresh);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Facts = Facts {
        rule: None,
        loopback_is_ours: false,
        dual_stack: false,
        is_ours: false,
        is_routed: false,
    };
    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn only_tcp_and_udp_are_candidates() {
        assert_eq!(
            candidate(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0),
            Some(Kind::Tcp)
        );
        assert_eq!(
            candidate(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 17),
            Some(Kind::Udp)
        );
        assert_eq!(candidate(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP), None);
        assert_eq!(candidate(libc::AF_INET6, libc::SOCK_STREAM, 0), Some(Kind::Tcp));
        assert_eq!(candidate(libc::AF_UNIX, libc::SOCK_STREAM, 0), None);
        assert_eq!(candidate(libc::AF_INET, libc::SOCK_RAW, 6), None);
    }

    #[test]
    fn a_wildcard_lives_in_both_worlds_unless_loopback_is_the_stacks() {
        assert_eq!(decide_bound(NOTHING, ANY), decided(Path::Both, Reason::Wildcard));
        let ours = Facts { loopback_is_ours: true, ..NOTHING };
        assert_eq!(decide_bound(ours, ANY), decided(Path::Stack, Reason::Wildcard));
        assert_eq!(decide_bound(Facts { dual_stack: true, ..ours }, ANY).path, Path::Both);
        assert_eq!(decide_bound(ours, LOOPBACK).path, Path::Stack);
        assert_eq!(decide_towards(ours, ANY).path, Path::Stack);
    }

    #[test]
    fn loopback_and_the_hosts_addresses_are_the_kernels() {
        assert_eq!(decide_bound(NOTHING, LOOPBACK), decided(Path::Kernel, Reason::Loopback));
        assert_eq!(decide_bound(NOTHING, OTHER), decided(Path::Kernel, Reason::HostAddress));
        assert_eq!(decide_towards(NOTHING, LOOPBACK), decided(Path::Kernel, Reason::Loopback));
        assert_eq!(decide_towards(NOTHING, OTHER), decided(Path::Kernel, Reason::NoRoute));
    }

    #[test]
    fn own_addresses_and_routes_are_the_stacks() {
        let ours = Facts { is_ours: true, ..NOTHING };
        assert_eq!(decide_bound(ours, OTHER), decided(Path::Stack, Reason::Routed));
        let routed = Facts { is_routed: true, ..NOTHING };
        assert_eq!(decide_towards(routed, OTHER), decided(Path::Stack, Reason::Routed));
        assert_eq!(decide_towards(routed, Ipv4Addr::new(224, 0, 0, 1)).path, Path::Kernel);
    }

    #[test]
    fn rules_come_first() {
        let kernel = Facts { rule: Some(Side::Kernel), is_ours: true, is_routed: true, ..NOTHING };
        assert_eq!(decide_bound(kernel, OTHER), decided(Path::Kernel, Reason::Rule));
        assert_eq!(decide_towards(kernel, OTHER), decided(Path::Kernel, Reason::Rule));
        let stack = Facts { rule: Some(Side::Stack), ..NOTHING };
        assert_eq!(decide_bound(stack, ANY), decided(Path::Stack, Reason::Rule));
    }
}
