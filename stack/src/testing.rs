//! A device for tests and simulation: two of them back to back, or one with its ends in the
//! test's hands. Buffers come from a pool that counts them, and nothing allocates once built, so
//! that a test can prove that nothing else does.

use crate::addr::MacAddr;
use crate::device::{Burst, Device, Offloads};
use crate::packet::{Allocator, Buffer, HEADROOM, L4Checksum, RxChecksum, TxOffload};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Octets of payload that fit a buffer.
const ROOM: usize = 2048;

/// A buffer's memory, and what is chained behind it: a chain takes no memory of its own.
#[derive(Debug)]
struct Block {
    octets: [u8; HEADROOM + ROOM],
    rest: Option<PoolBuffer>,
}

// Boxes, so that taking one moves a pointer and not two kilobytes.
#[allow(clippy::vec_box)]
type Blocks = Rc<RefCell<Vec<Box<Block>>>>;
type Queue = Rc<RefCell<VecDeque<PoolBuffer>>>;

/// A buffer whose memory goes back to its pool. `share` copies, as `HeapBuffer`'s does.
#[derive(Debug)]
pub struct PoolBuffer {
    /// Always there but while it is dropped.
    block: Option<Box<Block>>,
    pool: Blocks,
    start: usize,
    end: usize,
    rx_checksum: RxChecksum,
    rx_segment_size: u16,
    tx_offload: TxOffload,
}

impl PoolBuffer {
    fn take(pool: &Blocks) -> Option<Self> {
        let block = pool.borrow_mut().pop()?;
        Some(PoolBuffer {
            block: Some(block),
            pool: Rc::clone(pool),
            start: HEADROOM,
            end: HEADROOM,
            rx_checksum: RxChecksum::Unknown,
            rx_segment_size: 0,
            tx_offload: TxOffload::default(),
        })
    }

    fn block(&self) -> &Block {
        self.block.as_ref().expect("a live buffer has memory")
    }

    fn block_mut(&mut self) -> &mut Block {
        self.block.as_mut().expect("a live buffer has memory")
    }

    /// What [`Buffer::set_tx_offload`] was told last.
    #[must_use]
    pub const fn tx_offload(&self) -> TxOffload {
        self.tx_offload
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        if let Some(mut block) = self.block.take() {
            drop(block.rest.take());
            self.pool.borrow_mut().push(block);
        }
    }
}

impl Buffer for PoolBuffer {
    fn data(&self) -> &[u8] {
        &self.block().octets[self.start..self.end]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        &mut self.block_mut().octets[start..end]
    }
    fn headroom(&self) -> usize {
        self.start
    }
    fn tailroom(&self) -> usize {
        HEADROOM + ROOM - self.end
    }
    fn prepend(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.start, "prepend of {n} octets into {} of headroom", self.start);
        self.start -= n;
        let start = self.start;
        &mut self.block_mut().octets[start..start + n]
    }
    fn append(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.tailroom(), "append of {n} octets into {} of room", self.tailroom());
        self.end += n;
        let end = self.end;
        &mut self.block_mut().octets[end - n..end]
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
        copy.block_mut().octets.copy_from_slice(&self.block().octets);
        (copy.start, copy.end) = (self.start, self.end);
        copy.rx_checksum = self.rx_checksum;
        copy.tx_offload = self.tx_offload;
        copy
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn parts(&self) -> usize {
        1 + self.block().rest.as_ref().map_or(0, Self::parts)
    }
    fn packet_len(&self) -> usize {
        self.end - self.start + self.block().rest.as_ref().map_or(0, Self::packet_len)
    }
    fn chain(&mut self, rest: Self) {
        let before = self.block_mut().rest.replace(rest);
        assert!(before.is_none(), "a chain behind a chain");
    }
    fn take_rest(&mut self) -> Option<Self> {
        self.block_mut().rest.take()
    }
    fn for_each_part(&self, mut each: impl FnMut(&[u8])) {
        let mut at = Some(self);
        while let Some(part) = at {
            each(part.data());
            at = part.block().rest.as_ref();
        }
    }
    fn rx_checksum(&self) -> RxChecksum {
        self.rx_checksum
    }
    fn rx_segment_size(&self) -> u16 {
        self.rx_segment_size
    }
    fn set_rx_coalesced(&mut self, segment_size: u16) {
        self.rx_segment_size = segment_size;
        self.rx_checksum = RxChecksum::Good;
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
        pool.resize_with(blocks, || Box::new(Block { octets: [0; HEADROOM + ROOM], rest: None }));
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
    /// To be seen among the frames that it sent.
    fn hand_over(&mut self, frame: PoolBuffer) {
        self.tx.borrow_mut().push_back(frame);
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
        for mut frame in frames.drain(..room) {
            // As a link in memory does: nobody cuts or sums what is left to the device, but the
            // other end is told.
            if frame.tx_offload.l4_checksum != L4Checksum::Done {
                frame.rx_checksum = RxChecksum::TransportGood;
                frame.rx_segment_size = frame.tx_offload.segment_size;
            }
            tx.push_back(frame);
        }
    }
}
