//! A device for tests and simulation: two of them back to back, or one with its ends in the
//! test's hands. Buffers come from a pool that counts them, and nothing allocates once built, so
//! that a test can prove that nothing else does.

use crate::addr::MacAddr;
use crate::device::{Burst, Device, Offloads};
use crate::packet::{Allocator, Buffer, HEADROOM, RxChecksum, TxOffload};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Octets of payload that fit a buffer.
const ROOM: usize = 2048;

type Blocks = Rc<RefCell<Vec<Box<[u8]>>>>;
type Queue = Rc<RefCell<VecDeque<PoolBuffer>>>;

/// A buffer whose memory goes back to its pool. `share` copies, as `HeapBuffer`'s does.
#[derive(Debug)]
pub struct PoolBuffer {
    storage: Box<[u8]>,
    pool: Blocks,
    start: usize,
    end: usize,
    rx_checksum: RxChecksum,
    tx_offload: TxOffload,
}

impl PoolBuffer {
    fn take(pool: &Blocks) -> Option<Self> {
        let storage = pool.borrow_mut().pop()?;
        Some(PoolBuffer {
            storage,
            pool: Rc::clone(pool),
            start: HEADROOM,
            end: HEADROOM,
            rx_checksum: RxChecksum::Unknown,
            tx_offload: TxOffload::default(),
        })
    }

    /// What [`Buffer::set_tx_offload`] was told last.
    #[must_use]
    pub const fn tx_offload(&self) -> TxOffload {
        self.tx_offload
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(core::mem::take(&mut self.storage));
    }
}

impl Buffer for PoolBuffer {
    fn data(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }
    fn headroom(&self) -> usize {
        self.start
    }
    fn tailroom(&self) -> usize {
        self.storage.len() - self.end
    }
    fn prepend(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.start, "prepend of {n} octets into {} of headroom", self.start);
        self.start -= n;
        &mut self.storage[self.start..self.start + n]
    }
    fn append(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.tailroom(), "append of {n} octets into {} of room", self.tailroom());
        self.end += n;
        &mut self.storage[self.end - n..self.end]
    }
    fn trim_front(&mut self, n: usize) {
        assert!(n <= self.end - self.start, "trim of {n} octets from {}", self.end - self.start);
        self.start += n;
    }
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
    fn share(&self) -> Self {
        // The pool keeps a reserve for this that `allocate` does not touch.
        let mut copy = PoolBuffer::take(&self.pool).expect("the test's pool has no block left");
        copy.storage.copy_from_slice(&self.storage);
        (copy.start, copy.end) = (self.start, self.end);
        copy.rx_checksum = self.rx_checksum;
        copy.tx_offload = self.tx_offload;
        copy
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn rx_checksum(&self) -> RxChecksum {
        self.rx_checksum
    }
    fn set_tx_offload(&mut self, offload: TxOffload) {
        self.tx_offload = offload;
    }
}

/// A device made of queues.
#[derive(Debug)]
pub struct TestDevice {
    pool: Blocks,
    blocks: usize,
    rx: Queue,
    tx: Queue,
    mac: MacAddr,
    mtu: u16,
    /// What it says that it does; frames are not changed.
    pub offloads: Offloads,
    /// How many frames its queue holds at most; it takes no more.
    pub tx_limit: usize,
}

impl TestDevice {
    /// A device with a pool of `blocks` buffers; what it sends waits for [`TestDevice::sent`].
    #[must_use]
    pub fn new(mac: MacAddr, mtu: u16, blocks: usize) -> Self {
        let queue = || Rc::new(RefCell::new(VecDeque::with_capacity(2 * blocks)));
        Self::between(mac, mtu, blocks, queue(), queue())
    }

    /// Two devices back to back; each has a pool of `blocks` buffers.
    #[must_use]
    pub fn pair(macs: [MacAddr; 2], mtu: u16, blocks: usize) -> [Self; 2] {
        let queue = || Rc::new(RefCell::new(VecDeque::with_capacity(2 * blocks)));
        let (there, back): (Queue, Queue) = (queue(), queue());
        let left = Self::between(macs[0], mtu, blocks, Rc::clone(&back), Rc::clone(&there));
        [left, Self::between(macs[1], mtu, blocks, there, back)]
    }

    fn between(mac: MacAddr, mtu: u16, blocks: usize, rx: Queue, tx: Queue) -> Self {
        let mut pool = Vec::with_capacity(blocks);
        pool.resize_with(blocks, || vec![0; HEADROOM + ROOM].into_boxed_slice());
        TestDevice {
            pool: Rc::new(RefCell::new(pool)),
            blocks,
            rx,
            tx,
            mac,
            mtu,
            offloads: Offloads::default(),
            tx_limit: usize::MAX,
        }
    }

    /// Buffers of its pool that are somewhere else.
    #[must_use]
    pub fn buffers_in_use(&self) -> usize {
        self.blocks - self.pool.borrow().len()
    }

    /// Lets a frame arrive; `false` if no buffer is free. Octets beyond a buffer are cut off.
    pub fn inject(&mut self, frame: &[u8], checksum: RxChecksum) -> bool {
        let Some(mut buffer) = PoolBuffer::take(&self.pool) else { return false };
        let frame = &frame[..frame.len().min(ROOM)];
        buffer.append(frame.len()).copy_from_slice(frame);
        buffer.rx_checksum = checksum;
        self.rx.borrow_mut().push_back(buffer);
        true
    }

    /// Takes the oldest frame it sent and nobody received.
    pub fn sent(&mut self) -> Option<PoolBuffer> {
        self.tx.borrow_mut().pop_front()
    }

    /// Gives a frame that was taken out to the receiver after all.
    pub fn resend(&mut self, frame: PoolBuffer) {
        self.tx.borrow_mut().push_back(frame);
    }
}

impl Allocator for TestDevice {
    type Buffer = PoolBuffer;
    fn allocate(&mut self) -> Option<PoolBuffer> {
        let free = self.pool.borrow().len();
        if free <= self.blocks / 4 { None } else { PoolBuffer::take(&self.pool) }
    }
    fn available(&self) -> usize {
        self.pool.borrow().len().saturating_sub(self.blocks / 4)
    }
}

impl Device for TestDevice {
    fn mac(&self) -> MacAddr {
        self.mac
    }
    fn mtu(&self) -> u16 {
        self.mtu
    }
    fn offloads(&self) -> Offloads {
        self.offloads
    }
    fn rx_burst(&mut self, frames: &mut Burst<PoolBuffer>) {
        let mut rx = self.rx.borrow_mut();
        while !frames.is_full() {
            let Some(frame) = rx.pop_front() else { return };
            frames.push(frame);
        }
    }
    fn tx_burst(&mut self, frames: &mut Burst<PoolBuffer>) {
        let mut tx = self.tx.borrow_mut();
        let room = self.tx_limit.saturating_sub(tx.len()).min(frames.len());
        tx.extend(frames.drain(..room));
    }
}
