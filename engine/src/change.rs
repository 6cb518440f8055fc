//! What an operator changes while the engine runs (`onwire set`, a capture that wants every frame).
//!
//! The keeper does it, under every lock: nobody is in the driver meanwhile, and what the driver
//! keeps of it is in memory that all share. What a driver can only change while its port is stopped
//! is refused (see `dpdk::Port`).

use crate::alloc;
use crate::groups::{Groups, Holder};
use crate::rx_watch::RxWatch;
use crate::shared::{Held, Shared};
use control::{Change, Membership};
use dpdk::{Filter, Port};
use stack::addr::MacAddr;

/// Who wants frames for every address.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    operator: bool,
    capture: bool,
}

/// A word on how it was done, if otherwise than one would think; or why it was not, in one line:
/// then all is as it was.
type Outcome = Result<Option<String>, String>;

impl Changes {
    /// Makes a change.
    ///
    /// # Errors
    /// See [`Outcome`].
    pub(crate) fn make(
        &mut self,
        shared: &'static Shared,
        rx: &RxWatch,
        change: Change,
    ) -> Outcome {
        match change {
            Change::Mtu(mtu) => with_port(shared, rx, |held, port| {
                port.set_mtu(mtu).map_err(|error| error.to_string())?;
                held.set_mtu(mtu);
                held.world.groups.tell_again(port);
                Ok(None)
            }),
            Change::Mac(mac) => self.address(shared, rx, mac),
            Change::Promiscuous(on) => {
                self.filter(shared, rx, on || self.capture)?;
                self.operator = on;
                Ok(None)
            }
            Change::Multicast { membership: Membership::Add, group } => {
                regroup(shared, rx, |groups| groups.join(group, Holder::Operator))
            }
            Change::Multicast { membership: Membership::Del, group } => {
                regroup(shared, rx, |groups| groups.leave(group, Holder::Operator)).map(|_| None)
            }
            Change::AllMulticast(on) => regroup(shared, rx, |groups| {
                groups.every = on;
                Ok(())
            }),
        }
    }

    /// A capture begins or ends that wants frames for every address.
    ///
    /// # Errors
    /// The device cannot, in one line.
    pub(crate) fn capture(
        &mut self,
        shared: &'static Shared,
        rx: &RxWatch,
        on: bool,
    ) -> Result<(), String> {
        if on != self.capture {
            self.filter(shared, rx, on || self.operator)?;
            self.capture = on;
        }
        Ok(())
    }

    /// The device first: a frame for the new address that comes too early is another station's.
    fn address(&self, shared: &'static Shared, rx: &RxWatch, mac: MacAddr) -> Outcome {
        with_port(shared, rx, |held, port| {
            let filter = port.set_mac(mac).map_err(|error| error.to_string())?;
            held.set_mac(mac);
            // What the last address needed may not be needed any more.
            let _ = port.set_promiscuous(self.operator || self.capture);
            held.world.groups.tell_again(port);
            Ok((filter == Filter::All).then(|| {
                let driver = port.driver();
                format!(
                    "{driver} does not set {mac} in the device, which takes every frame instead"
                )
            }))
        })
    }

    fn filter(&self, shared: &'static Shared, rx: &RxWatch, all: bool) -> Result<(), String> {
        if all == (self.operator || self.capture) {
            return Ok(());
        }
        with_port(shared, rx, |held, port| {
            port.set_promiscuous(all).map_err(|error| error.to_string())?;
            held.world.groups.tell_again(port);
            Ok(())
        })
    }
}

/// Changes the set of groups, and has the port follow.
fn regroup(
    shared: &'static Shared,
    rx: &RxWatch,
    change: impl FnOnce(&mut Groups) -> Result<(), String>,
) -> Outcome {
    with_port(shared, rx, |held, port| {
        let groups = &mut held.world.groups;
        let before = groups.clone();
        change(groups)?;
        groups.tell(port).inspect_err(|_| {
            *groups = before;
            groups.tell_again(port);
        })
    })
}

/// Calls `f` with every lock held, and the port, if there is one still.
fn with_port<R>(
    shared: &'static Shared,
    rx: &RxWatch,
    f: impl FnOnce(&mut Held<'static>, &Port) -> Result<R, String>,
) -> Result<R, String> {
    let mut held = shared.enter().map_err(|error| format!("the engine has failed: {error}"))?;
    let gone = || "its device is gone, or only the process that opened it can use it".to_owned();
    let port = rx.port().ok_or_else(gone)?;
    alloc::allow(|| f(&mut held, port))
}

impl Held<'_> {
    /// The device takes packets of `mtu` octets from now on.
    fn set_mtu(&mut self, mtu: u16) {
        self.change();
        let now = self.now;
        for lane in self.shards.range() {
            let shard = self.shards.at(lane);
            shard.device_mut().set_mtu(mtu);
            shard.set_mtu(now, mtu);
        }
        self.dispatch();
        self.settle();
    }

    /// The device's address is `mac` from now on.
    fn set_mac(&mut self, mac: MacAddr) {
        self.change();
        let now = self.now;
        for lane in self.shards.range() {
            let shard = self.shards.at(lane);
            shard.device_mut().set_mac(mac);
            shard.set_mac(now, mac);
        }
        self.dispatch();
        self.settle();
    }
}
