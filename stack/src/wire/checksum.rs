//! The Internet checksum (RFC 1071): sums in native order over wide words, folds once at the end.

use core::net::{IpAddr, Ipv4Addr};

/// A running one's-complement sum of 16-bit words, not yet folded or complemented.
///
/// Every octet string added must start at an even offset of what is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

/// Octets summed per turn of the wide loop.
const LANES: usize = 8;
/// Below this many octets one lane does.
const SHORT: usize = 160;

impl Sum {
    /// The sum of `bytes`, an odd last octet padded with zero.
    #[must_use]
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        // One's-complement addition commutes with byte order (RFC 1071 §2 (B)), so whole native
        // words are added; 64-bit lanes of 32-bit words cannot overflow within 2^32 words.
        if bytes.len() < SHORT {
            return Self::of_few(bytes);
        }
        let mut lanes = [0u64; LANES];
        let mut chunks = bytes.chunks_exact(4 * LANES);
        for chunk in &mut chunks {
            for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let mut total: u64 = lanes.iter().sum();
        let mut words = chunks.remainder().chunks_exact(2);
        for word in &mut words {
            total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Sum(total)
    }

    /// As [`Sum::of`] for headers and small packets, where setting the lanes up costs more.
    #[inline]
    fn of_few(bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut total = 0u64;
        let mut carries = 0u64;
        for word in words {
            let (sum, carry) = total.overflowing_add(u64::from_ne_bytes(*word));
            total = sum;
            carries += u64::from(carry);
        }
        let mut total = (total >> 32) + (total & 0xffff_ffff) + carries;
        let (words, rest) = rest.as_chunks::<2>();
        for word in words {
            total += u64::from(u16::from_ne_bytes(*word));
        }
        if let [last] = rest {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Sum(total)
    }

    /// The sum of both.
    #[must_use]
    #[inline]
    pub fn plus(self, other: Sum) -> Sum {
        // Neither exceeds 2^49 (2^16 octets in 32-bit words) by much, so this cannot wrap in use;
        // folding first would make it safe for any length at no gain.
        Sum(self.0.wrapping_add(other.0))
    }

    /// The sum of the same octets where they start at `offset` of what is summed: at an odd one
    /// every octet is the other half of its word.
    ///
    /// //= RFC 1071 §2 (B)
    #[must_use]
    #[inline]
    pub fn at(self, offset: usize) -> Sum {
        if offset.is_multiple_of(2) {
            self
        } else {
            Sum(u64::from(self.fold().to_be().swap_bytes()))
        }
    }

    /// Adds one 16-bit word.
    #[must_use]
    #[inline]
    pub fn plus_word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word.to_be()))
    }

    /// The sum as a 16-bit word, not complemented: what a device expects in the checksum field
    /// when it finishes the checksum itself.
    #[must_use]
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be(sum as u16)
    }

    /// The checksum: the folded sum's complement.
    #[must_use]
    #[inline]
    pub fn finish(self) -> u16 {
        !self.fold()
    }
}

/// The checksum of `bytes`. Zero if they contain their own, right checksum.
#[must_use]
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::of(bytes).finish()
}

/// The sum of the pseudo-header (RFC 9293 §3.1, RFC 768; RFC 8200 §8.1) for a transport packet of
/// `len` octets. Mixed families, which no caller has, sum to an unusable value.
#[must_use]
#[inline]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Sum {
    let addresses = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => v4_pair(s, d),
        (IpAddr::V6(s), IpAddr::V6(d)) => Sum::of(&s.octets()).plus(Sum::of(&d.octets())),
        _ => Sum::default(),
    };
    let len = len as u32;
    addresses.plus_word(u16::from(protocol)).plus_word((len >> 16) as u16).plus_word(len as u16)
}

/// As [`pseudo_header`] between two IPv4 addresses.
#[must_use]
#[inline]
pub fn pseudo_header_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> Sum {
    let len = len as u32;
    v4_pair(source, destination)
        .plus_word(u16::from(protocol))
        .plus_word((len >> 16) as u16)
        .plus_word(len as u16)
}

#[inline]
fn v4_pair(source: Ipv4Addr, destination: Ipv4Addr) -> Sum {
    let word = |a: Ipv4Addr| u64::from(u32::from_ne_bytes(a.octets()));
    Sum(word(source) + word(destination))
}

/// The checksum after one 16-bit word changed from `old` to `new`.
///
/// //= RFC 1624 §3 (Eqn. 3)
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_section_3_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
    }

    #[test]
    fn agrees_with_the_definition_at_every_length() {
        let bytes: Vec<u8> =
            (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(checksum(&bytes[..len]), reference(&bytes[..len]), "length {len}");
        }
        assert_eq!(checksum(&[0xff; 65_535]), reference(&[0xff; 65_535]));
    }

    #[test]
    fn parts_of_any_length_add_up() {
        let bytes: Vec<u8> = (0..700u32).map(|i| (i.wrapping_mul(97) >> 3) as u8).collect();
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            let (b, c) = b.split_at(b.len() / 3);
            let sum = Sum::of(a).plus(Sum::of(b).at(a.len())).plus(Sum::of(c).at(cut + b.len()));
            assert_eq!(sum.finish(), reference(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_word_updates_as_if_summed_anew() {
        let mut bytes: Vec<u8> = (0..40).collect();
        let before = checksum(&bytes);
        bytes[6..8].copy_from_slice(&[0xbe, 0xef]);
        assert_eq!(update(before, 0x0607, 0xbeef), checksum(&bytes));
    }

    #[test]
    fn the_pseudo_header_is_summed_as_its_octets() {
        let (s, d) = (Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(192, 168, 7, 9));
        let bytes = [10, 1, 2, 3, 192, 168, 7, 9, 0, 17, 0x12, 0x34];
        let sum = pseudo_header(s.into(), d.into(), 17, 0x1234);
        assert_eq!(sum.fold(), Sum::of(&bytes).fold());
    }
}
