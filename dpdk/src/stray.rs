//! A buffer on its way from one queue pair's shard to another's.
//!
//! A pool's bin of free buffers is touched under its own shard's lock alone, so whoever receives a
//! stray copies it and gives it back to the pool itself, which any number of threads may do at once.

use crate::mbuf::Mbuf;
use crate::queue::Queue;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use dpdk_sys as sys;

/// A received frame that belongs to no shard at the moment.
#[derive(Debug)]
pub struct Stray(NonNull<sys::rte_mbuf>);

impl From<Mbuf> for Stray {
    fn from(frame: Mbuf) -> Self {
        let frame = ManuallyDrop::new(frame);
        // An `Mbuf` always has an address.
        Stray(NonNull::new(frame.as_ptr()).unwrap_or(NonNull::dangling()))
    }
}

impl Stray {
    /// As a number that travels through memory which processes share; nothing drops it meanwhile.
    #[must_use]
    pub fn into_bits(self) -> u64 {
        ManuallyDrop::new(self).0.as_ptr() as u64
    }

    /// The inverse of [`Stray::into_bits`].
    ///
    /// # Safety
    /// The number came from there, and this is its only use.
    #[must_use]
    pub unsafe fn from_bits(bits: u64) -> Option<Self> {
        NonNull::new(bits as *mut sys::rte_mbuf).map(Stray)
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        // SAFETY: it is the only handle of a received frame; freeing goes to the pool, not the bin.
        unsafe { sys::rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl Queue {
    /// The frame in buffers of this queue's pool, with what the device said of it; `None` when the
    /// pool is empty.
    #[must_use]
    pub fn take_in(&mut self, stray: &Stray) -> Option<Mbuf> {
        // SAFETY: both are alive; the copy is a frame of its own, which becomes ours.
        unsafe {
            let copy = sys::rte_pktmbuf_copy(stray.0.as_ptr(), self.pool().as_ptr(), 0, u32::MAX);
            NonNull::new(copy).map(|copy| Mbuf::from_driver(copy))
        }
    }
}
