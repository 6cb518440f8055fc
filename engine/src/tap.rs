//! The default device: which TAP is ours, and the kernel's end of it.
//!
//! Owns the numbering (`onwireN`, stack 10.78.N.2/24, kernel 10.78.N.1/24) and the settings of the
//! kernel's interface: address, MTU, up. Called once, by device setup. It makes no interface: the
//! driver does, and the kernel removes it with the driver's descriptor.

use crate::lock;
use control::{Client, Lease, LeaseError, LeaseHolder, RunDir, run_dir};
use stack::addr::Cidr;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a lingering engine may take to leave: it may be sending what a program left unsent.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at a lease whose engine is leaving.
const LEAVE_TICK: Duration = Duration::from_millis(10);

/// A default TAP that is ours alone.
#[derive(Debug)]
pub(crate) struct DefaultTap {
    /// Its number.
    pub(crate) index: u8,
    /// What keeps others away.
    pub(crate) lease: Lease,
}

impl DefaultTap {
    /// The kernel interface's name.
    pub(crate) fn interface(&self) -> String {
        format!("onwire{}", self.index)
    }

    /// Our address.
    pub(crate) fn stack_address(&self) -> Cidr {
        self.address(2)
    }

    /// The kernel's.
    pub(crate) fn host_address(&self) -> Cidr {
        self.address(1)
    }

    fn address(&self, host: u8) -> Cidr {
        let address = IpAddr::V4(Ipv4Addr::new(10, 78, self.index, host));
        Cidr::new(address, 24).expect("24 is a prefix length of IPv4")
    }

    /// Leases the lowest number that is free, or whose engine merely lingers and leaves at our
    /// asking. The lease is refused for numbers whose interface somebody else made.
    ///
    /// # Errors
    /// One line that names the remedy.
    pub(crate) fn acquire(run_dir: &RunDir, program: &str) -> Result<Self, String> {
        for index in run_dir::TAP_INDICES {
            let path = run_dir.tap_lease(index);
            let holder = LeaseHolder {
                pid: std::process::id(),
                program: program.to_owned(),
                device: "tap".to_owned(),
                addresses: vec![format!("10.78.{index}.2/24")],
            };
            match acquire(run_dir, &path, &holder) {
                Ok(lease) => {
                    let tap = DefaultTap { index, lease };
                    if !interface_exists(&tap.interface()) {
                        return Ok(tap);
                    }
                }
                Err(LeaseError::Held(_)) => {}
                Err(LeaseError::Io(error)) => {
                    return Err(format!(
                        "device tap: cannot lease {}: {error}; set run_dir to a folder that you \
                         may write",
                        path.display()
                    ));
                }
            }
        }
        Err("device tap: all 250 default TAPs are taken; give one by name, such as --device \
             tap:mytap with --address"
            .to_owned())
    }
}

/// Takes the lease at `path`; if an engine without programs holds it, asks it to leave first.
///
/// # Errors
/// As [`Lease::acquire`].
pub(crate) fn acquire(
    run_dir: &RunDir,
    path: &Path,
    holder: &LeaseHolder,
) -> Result<Lease, LeaseError> {
    let patient_until = Instant::now() + LEAVE_PATIENCE;
    loop {
        match Lease::acquire(path, holder) {
            Err(LeaseError::Held(Some(other)))
                if Instant::now() < patient_until
                    && ask_to_leave(run_dir, &other, &holder.program) =>
            {
                // It is on its way, or its keeper is about to see that the last program ended.
                std::thread::sleep(LEAVE_TICK);
            }
            result => return result,
        }
    }
}

/// Asks the keeper to leave if no program of the engine lives any more; whether that is so.
fn ask_to_leave(run_dir: &RunDir, holder: &LeaseHolder, program: &str) -> bool {
    let Ok(mut client) = Client::connect(&run_dir.control_socket(holder.pid)) else {
        return !lock::is_alive(holder.pid);
    };
    let Ok(info) = client.info() else { return !lock::is_alive(holder.pid) };
    if info.programs.iter().any(|program| lock::is_alive(program.pid)) {
        return false;
    }
    // A keeper that has not seen the end yet says no: it is asked again.
    let _ = client.leave(program, LEAVE_PATIENCE);
    true
}

/// Whether the kernel has an interface of this name.
pub(crate) fn interface_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists() || interface_index(name).is_ok()
}

fn interface_index(name: &str) -> io::Result<i32> {
    let socket = control_socket()?;
    let mut request = request_for(name)?;
    ioctl(&socket, libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: SIOCGIFINDEX filled in the index (netdevice(7)).
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}

/// Gives the kernel's end of a TAP its address and MTU and brings it up.
///
/// # Errors
/// One line that names what failed.
pub(crate) fn configure_interface(name: &str, address: Cidr, mtu: u16) -> Result<(), String> {
    let failed = |what: &str, error: io::Error| {
        format!("device tap: cannot set the {what} of {name}: {error}; CAP_NET_ADMIN is needed")
    };
    let IpAddr::V4(ip) = address.address() else {
        return Err(format!("device tap: {address} is no IPv4 address"));
    };
    let socket = control_socket().map_err(|error| failed("address", error))?;
    let run = |what: &str, number: libc::Ioctl, fill: &dyn Fn(&mut libc::ifreq)| {
        let mut request = request_for(name).map_err(|error| failed(what, error))?;
        fill(&mut request);
        ioctl(&socket, number, &mut request).map_err(|error| failed(what, error))
    };
    let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix_len())).unwrap_or(0);
    run("MTU", libc::SIOCSIFMTU, &|r| r.ifr_ifru.ifru_mtu = i32::from(mtu))?;
    run("address", libc::SIOCSIFADDR, &|r| r.ifr_ifru.ifru_addr = sockaddr(ip))?;
    run("netmask", libc::SIOCSIFNETMASK, &|r| {
        r.ifr_ifru.ifru_netmask = sockaddr(Ipv4Addr::from_bits(mask));
    })?;
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    run("state", libc::SIOCSIFFLAGS, &|r| r.ifr_ifru.ifru_flags = up)
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointer; the result is checked and owned here alone.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn request_for(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, &from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(socket: &OwnedFd, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: every request used here takes a pointer to an ifreq, which `request` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut *request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets();
    let mut data = [0 as libc::c_char; 14];
    for (to, from) in data[2..6].iter_mut().zip([a, b, c, d]) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_leased_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::at(dir.path());
        let first = DefaultTap::acquire(&run_dir, "a").unwrap();
        let second = DefaultTap::acquire(&run_dir, "b").unwrap();
        assert!(second.index > first.index);
        assert_eq!(first.stack_address().to_string(), format!("10.78.{}.2/24", first.index));
        assert!(first.host_address().contains(first.stack_address().address()));
        let index = first.index;
        drop(first);
        assert_eq!(DefaultTap::acquire(&run_dir, "c").unwrap().index, index);
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_refused() {
        assert!(request_for("a-name-longer-than-fifteen").is_err());
        assert!(!interface_exists("onwire-none"));
        let address = "10.78.0.1/24".parse().unwrap();
        let error = configure_interface("onwire-none", address, 1500).unwrap_err();
        assert!(error.contains("onwire-none"), "{error}");
    }
}
