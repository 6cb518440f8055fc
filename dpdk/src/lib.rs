//! A safe layer over DPDK: one start of the environment, ports, queue pairs, pools, mbufs.
//!
//! It owns every call into DPDK and every mbuf handle. The engine, the bench and tests call it; it
//! never decides policy (which device, when to sleep) and never touches what belongs to the host
//! program: signals, affinity, the terminal, low descriptors.
//!
//! ```no_run
//! use dpdk::{Eal, EalOptions, Port, PortConfig};
//! use stack::device::{Burst, Device};
//!
//! let config = PortConfig::tap(Some("onwire0"));
//! let eal = Eal::start(EalOptions::for_ports(&[&config]))?;
//! let port = Port::open(&eal, config)?;
//! port.start()?;
//! let mut queue = port.queue(0)?;
//! let mut frames = Burst::new();
//! loop {
//!     queue.rx_burst(&mut frames); // an echo of raw frames
//!     queue.tx_burst(&mut frames);
//!     frames.clear();
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), dpdk::Error>(())
//! ```
//!
//! # Several processes
//!
//! Everything the data path changes is in memory that DPDK maps `MAP_SHARED`, so a child made by
//! `fork` after [`Port::start`] drives the same queues, under a lock that the caller provides. Only
//! the process that called [`Eal::start`] runs DPDK's control threads: a link that a peer opens
//! (vhost, memif) must be up before the fork. DPDK's heap must not grow after a fork, hence
//! [`EalOptions::memory_bytes`] is reserved whole and ports are opened before.

mod card;
mod check;
mod control;
mod descriptors;
mod device;
mod eal;
mod error;
mod event;
mod interrupt;
mod mbuf;
mod packet_socket;
mod pool;
mod port;
mod queue;
mod removal;
mod stray;

pub use check::{Problem, check};
pub use control::{ControlWatch, watch_control};
pub use descriptors::{descriptors, owns_descriptor};
pub use device::{DeviceKind, MemifRole, OffloadPolicy, PortConfig};
pub use eal::{Eal, EalOptions, Hugepages, Memory};
pub use error::Error;
pub use event::{pretend_reset, watch_reset};
pub use interrupt::RxInterrupt;
pub use mbuf::Mbuf;
pub use pool::Pool;
pub use port::{Filter, Port, PortStats};
pub use queue::{Queue, QueueCounters};
pub use removal::{let_go_of_card, watch_removal};
pub use stray::Stray;

/// The drivers that are linked in, by their library's name (`net_tap`, `net_vhost`, ...).
#[must_use]
pub fn drivers() -> &'static [&'static str] {
    dpdk_sys::DRIVERS
}

/// The release of DPDK, as it names itself.
#[must_use]
pub fn version() -> String {
    // SAFETY: rte_version returns a static, terminated string.
    unsafe { core::ffi::CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}
