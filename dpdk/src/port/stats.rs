//! What the driver counted.

use super::Port;
use core::mem::MaybeUninit;
use dpdk_sys as sys;
use std::ffi::CStr;

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

impl Port {
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
}
