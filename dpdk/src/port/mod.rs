//! A port: opened, started, closed; its addresses. `configure` sets it up, `change` is what may be
//! changed while it runs, `filter` which frames it takes, `offload` says what is left to the device, `stats` reads the driver's counters.

mod change;
mod configure;
mod filter;
mod offload;
mod stats;

use crate::check::have_library;
use crate::descriptors;
use crate::device::{DeviceKind, PortConfig};
use crate::eal::{Eal, Memory};
use crate::error::{Error, LogMark};
use crate::interrupt::RxInterrupt;
use crate::pool::Pool;
use crate::queue::Queue;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use dpdk_sys as sys;
use stack::addr::MacAddr;
use stack::device::Offloads;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

pub use filter::Filter;
pub use stats::PortStats;

/// A port with its queues and pools.
///
/// It is a handle: dropping it changes nothing (the port lives in memory that several processes
/// share, and each of them has such a handle). [`Port::close`] ends it.
#[derive(Debug)]
pub struct Port {
    id: u16,
    config: PortConfig,
    driver: String,
    /// Six octets, the first the lowest.
    mac: AtomicU64,
    /// The device's own, as it was found.
    own: MacAddr,
    mtu: AtomicU16,
    /// Its driver cannot be told the address: it takes frames for all instead.
    takes_all: AtomicBool,
    /// What was asked of the interface below a packet socket, of which the driver does not know.
    socket_takes: filter::SocketTakes,
    offloads: Offloads,
    capabilities: Offloads,
    pools: Vec<Pool>,
    kernel_fds: Vec<Option<RawFd>>,
    memory: Memory,
}

impl Port {
    /// Makes the device and sets up its queues. It carries frames after [`Port::start`].
    ///
    /// # Errors
    /// When the driver refuses; the reason is in its words and names the setting. Nothing of the
    /// device is left.
    pub fn open(eal: &Eal, config: PortConfig) -> Result<Port, Error> {
        let setting = format!("device {}", config.setting);
        if !eal.is_ours() {
            return Err(Error::new(setting, "only the process that started DPDK opens ports"));
        }
        if let Some(driver) = config.kind.driver()
            && !crate::drivers().contains(&driver)
        {
            let reason = format!("the driver {driver} is not in this build");
            return Err(Error::new(setting, reason));
        }
        if config.kind == DeviceKind::AfXdp
            && !(have_library("libxdp.so.1") && have_library("libbpf.so.1"))
        {
            return Err(Error::new(setting, "AF_XDP needs libxdp.so.1: apt install libxdp1"));
        }
        if config.kind.has_foreign_libraries() {
            descriptors::with_filled_numbers(|| {
                Self::probe_and_configure(config, &setting, eal.memory())
            })
        } else {
            Self::probe_and_configure(config, &setting, eal.memory())
        }
    }

    fn probe_and_configure(
        config: PortConfig,
        setting: &str,
        memory: Memory,
    ) -> Result<Port, Error> {
        let before = descriptors::descriptors();
        let id = configure::probe(&config, setting)?;
        let mut port = Port {
            id,
            driver: String::new(),
            mac: AtomicU64::new(0),
            own: MacAddr::default(),
            mtu: AtomicU16::new(config.mtu),
            takes_all: AtomicBool::new(false),
            socket_takes: filter::SocketTakes::default(),
            offloads: Offloads::default(),
            capabilities: Offloads::default(),
            pools: Vec::new(),
            kernel_fds: Vec::new(),
            memory,
            config,
        };
        match port.configure(setting, &before) {
            Ok(()) => Ok(port),
            Err(error) => {
                port.close();
                Err(error)
            }
        }
    }
    /// Starts receiving and sending.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn start(&self) -> Result<(), Error> {
        let mark = LogMark::now();
        let setting = format!("device {}", self.config.setting);
        let start = || {
            // SAFETY: plain number; ethdev checks it.
            let result = unsafe { sys::rte_eth_dev_start(self.id) };
            self.answer(result, &setting, "it does not start", mark)?;
            if self.must_take_all() {
                // Devices without the notion receive everything anyway.
                self.take_everything(true);
            }
            Ok(())
        };
        if self.config.kind.has_foreign_libraries() {
            descriptors::with_filled_numbers(start)
        } else {
            start()
        }
    }

    /// Stops receiving and sending.
    pub fn stop(&self) {
        self.give_address_back();
        // SAFETY: plain number; ethdev checks it.
        unsafe { sys::rte_eth_dev_stop(self.id) };
    }

    /// Ends the port and removes its device. No buffer of its pools may be held any more, in any
    /// process, else the pools stay.
    pub fn close(self) {
        self.stop();
        // SAFETY: plain number; ethdev checks it.
        unsafe { sys::rte_eth_dev_close(self.id) };
        if self.config.kind != DeviceKind::Pci
            && let Ok(name) = CString::new(self.config.name())
        {
            // SAFETY: terminated strings.
            unsafe { sys::rte_eal_hotplug_remove(c"vdev".as_ptr(), name.as_ptr()) };
        }
        for pool in &self.pools {
            pool.settle();
            if pool.in_use() == 0 {
                // SAFETY: all buffers are back, and the queues are gone.
                unsafe { pool.free() };
            }
        }
    }

    /// The handle for a queue pair. One per queue should be in use.
    ///
    /// # Errors
    /// When there is no such queue.
    pub fn queue(&self, index: u16) -> Result<Queue, Error> {
        let Some(pool) = self.pools.get(usize::from(index)) else {
            let setting = format!("device {}", self.config.setting);
            return Err(Error::new(setting, format!("it has no queue {index}")));
        };
        let at = (self.id, index);
        let reserve = self.config.reserve.min(self.config.mbufs / 2) as usize;
        Ok(Queue::new(at, *pool, reserve, self.mac(), self.mtu(), self.offloads()))
    }

    /// The descriptor to sleep on for a queue, if the driver has one now. For vhost ask again
    /// after the peer has connected; memif has none.
    #[must_use]
    pub fn rx_interrupt(&self, queue: u16) -> Option<RxInterrupt> {
        if let Some(fd) = self.kernel_fds.get(usize::from(queue)).copied().flatten() {
            return Some(RxInterrupt::kernel(fd, self.id, queue));
        }
        if !has_device_interrupt(self.config.kind) {
            return None;
        }
        RxInterrupt::device(self.id, queue)
    }

    /// DPDK's number of the port.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The driver's name (`net_tap`).
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// How it was opened.
    #[must_use]
    pub fn config(&self) -> &PortConfig {
        &self.config
    }

    /// Our Ethernet address on it.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = self.mac.load(Ordering::Relaxed).to_le_bytes();
        MacAddr([a, b, c, d, e, f])
    }

    fn keep_address(&self, MacAddr([a, b, c, d, e, f]): MacAddr) {
        let octets = [a, b, c, d, e, f, 0, 0];
        self.mac.store(u64::from_le_bytes(octets), Ordering::Relaxed);
    }

    /// The pool of a queue pair.
    #[must_use]
    pub fn pool(&self, queue: u16) -> Option<Pool> {
        self.pools.get(usize::from(queue)).copied()
    }

    /// The largest IP packet it carries, in octets.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Whether the link is up: for vhost, virtio-user and memif whether the peer is connected.
    #[must_use]
    pub fn link_up(&self) -> bool {
        let mut link = MaybeUninit::<sys::rte_eth_link>::zeroed();
        // SAFETY: all zeroes is a valid link (down), and the call fills it.
        let (result, link) = unsafe {
            let result = sys::rte_eth_link_get_nowait(self.id, link.as_mut_ptr());
            (result, link.assume_init())
        };
        result == 0 && link.link_status() != 0
    }

    /// Waits until the link is up. False when it is not within `patience`. Only the process that
    /// started DPDK may wait: its control threads make the link.
    #[must_use]
    pub fn wait_for_link(&self, patience: Duration) -> bool {
        // A memif client connects once, at its start, and a server whose own start is not through
        // turns it away for good.
        const MEMIF_RETRY: Duration = Duration::from_millis(100);
        let begun = Instant::now();
        let mut attempt = begun;
        while !self.link_up() {
            if begun.elapsed() >= patience {
                return false;
            }
            if self.is_memif_client() && attempt.elapsed() >= MEMIF_RETRY {
                attempt = Instant::now();
                self.stop();
                // Still refused: the next attempt may not be.
                let _ = self.start();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn is_memif_client(&self) -> bool {
        self.config.kind == DeviceKind::Memif && !self.config.devargs.contains("role=server")
    }

    fn answer(&self, result: c_int, setting: &str, what: &str, mark: LogMark) -> Result<(), Error> {
        if result == 0 { Ok(()) } else { Err(Error::with_log(setting, what, mark)) }
    }
}

/// Drivers whose interrupts DPDK manages.
fn has_device_interrupt(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::Vhost | DeviceKind::VirtioUser | DeviceKind::Pci)
}
