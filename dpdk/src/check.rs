//! What a start will need, checked before it is tried, with the remedy for what is missing.

use crate::device::{DeviceKind, PortConfig};
use crate::eal::{EalOptions, Hugepages};
use core::fmt;
use std::ffi::CString;
use std::path::Path;

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Something that will stop the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting it comes from (`device tap`).
    pub setting: String,
    /// What is missing.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.setting, self.reason, self.remedy)
    }
}

/// Looks for what would stop a start with these ports. Empty: nothing known.
#[must_use]
pub fn check(options: &EalOptions, ports: &[&PortConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let bytes = options.memory_mb() << 20;
    if options.hugepages == Hugepages::Require
        && let Err(reason) = hugepages_for(bytes)
    {
        problems.push(Problem {
            setting: "hugepages".into(),
            reason,
            remedy: format!("sysctl vm.nr_hugepages={}, or do without", bytes.div_ceil(2 << 20)),
        });
    }
    if let Some(available) = available_memory()
        && available < bytes as u64
    {
        problems.push(Problem {
            setting: "memory".into(),
            reason: format!("{} MB are needed, {} are free", bytes >> 20, available >> 20),
            remedy: "use fewer buffers".into(),
        });
    }
    for port in ports {
        problems.extend(check_port(port, bytes).into_iter().map(|(reason, remedy)| Problem {
            setting: format!("device {}", port.setting),
            reason,
            remedy,
        }));
    }
    problems
}

fn check_port(port: &PortConfig, bytes: usize) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut report = |reason: &str, remedy: &str| {
        problems.push((reason.to_owned(), remedy.to_owned()));
    };
    if let Some(driver) = port.kind.driver()
        && !crate::drivers().contains(&driver)
    {
        report(&format!("the driver {driver} is not in this build"), "rebuild where it is");
    }
    match port.kind {
        DeviceKind::Tap => {
            if let Err(error) = std::fs::File::open("/dev/net/tun") {
                report(&format!("/dev/net/tun: {error}"), "modprobe tun, or give access to it");
            } else if !capable(CAP_NET_ADMIN) {
                report("making a TAP needs CAP_NET_ADMIN", "run as root, or grant it");
            }
        }
        DeviceKind::AfPacket if !capable(CAP_NET_RAW) => {
            report("a packet socket needs CAP_NET_RAW", "run as root, or grant it");
        }
        DeviceKind::AfXdp => {
            let may_load = capable(CAP_BPF) || capable(CAP_SYS_ADMIN);
            if !capable(CAP_NET_RAW) || !capable(CAP_NET_ADMIN) || !may_load {
                report("AF_XDP needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF", "run as root");
            }
            for library in ["libxdp.so.1", "libbpf.so.1"] {
                if !have_library(library) {
                    report(&format!("{library} is missing"), "apt install libxdp1 libbpf1");
                }
            }
        }
        _ => {}
    }
    for card in port.cards() {
        let address = card.split(',').next().unwrap_or_default();
        problems.extend(check_card(address, bytes));
    }
    problems
}

fn check_card(address: &str, bytes: usize) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut report = |reason: String, remedy: &str| problems.push((reason, remedy.to_owned()));
    let device = Path::new("/sys/bus/pci/devices").join(address);
    if !device.exists() {
        report(format!("there is no card at {address}"), "lspci -D lists them");
        return problems;
    }
    let driver = std::fs::read_link(device.join("driver")).unwrap_or_default();
    let driver = driver.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
    let own = matches!(driver.as_str(), "vfio-pci" | "uio_pci_generic" | "igb_uio" | "mlx5_core");
    if !own {
        let held = if driver.is_empty() { "no driver".to_owned() } else { driver.clone() };
        report(format!("it is bound to {held}"), "hand it over with onwire bind");
    }
    if driver == "vfio-pci" && !Path::new("/dev/vfio/vfio").exists() {
        report("/dev/vfio/vfio is missing".into(), "modprobe vfio-pci, or give access to it");
    }
    let limit = memlock_limit();
    if driver == "vfio-pci" && limit < bytes as u64 && !capable(CAP_IPC_LOCK) {
        report(
            format!("{} MB must be locked, {} may be", bytes >> 20, limit >> 20),
            "raise ulimit -l",
        );
    }
    problems
}

/// Whether a library that a driver loads when it is used is there.
pub(crate) fn have_library(soname: &str) -> bool {
    CString::new(soname)
        // SAFETY: a terminated string.
        .is_ok_and(|name| unsafe { dpdk_sys::onwire_dpdk_have_library(name.as_ptr()) != 0 })
}

/// Whether `bytes` of 2 MB hugepages can really be had now.
///
/// Reserving is not enough: in a container whose control group forbids them, the first touch is a
/// bus error. So they are mapped and populated once, which says no in good order.
///
/// # Errors
/// Why not.
pub(crate) fn hugepages_for(bytes: usize) -> Result<(), String> {
    let pages = bytes.div_ceil(2 << 20);
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let free = std::fs::read_to_string(path).unwrap_or_default();
    let free: usize = free.trim().parse().unwrap_or(0);
    if free < pages {
        return Err(format!("{pages} pages of 2 MB are needed, {free} are free"));
    }
    const MADV_POPULATE_WRITE: i32 = 23;
    let len = pages * (2 << 20);
    // SAFETY: a fresh private mapping, populated and unmapped before anybody sees it.
    let populated = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let address = libc::mmap(core::ptr::null_mut(), len, protection, flags, -1, 0);
        if address == libc::MAP_FAILED {
            return Err(format!("{pages} pages of 2 MB cannot be reserved"));
        }
        let result = libc::madvise(address, len, MADV_POPULATE_WRITE);
        libc::munmap(address, len);
        result == 0
    };
    if populated { Ok(()) } else { Err(format!("{pages} pages of 2 MB may not be used here")) }
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kb| kb << 10)
}

fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0 {
        limit.rlim_cur
    } else {
        0
    }
}

/// Whether the thread has a capability in effect.
fn capable(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability & 1 == 1)
}
