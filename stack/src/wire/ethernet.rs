//! Ethernet II frames (IEEE 802.3 §3, RFC 894).

use super::read_u16;
use crate::addr::MacAddr;
use core::net::Ipv4Addr;

/// Octets of the header.
pub const HEADER_LEN: usize = 14;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EtherType {
    /// RFC 894.
    Ipv4,
    /// RFC 826.
    Arp,
    /// RFC 2464. Not spoken yet: such frames are dropped and counted.
    Ipv6,
    /// Anything else, by number.
    Other(u16),
}

impl EtherType {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            EtherType::Ipv4 => 0x0800,
            EtherType::Arp => 0x0806,
            EtherType::Ipv6 => 0x86dd,
            EtherType::Other(number) => number,
        }
    }
}

impl From<u16> for EtherType {
    fn from(number: u16) -> Self {
        match number {
            0x0800 => EtherType::Ipv4,
            0x0806 => EtherType::Arp,
            0x86dd => EtherType::Ipv6,
            other => EtherType::Other(other),
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whom it is for.
    pub destination: MacAddr,
    /// Who sent it.
    pub source: MacAddr,
    /// What follows.
    pub ether_type: EtherType,
}

impl Header {
    /// The header at the start of `frame`; `None` if the frame is too short for one.
    #[must_use]
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Header> {
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let source = rest.first_chunk::<6>()?;
        Some(Header {
            destination: MacAddr(*destination),
            source: MacAddr(*source),
            ether_type: read_u16(frame, 12)?.into(),
        })
    }

    /// Writes the header.
    ///
    /// # Panics
    /// If `into` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn emit(&self, into: &mut [u8]) {
        into[..6].copy_from_slice(&self.destination.0);
        into[6..12].copy_from_slice(&self.source.0);
        into[12..14].copy_from_slice(&self.ether_type.number().to_be_bytes());
    }
}

/// The group address that carries an IPv4 multicast group.
///
/// //= RFC 1112 §6.4
#[must_use]
pub fn multicast_v4(group: Ipv4Addr) -> MacAddr {
    let [_, b, c, d] = group.octets();
    MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_parses_and_short_frames_do_not() {
        let header = Header {
            destination: MacAddr([1, 2, 3, 4, 5, 6]),
            source: MacAddr([7, 8, 9, 10, 11, 12]),
            ether_type: EtherType::Arp,
        };
        let mut bytes = [0; HEADER_LEN];
        header.emit(&mut bytes);
        assert_eq!(Header::parse(&bytes), Some(header));
        for len in 0..HEADER_LEN {
            assert_eq!(Header::parse(&bytes[..len]), None);
        }
    }
}
