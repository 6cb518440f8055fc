//! Buffers from a recycled pool, as mbufs are, so that the benches measure the stack and not
//! malloc.

use stack::packet::{Allocator, Buffer, HEADROOM, RxChecksum, TxOffload};
use std::cell::RefCell;

/// Octets of one buffer, as large as DPDK's usual ones.
const SIZE: usize = 2_048 + HEADROOM;

thread_local! {
    // Boxes, so that taking one moves a pointer and not two kilobytes.
    #[allow(clippy::vec_box)]
    static FREE: RefCell<Vec<Box<[u8; SIZE]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer whose memory comes from, and goes back to, a free list.
#[derive(Debug)]
pub struct PoolBuffer {
    memory: Option<Box<[u8; SIZE]>>,
    start: usize,
    end: usize,
    segment_size: u16,
    rest: Option<Box<PoolBuffer>>,
}

impl PoolBuffer {
    fn new() -> Self {
        let recycled = FREE.with_borrow_mut(Vec::pop);
        let memory = recycled.unwrap_or_else(|| Box::new([0; SIZE]));
        PoolBuffer {
            memory: Some(memory),
            start: HEADROOM,
            end: HEADROOM,
            segment_size: 0,
            rest: None,
        }
    }

    fn memory(&self) -> &[u8; SIZE] {
        self.memory.as_ref().expect("a live buffer has memory")
    }

    fn memory_mut(&mut self) -> &mut [u8; SIZE] {
        self.memory.as_mut().expect("a live buffer has memory")
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            FREE.with_borrow_mut(|free| free.push(memory));
        }
    }
}

impl Buffer for PoolBuffer {
    fn data(&self) -> &[u8] {
        &self.memory()[self.start..self.end]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        &mut self.memory_mut()[start..end]
    }
    fn headroom(&self) -> usize {
        self.start
    }
    fn tailroom(&self) -> usize {
        SIZE - self.end
    }
    fn prepend(&mut self, n: usize) -> &mut [u8] {
        self.start -= n;
        let start = self.start;
        &mut self.memory_mut()[start..start + n]
    }
    fn append(&mut self, n: usize) -> &mut [u8] {
        self.end += n;
        let end = self.end;
        &mut self.memory_mut()[end - n..end]
    }
    fn trim_front(&mut self, n: usize) {
        assert!(n <= self.end - self.start);
        self.start += n;
    }
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
    fn share(&self) -> Self {
        let mut copy = PoolBuffer::new();
        (copy.start, copy.end) = (self.start, self.end);
        copy.data_mut().copy_from_slice(self.data());
        copy
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn parts(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, |rest| rest.parts())
    }
    fn packet_len(&self) -> usize {
        self.data().len() + self.rest.as_ref().map_or(0, |rest| rest.packet_len())
    }
    fn chain(&mut self, rest: Self) {
        assert!(self.rest.is_none(), "a chain behind a chain");
        self.rest = Some(Box::new(rest));
    }
    fn take_rest(&mut self) -> Option<Self> {
        self.rest.take().map(|rest| *rest)
    }
    fn for_each_part(&self, mut each: impl FnMut(&[u8])) {
        let mut at = Some(self);
        while let Some(part) = at {
            each(part.data());
            at = part.rest.as_deref();
        }
    }
    fn rx_checksum(&self) -> RxChecksum {
        if self.segment_size > 0 { RxChecksum::Good } else { RxChecksum::Unknown }
    }
    fn rx_segment_size(&self) -> u16 {
        self.segment_size
    }
    fn set_rx_coalesced(&mut self, segment_size: u16) {
        self.segment_size = segment_size;
    }
    fn set_tx_offload(&mut self, _: TxOffload) {}
}

/// Never runs out.
#[derive(Debug)]
pub struct Pool;

impl Allocator for Pool {
    type Buffer = PoolBuffer;
    fn allocate(&mut self) -> Option<PoolBuffer> {
        Some(PoolBuffer::new())
    }
    fn available(&self) -> usize {
        usize::MAX
    }
}
