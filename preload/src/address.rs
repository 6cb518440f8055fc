//! `struct sockaddr`: decoding what programs pass, encoding what they asked for, by Linux's rules
//! for lengths (bind(2), connect(2), getsockname(2)).
//!
//! Called by the naming and transfer hooks. Never looks at a socket.

use crate::errno::{self, Errno};
use crate::{memory, raw_syscall};
use core::ffi::c_int;
use core::mem::size_of;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_storage, socklen_t};

/// An address as a program passed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// `AF_UNSPEC`: dissolve the association (connect(2)); the IPv4 address that follows it, which
    /// bind(2) and sendto(2) look at.
    Unspecified(SocketAddrV4),
    /// `AF_INET`.
    Inet(SocketAddrV4),
    /// `AF_INET6`.
    Inet6(SocketAddrV6),
    /// Any other family, or less than an IPv6 address.
    Other(sa_family_t),
}

const INET_LEN: usize = size_of::<sockaddr_in>();
/// An IPv6 address without its scope, which Linux takes as well (`SIN6_LEN_RFC2133`).
pub const INET6_LEAST: socklen_t = 24;
const FAMILY_LEN: usize = size_of::<sa_family_t>();

/// An address of either family; the port has the same place in both.
#[repr(C)]
#[derive(Clone, Copy)]
union Any {
    inet: sockaddr_in,
    inet6: libc::sockaddr_in6,
}

/// Decodes `len` octets at `addr`.
///
/// # Errors
/// `EFAULT` for a null pointer, `EINVAL` for a length that holds no family, less than an IPv4
/// address where the family says it is one, or more than any address.
///
/// # Safety
/// `addr` is a program's pointer; what cannot be read is a fault.
pub unsafe fn decode(addr: *const sockaddr, len: socklen_t) -> Result<Address, Errno> {
    let len = len as usize;
    if !(FAMILY_LEN..=size_of::<sockaddr_storage>()).contains(&len) {
        return Err(Errno::EINVAL);
    }
    memory::readable(addr, len)?;
    // SAFETY: zero is a valid address of every kind, and the union's members are plain data.
    let mut any: Any = unsafe { core::mem::zeroed() };
    // SAFETY: `addr` has `len` octets by contract, and no more than the union's are copied.
    unsafe {
        let room = size_of::<Any>();
        core::ptr::copy_nonoverlapping(addr.cast::<u8>(), (&raw mut any).cast(), len.min(room));
    }
    // SAFETY: every member is plain data, and zeroes stand where nothing was copied.
    let (inet, inet6) = unsafe { (any.inet, any.inet6) };
    let port = u16::from_be(inet.sin_port);
    let ip = Ipv4Addr::from_bits(u32::from_be(inet.sin_addr.s_addr));
    match i32::from(inet.sin_family) {
        libc::AF_UNSPEC => Ok(Address::Unspecified(SocketAddrV4::new(ip, port))),
        libc::AF_INET if len < INET_LEN => Err(Errno::EINVAL),
        libc::AF_INET => Ok(Address::Inet(SocketAddrV4::new(ip, port))),
        libc::AF_INET6 if len >= INET6_LEAST as usize => Ok(Address::Inet6(SocketAddrV6::new(
            Ipv6Addr::from(inet6.sin6_addr.s6_addr),
            port,
            inet6.sin6_flowinfo,
            inet6.sin6_scope_id,
        ))),
        _ => Ok(Address::Other(inet.sin_family)),
    }
}

/// `address` as Linux lays it out, and its length.
#[must_use]
pub fn encode(address: SocketAddr) -> (sockaddr_storage, socklen_t) {
    // SAFETY: zero is a valid sockaddr_storage.
    let mut storage: sockaddr_storage = unsafe { core::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            let inet = sockaddr_in {
                sin_family: libc::AF_INET as sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: v4.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for every address.
            unsafe { (&raw mut storage).cast::<sockaddr_in>().write(inet) };
            INET_LEN
        }
        SocketAddr::V6(v6) => {
            let inet6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(inet6) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as socklen_t)
}

/// Where a program wants an address written: as much as fits, and the full length besides.
#[derive(Debug, Clone, Copy)]
pub struct AddressOut {
    address: *mut sockaddr,
    len: *mut socklen_t,
}

impl AddressOut {
    /// A program's pair of pointers.
    #[must_use]
    pub const fn new(address: *mut sockaddr, len: *mut socklen_t) -> Self {
        AddressOut { address, len }
    }

    /// Whether the program wants an address at all (accept(2), recvfrom(2)).
    #[must_use]
    pub fn wanted(self) -> bool {
        !self.address.is_null()
    }

    /// Writes `value`, cut to the room there is; the length becomes the uncut one.
    ///
    /// # Errors
    /// `EFAULT` without a length or an address, `EINVAL` for a negative length.
    ///
    /// # Safety
    /// The pointers are a program's.
    pub unsafe fn write(self, value: SocketAddr) -> Result<(), Errno> {
        let (storage, full) = encode(value);
        memory::writable(self.len, size_of::<socklen_t>())?;
        // SAFETY: it can be read and written.
        let room = unsafe { *self.len } as i32;
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let copied = room.min(full as usize);
        memory::writable(self.address, copied)?;
        // SAFETY: both can be written.
        unsafe {
            core::ptr::copy_nonoverlapping(
                (&raw const storage).cast::<u8>(),
                self.address.cast::<u8>(),
                copied,
            );
            *self.len = full;
        }
        Ok(())
    }

    /// accept4(2) on the kernel's half of a listener.
    ///
    /// # Safety
    /// The pointers are the program's.
    pub unsafe fn accept_in_kernel(self, fd: c_int, flags: c_int) -> c_int {
        // Not libc's, in which a cancelled thread would end in the midst of ours.
        let words = [fd as usize, self.address as usize, self.len as usize, flags as usize, 0, 0];
        // SAFETY: passed on.
        errno::from_raw(unsafe { raw_syscall::call(libc::SYS_accept4, words) }) as c_int
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4242)
    }

    #[test]
    fn an_address_survives_the_way_out_and_in() {
        let (storage, len) = encode(SocketAddr::V4(sample()));
        // SAFETY: the storage is valid for its length.
        let back = unsafe { decode((&raw const storage).cast(), len) };
        assert_eq!(back, Ok(Address::Inet(sample())));
    }

    #[test]
    fn short_and_long_lengths_are_invalid_and_null_is_a_fault() {
        let (storage, len) = encode(SocketAddr::V4(sample()));
        let at = (&raw const storage).cast();
        // SAFETY: the storage is valid for every length tried; null is allowed.
        unsafe {
            assert_eq!(decode(at, 1), Err(Errno::EINVAL));
            assert_eq!(decode(at, 15), Err(Errno::EINVAL));
            assert_eq!(decode(at, 129), Err(Errno::EINVAL));
            assert_eq!(decode(core::ptr::null(), len), Err(Errno::EFAULT));
        }
    }

    #[test]
    fn an_address_is_cut_to_the_room_and_its_full_length_told() {
        let mut room = [0xffu8; 16];
        let mut len: socklen_t = 4;
        let out = AddressOut::new(room.as_mut_ptr().cast(), &raw mut len);
        // SAFETY: the buffer is longer than the length says.
        unsafe { out.write(SocketAddr::V4(sample())) }.unwrap();
        assert_eq!(len, 16);
        assert_eq!(room[..4], [2, 0, 0x10, 0x92]);
        assert_eq!(room[4..], [0xff; 12]);
        // SAFETY: the pointer is to `len`.
        unsafe { *out.len = u32::MAX };
        // SAFETY: as above.
        assert_eq!(unsafe { out.write(SocketAddr::V4(sample())) }, Err(Errno::EINVAL));
    }
}
