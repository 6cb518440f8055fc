//! IPv4 headers (RFC 791).

use super::checksum::checksum;
use super::{read_4, read_u16};
use core::net::Ipv4Addr;

/// Octets of a header without options: the only kind we send.
pub const HEADER_LEN: usize = 20;

/// The transports, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 792.
    Icmp,
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// Anything else.
    Other(u8),
}

impl Protocol {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Icmp => 1,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Other(number) => number,
        }
    }
}

impl From<u8> for Protocol {
    fn from(number: u8) -> Self {
        match number {
            1 => Protocol::Icmp,
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            other => Protocol::Other(other),
        }
    }
}

/// Why octets are no IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than a header.
    TooShort,
    /// The version is not 4.
    Version,
    /// The header length is below 20 or beyond the packet.
    HeaderLength,
    /// The total length is below the header's or beyond what arrived.
    TotalLength,
    /// The header's checksum is wrong.
    Checksum,
    /// An option asks for a source route, which a host must not follow unasked.
    SourceRoute,
}

/// Whether the header's checksum is to be verified or a device did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Compute it.
    Checksum,
    /// Trust the device, or accept a quoted header that routers have changed.
    Nothing,
}

/// A header, checked against the octets that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Octets of the header, options included.
    pub header_len: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Octets of the packet, header included.
    pub total_len: u16,
    /// Identifies the fragments of one packet.
    pub identification: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Where this fragment's payload lies in the packet's, in octets.
    pub fragment_offset: u16,
    /// TTL.
    pub hop_limit: u8,
    /// What follows.
    pub protocol: Protocol,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// Whom it is for.
    pub destination: Ipv4Addr,
}

impl Header {
    /// The header at the start of `packet`, whose octets past the total length (Ethernet's
    /// padding) are the caller's to cut off.
    ///
    /// //= RFC 1122 §3.2.1
    #[inline]
    pub fn parse(packet: &[u8], verify: Verify) -> Result<Header, Malformed> {
        Self::parse_within(packet, packet.len(), verify)
    }

    /// The same, when `packet` is the beginning of `len` octets.
    #[inline]
    pub fn parse_within(packet: &[u8], len: usize, verify: Verify) -> Result<Header, Malformed> {
        let header = Self::parse_quoted(packet)?;
        if usize::from(header.total_len) > len {
            return Err(Malformed::TotalLength);
        }
        let octets = &packet[..usize::from(header.header_len)];
        if verify == Verify::Checksum && checksum(octets) != 0 {
            return Err(Malformed::Checksum);
        }
        if octets.len() > HEADER_LEN && has_source_route(&octets[HEADER_LEN..]) {
            return Err(Malformed::SourceRoute);
        }
        Ok(header)
    }

    /// The header at the start of `packet`, which may be cut off after it: as quoted by ICMP.
    #[inline]
    pub fn parse_quoted(packet: &[u8]) -> Result<Header, Malformed> {
        let Some(fixed) = packet.first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::TooShort);
        };
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_len = (fixed[0] & 0x0f) * 4;
        if usize::from(header_len) < HEADER_LEN || usize::from(header_len) > packet.len() {
            return Err(Malformed::HeaderLength);
        }
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let address = |at: usize| Ipv4Addr::from(read_4(fixed, at).unwrap_or_default());
        let total_len = word(2);
        if total_len < u16::from(header_len) {
            return Err(Malformed::TotalLength);
        }
        let fragment = word(6);
        Ok(Header {
            header_len,
            traffic_class: fixed[1],
            total_len,
            identification: word(4),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: (fragment & 0x1fff) * 8,
            hop_limit: fixed[8],
            protocol: fixed[9].into(),
            source: address(12),
            destination: address(16),
        })
    }

    /// Octets after the header.
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        self.total_len - u16::from(self.header_len)
    }

    /// Whether this is a part of a packet.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes a header without options, its checksum filled in, or zero for a device to fill.
    ///
    /// # Panics
    /// If `into` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn emit(&self, into: &mut [u8], checksum_by: ChecksumBy) {
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        into[0] = 0x45;
        into[1] = self.traffic_class;
        into[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        into[4..6].copy_from_slice(&self.identification.to_be_bytes());
        into[6..8].copy_from_slice(&(flags | (self.fragment_offset / 8)).to_be_bytes());
        into[8] = self.hop_limit;
        into[9] = self.protocol.number();
        into[10..12].fill(0);
        into[12..16].copy_from_slice(&self.source.octets());
        into[16..20].copy_from_slice(&self.destination.octets());
        if checksum_by == ChecksumBy::Stack {
            let sum = checksum(&into[..HEADER_LEN]);
            into[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// Who computes a checksum on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumBy {
    /// We do.
    Stack,
    /// The device does.
    Device,
}

/// Walks the options for LSRR (131) and SSRR (137). Options that do not parse end the walk: they
/// are ours to ignore (RFC 1122 §3.2.1.8).
fn has_source_route(mut options: &[u8]) -> bool {
    while let Some(&kind) = options.first() {
        let len = match kind {
            0 => return false,
            1 => 1,
            131 | 137 => return true,
            _ => usize::from(*options.get(1).unwrap_or(&0)),
        };
        if len == 0 || len > options.len() {
            return false;
        }
        options = &options[len..];
    }
    false
}

/// The source and destination ports at the start of a TCP or UDP packet.
#[must_use]
pub fn ports(transport: &[u8]) -> Option<(u16, u16)> {
    Some((read_u16(transport, 0)?, read_u16(transport, 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            header_len: 20,
            traffic_class: 0x2e << 2,
            total_len: 28,
            identification: 0xabcd,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            hop_limit: 64,
            protocol: Protocol::Udp,
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    fn emitted() -> [u8; 28] {
        let mut bytes = [0; 28];
        header().emit(&mut bytes, ChecksumBy::Stack);
        bytes
    }

    #[test]
    fn what_is_emitted_parses() {
        assert_eq!(Header::parse(&emitted(), Verify::Checksum), Ok(header()));
        let fragment = Header {
            more_fragments: true,
            dont_fragment: false,
            fragment_offset: 65_528,
            ..header()
        };
        let mut bytes = [0; 28];
        fragment.emit(&mut bytes, ChecksumBy::Stack);
        assert_eq!(Header::parse(&bytes, Verify::Checksum), Ok(fragment));
        assert!(fragment.is_fragment());
    }

    #[test]
    fn every_header_check_of_rfc_1122() {
        let bytes = emitted();
        let check = |change: &dyn Fn(&mut [u8; 28])| {
            let mut changed = bytes;
            change(&mut changed);
            Header::parse(&changed, Verify::Nothing)
        };
        assert_eq!(Header::parse(&bytes[..19], Verify::Checksum), Err(Malformed::TooShort));
        assert_eq!(check(&|b| b[0] = 0x65), Err(Malformed::Version));
        assert_eq!(check(&|b| b[0] = 0x44), Err(Malformed::HeaderLength));
        assert_eq!(check(&|b| b[0] = 0x4f), Err(Malformed::HeaderLength));
        assert_eq!(check(&|b| b[3] = 19), Err(Malformed::TotalLength));
        assert_eq!(check(&|b| b[3] = 29), Err(Malformed::TotalLength));
        for at in 0..20 {
            let mut wrong = bytes;
            wrong[at] ^= 0x10;
            assert!(Header::parse(&wrong, Verify::Checksum).is_err(), "octet {at}");
        }
    }

    #[test]
    fn source_routes_are_refused_and_other_options_skipped() {
        let with_options = |options: [u8; 4]| {
            let mut bytes = [0; 32];
            Header { total_len: 32, ..header() }.emit(&mut bytes, ChecksumBy::Stack);
            bytes[0] = 0x46;
            bytes[20..24].copy_from_slice(&options);
            Header::parse(&bytes, Verify::Nothing).map(|h| h.header_len)
        };
        assert_eq!(with_options([1, 1, 1, 0]), Ok(24));
        assert_eq!(with_options([148, 4, 0, 0]), Ok(24));
        assert_eq!(with_options([7, 0, 0, 0]), Ok(24));
        assert_eq!(with_options([1, 131, 3, 4]), Err(Malformed::SourceRoute));
        assert_eq!(with_options([137, 3, 4, 0]), Err(Malformed::SourceRoute));
    }
}
