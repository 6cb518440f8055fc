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
    /// Fills in IPv4 header checksums.
    pub tx_ipv4_checksum: bool,
    /// Fills in TCP checksums.
    pub tx_tcp_checksum: bool,
    /// Fills in UDP checksums.
    pub tx_udp_checksum: bool,
    /// Cuts TCP segments.
    pub tso: bool,
    /// Takes frames made of several buffers.
    pub multi_segment: bool,
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
}
