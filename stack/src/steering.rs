//! Which shard a frame belongs to, when there are several.
//!
//! Both directions of a TCP connection have one hash: Toeplitz's, which cards compute, under the key
//! that repeats every 16 bits, so that swapping the two ends changes nothing (and so that it is a
//! function of the XOR of all 16-bit words). The hash chooses one of [`TABLE`] places, as a card's
//! indirection table does, and those are dealt out to the shards in turn. What is not TCP belongs to
//! the first shard; ARP is for every one.
//!
//! Nothing here is secret: whoever chooses ports can choose shards, and gains no more than that.

use core::net::Ipv4Addr;

/// The key to give to a card, as long as the longest that one takes.
pub const KEY: [u8; 52] = {
    let mut key = [0x6d; 52];
    let mut at = 1;
    while at < key.len() {
        key[at] = 0x5a;
        at += 2;
    }
    key
};

/// Places among which the hash chooses: every card's table is a multiple.
pub const TABLE: u16 = 128;

/// The most shards.
pub const MOST: u16 = 16;

/// The hash of each octet of a word: the high one's, then the low one's.
const OCTETS: [[u16; 256]; 2] = {
    let mut tables = [[0; 256]; 2];
    let mut octet: u16 = 0;
    while octet < 256 {
        tables[0][octet as usize] = hash_of_word(octet << 8);
        tables[1][octet as usize] = hash_of_word(octet);
        octet += 1;
    }
    tables
};

/// Toeplitz's hash of one word, bit by bit; its other half is the same.
const fn hash_of_word(word: u16) -> u16 {
    let (mut hash, mut bit) = (0, 0);
    while bit < 16 {
        if word & (0x8000 >> bit) != 0 {
            hash ^= 0x6d5a_u16.rotate_left(bit);
        }
        bit += 1;
    }
    hash
}

/// The hash of a flow, the same for both directions: the low half of the 32 bits.
#[must_use]
pub fn hash(addresses: [Ipv4Addr; 2], ports: [u16; 2]) -> u16 {
    let words = addresses.map(|address| {
        let bits = address.to_bits();
        (bits >> 16) as u16 ^ bits as u16
    });
    let [high, low] = (words[0] ^ words[1] ^ ports[0] ^ ports[1]).to_be_bytes();
    OCTETS[0][usize::from(high)] ^ OCTETS[1][usize::from(low)]
}

/// A shard's part of all flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    index: u16,
    of: u16,
}

impl Default for Share {
    fn default() -> Self {
        Share::ALL
    }
}

impl Share {
    /// The only shard's.
    pub const ALL: Share = Share { index: 0, of: 1 };

    /// That of shard `index` of `of` (1 to [`MOST`]).
    #[must_use]
    pub const fn new(index: u16, of: u16) -> Self {
        Share { index, of: if of == 0 { 1 } else { of } }
    }

    /// Whether it is that of the first shard, which speaks for the host.
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.index == 0
    }

    /// Whether a flow of TCP is in it.
    #[inline]
    #[must_use]
    pub fn has(self, addresses: [Ipv4Addr; 2], ports: [u16; 2]) -> bool {
        self.of == 1 || shard_of(hash(addresses, ports), self.of) == self.index
    }
}

/// The shard, of `of`, that flows of this hash belong to.
#[inline]
#[must_use]
pub const fn shard_of(hash: u16, of: u16) -> u16 {
    hash % TABLE % of
}

/// Whose a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// That of one shard.
    Shard(u16),
    /// For each of them.
    Every,
}

const ETHERNET: usize = 14;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
const ICMP: u8 = 1;

/// Whose `frame` is among `of` shards. A fragment's owner is the first: ports are not to be seen in
/// all of them.
#[must_use]
pub fn owner(frame: &[u8], of: u16) -> Owner {
    match frame.get(12..14) {
        Some(kind) if kind == ARP => Owner::Every,
        Some(kind) if kind == IPV4 => {
            let packet = frame.get(ETHERNET..).unwrap_or_default();
            Owner::Shard(flow(packet).map_or(0, |hash| shard_of(hash, of)))
        }
        _ => Owner::Shard(0),
    }
}

/// The hash of the TCP flow that an IPv4 packet belongs to, or reports an error of.
fn flow(packet: &[u8]) -> Option<u16> {
    let (protocol, payload) = payload(packet)?;
    match protocol {
        TCP => hash_of_packet(packet, payload),
        // //= RFC 792: errors quote the packet that they are about.
        ICMP if matches!(packet.get(payload)?, 3 | 4 | 11 | 12) => {
            let quoted = packet.get(payload + 8..)?;
            let (protocol, payload) = self::payload(quoted)?;
            if protocol == TCP { hash_of_packet(quoted, payload) } else { None }
        }
        _ => None,
    }
}

/// The protocol of an unfragmented IPv4 packet, and where its payload begins.
fn payload(packet: &[u8]) -> Option<(u8, usize)> {
    let header = packet.first_chunk::<20>()?;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    let at = usize::from(header[0] & 0xf) * 4;
    (header[0] >> 4 == 4 && at >= 20 && fragment == 0).then_some((header[9], at))
}

fn hash_of_packet(packet: &[u8], payload: usize) -> Option<u16> {
    let header = packet.first_chunk::<20>()?;
    let ports = packet.get(payload..)?.first_chunk::<4>()?;
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(hash([address(12), address(16)], [port(0), port(2)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Toeplitz's hash as its authors define it: the key's window slides over the input.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let mut window = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
        let mut hash = 0;
        for (at, octet) in input.iter().enumerate() {
            for bit in 0..8 {
                if octet & (0x80 >> bit) != 0 {
                    hash ^= window;
                }
                let next = key[at + 4] >> (7 - bit) & 1;
                window = window << 1 | u32::from(next);
            }
        }
        hash
    }

    fn some_flows() -> impl Iterator<Item = ([Ipv4Addr; 2], [u16; 2])> {
        (0..2_000_u32).map(|n| {
            let mixed = n.wrapping_mul(0x9e37_79b9);
            let addresses =
                [Ipv4Addr::from_bits(mixed), Ipv4Addr::from_bits(!mixed.rotate_left(9))];
            (addresses, [(mixed >> 3) as u16, (mixed >> 11) as u16 ^ n as u16])
        })
    }

    #[test]
    fn it_is_what_a_card_computes_with_the_key() {
        for ([a, b], [p, q]) in some_flows() {
            let input = [&a.octets()[..], &b.octets(), &p.to_be_bytes(), &q.to_be_bytes()].concat();
            let card = toeplitz(&KEY, &input);
            assert_eq!(hash([a, b], [p, q]), card as u16);
            assert_eq!(card >> 16, card & 0xffff);
        }
    }

    #[test]
    fn both_directions_have_one_owner_and_all_shards_have_flows() {
        let mut counts = [0_u32; 4];
        for ([a, b], [p, q]) in some_flows() {
            assert_eq!(hash([a, b], [p, q]), hash([b, a], [q, p]));
            let shard = shard_of(hash([a, b], [p, q]), 4);
            counts[usize::from(shard)] += 1;
            let having = (0..4).filter(|index| Share::new(*index, 4).has([a, b], [p, q]));
            assert_eq!(having.collect::<Vec<_>>(), [shard]);
            assert!(Share::ALL.has([a, b], [p, q]));
        }
        assert!(counts.iter().all(|count| *count > 300), "{counts:?}");
    }

    fn ethernet(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind, payload].concat()
    }

    fn packet(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 20 + options];
        header[0] = 0x40 | (5 + options / 4) as u8;
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[9] = protocol;
        header[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        [&header[..], payload].concat()
    }

    const PORTS: [u16; 2] = [40_001, 80];

    fn segment() -> Vec<u8> {
        [&PORTS[0].to_be_bytes()[..], &PORTS[1].to_be_bytes(), &[0; 16]].concat()
    }

    #[test]
    fn frames_go_where_their_flow_does() {
        let ends = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let owner_of = |packet: &[u8]| owner(&ethernet(IPV4, packet), 16);
        let flow = Owner::Shard(shard_of(hash(ends, PORTS), 16));
        assert_ne!(flow, Owner::Shard(0));
        assert_eq!(owner_of(&packet(TCP, 0x4000, 0, &segment())), flow);
        assert_eq!(owner_of(&packet(TCP, 0, 8, &segment())), flow);
        let unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &packet(TCP, 0x4000, 0, &segment())];
        assert_eq!(owner_of(&packet(ICMP, 0, 0, &unreachable.concat())), flow);
    }

    #[test]
    fn what_is_no_flow_is_the_first_shards() {
        let first = Owner::Shard(0);
        let segment = segment();
        for packet in [
            packet(TCP, 0x2000, 0, &segment),
            packet(TCP, 0x0001, 0, &segment),
            packet(17, 0, 0, &segment),
            packet(ICMP, 0, 0, &[8, 0, 0, 0, 0, 0, 0, 0]),
            packet(TCP, 0, 0, &segment[..3]),
            packet(TCP, 0, 0, &segment)[..12].to_vec(),
        ] {
            assert_eq!(owner(&ethernet(IPV4, &packet), 16), first);
        }
        assert_eq!(owner(&ethernet([0x86, 0xdd], &[0; 60]), 16), first);
        assert_eq!(owner(&[], 16), first);
        assert_eq!(owner(&ethernet(ARP, &[0; 28]), 16), Owner::Every);
    }
}
