//! Which frames a port takes: those for its address, of some groups, of all groups, or all.

use super::Port;
use crate::device::DeviceKind;
use crate::error::{Error, LogMark};
use crate::packet_socket::{self, More};
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use dpdk_sys as sys;
use stack::addr::MacAddr;
use std::os::fd::RawFd;

/// A bond tells its members their address at its start, whatever it says later.
const BOND: &str = "net_bonding";

/// How a port sees to it that frames which are wanted arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Those for the addresses named, and no others.
    Named,
    /// With all others of their kind: the driver takes no names, or not so many.
    All,
    /// Everything arrives anyway: the device has no filter.
    None,
}

/// What was asked of the interface below a packet socket.
#[derive(Debug, Default)]
pub(super) struct SocketTakes {
    everything: AtomicBool,
    every_group: AtomicBool,
}

impl Port {
    /// Takes frames for every address, or only for its own again.
    ///
    /// # Errors
    /// When the driver has no such mode, or refuses.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        if !on && self.must_take_all() {
            return Ok(()); // It could not be given its address otherwise.
        }
        let mark = LogMark::now();
        let result = self.take_everything(on);
        if result == -libc::ENOTSUP && self.config.kind != DeviceKind::Pci {
            return Ok(()); // Devices in software without the notion have no filter.
        }
        let what = if on { "promiscuous mode was refused" } else { "promiscuous mode stays" };
        self.answer(result, &self.setting(), what, mark)
    }

    /// Whether it takes frames for every address.
    #[must_use]
    pub fn is_promiscuous(&self) -> bool {
        // SAFETY: a plain number; ethdev checks it.
        self.socket_takes.everything.load(Ordering::Relaxed)
            || unsafe { sys::rte_eth_promiscuous_get(self.id) == 1 }
    }

    /// Takes frames of these groups, and of no others as far as the driver can tell them apart; or of
    /// `every` group.
    ///
    /// # Errors
    /// An address is no group's, or the driver can neither be named groups nor take all.
    pub fn set_multicast(&self, groups: &[MacAddr], every: bool) -> Result<Filter, Error> {
        let is_group = |one: &MacAddr| one.is_multicast() && !one.is_broadcast();
        if let Some(one) = groups.iter().find(|one| !is_group(one)) {
            return Err(self.refusal(format!("{one} is no group's address")));
        }
        let mark = LogMark::now();
        let named = self.name_groups(groups) == 0;
        // Too many names, or a driver without.
        let all = every || (!named && !groups.is_empty());
        match self.take_every_group(all) {
            0 if all => Ok(Filter::All),
            0 => Ok(Filter::Named),
            error if error == -libc::ENOTSUP && !self.has_filter() => Ok(Filter::None),
            error if error == -libc::ENOTSUP && !all => Ok(Filter::Named), // It never took them.
            error => {
                let what = "its driver can neither be named groups nor take all of them \
                            (onwire set promiscuous on takes every frame)";
                self.answer(error, &self.setting(), what, mark)?;
                Ok(Filter::All)
            }
        }
    }

    /// Whether it takes frames of every group.
    #[must_use]
    pub fn takes_every_group(&self) -> bool {
        // SAFETY: a plain number; ethdev checks it.
        self.socket_takes.every_group.load(Ordering::Relaxed)
            || unsafe { sys::rte_eth_allmulticast_get(self.id) == 1 }
    }

    /// The device's own address: on a TAP that of the kernel's end.
    pub(super) fn device_address(&self, setting: &str) -> Result<MacAddr, Error> {
        let mark = LogMark::now();
        let mut address = MaybeUninit::<sys::rte_ether_addr>::zeroed();
        // SAFETY: the call fills six octets, which is what the type is.
        let (result, octets) = unsafe {
            let result = sys::rte_eth_macaddr_get(self.id, address.as_mut_ptr());
            (result, address.as_ptr().cast::<[u8; 6]>().read())
        };
        self.answer(result, setting, "it has no Ethernet address", mark)?;
        Ok(MacAddr(octets))
    }

    /// Whether something in front of it drops frames that are not for it. Most devices in software
    /// have nothing of the kind.
    pub(super) fn has_filter(&self) -> bool {
        self.is_kernels() || self.config.has_cable()
    }

    /// Whether it is on an interface of the kernel's.
    fn is_kernels(&self) -> bool {
        matches!(self.config.kind, DeviceKind::AfPacket | DeviceKind::AfXdp)
    }

    /// Tells the driver our address; 0, or a negative errno.
    pub(super) fn name_address(&self, mac: [u8; 6]) -> c_int {
        // The kernel uses its interfaces, too, and knows them by their addresses.
        if self.driver == BOND || self.is_kernels() {
            return -libc::ENOTSUP;
        }
        let mut address = sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the call reads six octets.
        unsafe { sys::rte_eth_dev_default_mac_addr_set(self.id, &mut address) }
    }

    /// The device's next driver finds it with its own address, as this one did: some cards keep what
    /// they were told.
    pub(super) fn give_address_back(&self) {
        if self.has_filter()
            && self.device_address("").is_ok_and(|address| address != self.own)
            && self.own.is_unicast()
        {
            self.name_address(self.own.0);
        }
    }

    /// Whether it was asked to take all frames at its start, or has to.
    pub(super) fn must_take_all(&self) -> bool {
        self.config.promiscuous || self.takes_all.load(Ordering::Relaxed)
    }

    /// 0, or a negative errno.
    pub(super) fn take_everything(&self, on: bool) -> c_int {
        if let Some(fd) = self.packet_socket() {
            let result = packet_socket::take(fd, More::Everything, on);
            if result == 0 {
                self.socket_takes.everything.store(on, Ordering::Relaxed);
            }
            return result;
        }
        // SAFETY: a plain number; ethdev checks it.
        unsafe {
            match on {
                true => sys::rte_eth_promiscuous_enable(self.id),
                false => sys::rte_eth_promiscuous_disable(self.id),
            }
        }
    }

    fn take_every_group(&self, on: bool) -> c_int {
        if let Some(fd) = self.packet_socket() {
            let result = packet_socket::take(fd, More::EveryGroup, on);
            if result == 0 {
                self.socket_takes.every_group.store(on, Ordering::Relaxed);
            }
            return result;
        }
        // SAFETY: a plain number; ethdev checks it.
        unsafe {
            match on {
                true => sys::rte_eth_allmulticast_enable(self.id),
                false => sys::rte_eth_allmulticast_disable(self.id),
            }
        }
    }

    fn name_groups(&self, groups: &[MacAddr]) -> c_int {
        let mut list: Vec<sys::rte_ether_addr> =
            groups.iter().map(|one| sys::rte_ether_addr { addr_bytes: one.0 }).collect();
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // SAFETY: as many addresses as it says, which the call copies.
        unsafe { sys::rte_eth_dev_set_mc_addr_list(self.id, list.as_mut_ptr(), count) }
    }

    fn packet_socket(&self) -> Option<RawFd> {
        let packets = self.config.kind == DeviceKind::AfPacket;
        self.kernel_fds.first().copied().flatten().filter(|_| packets)
    }
}
