//! Initial sequence numbers (RFC 6528) and timestamp offsets: a keyed hash of the connection, so
//! that nobody can guess them, plus a clock, so that a new incarnation starts above the old one.

use crate::rng::HashKey;
use crate::tcp::demux::Tuple;
use crate::tcp::seq::SeqNumber;
use crate::time::Instant;

/// The initial sequence number of the connection `tuple`.
pub(crate) fn initial_sequence(tuple: &Tuple, key: HashKey, now: Instant) -> SeqNumber {
    //= RFC 6528 §3: ISN = M + F(addresses, ports, key). M ticks every 64 ns, as Linux's.
    let clock = (now.as_nanos() >> 6) as u32;
    SeqNumber((tuple.hash(key) as u32).wrapping_add(clock))
}

/// What is added to our timestamp clock towards `tuple`'s peer. It does not depend on the ports:
/// the peer's PAWS must see time go on from one connection to the next.
pub(crate) fn timestamp_offset(tuple: &Tuple, key: HashKey) -> u32 {
    Tuple { local_port: 0, remote_port: 0, ..*tuple }.hash(key) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use core::net::{IpAddr, Ipv4Addr};

    #[test]
    fn rfc_6528_depends_on_the_connection_and_advances_with_time() {
        let key = HashKey::new(&mut Rng::new([1; 32]));
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let tuple = Tuple { local: address, remote: address, local_port: 1, remote_port: 2 };
        let other = Tuple { remote_port: 3, ..tuple };
        let at = |ms| initial_sequence(&tuple, key, Instant::from_millis(ms));
        assert_eq!(at(5), at(5));
        assert!(at(6).after(at(5)));
        assert_ne!(at(5), initial_sequence(&other, key, Instant::from_millis(5)));
        assert_eq!(timestamp_offset(&tuple, key), timestamp_offset(&other, key));
    }
}
