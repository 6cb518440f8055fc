//! The owning handle of one mbuf.

use crate::pool::give_back;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};
use dpdk_sys as sys;
use dpdk_sys::onwire_mbuf_offset as at;
use stack::packet::{Buffer, HEADROOM, L4Checksum, RxChecksum, TxOffload};

/// One frame's buffer. Dropping it gives it back to its pool (when it was the last handle).
///
/// It is always one segment: [`crate::Queue`] joins or drops what arrives in several.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an mbuf belongs to its handle; nothing in it is tied to a thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over a free mbuf and makes it an empty frame, as `rte_pktmbuf_reset` does.
    ///
    /// # Safety
    /// It is one whole segment of its pool, not attached to another, and nobody else's.
    #[inline]
    pub(crate) unsafe fn fresh(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        let mut mbuf = Mbuf(mbuf);
        mbuf.set::<u64>(at::ONWIRE_MBUF_OL_FLAGS, 0);
        mbuf.set::<u64>(at::ONWIRE_MBUF_TX_OFFLOAD, 0);
        mbuf.set_window(HEADROOM, 0);
        mbuf
    }

    /// Whether the mbuf is a plain one of its pool that nobody else refers to.
    #[inline]
    fn is_last_and_plain(&self) -> bool {
        const ATTACHED: u64 = sys::ONWIRE_MBUF_ATTACHED;
        self.refcnt().load(Ordering::Acquire) == 1
            && self.segments() == 1
            && self.get::<u64>(at::ONWIRE_MBUF_OL_FLAGS) & ATTACHED == 0
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// The address of a field.
    #[inline]
    fn field<T>(&self, offset: u32) -> *mut T {
        // SAFETY: the offsets are the compiler's, inside the mbuf.
        unsafe { self.0.as_ptr().cast::<u8>().add(offset as usize).cast() }
    }

    #[inline]
    fn get<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: see field(); DPDK keeps these fields initialised and aligned.
        unsafe { *self.field::<T>(offset) }
    }

    #[inline]
    fn set<T>(&mut self, offset: u32, value: T) {
        // SAFETY: see field(); the handle is borrowed exclusively.
        unsafe { *self.field::<T>(offset) = value }
    }

    #[inline]
    fn refcnt(&self) -> &AtomicU16 {
        // SAFETY: DPDK changes the count by atomic operations too (RTE_MBUF_REFCNT_ATOMIC).
        unsafe { &*self.field::<AtomicU16>(at::ONWIRE_MBUF_REFCNT) }
    }

    #[inline]
    fn start(&self) -> usize {
        usize::from(self.get::<u16>(at::ONWIRE_MBUF_DATA_OFF))
    }

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.get::<u16>(at::ONWIRE_MBUF_DATA_LEN))
    }

    /// Moves the window. Both numbers stay inside the buffer, whose length is 16 bits.
    #[inline]
    fn set_window(&mut self, start: usize, len: usize) {
        debug_assert!(start + len <= usize::from(self.get::<u16>(at::ONWIRE_MBUF_BUF_LEN)));
        #[expect(clippy::cast_possible_truncation, reason = "inside a buffer of at most 64 KiB")]
        {
            self.set(at::ONWIRE_MBUF_DATA_OFF, start as u16);
            self.set(at::ONWIRE_MBUF_DATA_LEN, len as u16);
            self.set(at::ONWIRE_MBUF_PKT_LEN, len as u32);
        }
    }

    #[inline]
    fn address(&self) -> *mut u8 {
        self.get::<*mut u8>(at::ONWIRE_MBUF_BUF_ADDR)
    }

    /// Segments it consists of: more than one only between the driver and the queue.
    #[inline]
    pub(crate) fn segments(&self) -> u16 {
        self.get(at::ONWIRE_MBUF_NB_SEGS)
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle is accounted for in the reference count and gone after this.
        unsafe {
            if self.is_last_and_plain() {
                give_back(self.get(at::ONWIRE_MBUF_POOL), self.0.as_ptr());
            } else {
                sys::rte_pktmbuf_free(self.0.as_ptr());
            }
        }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("headroom", &self.headroom())
            .field("handles", &self.refcnt().load(Ordering::Relaxed))
            .finish()
    }
}

impl Buffer for Mbuf {
    #[inline]
    fn data(&self) -> &[u8] {
        // SAFETY: the window lies inside the buffer, which lives as long as the handle.
        unsafe { core::slice::from_raw_parts(self.address().add(self.start()), self.len()) }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in data(); the handle is borrowed exclusively, and by the trait's rule no
        // other handle is used meanwhile.
        unsafe { core::slice::from_raw_parts_mut(self.address().add(self.start()), self.len()) }
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.start()
    }

    #[inline]
    fn tailroom(&self) -> usize {
        usize::from(self.get::<u16>(at::ONWIRE_MBUF_BUF_LEN)) - self.start() - self.len()
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> &mut [u8] {
        let (start, len) = (self.start(), self.len());
        assert!(n <= start, "prepend of {n} octets into {start} of headroom");
        self.set_window(start - n, len + n);
        &mut self.data_mut()[..n]
    }

    #[inline]
    fn append(&mut self, n: usize) -> &mut [u8] {
        let room = self.tailroom();
        assert!(n <= room, "append of {n} octets into {room} of room");
        let len = self.len();
        self.set_window(self.start(), len + n);
        &mut self.data_mut()[len..]
    }

    #[inline]
    fn trim_front(&mut self, n: usize) {
        let len = self.len();
        assert!(n <= len, "trim of {n} octets from {len}");
        self.set_window(self.start() + n, len - n);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.set_window(self.start(), len);
        }
    }

    #[inline]
    fn share(&self) -> Self {
        self.refcnt().fetch_add(1, Ordering::AcqRel);
        Mbuf(self.0)
    }

    #[inline]
    fn is_shared(&self) -> bool {
        self.refcnt().load(Ordering::Acquire) > 1
    }

    #[inline]
    fn rx_checksum(&self) -> RxChecksum {
        let flags: u64 = self.get(at::ONWIRE_MBUF_OL_FLAGS);
        let ip = flags & sys::ONWIRE_RX_IP_CKSUM_MASK;
        let l4 = flags & sys::ONWIRE_RX_L4_CKSUM_MASK;
        if ip == sys::ONWIRE_RX_IP_CKSUM_BAD || l4 == sys::ONWIRE_RX_L4_CKSUM_BAD {
            return RxChecksum::Bad;
        }
        // "None" is a virtual link's word for "not computed, but nothing could have damaged it".
        let l4_good = l4 == sys::ONWIRE_RX_L4_CKSUM_GOOD || l4 == sys::ONWIRE_RX_L4_CKSUM_NONE;
        if ip == sys::ONWIRE_RX_IP_CKSUM_GOOD && l4_good {
            return RxChecksum::Good;
        }
        RxChecksum::Unknown
    }

    #[inline]
    fn set_tx_offload(&mut self, offload: TxOffload) {
        let TxOffload { l2_len, l3_len, l4_len, ipv4_checksum, l4_checksum, segment_size } =
            offload;
        let mut flags = match l4_checksum {
            L4Checksum::Done => 0,
            L4Checksum::Tcp => sys::ONWIRE_TX_TCP_CKSUM,
            L4Checksum::Udp => sys::ONWIRE_TX_UDP_CKSUM,
        };
        if ipv4_checksum {
            flags |= sys::ONWIRE_TX_IP_CKSUM;
        }
        if segment_size != 0 {
            flags |= sys::ONWIRE_TX_TCP_SEG | sys::ONWIRE_TX_TCP_CKSUM;
        }
        if flags != 0 {
            // Devices must be told the family; the header itself says it.
            let version = self.data().get(usize::from(l2_len)).map_or(4, |octet| octet >> 4);
            flags |= if version == 6 { sys::ONWIRE_TX_IPV6 } else { sys::ONWIRE_TX_IPV4 };
        }
        self.set(at::ONWIRE_MBUF_OL_FLAGS, flags);
        let lengths = tx_lengths(l2_len, l3_len, l4_len, segment_size);
        self.set(at::ONWIRE_MBUF_TX_OFFLOAD, lengths);
    }
}

/// The lengths as DPDK packs them.
#[inline]
fn tx_lengths(l2_len: u8, l3_len: u8, l4_len: u8, segment_size: u16) -> u64 {
    use dpdk_sys::onwire_mbuf_flag as bits;
    let l3_at = bits::ONWIRE_L2_LEN_BITS;
    let l4_at = l3_at + bits::ONWIRE_L3_LEN_BITS;
    let segment_at = l4_at + bits::ONWIRE_L4_LEN_BITS;
    u64::from(l2_len)
        | u64::from(l3_len) << l3_at
        | u64::from(l4_len) << l4_at
        | u64::from(segment_size) << segment_at
}
