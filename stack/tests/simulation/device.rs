//! A network card as the stack meets it in production: `share` aliases one memory as mbufs do,
//! the transmit ring is short, and what was sent is given back late. A write to memory that the
//! card still reads is a failure here, where a real card would send garbage.

use stack::addr::MacAddr;
use stack::device::{Burst, Device, Offloads};
use stack::packet::{Allocator, Buffer, HEADROOM, L4Checksum, RxChecksum, TxOffload};
use stack::wire::checksum::checksum;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Octets of payload that fit a buffer.
const ROOM: usize = 2048;

type Blocks = Rc<RefCell<Vec<Box<[u8]>>>>;

#[derive(Debug)]
struct Memory {
    octets: UnsafeCell<Box<[u8]>>,
    start: Cell<usize>,
    end: Cell<usize>,
    on_device: Cell<bool>,
    offload: Cell<TxOffload>,
    segment_size: Cell<u16>,
    pool: Blocks,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(core::mem::take(self.octets.get_mut()));
    }
}

/// A handle of a block; several may name the same one. What is chained behind it belongs to this
/// handle alone.
#[derive(Debug)]
pub struct SimBuffer(Rc<Memory>, Option<Box<SimBuffer>>);

impl SimBuffer {
    fn take(pool: &Blocks) -> Option<Self> {
        let octets = pool.borrow_mut().pop()?;
        let memory = Memory {
            octets: UnsafeCell::new(octets),
            start: Cell::new(HEADROOM),
            end: Cell::new(HEADROOM),
            on_device: Cell::new(false),
            offload: Cell::new(TxOffload::default()),
            segment_size: Cell::new(0),
            pool: Rc::clone(pool),
        };
        Some(SimBuffer(Rc::new(memory), None))
    }

    fn all(&self) -> &[u8] {
        // SAFETY: the simulation has one thread, `all_mut` borrows its handle mutably, and the
        // stack does not hold two handles of one block borrowed at the same time.
        unsafe { &*self.0.octets.get() }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        self.check();
        // SAFETY: as in `all`.
        unsafe { &mut *self.0.octets.get() }
    }

    fn set_on_device(&self, on_device: bool) {
        self.0.on_device.set(on_device);
        if let Some(rest) = &self.1 {
            rest.set_on_device(on_device);
        }
    }

    fn check(&self) {
        assert!(!self.0.on_device.get(), "a buffer is changed while the device reads it");
    }
}

impl Buffer for SimBuffer {
    fn data(&self) -> &[u8] {
        &self.all()[self.0.start.get()..self.0.end.get()]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.0.start.get(), self.0.end.get());
        &mut self.all_mut()[start..end]
    }
    fn headroom(&self) -> usize {
        self.0.start.get()
    }
    fn tailroom(&self) -> usize {
        self.all().len() - self.0.end.get()
    }
    fn prepend(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.headroom(), "prepend of {n} octets into {}", self.headroom());
        let start = self.0.start.get() - n;
        self.0.start.set(start);
        &mut self.all_mut()[start..start + n]
    }
    fn append(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.tailroom(), "append of {n} octets into {}", self.tailroom());
        let end = self.0.end.get();
        self.0.end.set(end + n);
        &mut self.all_mut()[end..end + n]
    }
    fn trim_front(&mut self, n: usize) {
        self.check();
        assert!(n <= self.data().len(), "trim of {n} octets from {}", self.data().len());
        self.0.start.set(self.0.start.get() + n);
    }
    fn truncate(&mut self, len: usize) {
        self.check();
        self.0.end.set(self.0.end.get().min(self.0.start.get() + len));
    }
    fn share(&self) -> Self {
        assert!(self.1.is_none(), "a chain has one owner");
        SimBuffer(Rc::clone(&self.0), None)
    }
    fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
    fn parts(&self) -> usize {
        1 + self.1.as_ref().map_or(0, |rest| rest.parts())
    }
    fn packet_len(&self) -> usize {
        self.data().len() + self.1.as_ref().map_or(0, |rest| rest.packet_len())
    }
    fn chain(&mut self, rest: Self) {
        assert!(self.1.is_none(), "a chain behind a chain");
        self.1 = Some(Box::new(rest));
    }
    fn take_rest(&mut self) -> Option<Self> {
        self.1.take().map(|rest| *rest)
    }
    fn for_each_part(&self, mut each: impl FnMut(&[u8])) {
        let mut at = Some(self);
        while let Some(part) = at {
            each(part.data());
            at = part.1.as_deref();
        }
    }
    fn rx_checksum(&self) -> RxChecksum {
        if self.0.segment_size.get() > 0 { RxChecksum::Good } else { RxChecksum::Unknown }
    }
    fn rx_segment_size(&self) -> u16 {
        self.0.segment_size.get()
    }
    fn set_rx_coalesced(&mut self, segment_size: u16) {
        self.0.segment_size.set(segment_size);
    }
    fn set_tx_offload(&mut self, offload: TxOffload) {
        self.0.offload.set(offload);
    }
}

/// How a card is made.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    pub mac: MacAddr,
    pub mtu: u16,
    pub blocks: usize,
    /// Frames that its transmit ring holds.
    pub ring: usize,
    /// Sent frames that it keeps until more are sent.
    pub lazy: usize,
    pub offloads: Offloads,
    /// Octets of a received frame that go into one buffer; what is longer arrives in several.
    pub piece: usize,
}

/// The card.
#[derive(Debug)]
pub struct SimDevice {
    card: Card,
    pool: Blocks,
    rx: VecDeque<SimBuffer>,
    ring: VecDeque<SimBuffer>,
    spent: VecDeque<SimBuffer>,
    /// Segments of a unit that the card has cut, and are to go out.
    segments: VecDeque<Vec<u8>>,
    /// The most buffers that were in use at once.
    pub peak: usize,
}

impl SimDevice {
    pub fn new(card: Card) -> Self {
        let mut blocks = Vec::with_capacity(card.blocks);
        blocks.resize_with(card.blocks, || vec![0; HEADROOM + ROOM].into_boxed_slice());
        SimDevice {
            card,
            pool: Rc::new(RefCell::new(blocks)),
            rx: VecDeque::new(),
            ring: VecDeque::new(),
            spent: VecDeque::new(),
            segments: VecDeque::new(),
            peak: 0,
        }
    }

    /// A frame arrives; `false` if there is no buffer for it.
    pub fn receive(&mut self, frame: &[u8]) -> bool {
        let mut whole: Option<SimBuffer> = None;
        for piece in frame.chunks(self.card.piece).rev() {
            let Some(mut buffer) = SimBuffer::take(&self.pool) else { return false };
            buffer.append(piece.len()).copy_from_slice(piece);
            if let Some(behind) = whole.take() {
                buffer.chain(behind);
            }
            whole = Some(buffer);
        }
        self.rx.extend(whole);
        self.peak = self.peak.max(self.in_use());
        true
    }

    /// Whether received frames wait for the stack.
    pub fn has_received(&self) -> bool {
        !self.rx.is_empty()
    }

    /// The next frame goes out on the wire.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        if let Some(segment) = self.segments.pop_front() {
            return Some(segment);
        }
        let buffer = self.ring.pop_front()?;
        let mut frame = Vec::with_capacity(buffer.packet_len());
        buffer.for_each_part(|part| frame.extend_from_slice(part));
        let offload = buffer.0.offload.get();
        self.spent.push_back(buffer);
        if offload.segment_size == 0 {
            finish_checksums(&mut frame, offload);
            return Some(frame);
        }
        self.segments.extend(cut(&frame, offload));
        self.segments.pop_front()
    }

    /// Whether frames wait for the wire.
    pub fn has_frames(&self) -> bool {
        !self.ring.is_empty() || !self.segments.is_empty()
    }

    /// Gives back what was sent, but for the last `keep`.
    pub fn reap(&mut self, keep: usize) {
        while self.spent.len() > keep {
            if let Some(buffer) = self.spent.pop_front() {
                buffer.set_on_device(false);
            }
        }
    }

    /// Buffers that are not in the pool.
    pub fn in_use(&self) -> usize {
        self.card.blocks - self.pool.borrow().len()
    }

    /// Buffers that may be taken before only receiving may.
    fn reserve(&self) -> usize {
        self.card.blocks / 4
    }
}

/// A unit in segments, as a card cuts it.
fn cut(unit: &[u8], offload: TxOffload) -> Vec<Vec<u8>> {
    let l3 = usize::from(offload.l2_len);
    let l4 = l3 + usize::from(offload.l3_len);
    let (header, payload) = unit.split_at(l4 + usize::from(offload.l4_len));
    let pieces = payload.chunks(usize::from(offload.segment_size));
    let last = pieces.len() - 1;
    let mut seq = u32::from_be_bytes(header[l4 + 4..l4 + 8].try_into().expect("four octets"));
    let segment = |(n, piece): (usize, &[u8])| {
        let mut frame = [header, piece].concat();
        let total = (frame.len() - l3) as u16;
        frame[l3 + 2..l3 + 4].copy_from_slice(&total.to_be_bytes());
        frame[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if n < last {
            frame[l4 + 13] &= !0x09; // FIN and PSH
        }
        seq = seq.wrapping_add(piece.len() as u32);
        // The sum of the pseudo-header that the stack left has no length in it.
        let field = l4 + 16..l4 + 18;
        let sum = u16::from_be_bytes(frame[field.clone()].try_into().expect("two octets"));
        let length = (frame.len() - l4) as u32;
        let sum = u32::from(sum) + length;
        let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
        frame[field].copy_from_slice(&sum.to_be_bytes());
        finish_checksums(&mut frame, TxOffload { ipv4_checksum: true, ..offload });
        frame
    };
    pieces.enumerate().map(segment).collect()
}

/// What the stack left to the card.
fn finish_checksums(frame: &mut [u8], offload: TxOffload) {
    let l3 = usize::from(offload.l2_len);
    let l4 = l3 + usize::from(offload.l3_len);
    if offload.ipv4_checksum {
        frame[l3 + 10..l3 + 12].fill(0);
        let sum = checksum(&frame[l3..l4]);
        frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    }
    let (at, zero_means_none) = match offload.l4_checksum {
        L4Checksum::Done => return,
        L4Checksum::Tcp => (l4 + 16, false),
        L4Checksum::Udp => (l4 + 6, true),
    };
    let sum = match checksum(&frame[l4..]) {
        0 if zero_means_none => 0xffff,
        sum => sum,
    };
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

impl Allocator for SimDevice {
    type Buffer = SimBuffer;
    fn allocate(&mut self) -> Option<SimBuffer> {
        if self.available() == 0 {
            return None;
        }
        let buffer = SimBuffer::take(&self.pool);
        self.peak = self.peak.max(self.in_use());
        buffer
    }
    fn available(&self) -> usize {
        self.pool.borrow().len().saturating_sub(self.reserve())
    }
}

impl Device for SimDevice {
    fn mac(&self) -> MacAddr {
        self.card.mac
    }
    fn mtu(&self) -> u16 {
        self.card.mtu
    }
    fn offloads(&self) -> Offloads {
        self.card.offloads
    }
    fn rx_burst(&mut self, frames: &mut Burst<SimBuffer>) {
        while !frames.is_full() {
            let Some(frame) = self.rx.pop_front() else { return };
            frames.push(frame);
        }
    }
    fn tx_burst(&mut self, frames: &mut Burst<SimBuffer>) {
        self.reap(self.card.lazy);
        let room = self.card.ring.saturating_sub(self.ring.len()).min(frames.len());
        for frame in frames.drain(..room) {
            assert!(frame.parts() <= usize::from(self.card.offloads.max_parts).max(1));
            frame.set_on_device(true);
            self.ring.push_back(frame);
        }
    }
}
