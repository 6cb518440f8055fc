//! The checks, one function each.

use super::Finding;
use crate::arguments::{DoctorArguments, Selection};
use crate::devices::pci::Bus;
use crate::system::{self, Capability, HugepagePool};
use crate::{library, symbols};
use control::settings::Hugepages;
use control::{Client, Layer, RunDir, Settings};
use std::fs::{self, File};
use std::path::Path;

/// Every check, in the order in which things are needed.
pub fn all(arguments: &DoctorArguments) -> Vec<Finding> {
    let (settings, mut findings) = settings();
    findings.push(check_library(arguments.library.as_deref()));
    findings.push(tun());
    findings.push(capability(Capability::NetAdmin, "tap"));
    findings.push(capability(Capability::NetRaw, "af_packet and af_xdp"));
    findings.push(run_dir(&settings));
    findings.extend(stale(&settings));
    findings.push(memory(&settings));
    findings.push(hugepages(&settings, &system::hugepages()));
    findings.push(memlock());
    findings.push(vfio());
    findings.extend(pci());
    findings.extend(interfaces());
    findings
}

fn settings() -> (Settings, Vec<Finding>) {
    match Settings::load(None, std::env::vars_os(), &Layer::new()) {
        Ok(settings) => {
            let changed = settings.to_json();
            let text = match changed.as_str() {
                "{}" => "settings: the defaults".to_owned(),
                json => format!("settings: {json}"),
            };
            (settings, vec![Finding::good(text)])
        }
        Err(error) => {
            let line = error.to_string();
            let (text, remedy) = line.split_once("; ").unwrap_or((&line, "correct it"));
            (Settings::default(), vec![Finding::blocked(format!("setting {text}"), remedy)])
        }
    }
}

fn check_library(flag: Option<&Path>) -> Finding {
    let path = match library::find(flag) {
        Ok(path) => path,
        Err(failure) => {
            // Its line names the remedy after the semicolon.
            let (text, remedy) = failure.message.split_once("; ").unwrap_or((
                failure.message.as_str(),
                "cargo build --release, or set ONWIRE_LIBRARY",
            ));
            return Finding::blocked(text, remedy);
        }
    };
    let shown = path.display();
    match symbols::exported(&path) {
        Ok(names) if names.iter().any(|name| name == "socket") => {
            Finding::good(format!("library: {shown} ({} functions)", names.len()))
        }
        Ok(_) => Finding::blocked(
            format!("library: {shown} does not interpose socket()"),
            "name the right file with --library or ONWIRE_LIBRARY",
        ),
        Err(error) => {
            Finding::blocked(format!("library: {shown}: {error}"), "build or install it again")
        }
    }
}

fn tun() -> Finding {
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::good("tap: /dev/net/tun can be opened"),
        Err(error) => Finding::blocked(
            format!("tap: /dev/net/tun: {error}"),
            "modprobe tun; in a container: --device /dev/net/tun",
        ),
    }
}

fn capability(capability: Capability, used_by: &str) -> Finding {
    let name = capability.name();
    if capability.held() {
        return Finding::good(format!("{name}: held (for {used_by})"));
    }
    let option = &name["CAP_".len()..];
    let remedy = format!("run as root; in a container: --cap-add {option}");
    let text = format!("{name}: lacking (for {used_by})");
    match capability {
        Capability::NetAdmin => Finding::blocked(text, remedy),
        _ => Finding::note(text, remedy),
    }
}

fn run_dir(settings: &Settings) -> Finding {
    let run_dir = RunDir::of(settings);
    let shown = run_dir.path().display();
    let nearest = run_dir.path().ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if rustix::fs::access(nearest, access).is_ok() {
        Finding::good(format!("run directory: {shown}"))
    } else {
        Finding::blocked(
            format!("run directory: {shown} cannot be written"),
            "set ONWIRE_RUN_DIR to a directory of yours",
        )
    }
}

/// Control sockets that nobody answers: left by an engine that was killed with its keeper.
fn stale(settings: &Settings) -> Vec<Finding> {
    let run_dir = RunDir::of(settings);
    let selection = Selection { run_dir: Some(run_dir.path().into()), ..Selection::default() };
    let live = selection.live_engines().len();
    let mut findings = vec![Finding::good(format!("engines: {live} running"))];
    for (pid, path) in run_dir.control_sockets() {
        if Client::connect(&path).is_err() {
            findings.push(Finding::note(
                format!("run directory: the socket of engine {pid} is stale"),
                format!("rm {}", path.display()),
            ));
        }
    }
    findings
}

/// Packet buffers, in MiB: all of them are touched at the start.
fn packet_buffers_mib(settings: &Settings) -> u64 {
    let memory = &settings.memory;
    // A buffer has its header, its headroom and its data, in whole cache lines (rte_mbuf).
    u64::from(memory.mbufs) * (u64::from(memory.mbuf_octets) + 128 + 128 + 64) / (1 << 20)
}

fn memory(settings: &Settings) -> Finding {
    let (buffers, mib) = (settings.memory.mbufs, packet_buffers_mib(settings));
    let reserved = settings.memory.region_octets >> 20;
    Finding::good(format!(
        "memory: an engine takes {mib} MiB at its start for {buffers} packet buffers \
         (memory.mbufs), then about 1 KiB for each connection; of the {reserved} MiB that its \
         tables reserve only what is used costs memory"
    ))
}

fn hugepages(settings: &Settings, pools: &[HugepagePool]) -> Finding {
    let memory = &settings.memory;
    let needed_mib = packet_buffers_mib(settings) + 16;
    let free_mib: u64 = pools.iter().map(|pool| pool.free * pool.page_kib / 1024).sum();
    let total: u64 = pools.iter().map(|pool| pool.total).sum();
    let found = format!("hugepages: {free_mib} MiB free, one engine wants {needed_mib} MiB");
    if memory.hugepages == Hugepages::Never {
        return Finding::good("hugepages: not wanted (memory.hugepages is never)");
    }
    let pages = needed_mib.div_ceil(2);
    let remedy =
        format!("echo {pages} > /proc/sys/vm/nr_hugepages; works without, a little slower");
    if free_mib < needed_mib {
        return match (memory.hugepages, total) {
            (Hugepages::Require, _) => {
                Finding::blocked(found, format!("echo {pages} > /proc/sys/vm/nr_hugepages"))
            }
            (_, 0) => {
                Finding::note(format!("hugepages: none, one engine wants {needed_mib} MiB"), remedy)
            }
            _ => Finding::note(found, remedy),
        };
    }
    match system::hugetlbfs() {
        Some(mount) => Finding::good(format!("{found} (at {})", mount.display())),
        None => Finding::note(
            format!("{found}, but no hugetlbfs is mounted"),
            "mount -t hugetlbfs none /dev/hugepages",
        ),
    }
}

fn memlock() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown");
    let enough = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|octets| octets >= 64 << 20);
    if enough || Capability::IpcLock.held() {
        return Finding::good(format!("locked memory: {soft}"));
    }
    Finding::note(
        format!("locked memory: {soft} octets, too little for af_xdp and vfio"),
        "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
    )
}

fn vfio() -> Finding {
    let iommu = fs::read_dir("/sys/kernel/iommu_groups").is_ok_and(|dir| dir.count() > 0);
    match (system::has_module("vfio-pci"), iommu) {
        (true, true) => Finding::good("pci: vfio-pci is loaded, an IOMMU is there"),
        (true, false) => Finding::note(
            "pci: vfio-pci is loaded, there is no IOMMU",
            "boot with intel_iommu=on or amd_iommu=on; in a VM without one: \
             modprobe vfio enable_unsafe_noiommu_mode=1",
        ),
        (false, _) => Finding::note(
            "pci: vfio-pci is not loaded, so no NIC can be driven whole",
            "modprobe vfio-pci",
        ),
    }
}

fn pci() -> Vec<Finding> {
    let each = Bus::here().cards().into_iter().map(|card| {
        let address = &card.address;
        let remedy = format!("to hand it over whole: onwire bind {address}");
        match &card.driver {
            Some(driver) if card.is_ready() => match card.refused_node() {
                None => Finding::good(format!(
                    "pci: {address} is bound to {driver}: --device pci:{address}"
                )),
                Some(node) => Finding::note(
                    format!("pci: {address} is bound to {driver}, but {node} is not yours"),
                    format!("chown you: {node}, or run as root"),
                ),
            },
            Some(driver) => {
                Finding::note(format!("pci: {address} belongs to the kernel's {driver}"), remedy)
            }
            None => Finding::note(format!("pci: {address} has no driver"), remedy),
        }
    });
    each.collect()
}

fn interfaces() -> Vec<Finding> {
    let names = system::interfaces();
    let usable: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "lo").collect();
    if usable.is_empty() {
        return Vec::new();
    }
    let text = format!("kernel interfaces: {} (--device af_packet:NAME)", usable.join(", "));
    vec![Finding::good(text)]
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn hugepages_are_required_only_when_they_are_required() {
        let mut settings = Settings::default();
        let verdict = |settings: &Settings, free| {
            let pool = HugepagePool { page_kib: 2048, total: free, free };
            hugepages(settings, &[pool]).verdict
        };
        assert_eq!(verdict(&settings, 0), Verdict::Note);
        settings.memory.hugepages = Hugepages::Require;
        assert_eq!(verdict(&settings, 0), Verdict::Blocked);
        assert_ne!(verdict(&settings, 4096), Verdict::Blocked);
        settings.memory.hugepages = Hugepages::Never;
        assert_eq!(verdict(&settings, 0), Verdict::Good);
    }

    #[test]
    fn what_an_engine_takes_is_said() {
        let text = memory(&Settings::default()).text;
        assert!(text.contains("37 MiB at its start for 16384 packet buffers"), "{text}");
        assert!(text.contains("4096 MiB"), "{text}");
    }

    #[test]
    fn every_bad_finding_says_what_to_do() {
        let arguments = DoctorArguments { library: None };
        for finding in all(&arguments) {
            assert_eq!(finding.verdict == Verdict::Good, finding.remedy.is_none());
            assert!(!finding.text.contains('\n'));
        }
    }
}
