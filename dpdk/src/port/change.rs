//! What may be changed while a port runs, by any process of the family under whatever keeps the
//! others from the port: its MTU and its address.
//!
//! Nothing here stops the port: a start makes event descriptors that only the process which starts
//! it has, and the others would sleep on what is gone.

use super::{Filter, Port};
use crate::device::{DeviceKind, PortConfig};
use crate::error::{Error, LogMark};
use core::sync::atomic::Ordering;
use dpdk_sys as sys;
use stack::addr::MacAddr;

/// Drivers that stop and start their card to change its MTU (a bond's: if a member's does).
const RESTARTS: &[&str] = &["net_vmxnet3", "net_bonding"];

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

    /// Changes our Ethernet address: what the device takes from now on is what `Filter` says. Queue
    /// handles made before keep the old one until they are told. It is the stack's end that changes:
    /// a TAP, and an interface of the kernel's, keep their own.
    ///
    /// # Errors
    /// When no station can have it, or the driver refuses: then all is as it was.
    pub fn set_mac(&self, mac: MacAddr) -> Result<Filter, Error> {
        if !mac.is_unicast() {
            return Err(self.refusal(format!("{mac} is no station's address")));
        }
        let own = self.device_address(&self.setting())?;
        if self.config.kind == DeviceKind::Tap && mac == own {
            return Err(self.refusal(format!("{mac} is the kernel's end's own; choose another")));
        }
        let filter = match self.has_filter() {
            false => Filter::None,
            true if mac == own || self.tell_address(mac)? => Filter::Named,
            true => Filter::All,
        };
        if filter == Filter::All {
            let mark = LogMark::now();
            let what = format!("address {mac}: its driver can neither set it nor take all frames");
            self.answer(self.take_everything(true), &self.setting(), &what, mark)?;
        }
        self.takes_all.store(filter == Filter::All, Ordering::Relaxed);
        self.keep_address(mac);
        Ok(filter)
    }

    /// Tells a device that runs its address; whether its driver can.
    fn tell_address(&self, mac: MacAddr) -> Result<bool, Error> {
        let info = self.info(&self.setting())?;
        // SAFETY: null, or the device's flags.
        let flags = unsafe { info.dev_flags.as_ref() }.copied().unwrap_or_default();
        let mark = LogMark::now();
        let told = match flags & sys::ONWIRE_DEV_NOLIVE_MAC_ADDR {
            0 => self.name_address(mac.0),
            _ => -libc::EBUSY,
        };
        match -told {
            libc::ENOTSUP => Ok(false),
            libc::EBUSY => {
                let reason = "its driver changes the address only while the card is stopped";
                Err(self.refusal(format!("{reason}; start anew with ONWIRE_MAC={mac}")))
            }
            _ => {
                let what = format!("address {mac} was refused");
                self.answer(told, &self.setting(), &what, mark).map(|()| true)
            }
        }
    }

    pub(super) fn setting(&self) -> String {
        format!("device {}", self.config.setting)
    }

    pub(super) fn refusal(&self, reason: String) -> Error {
        Error::new(self.setting(), reason)
    }
}
