//! UDP headers (RFC 768).

use super::read_u16;

/// Octets of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies.
pub const CHECKSUM_AT: usize = 6;

/// A header, checked against the octets that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who sent it.
    pub source_port: u16,
    /// Whom it is for.
    pub destination_port: u16,
    /// Octets of the datagram, header included.
    pub len: u16,
    /// Zero if the sender computed none.
    pub checksum: u16,
}

impl Header {
    /// The header at the start of a datagram of `total_len` octets, of which `first` is the
    /// beginning (the whole, unless it came in fragments). `None` if a length is wrong.
    #[must_use]
    #[inline]
    pub fn parse(first: &[u8], total_len: usize) -> Option<Header> {
        let header = Header {
            source_port: read_u16(first, 0)?,
            destination_port: read_u16(first, 2)?,
            len: read_u16(first, 4)?,
            checksum: read_u16(first, 6)?,
        };
        let len = usize::from(header.len);
        (len >= HEADER_LEN && len <= total_len).then_some(header)
    }

    /// Writes the header.
    ///
    /// # Panics
    /// If `into` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn emit(&self, into: &mut [u8]) {
        into[..2].copy_from_slice(&self.source_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        into[4..6].copy_from_slice(&self.len.to_be_bytes());
        into[6..8].copy_from_slice(&self.checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_both_ways() {
        let header = Header { source_port: 1, destination_port: 2, len: 9, checksum: 0 };
        let mut bytes = [0; 9];
        header.emit(&mut bytes);
        assert_eq!(Header::parse(&bytes, 9), Some(header));
        assert_eq!(Header::parse(&bytes, 8), None);
        assert_eq!(Header::parse(&bytes[..7], 7), None);
        bytes[5] = 7;
        assert_eq!(Header::parse(&bytes, 9), None);
    }
}
