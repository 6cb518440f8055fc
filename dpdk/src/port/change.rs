//! What may be changed while a port runs, by any process of the family under whatever keeps the
//! others from the port: its MTU, and which frames it takes.
//!
//! Nothing here stops the port: a start makes event descriptors that only the process which starts
//! it has, and the others would sleep on what is gone.

use super::Port;
use crate::device::{DeviceKind, PortConfig};
use crate::error::{Error, LogMark};
use core::ffi::c_int;
use core::sync::atomic::Ordering;
use dpdk_sys as sys;
use stack::addr::MacAddr;

/// Drivers that stop and start their card to change its MTU (a bond's: if a member's does).
const RESTARTS: &[&str] = &["net_vmxnet3", "net_bonding"];

/// How a port sees to it that the frames of groups arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multicast {
    /// Those of the groups named, and no others.
    Named,
    /// Those of every group: the driver takes no names.
    All,
    /// Everything arrives anyway: the device has no filter.
    Unfiltered,
}

impl Port {
    /// Changes the largest IP packet. Queue handles made before keep the old figure until they are
    /// told.
    ///
    /// # Errors
    /// When a buffer cannot hold such a frame, or the driver refuses: then all is as it was.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let wanted = PortConfig { mtu, ..self.config.clone() };
        if wanted.data_room() > self.config.data_room() {
            let reason = format!("an mtu of {mtu} does not fit its buffers");
            return Err(self.refusal(reason));
        }
        let restarts = RESTARTS.contains(&self.driver.as_str());
        // A card goes on taking what it took at the start: the peers of old connections go on
        // sending that.
        let receives = |mtu: u16| match restarts || self.config.has_cable() {
            true => mtu.max(self.config.mtu),
            false => mtu,
        };
        let mark = LogMark::now();
        let told = if receives(mtu) == receives(self.mtu()) {
            0
        } else if restarts {
            -libc::EBUSY
        } else {
            // SAFETY: plain numbers; ethdev checks them.
            unsafe { sys::rte_eth_dev_set_mtu(self.id, receives(mtu)) }
        };
        match -told {
            0 => {}
            // Links in memory know no MTU: they take what fits a buffer.
            libc::ENOTSUP if self.config.kind != DeviceKind::Pci => {}
            libc::ENOTSUP | libc::EBUSY => {
                let reason = "its driver raises the mtu only while the card is stopped";
                return Err(self.refusal(format!("{reason}; start anew with --mtu {mtu}")));
            }
            _ => {
                self.answer(told, &self.setting(), &format!("mtu {mtu} was refused"), mark)?;
            }
        }
        self.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// Takes frames for every address, or only for its own again.
    ///
    /// # Errors
    /// When the driver has no such mode, or refuses.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        if !on && self.config.promiscuous {
            return Ok(()); // It could not be given its address otherwise.
        }
        let mark = LogMark::now();
        // SAFETY: a plain number; ethdev checks it.
        let result = unsafe {
            match on {
                true => sys::rte_eth_promiscuous_enable(self.id),
                false => sys::rte_eth_promiscuous_disable(self.id),
            }
        };
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
        unsafe { sys::rte_eth_promiscuous_get(self.id) == 1 }
    }

    /// Takes frames for these groups, and for no others as far as the driver can tell them apart;
    /// none: it takes none again.
    ///
    /// # Errors
    /// An address is no group's, or a card's driver can neither be named groups nor take all.
    pub fn set_multicast(&self, groups: &[MacAddr]) -> Result<Multicast, Error> {
        if let Some(one) = groups.iter().find(|one| !one.is_multicast()) {
            return Err(self.refusal(format!("{one} is no group's address")));
        }
        let mut list: Vec<sys::rte_ether_addr> =
            groups.iter().map(|one| sys::rte_ether_addr { addr_bytes: one.0 }).collect();
        let mark = LogMark::now();
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // SAFETY: as many addresses as it says, which the call copies.
        let named = unsafe { sys::rte_eth_dev_set_mc_addr_list(self.id, list.as_mut_ptr(), count) };
        if named == 0 {
            self.set_all_multicast(false);
            return Ok(Multicast::Named);
        }
        // Too many names, or a driver without.
        match self.set_all_multicast(!groups.is_empty()) {
            0 => Ok(Multicast::All),
            error if error == -libc::ENOTSUP && self.config.kind != DeviceKind::Pci => {
                Ok(Multicast::Unfiltered)
            }
            error => {
                self.answer(error, &self.setting(), "groups were refused", mark)?;
                Ok(Multicast::All)
            }
        }
    }

    fn set_all_multicast(&self, on: bool) -> c_int {
        // SAFETY: a plain number; ethdev checks it.
        unsafe {
            match on {
                true => sys::rte_eth_allmulticast_enable(self.id),
                false => sys::rte_eth_allmulticast_disable(self.id),
            }
        }
    }

    fn setting(&self) -> String {
        format!("device {}", self.config.setting)
    }

    fn refusal(&self, reason: String) -> Error {
        Error::new(self.setting(), reason)
    }
}
