//! The link: what the stack sends is written down with its time, what packetdrill injects is
//! received. A router answers for every address.

use stack::addr::MacAddr;
use stack::device::{Burst, Device, Offloads};
use stack::packet::{Allocator, Buffer, HeapBuffer};
use stack::time::Instant;
use stack::wire::{arp, ethernet};
use std::collections::VecDeque;

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Buffers, as far as the stack is told; the heap has them.
const BUFFERS: usize = 1 << 20;

/// An IP packet that the stack sent.
#[derive(Debug)]
pub struct Departure {
    /// When.
    pub at: Instant,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

/// The device under the stack.
#[derive(Debug)]
pub struct Tape {
    /// The time at which what the stack sends now is sent.
    pub now: Instant,
    /// What was sent and packetdrill has not asked for.
    pub sent: VecDeque<Departure>,
    arriving: VecDeque<HeapBuffer>,
    mtu: u16,
}

impl Tape {
    pub fn new(mtu: u16) -> Self {
        Tape { now: Instant::ZERO, sent: VecDeque::new(), arriving: VecDeque::new(), mtu }
    }

    /// An IP packet arrives.
    pub fn arrive(&mut self, packet: &[u8]) {
        let kind = if packet.first().is_some_and(|first| first >> 4 == 6) {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        };
        let frame = [&OURS.0[..], &ROUTER.0, &kind, packet].concat();
        self.arriving.push_back(received(&frame));
    }

    fn on_frame(&mut self, frame: &[u8]) {
        let Some(header) = ethernet::Header::parse(frame) else { return };
        let payload = frame.get(ethernet::HEADER_LEN..).unwrap_or_default();
        match header.ether_type {
            ethernet::EtherType::Ipv4 | ethernet::EtherType::Ipv6 => {
                self.sent.push_back(Departure { at: self.now, packet: payload.to_vec() });
            }
            ethernet::EtherType::Arp => self.on_arp(payload),
            _ => {}
        }
    }

    fn on_arp(&mut self, payload: &[u8]) {
        let Some(request) = arp::Packet::parse(payload) else { return };
        if request.operation != arp::Operation::Request || request.target == request.sender {
            return;
        }
        let reply = arp::Packet {
            operation: arp::Operation::Reply,
            sender_mac: ROUTER,
            sender: request.target,
            target_mac: request.sender_mac,
            target: request.sender,
        };
        let mut octets = [0; arp::LEN];
        reply.emit(&mut octets);
        let frame = [&OURS.0[..], &ROUTER.0, &[0x08, 0x06], &octets].concat();
        self.arriving.push_back(received(&frame));
    }
}

fn received(frame: &[u8]) -> HeapBuffer {
    HeapBuffer::from_bytes(frame)
}

impl Allocator for Tape {
    type Buffer = HeapBuffer;
    fn allocate(&mut self) -> Option<HeapBuffer> {
        Some(HeapBuffer::new())
    }
    fn available(&self) -> usize {
        BUFFERS
    }
}

impl Device for Tape {
    fn mac(&self) -> MacAddr {
        OURS
    }
    fn mtu(&self) -> u16 {
        self.mtu
    }
    fn offloads(&self) -> Offloads {
        Offloads::default()
    }
    fn rx_burst(&mut self, frames: &mut Burst<HeapBuffer>) {
        while !frames.is_full()
            && let Some(frame) = self.arriving.pop_front()
        {
            frames.push(frame);
        }
    }
    fn tx_burst(&mut self, frames: &mut Burst<HeapBuffer>) {
        for frame in frames.drain(..) {
            self.on_frame(frame.data());
        }
    }
}
