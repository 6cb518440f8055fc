//! The owning handle of one mbuf.

use crate::pool::give_back;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};
use dpdk_sys as sys;
use dpdk_sys::onwire_mbuf_flag as bits;
use dpdk_sys::onwire_mbuf_offset as at;
use stack::packet::{Buffer, HEADROOM, L4Checksum, RxChecksum, TxOffload};

/// One frame's buffer, or the first of a chain. Dropping it gives it back to its pool (when it
/// was the last handle).
///
/// Who owns the buffers behind the first: the handle of a buffer whose count of segments is more
/// than one. Buffers in the middle of a chain have a count of one (DPDK reads the first one's only),
/// so that another handle of theirs, kept for retransmission, is of that one buffer, and the
/// link that the chain left in it means nothing to it.
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
        mbuf.set(at::ONWIRE_MBUF_DATA_OFF, HEADROOM as u16);
        mbuf.set(at::ONWIRE_MBUF_DATA_LEN, 0_u16);
        mbuf.set(at::ONWIRE_MBUF_PKT_LEN, 0_u32);
        mbuf
    }

    /// Takes over a frame that DPDK made.
    ///
    /// # Safety
    /// It is nobody else's.
    pub(crate) unsafe fn from_driver(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Mbuf(mbuf)
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
            let grown = (len as u32).wrapping_sub(self.len() as u32);
            let packet = self.get::<u32>(at::ONWIRE_MBUF_PKT_LEN).wrapping_add(grown);
            self.set(at::ONWIRE_MBUF_DATA_OFF, start as u16);
            self.set(at::ONWIRE_MBUF_DATA_LEN, len as u16);
            self.set(at::ONWIRE_MBUF_PKT_LEN, packet);
        }
    }

    #[inline]
    fn address(&self) -> *mut u8 {
        self.get::<*mut u8>(at::ONWIRE_MBUF_BUF_ADDR)
    }

    /// Buffers that it consists of.
    #[inline]
    pub(crate) fn segments(&self) -> u16 {
        self.get(at::ONWIRE_MBUF_NB_SEGS)
    }

    /// The buffer behind it in its chain; means something only in a chain that is owned.
    #[inline]
    fn next(&self) -> Option<NonNull<sys::rte_mbuf>> {
        NonNull::new(self.get::<*mut sys::rte_mbuf>(at::ONWIRE_MBUF_NEXT))
    }

    #[inline]
    fn set_next(&mut self, next: *mut sys::rte_mbuf) {
        self.set(at::ONWIRE_MBUF_NEXT, next);
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle is accounted for in the reference count and gone after this. The
        // buffers behind the first are its own only if the count says so; a link without that is
        // left from a chain that this buffer was in, and freeing one segment clears it.
        unsafe {
            if self.is_last_and_plain() {
                self.set_next(core::ptr::null_mut());
                give_back(self.get(at::ONWIRE_MBUF_POOL), self.0.as_ptr());
            } else if self.segments() == 1 {
                sys::rte_pktmbuf_free_seg(self.0.as_ptr());
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
        debug_assert_eq!(self.segments(), 1, "a chain has one owner");
        let before = self.refcnt().fetch_add(1, Ordering::AcqRel);
        let mut shared = Mbuf(self.0);
        if before == 1 {
            // A link that is left from an earlier transmission.
            shared.set_next(core::ptr::null_mut());
        }
        shared
    }

    #[inline]
    fn is_shared(&self) -> bool {
        self.refcnt().load(Ordering::Acquire) > 1
    }

    #[inline]
    fn parts(&self) -> usize {
        usize::from(self.segments())
    }

    #[inline]
    fn packet_len(&self) -> usize {
        self.get::<u32>(at::ONWIRE_MBUF_PKT_LEN) as usize
    }

    #[inline]
    fn chain(&mut self, mut rest: Self) {
        assert_eq!(self.segments(), 1, "a chain behind a chain");
        let segments = rest.segments() + 1;
        let len = self.len() + rest.packet_len();
        let own = rest.len() as u32;
        rest.set(at::ONWIRE_MBUF_NB_SEGS, 1_u16);
        rest.set(at::ONWIRE_MBUF_PKT_LEN, own);
        self.set_next(rest.as_ptr());
        // Owned by the chain from here on.
        core::mem::forget(rest);
        self.set(at::ONWIRE_MBUF_NB_SEGS, segments);
        self.set(at::ONWIRE_MBUF_PKT_LEN, len as u32);
    }

    #[inline]
    fn take_rest(&mut self) -> Option<Self> {
        let segments = self.segments();
        if segments == 1 {
            return None;
        }
        let behind = self.packet_len() - self.len();
        let next = self.next();
        self.set_next(core::ptr::null_mut());
        self.set(at::ONWIRE_MBUF_NB_SEGS, 1_u16);
        self.set(at::ONWIRE_MBUF_PKT_LEN, self.len() as u32);
        // The count says that there is another, which this handle owned.
        let mut rest = Mbuf(next?);
        rest.set(at::ONWIRE_MBUF_NB_SEGS, segments - 1);
        rest.set(at::ONWIRE_MBUF_PKT_LEN, behind as u32);
        Some(rest)
    }

    #[inline]
    fn for_each_part(&self, mut each: impl FnMut(&[u8])) {
        each(self.data());
        let mut left = self.segments() - 1;
        let mut at = self.next();
        while let Some(next) = at.filter(|_| left > 0) {
            // Looked at, not owned: it must not be freed here.
            let part = ManuallyDrop::new(Mbuf(next));
            each(part.data());
            at = part.next();
            left -= 1;
        }
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
        match (l4_good, ip == sys::ONWIRE_RX_IP_CKSUM_GOOD) {
            (true, true) => RxChecksum::Good,
            (true, false) => RxChecksum::TransportGood,
            _ => RxChecksum::Unknown,
        }
    }

    #[inline]
    fn rx_segment_size(&self) -> u16 {
        let flags: u64 = self.get(at::ONWIRE_MBUF_OL_FLAGS);
        if flags & sys::ONWIRE_RX_LRO == 0 {
            return 0;
        }
        (self.get::<u64>(at::ONWIRE_MBUF_TX_OFFLOAD) >> SEGMENT_SIZE_AT) as u16
    }

    #[inline]
    fn set_rx_coalesced(&mut self, segment_size: u16) {
        let flags =
            sys::ONWIRE_RX_LRO | sys::ONWIRE_RX_IP_CKSUM_GOOD | sys::ONWIRE_RX_L4_CKSUM_GOOD;
        self.set(at::ONWIRE_MBUF_OL_FLAGS, flags);
        self.set(at::ONWIRE_MBUF_TX_OFFLOAD, tx_lengths(0, 0, 0, segment_size));
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
        // Nothing asked now and before is the usual case: leave the second line of the mbuf alone.
        if flags == 0 && self.get::<u64>(at::ONWIRE_MBUF_OL_FLAGS) == 0 {
            return;
        }
        self.set(at::ONWIRE_MBUF_OL_FLAGS, flags);
        let lengths = tx_lengths(l2_len, l3_len, l4_len, segment_size);
        self.set(at::ONWIRE_MBUF_TX_OFFLOAD, lengths);
    }
}

/// Where the lengths are in DPDK's word for them; that of the link header comes first.
const L3_LEN_AT: u32 = bits::ONWIRE_L2_LEN_BITS;
const L4_LEN_AT: u32 = L3_LEN_AT + bits::ONWIRE_L3_LEN_BITS;
const SEGMENT_SIZE_AT: u32 = L4_LEN_AT + bits::ONWIRE_L4_LEN_BITS;

/// The lengths as DPDK packs them.
#[inline]
fn tx_lengths(l2_len: u8, l3_len: u8, l4_len: u8, segment_size: u16) -> u64 {
    u64::from(l2_len)
        | u64::from(l3_len) << L3_LEN_AT
        | u64::from(l4_len) << L4_LEN_AT
        | u64::from(segment_size) << SEGMENT_SIZE_AT
}
