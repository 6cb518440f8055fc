//! ARP for IPv4 over Ethernet (RFC 826).

use super::{read_4, read_u16};
use crate::addr::MacAddr;
use core::net::Ipv4Addr;

/// Octets of a packet.
pub const LEN: usize = 28;

/// What a packet asks or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227 §1.1).
    pub sender: Ipv4Addr,
    /// The target's Ethernet address; meaningless in a request.
    pub target_mac: MacAddr,
    /// The target's IPv4 address.
    pub target: Ipv4Addr,
}

impl Packet {
    /// The packet at the start of `bytes`; `None` if it is short, not for IPv4 over Ethernet, or
    /// neither request nor reply.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Packet> {
        let bytes: &[u8; LEN] = bytes.first_chunk()?;
        let fixed = [0x00, 0x01, 0x08, 0x00, 6, 4];
        if bytes[..6] != fixed {
            return None;
        }
        let operation = match read_u16(bytes, 6)? {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| bytes[at..].first_chunk::<6>().copied().map(MacAddr);
        let address = |at: usize| read_4(bytes, at).map(Ipv4Addr::from);
        Some(Packet {
            operation,
            sender_mac: mac(8)?,
            sender: address(14)?,
            target_mac: mac(18)?,
            target: address(24)?,
        })
    }

    /// Writes the packet.
    ///
    /// # Panics
    /// If `into` is shorter than [`LEN`].
    pub fn emit(&self, into: &mut [u8]) {
        let operation = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        into[..8].copy_from_slice(&[0x00, 0x01, 0x08, 0x00, 6, 4, 0, operation]);
        into[8..14].copy_from_slice(&self.sender_mac.0);
        into[14..18].copy_from_slice(&self.sender.octets());
        into[18..24].copy_from_slice(&self.target_mac.0);
        into[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_parses_and_other_hardware_does_not() {
        let packet = Packet {
            operation: Operation::Reply,
            sender_mac: MacAddr([2; 6]),
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr([4; 6]),
            target: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut bytes = [0; LEN];
        packet.emit(&mut bytes);
        assert_eq!(Packet::parse(&bytes), Some(packet));
        assert_eq!(Packet::parse(&bytes[..LEN - 1]), None);
        for at in 0..7 {
            let mut other = bytes;
            other[at] ^= 0x40;
            assert_eq!(Packet::parse(&other), None, "octet {at}");
        }
    }
}
