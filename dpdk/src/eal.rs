//! The start of DPDK's environment, once per family of processes, disturbing nothing.

use crate::descriptors;
use crate::device::PortConfig;
use crate::error::{Error, LogMark};
use crate::{card, check};
use dpdk_sys as sys;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

/// What EAL and the drivers need beside the ports' own memory, in octets. Without hugepages what is
/// not touched costs nothing.
const BASE_BYTES: usize = 16 << 20;

/// Set by the first start; a fork's child inherits it.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Whether memory comes from hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// If enough of them are free, else ordinary pages.
    #[default]
    Auto,
    /// Ordinary pages.
    Never,
    /// The start fails without.
    Require,
}

/// Where DPDK's memory came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Octets reserved.
    pub bytes: usize,
    /// Whether they are hugepages.
    pub hugepages: bool,
}

/// How to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EalOptions {
    /// Octets to reserve for all ports that will be opened; rounded up to megabytes.
    pub memory_bytes: usize,
    /// Whether from hugepages.
    pub hugepages: Hugepages,
    /// Cards on the PCI bus that will be opened, in DPDK's words. None: the bus is not looked at.
    pub pci: Vec<String>,
    /// Copy the driver's log to standard error.
    pub verbose: bool,
    /// More arguments for EAL (`--vfio-intr=legacy`).
    pub arguments: Vec<String>,
}

impl EalOptions {
    /// What `ports` need.
    #[must_use]
    pub fn for_ports(ports: &[&PortConfig]) -> Self {
        EalOptions {
            memory_bytes: BASE_BYTES + ports.iter().map(|p| p.memory_bytes()).sum::<usize>(),
            pci: ports.iter().flat_map(|port| port.cards()).collect(),
            ..EalOptions::default()
        }
    }

    /// The reservation in megabytes.
    #[must_use]
    pub fn memory_mb(&self) -> usize {
        self.memory_bytes.max(BASE_BYTES).div_ceil(1 << 20)
    }

    /// DPDK's command line.
    fn arguments(&self, cpu: usize, hugepages: bool) -> Vec<String> {
        let mb = self.memory_mb();
        let level = if self.verbose { "info" } else { "notice" };
        let mut arguments = vec![
            "onwire".to_owned(),
            format!("--lcores=0@{cpu}"),
            "--no-telemetry".to_owned(),
            format!("--log-level={level}"),
            format!("-m {mb}"),
        ];
        if hugepages {
            arguments.extend(["--in-memory".to_owned(), "--single-file-segments".to_owned()]);
            // What is reserved now is all there will be: memory that one process adds later does
            // not exist in its relatives.
            arguments.push(format!("--socket-limit={mb}"));
        } else {
            arguments.extend(["--no-shconf".to_owned(), "--no-huge".to_owned()]);
        }
        if self.pci.is_empty() {
            arguments.extend(["--no-pci".to_owned(), "--iova-mode=va".to_owned()]);
        }
        for card in &self.pci {
            arguments.extend(["-a".to_owned(), card.clone()]);
        }
        let address = |card: &String| card.split(',').next().unwrap_or_default().to_owned();
        if self.pci.iter().map(address).any(|address| card::interrupts_by_line(&address)) {
            arguments.push("--vfio-intr=legacy".to_owned());
        }
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

/// Proof that DPDK's environment runs.
#[derive(Debug)]
pub struct Eal {
    memory: Memory,
    pid: u32,
}

impl Eal {
    /// Starts DPDK: about 20 ms. The calling thread keeps its affinity, its signal mask, and
    /// everything else; DPDK's own threads block every signal.
    ///
    /// # Errors
    /// When it was started before (also by an ancestor), when hugepages are required and missing,
    /// or when DPDK refuses, in its words.
    pub fn start(options: EalOptions) -> Result<Eal, Error> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::new("dpdk", "it was already started in this family of processes"));
        }
        let bytes = options.memory_mb() << 20;
        let hugepages = match options.hugepages {
            Hugepages::Never => false,
            Hugepages::Auto => check::hugepages_for(bytes).is_ok(),
            Hugepages::Require => {
                check::hugepages_for(bytes).map_err(|reason| Error::new("hugepages", reason))?;
                true
            }
        };
        let arguments = options.arguments(first_cpu(), hugepages);
        let mark = LogMark::now();
        let start = || on_scratch_thread(&arguments, options.verbose, !options.pci.is_empty());
        let result =
            if options.pci.is_empty() { start() } else { descriptors::with_filled_numbers(start) };
        match result {
            Ok(()) => Ok(Eal { memory: Memory { bytes, hugepages }, pid: std::process::id() }),
            Err(errno) => {
                let reason = format!("DPDK did not start (errno {errno})");
                Err(Error::with_log("dpdk", &reason, mark))
            }
        }
    }

    /// What memory it got.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// All that DPDK logged so far, as far as it is still held (32 KiB).
    #[must_use]
    pub fn log() -> String {
        LogMark::start().text()
    }

    /// Whether this is the process that started DPDK, the only one that may open ports.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// The first CPU that the process may run on.
fn first_cpu() -> usize {
    // SAFETY: an all-zero set is a valid one, and the call fills it.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
            return 0;
        }
        (0..8 * size_of_val(&set)).find(|cpu| libc::CPU_ISSET(*cpu, &set)).unwrap_or(0)
    }
}

/// `rte_eal_init` pins the thread that calls it to a core and makes it DPDK's main thread. So a
/// thread of our own takes that part and leaves.
fn on_scratch_thread(arguments: &[String], verbose: bool, cards: bool) -> Result<(), i32> {
    let mut strings: Vec<CString> =
        arguments.iter().map(|a| CString::new(a.as_str()).unwrap_or_default()).collect();
    let init = move || {
        let mut argv: Vec<*mut core::ffi::c_char> =
            strings.iter_mut().map(|s| s.as_ptr().cast_mut()).collect();
        let argc = core::ffi::c_int::try_from(argv.len()).unwrap_or(0);
        argv.push(core::ptr::null_mut());
        // SAFETY: argv is a terminated array of terminated strings that outlive the call (EAL
        // copies what it keeps); this is the only thread that starts DPDK.
        unsafe {
            if cards {
                sys::onwire_dpdk_arm_lazy();
            }
            sys::onwire_dpdk_set_descriptor_base(descriptors::floor());
            sys::onwire_dpdk_run_constructors();
            sys::onwire_dpdk_capture_log(i32::from(verbose));
            sys::onwire_dpdk_fast_calibration(1);
            let result = sys::rte_eal_init(argc, argv.as_mut_ptr());
            sys::onwire_dpdk_fast_calibration(0);
            if result < 0 { Err(sys::onwire_rte_errno()) } else { Ok(()) }
        }
    };
    let thread =
        with_signals_blocked(|| std::thread::Builder::new().name("onwire-dpdk".into()).spawn(init));
    match thread {
        Ok(thread) => thread.join().unwrap_or(Err(libc::EFAULT)),
        Err(error) => Err(error.raw_os_error().unwrap_or(libc::EAGAIN)),
    }
}

/// A thread that `action` starts is born with every signal blocked.
fn with_signals_blocked<R>(action: impl FnOnce() -> R) -> R {
    // SAFETY: sigfillset and pthread_sigmask fill the sets they are given.
    unsafe {
        let mut all: libc::sigset_t = core::mem::zeroed();
        let mut old: libc::sigset_t = core::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let result = action();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, core::ptr::null_mut());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_hugepages_nothing_is_written_to_disk_and_no_bus_is_probed() {
        let options = EalOptions::for_ports(&[&PortConfig::tap(None)]);
        let arguments = options.arguments(1, false);
        for wanted in ["--no-huge", "--no-shconf", "--no-pci", "--lcores=0@1"] {
            assert!(arguments.iter().any(|a| a == wanted), "{wanted} in {arguments:?}");
        }
        assert!(!arguments.iter().any(|a| a == "--in-memory"));
    }

    #[test]
    fn a_card_is_the_only_one_that_is_probed() {
        let options = EalOptions::for_ports(&[&PortConfig::pci("0000:00:03.0")]);
        let arguments = options.arguments(0, true);
        assert!(arguments.windows(2).any(|w| w[0] == "-a" && w[1] == "0000:00:03.0"));
        assert!(!arguments.iter().any(|a| a == "--no-pci"));
    }
}
