//! Pools of mbufs. One pool per queue pair, touched under its shard's lock.

use crate::eal::Memory;
use crate::error::{Error, LogMark};
use crate::mbuf::Mbuf;
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
/// that DPDK did not start has no core number, and two processes would share one cache. What the
/// stack itself takes and gives back goes through the pool's [`Bin`] instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool(NonNull<sys::rte_mempool>);

// SAFETY: the handle is an address in memory that all threads share; DPDK's list of free buffers
// is safe for several producers and consumers.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// Free buffers that the stack gave back last: handed out again first, without the several atomic
/// operations that a visit to the pool costs.
///
/// It lies behind the pool's private data, in the memory of the family, and is touched under the
/// shard's lock alone, as every [`Mbuf`] of the pool is (the driver visits the pool itself). Its
/// count is written last: a process that dies in the middle leaks one buffer at most.
#[repr(C)]
struct Bin {
    count: u32,
    slots: [*mut sys::rte_mbuf; BIN],
}

/// Buffers in a full bin.
const BIN: usize = 128;
/// Buffers moved between a bin and its pool in one go.
const MOVED: usize = 32;

/// Where the bin lies behind the pool's address.
const BIN_AT: usize = (at::ONWIRE_POOL_HEADER_SIZE as usize
    + at::ONWIRE_POOL_PRIVATE_SIZE as usize)
    .next_multiple_of(align_of::<Bin>());

/// Octets of private data: DPDK's and ours.
const PRIVATE: usize = BIN_AT + size_of::<Bin>() - at::ONWIRE_POOL_HEADER_SIZE as usize;

/// The bin of a pool.
///
/// # Safety
/// The pool was made by [`Pool::create`], and the caller holds what serialises its buffers.
#[inline]
unsafe fn bin<'a>(pool: *mut sys::rte_mempool) -> &'a mut Bin {
    // SAFETY: the private data is that large; all-zero, as it begins, is an empty bin.
    unsafe { &mut *pool.cast::<u8>().add(BIN_AT).cast::<Bin>() }
}

/// Gives a buffer back that nobody else refers to: to the bin, while that has room.
///
/// # Safety
/// It is one whole segment of a pool made by [`Pool::create`], not attached to another, and this
/// was its last handle.
#[inline]
pub(crate) unsafe fn give_back(pool: *mut sys::rte_mempool, mbuf: *mut sys::rte_mbuf) {
    // SAFETY: as the caller says.
    let bin = unsafe { bin(pool) };
    if bin.count as usize >= BIN {
        // SAFETY: as the caller says.
        unsafe { empty(pool, MOVED) };
    }
    bin.slots[bin.count as usize % BIN] = mbuf;
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
    bin.count += 1;
}

/// Moves up to `most` buffers from the bin to the pool.
///
/// # Safety
/// As [`bin`].
#[cold]
unsafe fn empty(pool: *mut sys::rte_mempool, most: usize) {
    // SAFETY: as the caller says; buffers in the bin are free, and in the state that the pool
    // expects of them (one segment, referred to once, attached to nothing).
    unsafe {
        let bin = bin(pool);
        let n = (bin.count as usize).min(BIN).min(most);
        bin.count -= n as u32;
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
        let first = bin.slots.as_ptr().add(bin.count as usize);
        sys::rte_mempool_put_bulk(pool, first.cast(), n as core::ffi::c_uint);
    }
}

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
            let private = PRIVATE as core::ffi::c_uint;
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
            bin(pool.as_ptr()).count = 0;
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
        // SAFETY: the pool is ours; whoever has the handle in use serialises.
        let bin = unsafe { bin(self.0.as_ptr()) };
        let Some(last) = (bin.count as usize).checked_sub(1).filter(|last| *last < BIN) else {
            return self.refill();
        };
        let mbuf = NonNull::new(bin.slots[last])?;
        bin.count -= 1;
        // SAFETY: it was in the bin, so it is free, one whole segment, and now ours alone.
        Some(unsafe { Mbuf::fresh(mbuf) })
    }

    /// Fills the empty bin from the pool and takes one.
    #[cold]
    fn refill(self) -> Option<Mbuf> {
        let count = self.available().min(MOVED);
        // SAFETY: the pool is ours; there is room for as many in the empty bin, which counts them
        // once they are there.
        unsafe {
            let bin = bin(self.0.as_ptr());
            let n = count as core::ffi::c_uint;
            let space = bin.slots.as_mut_ptr();
            if count == 0 || sys::rte_pktmbuf_alloc_bulk(self.0.as_ptr(), space, n) != 0 {
                return None;
            }
            bin.count = n - 1;
            NonNull::new(bin.slots[count - 1]).map(|mbuf| Mbuf::fresh(mbuf))
        }
    }

    /// Gives what is in the bin back to the pool.
    pub(crate) fn settle(self) {
        // SAFETY: the pool is ours; whoever has the handle in use serialises.
        unsafe { empty(self.0.as_ptr(), BIN) };
    }

    fn binned(self) -> usize {
        // SAFETY: the pool is ours, and reading a count that changes gives an old one at worst.
        unsafe { bin(self.0.as_ptr()).count as usize }
    }

    /// Buffers that are free.
    #[inline]
    #[must_use]
    pub fn available(self) -> usize {
        // SAFETY: the pool lives as long as the port.
        let pooled = unsafe { sys::rte_mempool_avail_count(self.0.as_ptr()) as usize };
        pooled + self.binned()
    }

    /// Buffers that are out: in the driver's queues or in somebody's hands.
    #[must_use]
    pub fn in_use(self) -> usize {
        // SAFETY: the pool lives as long as the port.
        let out = unsafe { sys::rte_mempool_in_use_count(self.0.as_ptr()) as usize };
        out.saturating_sub(self.binned())
    }
}
