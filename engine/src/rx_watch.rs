//! The descriptor on which the port announces frames, as far as it can be trusted.
//!
//! Leaders and the keeper ask before each sleep: a vhost port's descriptor appears and changes
//! with its peer, and one that is of no use (closed, or readable without frames) must not keep a
//! core busy. While it is not trusted the port is looked at by the clock.

use crate::clock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use dpdk::{DeviceKind, Port, RxInterrupt};
use stack::time::Duration;

/// Wake-ups without a frame, one after another, that cost the descriptor its trust.
const FUTILE: u32 = 64;
/// For how long it is not used then.
const DISTRUST: Duration = Duration::from_millis(100);

/// The descriptor, as this process sees it.
#[derive(Debug)]
pub(crate) struct RxWatch {
    port: &'static Port,
    /// The kernel's descriptor, which never changes.
    fixed: Option<RxInterrupt>,
    futile: AtomicU32,
    distrusted_until: AtomicU64,
}

impl RxWatch {
    pub(crate) fn new(port: &'static Port) -> Self {
        let kernels = matches!(
            port.config().kind,
            DeviceKind::Tap | DeviceKind::AfPacket | DeviceKind::AfXdp
        );
        RxWatch {
            port,
            fixed: if kernels { port.rx_interrupt(0) } else { None },
            futile: AtomicU32::new(0),
            distrusted_until: AtomicU64::new(0),
        }
    }

    /// The same, for a process with trust of its own.
    pub(crate) fn again(&self) -> Self {
        RxWatch::new(self.port)
    }

    /// What to sleep on, if there is something at the moment.
    pub(crate) fn get(&self) -> Option<RxInterrupt> {
        let until = self.distrusted_until.load(Ordering::Relaxed);
        if until != 0 {
            if clock::now().as_nanos() < until {
                return None;
            }
            self.distrusted_until.store(0, Ordering::Relaxed);
        }
        self.fixed.or_else(|| self.port.rx_interrupt(0))
    }

    /// Whether the interrupt has to be armed before a sleep.
    pub(crate) fn needs_arming(&self) -> bool {
        self.fixed.is_none()
    }

    /// What poll(2) said of the descriptor, and how many frames there were then.
    pub(crate) fn learn(&self, found: libc::c_short, frames: usize) {
        if frames > 0 || found == 0 {
            self.futile.store(0, Ordering::Relaxed);
            return;
        }
        let broken = found & (libc::POLLNVAL | libc::POLLERR | libc::POLLHUP) != 0;
        if broken || self.futile.fetch_add(1, Ordering::Relaxed) >= FUTILE {
            self.futile.store(0, Ordering::Relaxed);
            let until = clock::now() + DISTRUST;
            self.distrusted_until.store(until.as_nanos(), Ordering::Relaxed);
        }
    }
}
