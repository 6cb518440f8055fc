//! IPv4 on `AF_INET6` sockets (RFC 3493 §3.7): a dual-stack socket's IPv4 half is the stack's to
//! carry, its addresses shown as `::ffff:a.b.c.d`; its IPv6 half is the kernel's.
//!
//! Owns the translation of addresses in both directions, for sockets of both families. Called by
//! the naming and transfer hooks. Decides no path.

use crate::address::{self, Address};
use crate::descriptors::Open;
use crate::errno::Errno;
use crate::policy::MAPPED;
use core::ffi::c_int;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use libc::{sockaddr, socklen_t};

/// What an address that a program passed means to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An IPv4 address, written so or mapped; the wildcard of a dual-stack socket too.
    V4(SocketAddrV4),
    /// `AF_UNSPEC`, and the IPv4 address behind it.
    Unspecified(SocketAddrV4),
    /// An address of IPv6 proper: the kernel's.
    V6(SocketAddrV6),
}

impl Open {
    /// Whether this is an `AF_INET6` socket.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.has(MAPPED)
    }

    /// The family of its kernel half.
    #[must_use]
    pub fn domain(&self) -> c_int {
        if self.is_mapped() { libc::AF_INET6 } else { libc::AF_INET }
    }

    /// What the address at `addr` means to this socket.
    ///
    /// # Errors
    /// As [`address::decode`]; `EAFNOSUPPORT` for another family's address.
    ///
    /// # Safety
    /// `addr` is null or points to `len` readable octets.
    pub unsafe fn target(&self, addr: *const sockaddr, len: socklen_t) -> Result<Target, Errno> {
        // SAFETY: as the caller says.
        let address = unsafe { address::decode(addr, len) }?;
        if !self.is_mapped() {
            return target_of_v4(address);
        }
        let v6_only =
            self.engine.with(self.id, |shard, socket, _| Ok(shard.options(socket)?.v6_only));
        target_of_v6(address, v6_only.unwrap_or(true))
    }

    /// An address of the stack as this socket's family writes it.
    #[must_use]
    pub fn present(&self, address: SocketAddr) -> SocketAddr {
        if self.is_mapped() { mapped(address) } else { address }
    }
}

fn target_of_v4(address: Address) -> Result<Target, Errno> {
    match address {
        Address::Inet(to) => Ok(Target::V4(to)),
        Address::Unspecified(to) => Ok(Target::Unspecified(to)),
        Address::Inet6(_) | Address::Other(_) => Err(Errno::EAFNOSUPPORT),
    }
}

fn target_of_v6(address: Address, v6_only: bool) -> Result<Target, Errno> {
    match address {
        Address::Inet6(to) if v6_only => Ok(Target::V6(to)),
        Address::Inet6(to) if to.ip().is_unspecified() => {
            Ok(Target::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, to.port())))
        }
        Address::Inet6(to) => Ok(match to.ip().to_ipv4_mapped() {
            Some(ip) => Target::V4(SocketAddrV4::new(ip, to.port())),
            None => Target::V6(to),
        }),
        Address::Unspecified(to) => Ok(Target::Unspecified(to)),
        Address::Other(family) if c_int::from(family) == libc::AF_INET6 => Err(Errno::EINVAL),
        Address::Inet(_) | Address::Other(_) => Err(Errno::EAFNOSUPPORT),
    }
}

/// The wildcard stays a wildcard; everything else is mapped.
fn mapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED,
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(IpAddr::V6(ip), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Address {
        Address::Inet6(text.parse().unwrap())
    }

    #[test]
    fn mapped_addresses_and_the_wildcard_are_ipv4() {
        let v4 = |text: &str| Ok(Target::V4(text.parse().unwrap()));
        assert_eq!(target_of_v6(v6("[::ffff:10.0.0.1]:80"), false), v4("10.0.0.1:80"));
        assert_eq!(target_of_v6(v6("[::]:80"), false), v4("0.0.0.0:80"));
        let native = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(target_of_v6(Address::Inet6(native), false), Ok(Target::V6(native)));
        let wildcard = "[::]:80".parse().unwrap();
        assert_eq!(target_of_v6(Address::Inet6(wildcard), true), Ok(Target::V6(wildcard)));
    }

    #[test]
    fn families_do_not_mix() {
        let v4 = Address::Inet("10.0.0.1:80".parse().unwrap());
        assert_eq!(target_of_v6(v4, false), Err(Errno::EAFNOSUPPORT));
        assert_eq!(target_of_v4(v6("[::1]:80")), Err(Errno::EAFNOSUPPORT));
    }

    #[test]
    fn addresses_are_shown_mapped() {
        let shown = |text: &str| mapped(text.parse().unwrap()).to_string();
        assert_eq!(shown("10.0.0.1:80"), "[::ffff:10.0.0.1]:80");
        assert_eq!(shown("0.0.0.0:80"), "[::]:80");
    }
}
