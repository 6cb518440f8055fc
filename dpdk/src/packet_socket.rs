//! What is asked of the packet socket below an `af_packet` port: which frames it hands out.
//!
//! The descriptor is the driver's; it lives as long as any process of the family has it, and with it
//! goes what was asked of the interface.

use core::ffi::c_int;
use std::os::fd::RawFd;

/// Frames that an interface takes only when it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    /// Those for other stations.
    Everything = libc::PACKET_MR_PROMISC as isize,
    /// Those of every group.
    EveryGroup = libc::PACKET_MR_ALLMULTI as isize,
}

/// Has the interface take `more`, or leave it again; 0, or a negative errno. Unlike the interface's
/// own flag, the kernel forgets it with the socket.
pub(crate) fn take(fd: RawFd, more: More, on: bool) -> c_int {
    // SAFETY: all zeroes is an address, which the call fills as far as it fits.
    let index = unsafe {
        let mut address: libc::sockaddr_ll = core::mem::zeroed();
        let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        match libc::getsockname(fd, (&raw mut address).cast(), &mut len) {
            0 => address.sll_ifindex,
            _ => return -last_errno(),
        }
    };
    let wish = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: more as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // It is counted, and shall be there once at most.
    match (membership(fd, libc::PACKET_DROP_MEMBERSHIP, &wish), on) {
        (_, true) => membership(fd, libc::PACKET_ADD_MEMBERSHIP, &wish),
        (result, false) => result,
    }
}

fn membership(fd: RawFd, option: c_int, wish: &libc::packet_mreq) -> c_int {
    let len = size_of::<libc::packet_mreq>() as libc::socklen_t;
    // SAFETY: the option is such a struct, which the call reads.
    match unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, (&raw const *wish).cast(), len) }
    {
        0 => 0,
        _ => -last_errno(),
    }
}

fn last_errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// An AF_PACKET socket also hands out what the host itself sends on the interface; we want only
/// what arrives.
pub(crate) fn ignore_outgoing(fd: RawFd) {
    const PACKET_IGNORE_OUTGOING: i32 = 23;
    let on = 1i32;
    // SAFETY: an int option; kernels before 4.20 refuse it, which changes nothing.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<i32>() as libc::socklen_t,
        );
    }
}
