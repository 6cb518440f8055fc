//! What the stack needs of a network device.

use crate::addr::MacAddr;
use crate::packet::Allocator;
use arrayvec::ArrayVec;

/// Frames taken from or given to a device in one call.
pub const BURST: usize = 32;

/// Up to [`BURST`] frames.
pub type Burst<B> = ArrayVec<B, BURST>;

/// What a device does for the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Reports the checksums of received frames.
    pub rx_checksum: bool,
    /// Hands over received segments of one flow as one (LRO).
    pub lro: bool,
    /// Fills in IPv4 header checksums.
    pub tx_ipv4_checksum: bool,
    /// Fills in TCP checksums.
    pub tx_tcp_checksum: bool,
    /// Fills in UDP checksums.
    pub tx_udp_checksum: bool,
    /// Packets shorter than this, from the transport's header on, are summed by the stack all the
    /// same: what a driver in software does to be told costs more.
    pub checksum_from: u16,
    /// Cuts TCP segments.
    pub tso: bool,
    /// Buffers that a frame to be sent may consist of; 0 and 1 mean one.
    pub max_parts: u16,
}

impl Offloads {
    /// Their names, for people, of those that are there.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let Offloads {
            rx_checksum,
            lro,
            tx_ipv4_checksum,
            tx_tcp_checksum,
            tx_udp_checksum,
            checksum_from: _,
            tso,
            max_parts,
        } = *self;
        let table = [
            (rx_checksum, "rx-checksum"),
            (lro, "lro"),
            (tx_ipv4_checksum, "tx-ipv4-checksum"),
            (tx_tcp_checksum, "tx-tcp-checksum"),
            (tx_udp_checksum, "tx-udp-checksum"),
            (tso, "tso"),
            (max_parts > 1, "multi-segment"),
        ];
        table.into_iter().filter(|(there, _)| *there).map(|(_, name)| name)
    }
}

/// One queue pair of a network port: frames in, frames out, buffers from its pool.
pub trait Device: Allocator {
    /// Its Ethernet address.
    fn mac(&self) -> MacAddr;
    /// The largest IP packet it carries, in octets.
    fn mtu(&self) -> u16;
    /// What it does for us.
    fn offloads(&self) -> Offloads;
    /// Appends received frames to `frames` (which may be full: then none). Never blocks.
    fn rx_burst(&mut self, frames: &mut Burst<Self::Buffer>);
    /// Takes frames from the front of `frames`; those it has no room for stay, in order.
    fn tx_burst(&mut self, frames: &mut Burst<Self::Buffer>);
    /// A received frame that is another shard's after all. Where there is one shard there is none.
    fn hand_over(&mut self, frame: Self::Buffer) {
        drop(frame);
    }
}
