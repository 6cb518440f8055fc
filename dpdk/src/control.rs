//! What DPDK's control threads do behind the data path's back.
//!
//! Links in memory are mapped and unmapped by a thread of the process that started DPDK when their
//! peer comes or goes. Whoever drives the port says here how to keep that out of its way.

use dpdk_sys as sys;

/// Functions that control threads call; they must not unwind.
#[derive(Debug, Clone, Copy)]
pub struct ControlWatch {
    /// Before the interrupt thread does anything; takes what keeps others from the port.
    pub enter: extern "C" fn(),
    /// When it is done.
    pub leave: extern "C" fn(),
    /// Memory is about to be mapped or unmapped: other processes will not see it so.
    pub mapped: extern "C" fn(),
}

/// From now on they are called, in this process.
pub fn watch_control(watch: ControlWatch) {
    // SAFETY: functions live as long as the process.
    unsafe {
        sys::onwire_dpdk_watch_control(Some(watch.enter), Some(watch.leave), Some(watch.mapped));
    }
}
