//! What an operator changes while the engine runs (`onwire set`, a capture that wants every frame).
//!
//! The keeper does it, under every lock: nobody is in the driver meanwhile, and what the driver
//! keeps of it is in memory that all share. What a driver can only change while its port is stopped
//! is refused (see `dpdk::Port`).

use crate::alloc;
use crate::rx_watch::RxWatch;
use crate::shared::{Held, Shared};
use control::Change;
use dpdk::Port;

/// Who wants frames for every address.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    operator: bool,
    capture: bool,
}

impl Changes {
    /// Makes a change.
    ///
    /// # Errors
    /// Why not, in one line; then all is as it was.
    pub(crate) fn make(
        &mut self,
        shared: &'static Shared,
        rx: &RxWatch,
        change: Change,
    ) -> Result<(), String> {
        match change {
            Change::Mtu(mtu) => with_port(shared, rx, |held, port| {
                port.set_mtu(mtu).map_err(|error| error.to_string())?;
                held.set_mtu(mtu);
                Ok(())
            }),
            Change::Promiscuous(on) => {
                self.filter(shared, rx, on || self.capture)?;
                self.operator = on;
                Ok(())
            }
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

    fn filter(&self, shared: &'static Shared, rx: &RxWatch, all: bool) -> Result<(), String> {
        if all == (self.operator || self.capture) {
            return Ok(());
        }
        with_port(shared, rx, |_, port| {
            port.set_promiscuous(all).map_err(|error| error.to_string())
        })
    }
}

/// Calls `f` with every lock held, and the port, if there is one still.
fn with_port(
    shared: &'static Shared,
    rx: &RxWatch,
    f: impl FnOnce(&mut Held<'static>, &Port) -> Result<(), String>,
) -> Result<(), String> {
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
}
