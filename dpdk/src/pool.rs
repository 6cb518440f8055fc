//! Pools of mbufs. One pool per queue pair, touched under its shard's lock.

use crate::eal::Memory;
use crate::error::{Error, LogMark};
use crate::mbuf::Mbuf;
use arrayvec::ArrayVec;
use core::ptr::NonNull;
use dpdk_sys as sys;
use dpdk_sys::onwire_mbuf_offset as at;
use stack::packet::HEADROOM;
use std::ffi::CString;

/// The fixed cost of one buffer: the mempool's header and the mbuf itself, in octets.
const PER_MBUF: usize = 64 + 128;

/// A pool of buffers. A handle: copies name the same pool, in every process of the family.
///
/// The pool has no per-core cache, so it is used alike from any thread of any process: a thread
/// that DPDK did not start has no core number, and two processes would share one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool(NonNull<sys::rte_mempool>);

// SAFETY: the handle is an address in memory that all threads share; DPDK's list of free buffers
// is safe for several producers and consumers.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// Octets of memory for a pool.
pub(crate) fn memory_bytes(mbufs: u32, data_room: u16) -> usize {
    let mbufs = mbufs as usize;
    let object = (PER_MBUF + HEADROOM + usize::from(data_room)).next_multiple_of(64);
    // Spread over memory channels, and in hugepages not straddling two: a tenth more.
    mbufs * object * 11 / 10 + mbufs * 16 + 4096
}

/// The order in which free buffers are handed out again: the last that came back first, because
/// its memory is still in the cache (a ring visits all others before). Without locks, so that a
/// process that dies in the middle holds up nobody.
///
/// # Safety
/// The pool is empty and nobody else knows it.
unsafe fn set_order(pool: NonNull<sys::rte_mempool>) -> core::ffi::c_int {
    // The last resort is for a DPDK built without stacks.
    let mut result = 0;
    for ops in [c"lf_stack", c"ring_mp_mc"] {
        // SAFETY: the caller's promise; the name is terminated.
        result = unsafe {
            sys::rte_mempool_set_ops_byname(pool.as_ptr(), ops.as_ptr(), core::ptr::null_mut())
        };
        if result == 0 {
            break;
        }
    }
    result
}

impl Pool {
    /// Makes a pool of `mbufs` buffers that take `data_room` octets of frame each. With ordinary
    /// pages a buffer may straddle two: devices see addresses as the process does, and keeping
    /// each in one page would waste almost half of the memory.
    pub(crate) fn create(
        name: &str,
        mbufs: u32,
        data_room: u16,
        memory: Memory,
    ) -> Result<Pool, Error> {
        let mark = LogMark::now();
        let c_name = CString::new(name).map_err(|_| Error::new("pool", "NUL in its name"))?;
        let room = u16::try_from(HEADROOM).unwrap_or(u16::MAX).saturating_add(data_room);
        let flags = if memory.hugepages { 0 } else { sys::ONWIRE_MEMPOOL_NO_IOVA_CONTIG };
        let size = at::ONWIRE_MBUF_SIZE + u32::from(room);
        let failed = || {
            let reason = format!("no memory for a pool of {mbufs} buffers of {room} octets");
            Error::with_log("buffers", &reason, mark)
        };
        // SAFETY: the name is terminated; no cache; -1 is "any NUMA node".
        let pool = NonNull::new(unsafe {
            let private = at::ONWIRE_POOL_PRIVATE_SIZE;
            sys::rte_mempool_create_empty(c_name.as_ptr(), mbufs, size, 0, private, -1, flags)
        })
        .ok_or_else(failed)?;
        // SAFETY: the steps of rte_pktmbuf_pool_create, in its order, on a pool that nobody else
        // knows yet; the all-zero private data is filled by rte_pktmbuf_pool_init.
        unsafe {
            let mut private: sys::rte_pktmbuf_pool_private = core::mem::zeroed();
            private.mbuf_data_room_size = room;
            let mut result = set_order(pool);
            if result == 0 {
                sys::rte_pktmbuf_pool_init(pool.as_ptr(), (&raw mut private).cast());
                result = sys::rte_mempool_populate_default(pool.as_ptr());
            }
            if result < 0 {
                sys::rte_mempool_free(pool.as_ptr());
                return Err(failed());
            }
            let init: sys::rte_mempool_obj_cb_t = Some(sys::rte_pktmbuf_init);
            sys::rte_mempool_obj_iter(pool.as_ptr(), init, core::ptr::null_mut());
        }
        Ok(Pool(pool))
    }

    /// Gives the pool's memory back to DPDK.
    ///
    /// # Safety
    /// No buffer of it is in use, and no queue.
    pub(crate) unsafe fn free(self) {
        // SAFETY: the caller's promise.
        unsafe { sys::rte_mempool_free(self.0.as_ptr()) }
    }

    pub(crate) fn as_ptr(self) -> *mut sys::rte_mempool {
        self.0.as_ptr()
    }

    /// A fresh buffer, empty, with the headroom in front.
    #[inline]
    #[must_use]
    pub fn allocate(self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the port.
        let mbuf = NonNull::new(unsafe { sys::rte_pktmbuf_alloc(self.0.as_ptr()) })?;
        // SAFETY: fresh, owned by nobody else.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Appends `count` fresh buffers, all or none; `into` must have room for them.
    pub(crate) fn allocate_many<const N: usize>(
        self,
        into: &mut ArrayVec<Mbuf, N>,
        count: usize,
    ) -> bool {
        let have = into.len();
        assert!(have + count <= N, "{count} buffers into room for {}", N - have);
        // SAFETY: `Mbuf` is an mbuf's address and nothing else; there is room for `count` more,
        // and they are there when the call says 0.
        unsafe {
            let space = into.as_mut_ptr().add(have).cast::<*mut sys::rte_mbuf>();
            let n = count as core::ffi::c_uint;
            if sys::rte_pktmbuf_alloc_bulk(self.0.as_ptr(), space, n) != 0 {
                return false;
            }
            into.set_len(have + count);
        }
        true
    }

    /// Buffers that are free.
    #[inline]
    #[must_use]
    pub fn available(self) -> usize {
        // SAFETY: the pool lives as long as the port.
        unsafe { sys::rte_mempool_avail_count(self.0.as_ptr()) as usize }
    }

    /// Buffers that are out: in the driver's queues or in somebody's hands.
    #[must_use]
    pub fn in_use(self) -> usize {
        // SAFETY: the pool lives as long as the port.
        unsafe { sys::rte_mempool_in_use_count(self.0.as_ptr()) as usize }
    }
}
