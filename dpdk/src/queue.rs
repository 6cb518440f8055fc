//! One queue pair: the fast path.

use crate::mbuf::Mbuf;
use crate::pool::Pool;
use core::cell::Cell;
use core::ptr::NonNull;
use dpdk_sys as sys;
use stack::addr::MacAddr;
use stack::device::{Burst, Device, Offloads};
use stack::packet::Allocator;

/// What a queue pair counts beside the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounters {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames that the driver had no room for at the first try; they stayed with the caller.
    pub tx_refused: u64,
    /// Allocations refused: the pool was down to its reserve.
    pub allocations_refused: u64,
}

/// One queue pair of a port, with its pool.
///
/// It holds numbers and addresses of memory that every process of the family shares, nothing of
/// the process: it may lie in shared memory and be used by several processes in turn under a lock.
#[derive(Debug)]
pub struct Queue {
    port: u16,
    queue: u16,
    mtu: u16,
    mac: MacAddr,
    offloads: Offloads,
    pool: Pool,
    reserve: usize,
    /// Buffers that the pool surely has left, its reserve included: counted down until it is asked
    /// again, because asking costs more than allocating.
    left: Cell<usize>,
    counters: QueueCounters,
}

impl Queue {
    pub(crate) fn new(
        (port, queue): (u16, u16),
        pool: Pool,
        reserve: usize,
        mac: MacAddr,
        mtu: u16,
        offloads: Offloads,
    ) -> Self {
        let counters = QueueCounters::default();
        let left = Cell::new(0);
        Queue { port, queue, mtu, mac, offloads, pool, reserve, left, counters }
    }

    /// Which queue pair of its port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The port's MTU has been changed.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// The port's Ethernet address has been changed.
    pub fn set_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// Buffers of the pool that are out: in the driver's rings or in somebody's hands.
    #[must_use]
    pub fn buffers_in_use(&self) -> usize {
        self.pool.in_use()
    }

    /// Whether the pool has more than `n` buffers left, the reserve included.
    #[inline]
    fn has_left(&self, n: usize) -> bool {
        self.left.get() > n || self.ask_pool() > n
    }

    #[cold]
    fn ask_pool(&self) -> usize {
        let left = self.pool.available();
        self.left.set(left);
        left
    }

    /// The driver, too, takes buffers: about as many as it hands out.
    #[inline]
    fn count_down(&self, n: usize) {
        self.left.set(self.left.get().saturating_sub(n));
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        self.counters
    }
}

impl Allocator for Queue {
    type Buffer = Mbuf;

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        let buffer = if self.has_left(self.reserve) { self.pool.allocate() } else { None };
        match buffer {
            Some(_) => self.count_down(1),
            None => self.counters.allocations_refused += 1,
        }
        buffer
    }

    #[inline]
    fn available(&self) -> usize {
        self.pool.available().saturating_sub(self.reserve)
    }

    #[inline]
    fn has_more_than(&self, n: usize) -> bool {
        self.has_left(self.reserve + n)
    }
}

impl Device for Queue {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    #[inline]
    fn rx_burst(&mut self, frames: &mut Burst<Mbuf>) {
        let have = frames.len();
        let room = frames.remaining_capacity();
        if room == 0 {
            return;
        }
        // SAFETY: `Mbuf` is an mbuf's address and nothing else, so the driver writes its frames
        // right behind those that are there, at most as many as there is room for; each is a
        // buffer that becomes ours.
        let taken = unsafe {
            let space = frames.as_mut_ptr().add(have).cast::<*mut sys::rte_mbuf>();
            let taken = sys::rte_eth_rx_burst(self.port, self.queue, space, room as u16);
            frames.set_len(have + usize::from(taken));
            usize::from(taken)
        };
        if taken == 0 {
            return;
        }
        self.count_down(2 * taken);
        self.counters.rx_frames += taken as u64;
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) {
        let offered = frames.len();
        if offered == 0 {
            return;
        }
        // SAFETY: the driver takes over the first `sent` buffers, which are forgotten below; the
        // rest move to the front. Nothing in between can unwind.
        unsafe {
            let first = frames.as_mut_ptr();
            let array = first.cast::<*mut sys::rte_mbuf>();
            let sent = sys::rte_eth_tx_burst(self.port, self.queue, array, offered as u16);
            let sent = usize::from(sent);
            frames.set_len(0);
            core::ptr::copy(first.add(sent), first, offered - sent);
            frames.set_len(offered - sent);
            self.counters.tx_frames += sent as u64;
            self.counters.tx_refused += (offered - sent) as u64;
        }
    }
}

// `Burst` is handed to the driver as an array of addresses.
const _: () = assert!(size_of::<Mbuf>() == size_of::<NonNull<sys::rte_mbuf>>());
