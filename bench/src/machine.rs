//! What a measurement ran on: a figure without it says nothing.

use crate::distance::Apart;
use serde::Serialize;
use std::fs::read_to_string;

/// The machine, as far as it matters to latency.
#[derive(Debug, Serialize)]
pub struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    hypervisor: bool,
    clocksource: String,
    mitigations: String,
    hugepages_free: u64,
    hugepage_kb: u64,
    memory_kb: u64,
    load: String,
    /// How far apart the two cores were.
    pub cores_apart: Option<Apart>,
}

impl Machine {
    /// Looks around.
    pub fn look() -> Self {
        let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|l| l.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned()
        };
        let number = |name: &str| {
            let line = meminfo.lines().find(|line| line.starts_with(name));
            line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let small = |path: &str| read_to_string(path).unwrap_or_default().trim().to_owned();
        Machine {
            kernel: small("/proc/sys/kernel/osrelease"),
            cpu: format!(
                "{} (family {}, model {}, {} MHz)",
                field("model name"),
                field("cpu family"),
                field("model\t"),
                field("cpu MHz")
            ),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            hypervisor: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            clocksource: small("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            mitigations: mitigations(),
            hugepages_free: number("HugePages_Free:"),
            hugepage_kb: number("Hugepagesize:"),
            memory_kb: number("MemTotal:"),
            load: small("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            cores_apart: None,
        }
    }

    /// For people.
    pub fn lines(&self) -> String {
        let hugepages = match self.hugepages_free {
            0 => "none".to_owned(),
            free => format!("{free} of {} kB", self.hugepage_kb),
        };
        format!(
            "kernel {}, {}{}, {} cores, clock {}\n\
             hugepages {hugepages}, memory {} MB, mitigations {}, load {}{}",
            self.kernel,
            self.cpu,
            if self.hypervisor { " in a virtual machine" } else { "" },
            self.cores,
            self.clocksource,
            self.memory_kb / 1024,
            self.mitigations,
            self.load,
            self.cores_apart.as_ref().map(|apart| format!("\n{apart}")).unwrap_or_default(),
        )
    }
}

/// Which of the mitigations that make system calls slow are on: the kernel's figures depend on it.
fn mitigations() -> String {
    let directory = "/sys/devices/system/cpu/vulnerabilities";
    let mut active = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let text = read_to_string(entry.path()).unwrap_or_default();
        if text.starts_with("Mitigation") {
            active.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    active.sort();
    if active.is_empty() { "none".to_owned() } else { active.join("+") }
}
