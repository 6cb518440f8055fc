//! A port: opened, started, closed; its addresses, limits and statistics.

use crate::check::have_library;
use crate::descriptors;
use crate::device::{DeviceKind, OffloadPolicy, PortConfig};
use crate::eal::{Eal, Memory};
use crate::error::{Error, LogMark};
use crate::interrupt::{self, RxInterrupt};
use crate::pool::Pool;
use crate::queue::Queue;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use dpdk_sys as sys;
use stack::addr::MacAddr;
use stack::device::Offloads;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// DPDK's "any NUMA node".
const ANY_SOCKET: core::ffi::c_uint = core::ffi::c_uint::MAX;

/// What the driver counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Octets received.
    pub rx_octets: u64,
    /// Octets sent.
    pub tx_octets: u64,
    /// Frames lost because the receive queue was full.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Times the pool had no buffer for a frame.
    pub rx_no_buffer: u64,
}

/// A port with its queues and pools.
///
/// It is a handle: dropping it changes nothing (the port lives in memory that several processes
/// share, and each of them has such a handle). [`Port::close`] ends it.
#[derive(Debug)]
pub struct Port {
    id: u16,
    config: PortConfig,
    driver: String,
    mac: MacAddr,
    mtu: u16,
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
        let id = probe(&config, setting)?;
        let mut port = Port {
            id,
            driver: String::new(),
            mac: MacAddr([0; 6]),
            mtu: config.mtu,
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

    fn configure(&mut self, setting: &str, before: &[RawFd]) -> Result<(), Error> {
        let mark = LogMark::now();
        let info = self.info(setting)?;
        // SAFETY: the driver's name is a static, terminated string.
        self.driver = unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned();
        self.check_limits(&info, setting)?;
        self.capabilities = capabilities(&info);
        let wanted = negotiate(self.config.kind, self.config.offloads, self.capabilities);

        let interrupts = has_device_interrupt(self.config.kind);
        let queues = self.config.queues;
        let configure = |interrupts: bool| {
            let conf = eth_conf(&self.config, &info, wanted, interrupts);
            // SAFETY: the struct is complete; ethdev copies it.
            unsafe { sys::rte_eth_dev_configure(self.id, queues, queues, &conf) }
        };
        let mut result = configure(interrupts);
        if result != 0 && interrupts {
            result = configure(false);
        }
        self.answer(result, setting, "it cannot be configured", mark)?;
        self.offloads = wanted;
        self.set_mtu_at_open(setting)?;
        self.set_up_queues(&info, setting, before)?;
        self.read_mac(setting)
    }

    fn check_limits(&self, info: &sys::rte_eth_dev_info, setting: &str) -> Result<(), Error> {
        let most = info.max_rx_queues.min(info.max_tx_queues);
        if self.config.queues == 0 || self.config.queues > most {
            let asked = self.config.queues;
            let reason = format!("{asked} queue pairs were asked for, it has 1 to {most}");
            return Err(Error::new(setting, reason));
        }
        if self.config.mtu < info.min_mtu || self.config.mtu > info.max_mtu {
            let reason = format!(
                "mtu {} is not possible, it takes {} to {}",
                self.config.mtu, info.min_mtu, info.max_mtu
            );
            return Err(Error::new(setting, reason));
        }
        Ok(())
    }

    /// Devices that know no MTU (links in memory) take whatever fits a buffer.
    fn set_mtu_at_open(&mut self, setting: &str) -> Result<(), Error> {
        let mark = LogMark::now();
        // SAFETY: plain numbers; ethdev checks them.
        match unsafe { sys::rte_eth_dev_set_mtu(self.id, self.config.mtu) } {
            0 => Ok(()),
            // A running link (virtio) or a driver without the call: the frame size was part of the
            // configuration.
            error if error == -libc::ENOTSUP || error == -libc::EBUSY => Ok(()),
            error => {
                let reason = format!("mtu {} was refused", self.config.mtu);
                self.answer(error, setting, &reason, mark)
            }
        }
    }

    fn set_up_queues(
        &mut self,
        info: &sys::rte_eth_dev_info,
        setting: &str,
        before: &[RawFd],
    ) -> Result<(), Error> {
        let mark = LogMark::now();
        let (mut rx, mut tx) = (self.config.rx_descriptors, self.config.tx_descriptors);
        // SAFETY: two numbers that the call adjusts to the driver's limits.
        let result = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx, &mut tx) };
        self.answer(result, setting, "its queue lengths cannot be set", mark)?;
        // A TAP's probe leaves a descriptor of a detached queue, which never becomes readable.
        let mut known = match self.config.kind {
            DeviceKind::Tap => descriptors::descriptors(),
            _ => before.to_vec(),
        };
        for queue in 0..self.config.queues {
            let name = format!("onwire_{}_{queue}", self.id);
            let pool =
                Pool::create(&name, self.config.mbufs, self.config.data_room(), self.memory)?;
            self.pools.push(pool);
            let mut rx_conf = info.default_rxconf;
            rx_conf.offloads = 0;
            let mut tx_conf = info.default_txconf;
            tx_conf.offloads = 0;
            // SAFETY: the configurations are the driver's own defaults; ethdev copies them, and
            // the pool lives until the port is closed.
            let result = unsafe {
                let pool = pool.as_ptr();
                match sys::rte_eth_rx_queue_setup(self.id, queue, rx, ANY_SOCKET, &rx_conf, pool) {
                    0 => sys::rte_eth_tx_queue_setup(self.id, queue, tx, ANY_SOCKET, &tx_conf),
                    error => error,
                }
            };
            self.answer(result, setting, &format!("queue {queue} cannot be set up"), mark)?;
            let fd = self.find_kernel_descriptor(&mut known);
            self.kernel_fds.push(fd);
        }
        Ok(())
    }

    /// Drivers of the kernel's devices open one descriptor per queue, in order; those that were
    /// there before belong to something else.
    fn find_kernel_descriptor(&self, known: &mut Vec<RawFd>) -> Option<RawFd> {
        let now: Vec<RawFd> = if self.config.kind == DeviceKind::AfXdp {
            descriptors::open_descriptors().into_iter().collect()
        } else {
            descriptors::descriptors()
        };
        let fresh: Vec<RawFd> = now.into_iter().filter(|fd| !known.contains(fd)).collect();
        let fd = interrupt::kernel_descriptor(self.config.kind, &fresh)?;
        if self.config.kind == DeviceKind::AfPacket {
            interrupt::ignore_outgoing(fd);
            known.push(fd);
        } else {
            known.extend(fresh);
        }
        Some(fd)
    }

    fn read_mac(&mut self, setting: &str) -> Result<(), Error> {
        let mark = LogMark::now();
        let mut address = MaybeUninit::<sys::rte_ether_addr>::zeroed();
        // SAFETY: the call fills six octets, which is what the type is.
        let (result, octets) = unsafe {
            let result = sys::rte_eth_macaddr_get(self.id, address.as_mut_ptr());
            (result, address.as_ptr().cast::<[u8; 6]>().read())
        };
        self.answer(result, setting, "it has no Ethernet address", mark)?;
        self.mac = match self.config.mac {
            Some(mac) => MacAddr(mac),
            None if self.config.kind == DeviceKind::Tap => MacAddr(other_end(octets)),
            None => MacAddr(octets),
        };
        Ok(())
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
            if self.config.promiscuous {
                // SAFETY: as above. Devices without the notion receive everything anyway.
                unsafe { sys::rte_eth_promiscuous_enable(self.id) };
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
        Ok(Queue::new(at, *pool, reserve, self.mac, self.mtu, self.offloads))
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
        self.mac
    }

    /// What is left to the device.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// What the device could do.
    #[must_use]
    pub fn capabilities(&self) -> Offloads {
        self.capabilities
    }

    /// The pool of a queue pair.
    #[must_use]
    pub fn pool(&self, queue: u16) -> Option<Pool> {
        self.pools.get(usize::from(queue)).copied()
    }

    /// The largest IP packet it carries, in octets.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Changes the largest IP packet. Queue handles made before keep the old figure.
    ///
    /// # Errors
    /// When a buffer cannot hold such a frame, or the driver refuses.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        let setting = format!("device {}", self.config.setting);
        let wanted = PortConfig { mtu, ..self.config.clone() };
        if wanted.data_room() > self.config.data_room() {
            return Err(Error::new(setting, format!("mtu {mtu} does not fit its buffers")));
        }
        let mark = LogMark::now();
        // SAFETY: plain numbers; ethdev checks them.
        let result = unsafe { sys::rte_eth_dev_set_mtu(self.id, mtu) };
        self.answer(result, &setting, &format!("mtu {mtu} was refused"), mark)?;
        self.mtu = mtu;
        self.config.mtu = mtu;
        Ok(())
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

    /// The driver's statistics.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let mut stats = MaybeUninit::<sys::rte_eth_stats>::zeroed();
        // SAFETY: all zeroes is valid, and the call fills it.
        let stats = unsafe {
            sys::rte_eth_stats_get(self.id, stats.as_mut_ptr());
            stats.assume_init()
        };
        PortStats {
            rx_frames: stats.ipackets,
            tx_frames: stats.opackets,
            rx_octets: stats.ibytes,
            tx_octets: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_buffer: stats.rx_nombuf,
        }
    }

    /// All that the driver counts, by its names.
    #[must_use]
    pub fn extended_stats(&self) -> Vec<(String, u64)> {
        // SAFETY: without room the call says how many there are; then both arrays have that many.
        unsafe {
            let count = sys::rte_eth_xstats_get(self.id, core::ptr::null_mut(), 0);
            let count = usize::try_from(count).unwrap_or(0);
            let mut values = vec![sys::rte_eth_xstat { id: 0, value: 0 }; count];
            let mut names = vec![core::mem::zeroed::<sys::rte_eth_xstat_name>(); count];
            let n = count as core::ffi::c_uint;
            let got = sys::rte_eth_xstats_get(self.id, values.as_mut_ptr(), n);
            let named = sys::rte_eth_xstats_get_names(self.id, names.as_mut_ptr(), n);
            let count = usize::try_from(got.min(named)).unwrap_or(0).min(count);
            let pairs = names.iter().zip(&values).take(count);
            pairs
                .map(|(name, value)| {
                    let name = CStr::from_ptr(name.name.as_ptr());
                    (name.to_string_lossy().into_owned(), value.value)
                })
                .collect()
        }
    }

    fn info(&self, setting: &str) -> Result<sys::rte_eth_dev_info, Error> {
        let mark = LogMark::now();
        let mut info = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
        // SAFETY: the call fills the struct; all zeroes is valid where it does not.
        let (result, info) = unsafe {
            let result = sys::rte_eth_dev_info_get(self.id, info.as_mut_ptr());
            (result, info.assume_init())
        };
        self.answer(result, setting, "it says nothing about itself", mark)?;
        Ok(info)
    }

    fn answer(&self, result: c_int, setting: &str, what: &str, mark: LogMark) -> Result<(), Error> {
        if result == 0 { Ok(()) } else { Err(Error::with_log(setting, what, mark)) }
    }
}

/// Makes the device; returns DPDK's number of the port.
fn probe(config: &PortConfig, setting: &str) -> Result<u16, Error> {
    let mark = LogMark::now();
    let nul = |_| Error::new(setting, "a NUL in its name");
    let devargs = CString::new(config.devargs.as_str()).map_err(nul)?;
    let name = CString::new(config.name()).map_err(nul)?;
    if config.kind != DeviceKind::Pci {
        // SAFETY: a terminated string.
        if unsafe { sys::rte_dev_probe(devargs.as_ptr()) } != 0 {
            return Err(Error::with_log(setting, "it cannot be made", mark));
        }
    }
    let mut id = 0;
    // SAFETY: a terminated string and a number to fill.
    if unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) } != 0 {
        let reason = if config.kind == DeviceKind::Pci {
            "no driver took the card (is it bound to vfio-pci?)"
        } else {
            "it is not a network device"
        };
        return Err(Error::with_log(setting, reason, mark));
    }
    Ok(id)
}

/// Drivers whose interrupts DPDK manages.
fn has_device_interrupt(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::Vhost | DeviceKind::VirtioUser | DeviceKind::Pci)
}

/// The driver takes the TAP's own address, which is the host's end of the wire; ours is next to it.
fn other_end(mut address: [u8; 6]) -> [u8; 6] {
    address[0] = (address[0] | 0x02) & !0x01;
    address[5] ^= 0x01;
    address
}

fn capabilities(info: &sys::rte_eth_dev_info) -> Offloads {
    let rx = |flag: u64| info.rx_offload_capa & flag == flag;
    let tx = |flag: u64| info.tx_offload_capa & flag == flag;
    let rx_l4 = sys::ONWIRE_RX_OFFLOAD_TCP_CKSUM | sys::ONWIRE_RX_OFFLOAD_UDP_CKSUM;
    Offloads {
        rx_checksum: rx(sys::ONWIRE_RX_OFFLOAD_IPV4_CKSUM | rx_l4),
        tx_ipv4_checksum: tx(sys::ONWIRE_TX_OFFLOAD_IPV4_CKSUM),
        tx_tcp_checksum: tx(sys::ONWIRE_TX_OFFLOAD_TCP_CKSUM),
        tx_udp_checksum: tx(sys::ONWIRE_TX_OFFLOAD_UDP_CKSUM),
        tso: tx(sys::ONWIRE_TX_OFFLOAD_TCP_TSO),
        multi_segment: tx(sys::ONWIRE_TX_OFFLOAD_MULTI_SEGS),
    }
}

/// What we ask of the device. A frame of ours is one buffer, so segmentation by the device and
/// frames of several buffers have no use.
fn negotiate(kind: DeviceKind, policy: OffloadPolicy, capabilities: Offloads) -> Offloads {
    let ask = match policy {
        OffloadPolicy::Hardware => kind == DeviceKind::Pci,
        OffloadPolicy::All => true,
        OffloadPolicy::Nothing => false,
    };
    if ask {
        Offloads { tso: false, multi_segment: false, ..capabilities }
    } else {
        Offloads::default()
    }
}

fn eth_conf(
    config: &PortConfig,
    info: &sys::rte_eth_dev_info,
    offloads: Offloads,
    interrupts: bool,
) -> sys::rte_eth_conf {
    // SAFETY: all zeroes is the plain configuration.
    let mut conf: sys::rte_eth_conf = unsafe { core::mem::zeroed() };
    let flags = |table: &[(bool, u64)]| {
        table.iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag)
    };
    conf.rxmode.mtu = u32::from(config.mtu);
    conf.rxmode.offloads = flags(&[
        (offloads.rx_checksum, sys::ONWIRE_RX_OFFLOAD_IPV4_CKSUM),
        (offloads.rx_checksum, sys::ONWIRE_RX_OFFLOAD_TCP_CKSUM),
        (offloads.rx_checksum, sys::ONWIRE_RX_OFFLOAD_UDP_CKSUM),
    ]);
    conf.txmode.offloads = flags(&[
        (offloads.tx_ipv4_checksum, sys::ONWIRE_TX_OFFLOAD_IPV4_CKSUM),
        (offloads.tx_tcp_checksum, sys::ONWIRE_TX_OFFLOAD_TCP_CKSUM),
        (offloads.tx_udp_checksum, sys::ONWIRE_TX_OFFLOAD_UDP_CKSUM),
    ]);
    if config.queues > 1 {
        let hashed = sys::ONWIRE_RSS_IP | sys::ONWIRE_RSS_TCP | sys::ONWIRE_RSS_UDP;
        conf.rx_adv_conf.rss_conf.rss_hf = hashed & info.flow_type_rss_offloads;
        if conf.rx_adv_conf.rss_conf.rss_hf != 0 {
            conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
        }
    }
    if interrupts {
        conf.intr_conf.set_rxq(1);
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_the_other_end_of_a_taps_wire() {
        let host = [0x5e, 1, 2, 3, 4, 5];
        let ours = other_end(host);
        assert_ne!(ours, host);
        assert!(MacAddr(ours).is_unicast());
    }

    #[test]
    fn software_devices_are_left_alone() {
        let all =
            Offloads { rx_checksum: true, tx_tcp_checksum: true, tso: true, ..Default::default() };
        let none = negotiate(DeviceKind::Tap, OffloadPolicy::Hardware, all);
        assert_eq!(none, Offloads::default());
        let some = negotiate(DeviceKind::Pci, OffloadPolicy::Hardware, all);
        assert!(some.rx_checksum && some.tx_tcp_checksum && !some.tso);
    }
}
