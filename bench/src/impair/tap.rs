//! A TAP interface: the kernel's end is an interface like any other, ours a descriptor that reads
//! and writes whole frames. It lives as long as its descriptor.

// One system call has no safe wrapper anywhere; it is made here and nowhere else.
#![allow(unsafe_code)]

use anyhow::{Context, Result, ensure};
use nix::libc;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The longest frame: an MTU of 1500 with its header and a VLAN tag.
const LONGEST: usize = 1518;

/// Our end of a TAP.
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// Makes the interface `name` in this thread's network namespace.
    pub fn create(name: &str) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .context("cannot open /dev/net/tun")?;
        ensure!(name.len() < libc::IFNAMSIZ, "{name}: too long for an interface's name");
        // SAFETY: all zeroes is a valid `ifreq`, which is plain data.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (slot, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *slot = octet as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives until it returns.
        let outcome = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
        nix::errno::Errno::result(outcome).with_context(|| format!("cannot make a TAP {name}"))?;
        Ok(Tap(file))
    }

    /// What to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next frame that the interface's host has sent.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; LONGEST];
        match self.0.read(&mut frame) {
            Ok(len) => {
                frame.truncate(len);
                Ok(Some(frame))
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(e) => Err(e).context("cannot read from a TAP"),
        }
    }

    /// Hands a frame to the interface's host. A host that has no room, or whose interface is
    /// down, loses it, as it would from any wire.
    pub fn write(&mut self, frame: &[u8]) {
        let _ = self.0.write(frame);
    }
}
