//! The memory of one packet, as the stack sees it.
//!
//! A [`Buffer`] is an owning handle of one frame's memory: a DPDK mbuf in production, a heap block
//! in tests and simulation. Its bytes are a window with room in front (for headers to be
//! prepended on the way out) and behind (for more payload). Received data stays in its buffer
//! until the program copies it out; sent data is copied once, into the buffer that is both
//! transmitted and kept for retransmission.

use core::net::IpAddr;

/// Room in front of the payload of a fresh buffer, in octets: Ethernet (with two VLAN tags), IPv6
/// or IPv4 with options, and TCP with options.
pub const HEADROOM: usize = 128;

/// What the device said about the checksums of a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// The device did not look: the stack must.
    #[default]
    Unknown,
    /// The device found the IP and transport checksums good, or the peer never computed them
    /// because the frame did not cross a wire.
    Good,
    /// As `Good`, but for the IP header, which the device did not look at.
    TransportGood,
    /// The device found a bad checksum.
    Bad,
}

/// What the device is asked to do to a frame it sends. The lengths say where the headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TxOffload {
    /// Octets of the link header.
    pub l2_len: u8,
    /// Octets of the IP header.
    pub l3_len: u8,
    /// Octets of the transport header.
    pub l4_len: u8,
    /// Fill in the IPv4 header's checksum.
    pub ipv4_checksum: bool,
    /// Fill in the transport's checksum; the pseudo-header's sum is already in its field.
    pub l4_checksum: L4Checksum,
    /// Cut the payload into TCP segments of this many octets; 0 means do not.
    pub segment_size: u16,
}

/// Which transport checksum a device fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum L4Checksum {
    /// None: the stack has done it.
    #[default]
    Done,
    /// TCP's.
    Tcp,
    /// UDP's.
    Udp,
}

/// What the IP layer tells a transport about a packet it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpMeta {
    /// Who sent it.
    pub source: IpAddr,
    /// Which of our addresses (or broadcast, or group) it was sent to.
    pub destination: IpAddr,
    /// DSCP and ECN (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// What was left of its hop limit.
    pub hop_limit: u8,
}

/// A packet that a transport hands to the IP layer.
#[derive(Debug)]
pub struct Transmit<B> {
    /// Our address.
    pub source: IpAddr,
    /// The peer's.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The hop limit it starts with.
    pub hop_limit: u8,
    /// Routers must not fragment it (IPv4's DF).
    pub dont_fragment: bool,
    /// The transport's header, its checksum field zero, and the payload.
    pub packet: B,
    /// Octets of the transport's header.
    pub header_len: u8,
    /// The device (or the stack for it) cuts the payload into TCP segments of this many octets;
    /// 0 means the packet goes as it is.
    pub segment_size: u16,
}

/// An owning handle of one packet's memory. Dropping it gives the memory back to its pool.
///
/// A packet may be a chain of buffers: a frame that a device received in several, segments that
/// were coalesced, or a unit that the device cuts into segments. The handle is of its first buffer,
/// in which all headers are; the methods on octets speak of that one buffer alone.
pub trait Buffer: Sized + 'static {
    /// The octets of the (first) buffer.
    fn data(&self) -> &[u8];
    /// The packet's octets, to be changed. Only the sole handle, or the code that is building
    /// headers before the device has seen the buffer, may change them.
    fn data_mut(&mut self) -> &mut [u8];
    /// Octets that can be prepended.
    fn headroom(&self) -> usize;
    /// Octets that can be appended.
    fn tailroom(&self) -> usize;
    /// Grows the packet at its front by `n` octets (contents undefined) and returns them.
    ///
    /// # Panics
    /// If `n` exceeds the headroom.
    fn prepend(&mut self, n: usize) -> &mut [u8];
    /// Grows the packet at its end by `n` octets (contents undefined) and returns them.
    ///
    /// # Panics
    /// If `n` exceeds the tailroom.
    fn append(&mut self, n: usize) -> &mut [u8];
    /// Drops the first `n` octets; they become headroom.
    ///
    /// # Panics
    /// If the packet is shorter than `n`.
    fn trim_front(&mut self, n: usize);
    /// Keeps the first `len` octets; the rest becomes tailroom. No effect if already shorter.
    fn truncate(&mut self, len: usize);
    /// Another handle of the same packet, to be kept while this one is transmitted.
    ///
    /// With mbufs both handles alias one memory and one window: headers that the way out prepends
    /// show up in the kept handle too. The keeper must remember its payload's length, treat the
    /// *last* that many octets as its payload, and touch nothing while [`Buffer::is_shared`].
    /// (The heap implementation copies instead, which satisfies the same rule.)
    fn share(&self) -> Self;
    /// Whether another handle (a transmit queue, the device) still refers to this memory.
    fn is_shared(&self) -> bool;
    /// Buffers that the packet consists of.
    fn parts(&self) -> usize;
    /// Octets of the whole packet.
    fn packet_len(&self) -> usize;
    /// Chains `rest`, which may be a chain itself, behind this buffer, which must not be one.
    ///
    /// This buffer must be nobody else's; those of `rest` may be kept by others (see
    /// [`Buffer::share`]), who see nothing of the chain: their handles stay those of one buffer.
    fn chain(&mut self, rest: Self);
    /// Takes off what is chained behind the first buffer.
    fn take_rest(&mut self) -> Option<Self>;
    /// Calls `each` with the octets of every buffer of the packet, in order.
    fn for_each_part(&self, each: impl FnMut(&[u8]));
    /// What the device said about the received frame's checksums.
    fn rx_checksum(&self) -> RxChecksum;
    /// Payload of each of the segments that this received packet was coalesced of; 0 when it is
    /// one segment.
    fn rx_segment_size(&self) -> u16;
    /// The packet was coalesced of segments of that much payload, their checksums verified.
    fn set_rx_coalesced(&mut self, segment_size: u16);
    /// Tells the device what to do on transmission.
    fn set_tx_offload(&mut self, offload: TxOffload);
}

/// Where fresh buffers come from. A fresh buffer is empty with [`HEADROOM`] octets in front.
pub trait Allocator {
    /// The buffers it hands out.
    type Buffer: Buffer;
    /// A fresh, empty buffer, or `None` when the pool is exhausted or its reserve is reached.
    fn allocate(&mut self) -> Option<Self::Buffer>;
    /// How many buffers the pool has left.
    fn available(&self) -> usize;
    /// Whether it has more than `n` left, as far as it knows without looking closely.
    #[inline]
    fn has_more_than(&self, n: usize) -> bool {
        self.available() > n
    }
}

/// A [`Buffer`] on the heap, for tests and simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeapBuffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
    rx_checksum: RxChecksum,
    rx_segment_size: u16,
    tx_offload: TxOffload,
    rest: Option<Box<HeapBuffer>>,
}

impl HeapBuffer {
    /// Octets of payload that fit a fresh buffer.
    pub const ROOM: usize = 2048;

    /// A fresh, empty buffer.
    #[must_use]
    pub fn new() -> Self {
        HeapBuffer {
            storage: vec![0; HEADROOM + Self::ROOM],
            start: HEADROOM,
            end: HEADROOM,
            rx_checksum: RxChecksum::Unknown,
            rx_segment_size: 0,
            tx_offload: TxOffload::default(),
            rest: None,
        }
    }

    /// A buffer holding `bytes`, of whatever length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut storage = vec![0; HEADROOM + bytes.len().max(Self::ROOM)];
        storage[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        HeapBuffer { storage, end: HEADROOM + bytes.len(), ..HeapBuffer::new() }
    }

    /// What [`Buffer::set_tx_offload`] was told last.
    #[must_use]
    pub fn tx_offload(&self) -> TxOffload {
        self.tx_offload
    }

    /// Sets what [`Buffer::rx_checksum`] answers.
    pub fn set_rx_checksum(&mut self, checksum: RxChecksum) {
        self.rx_checksum = checksum;
    }
}

impl Default for HeapBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer for HeapBuffer {
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
        HeapBuffer { rest: None, ..self.clone() }
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn parts(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, |rest| rest.parts())
    }
    fn packet_len(&self) -> usize {
        self.end - self.start + self.rest.as_ref().map_or(0, |rest| rest.packet_len())
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
