//! What the machine offers, read from /proc and /sys: capabilities, interfaces, hugepages.

use std::fs;
use std::path::{Path, PathBuf};

/// Capabilities by number (capabilities(7), linux/capability.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Capability {
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
}

impl Capability {
    /// The name, as in capabilities(7).
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
        }
    }

    /// Whether this process has it.
    pub fn held(self) -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        effective(&status).is_some_and(|set| set >> (self as u64) & 1 == 1)
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The kernel's network interfaces here, sorted.
pub fn interfaces() -> Vec<String> {
    let mut names: Vec<String> = nix::ifaddrs::getifaddrs()
        .map(|all| all.map(|one| one.interface_name).collect())
        .unwrap_or_default();
    names.sort();
    names.dedup();
    names
}

/// Every address of the kernel's interfaces here, with the interface.
pub fn interface_addresses() -> Vec<(String, std::net::IpAddr)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let with_address = all.filter_map(|one| {
        let storage = one.address?;
        let v4 = storage.as_sockaddr_in().map(|address| address.ip().into());
        let address = v4.or_else(|| storage.as_sockaddr_in6().map(|a| a.ip().into()))?;
        Some((one.interface_name, address))
    });
    with_address.collect()
}

/// Hugepages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugepagePool {
    /// Size of a page, in KiB.
    pub page_kib: u64,
    /// Pages of the pool.
    pub total: u64,
    /// Pages nobody uses.
    pub free: u64,
}

/// The hugepage pools, ascending by page size.
pub fn hugepages() -> Vec<HugepagePool> {
    let Ok(pools) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut found: Vec<HugepagePool> = pools
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let page_kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let total = number(path.join("nr_hugepages"))?;
            let free = number(path.join("free_hugepages"))?;
            Some(HugepagePool { page_kib, total, free })
        })
        .collect();
    found.sort_by_key(|pool| pool.page_kib);
    found
}

/// Where a hugetlbfs is mounted.
pub fn hugetlbfs() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("hugetlbfs"))?;
    mount.split(' ').nth(1).map(PathBuf::from)
}

/// Whether a kernel module is loaded or built in.
pub fn has_module(name: &str) -> bool {
    Path::new("/sys/module").join(name.replace('-', "_")).exists()
}

/// Whether a Unix socket of this path has a listener in this network namespace.
pub fn has_unix_listener(path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    unix_listener(&table, path)
}

fn unix_listener(table: &str, path: &str) -> bool {
    // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is __SO_ACCEPTCON.
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        let flags = words.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & 0x10000 != 0) && words.nth(3) == Some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_from_its_line() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t0000000000003000\n";
        assert_eq!(effective(status), Some(0x3000));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn loopback_is_an_interface_with_an_address() {
        assert!(interfaces().iter().any(|name| name == "lo"));
    }

    #[test]
    fn only_listeners_hold_a_path() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
             0000: 00000002 00000000 00010000 0001 01 100 /tmp/a\n\
             0000: 00000003 00000000 00000000 0001 03 101 /tmp/b\n";
        assert!(unix_listener(table, "/tmp/a"));
        assert!(!unix_listener(table, "/tmp/b"));
        assert!(!unix_listener(table, "/tmp"));
    }
}
