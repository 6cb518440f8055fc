//! Sleeping until a frame arrives.

use crate::device::DeviceKind;
use dpdk_sys as sys;
use std::os::fd::RawFd;

/// A descriptor that becomes readable when a receive queue has frames.
///
/// To sleep: [`RxInterrupt::arm`]; look once more for frames (some may have come before); wait for
/// the descriptor; [`RxInterrupt::disarm`]. It is level-triggered: `poll`, `epoll` and `select` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxInterrupt {
    fd: RawFd,
    port: u16,
    queue: u16,
    how: How,
}

/// Who makes the descriptor readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The kernel, as long as frames wait in the socket or TAP behind it: nothing to arm.
    Kernel,
    /// The device writes to an event descriptor when it is armed: to be drained afterwards.
    Device,
}

impl RxInterrupt {
    pub(crate) fn kernel(fd: RawFd, port: u16, queue: u16) -> Self {
        RxInterrupt { fd, port, queue, how: How::Kernel }
    }

    /// The driver's own interrupt, if it has one now; with vhost it appears with the peer.
    pub(crate) fn device(port: u16, queue: u16) -> Option<Self> {
        // SAFETY: plain numbers; ethdev checks them.
        let fd = unsafe { sys::rte_eth_dev_rx_intr_ctl_q_get_fd(port, queue) };
        (fd >= 0).then_some(RxInterrupt { fd, port, queue, how: How::Device })
    }

    /// What to wait for: readable means frames.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Asks for an interrupt. False: the device has none after all, and a timer must do.
    #[must_use]
    pub fn arm(&self) -> bool {
        // SAFETY: plain numbers; ethdev checks them.
        self.how == How::Kernel
            || unsafe { sys::rte_eth_dev_rx_intr_enable(self.port, self.queue) } == 0
    }

    /// No more interrupts, and the descriptor is no longer readable.
    pub fn disarm(&self) {
        if self.how == How::Kernel {
            return;
        }
        // SAFETY: plain numbers; ethdev checks them.
        unsafe { sys::rte_eth_dev_rx_intr_disable(self.port, self.queue) };
        self.drain();
    }

    /// Takes the event, without ever blocking: a peer may have made the descriptor a blocking one.
    fn drain(&self) {
        let mut poll = libc::pollfd { fd: self.fd, events: libc::POLLIN, revents: 0 };
        let mut event = [0u8; 8];
        // SAFETY: one entry, eight octets; raw calls, for the descriptor is not the program's.
        unsafe {
            if libc::poll(&mut poll, 1, 0) == 1 && poll.revents & libc::POLLIN != 0 {
                libc::read(self.fd, event.as_mut_ptr().cast(), event.len());
            }
        }
    }
}

/// Which of the descriptors that appeared while a queue was set up is the kernel's end of it.
pub(crate) fn kernel_descriptor(kind: DeviceKind, fds: &[RawFd]) -> Option<RawFd> {
    let fits = |fd: &&RawFd| match kind {
        DeviceKind::Tap => is_tun(**fd),
        DeviceKind::AfPacket => socket_domain(**fd) == Some(libc::AF_PACKET),
        DeviceKind::AfXdp => socket_domain(**fd) == Some(libc::AF_XDP),
        _ => false,
    };
    fds.iter().find(fits).copied()
}

/// Whether it is a queue of a TUN or TAP.
fn is_tun(fd: RawFd) -> bool {
    // SAFETY: TUNGETIFF fills an ifreq; other descriptors refuse it.
    unsafe {
        let mut request: libc::ifreq = core::mem::zeroed();
        libc::ioctl(fd, libc::TUNGETIFF, &mut request) == 0
    }
}

fn socket_domain(fd: RawFd) -> Option<i32> {
    let mut domain = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option is an int and fills it; no socket: an error.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut domain).cast(), &mut len)
    };
    (result == 0).then_some(domain)
}
