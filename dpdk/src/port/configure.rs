//! How a port is set up: the device is made, told what it is to do, and given its queues.

use super::{Port, has_device_interrupt, offload};
use crate::card;
use crate::descriptors;
use crate::device::{DeviceKind, PortConfig};
use crate::error::{Error, LogMark};
use crate::interrupt;
use crate::packet_socket;
use crate::pool::Pool;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use dpdk_sys as sys;
use stack::addr::MacAddr;
use stack::device::Offloads;
use stack::steering;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// DPDK's "any NUMA node".
const ANY_SOCKET: core::ffi::c_uint = core::ffi::c_uint::MAX;

impl Port {
    pub(super) fn configure(&mut self, setting: &str, before: &[RawFd]) -> Result<(), Error> {
        let mark = LogMark::now();
        let info = self.info(setting)?;
        // SAFETY: the driver's name is a static, terminated string.
        self.driver = unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned();
        self.check_limits(&info, setting)?;
        self.capabilities = offload::capabilities(&info, &self.driver);
        let wanted = offload::negotiate(self.config.kind, self.config.offloads, self.capabilities);

        let interrupts = has_device_interrupt(self.config.kind);
        let queues = self.config.queues;
        let configure = |interrupts: bool| {
            let conf = eth_conf(&self.config, &info, &wanted, interrupts);
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
        let mut most = info.max_rx_queues.min(info.max_tx_queues);
        if self.driver == "net_e1000_em" && !card::has_second_queue(self.config.name()) {
            most = 1;
        }
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
                    0 => self.set_up_transmission(queue, tx, &mut tx_conf),
                    error => error,
                }
            };
            self.answer(result, setting, &format!("queue {queue} cannot be set up"), mark)?;
            let fd = self.find_kernel_descriptor(&mut known);
            self.kernel_fds.push(fd);
        }
        Ok(())
    }

    /// virtio's driver gives back what was sent when the ring is nearly full, a thousand buffers in one
    /// go: a stall, and no buffer is in a near cache when it is used again. It is told to do so as
    /// soon as it may, three entries before the ring's length, which it does not tell.
    ///
    /// # Safety
    /// As `rte_eth_tx_queue_setup`.
    unsafe fn set_up_transmission(
        &self,
        queue: u16,
        descriptors: u16,
        conf: &mut sys::rte_eth_txconf,
    ) -> core::ffi::c_int {
        let by_default = conf.tx_free_thresh;
        let virtio = self.driver.starts_with("net_virtio");
        let lengths: &[u16] = if virtio { &[1_024, 512, 256, 128] } else { &[] };
        let thresholds = lengths.iter().map(|length| length - 4).chain([by_default]);
        let mut result = 0;
        for threshold in thresholds {
            conf.tx_free_thresh = threshold;
            // SAFETY: as the caller says.
            result = unsafe {
                sys::rte_eth_tx_queue_setup(self.id, queue, descriptors, ANY_SOCKET, conf)
            };
            if result == 0 {
                break;
            }
        }
        result
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
            packet_socket::ignore_outgoing(fd);
            known.push(fd);
        } else {
            known.extend(fresh);
        }
        Some(fd)
    }

    fn read_mac(&mut self, setting: &str) -> Result<(), Error> {
        self.own = self.device_address(setting)?;
        let own = self.own.0;
        let mac = match self.config.mac {
            Some(mac) => {
                // Where it cannot be set the device takes everything instead.
                let set = mac == own || !self.has_filter() || self.name_address(mac) == 0;
                self.takes_all.store(!set, Ordering::Relaxed);
                mac
            }
            None if self.config.kind == DeviceKind::Tap => other_end(own),
            None => own,
        };
        self.keep_address(MacAddr(mac));
        Ok(())
    }

    pub(super) fn info(&self, setting: &str) -> Result<sys::rte_eth_dev_info, Error> {
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
}

/// Makes the device; returns DPDK's number of the port.
pub(super) fn probe(config: &PortConfig, setting: &str) -> Result<u16, Error> {
    let mark = LogMark::now();
    let nul = |_| Error::new(setting, "a NUL in its name");
    let mut devargs = config.devargs.clone();
    if config.kind == DeviceKind::Vhost && config.offloads.coalescing && !devargs.contains("tso=") {
        devargs += ",tso=1";
    }
    let devargs = CString::new(devargs).map_err(nul)?;
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

/// The driver takes the TAP's own address, which is the host's end of the wire; ours is next to it.
fn other_end(mut address: [u8; 6]) -> [u8; 6] {
    address[0] = (address[0] | 0x02) & !0x01;
    address[5] ^= 0x01;
    address
}

fn eth_conf(
    config: &PortConfig,
    info: &sys::rte_eth_dev_info,
    offloads: &Offloads,
    interrupts: bool,
) -> sys::rte_eth_conf {
    // SAFETY: all zeroes is the plain configuration.
    let mut conf: sys::rte_eth_conf = unsafe { core::mem::zeroed() };
    conf.rxmode.mtu = u32::from(config.mtu);
    (conf.rxmode.offloads, conf.txmode.offloads) = offload::flags(config, info, offloads);
    if config.queues > 1 {
        // What is not TCP belongs to the first shard, and comes to the first queue unhashed.
        let rss = &mut conf.rx_adv_conf.rss_conf;
        rss.rss_hf = sys::ONWIRE_RSS_TCP & info.flow_type_rss_offloads;
        if rss.rss_hf != 0 {
            let key: &'static [u8] = &steering::KEY;
            let len = info.hash_key_size;
            if (1..=key.len()).contains(&usize::from(len)) {
                // The driver only reads it.
                rss.rss_key = key.as_ptr().cast_mut();
                rss.rss_key_len = len;
            }
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
}
