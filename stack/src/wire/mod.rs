//! Wire formats: each is parsed once, by a function that checks every length, into a value that
//! proves it; each is emitted into octets that the caller has room for. Nothing is copied but
//! header fields.
//!
//! Called by `shard` and the protocols; knows no state and no time. TCP's format is in `tcp`.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod ipv4;
pub mod udp;

/// The two octets at `at`, in network order; `None` beyond the end.
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

/// The four octets at `at`.
pub(crate) fn read_4(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4).map(|b| [b[0], b[1], b[2], b[3]])
}
