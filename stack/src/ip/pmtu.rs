//! What the network said about the MTU of paths (RFC 1191): exceptions from the routes' MTU, a
//! bounded number, each forgotten after ten minutes so that a better path is found.
//!
//! `shard` adds one for every believable "fragmentation needed" and asks when a connection or a
//! datagram starts on its way.

use crate::config::PATH_MTU_LIFETIME;
use crate::time::Instant;
use core::net::IpAddr;

/// Destinations with an MTU of their own.
const CAPACITY: usize = 256;
/// Below this nothing is believed (Linux: `min_pmtu`): a forged error must not make packets tiny.
pub const LEAST: u16 = 552;

/// The next lower of the MTUs that links have (RFC 1191 §7): for routers that do not say.
const PLATEAUS: [u16; 9] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 576, 552];

#[derive(Debug, Clone, Copy)]
struct Exception {
    destination: IpAddr,
    mtu: u16,
    until: Instant,
}

/// The exceptions.
#[derive(Debug)]
pub struct PathMtus {
    entries: Vec<Exception>,
    next: usize,
}

impl PathMtus {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        PathMtus { entries: Vec::with_capacity(CAPACITY), next: 0 }
    }

    /// The MTU towards `destination`, if it is known to be less than the route's.
    #[inline]
    #[must_use]
    pub fn get(&self, destination: IpAddr, now: Instant) -> Option<u16> {
        let known = self.entries.iter().find(|entry| entry.destination == destination)?;
        (now < known.until).then_some(known.mtu)
    }

    /// A router on the way to `destination` takes no packets larger than `mtu`.
    pub fn learn(&mut self, destination: IpAddr, mtu: u16, now: Instant) {
        let fresh = Exception { destination, mtu, until: now + PATH_MTU_LIFETIME };
        let known = self.entries.iter().position(|entry| entry.destination == destination);
        let spent = || self.entries.iter().position(|entry| entry.until <= now);
        match known.or_else(spent) {
            Some(at) => self.entries[at] = fresh,
            None if self.entries.len() < CAPACITY => self.entries.push(fresh),
            None => {
                self.entries[self.next % CAPACITY] = fresh;
                self.next = (self.next + 1) % CAPACITY;
            }
        }
    }
}

impl Default for PathMtus {
    fn default() -> Self {
        Self::new()
    }
}

/// The MTU that an error means: `told` by the router about a packet of `len` octets.
#[must_use]
pub fn meant(told: u16, len: u16) -> u16 {
    let mtu = if told == 0 {
        // //= RFC 1191 §5: an old router says nothing.
        PLATEAUS.into_iter().find(|plateau| *plateau < len).unwrap_or(LEAST)
    } else {
        told
    };
    mtu.max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn to(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    #[test]
    fn an_exception_lasts_ten_minutes() {
        let mut mtus = PathMtus::new();
        let at = |s: u64| Instant::from_millis(s * 1_000);
        mtus.learn(to(1), 1_400, at(10));
        assert_eq!(mtus.get(to(1), at(609)), Some(1_400));
        assert_eq!(mtus.get(to(1), at(610)), None);
        assert_eq!(mtus.get(to(2), at(10)), None);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut mtus = PathMtus::new();
        let now = Instant::from_millis(1);
        for n in 0..10_000 {
            mtus.learn(to(n), 1_300, now);
        }
        assert_eq!(mtus.entries.len(), CAPACITY);
        assert_eq!(mtus.get(to(9_999), now), Some(1_300));
    }

    #[test]
    fn rfc_1191_routers_that_say_nothing_or_nonsense() {
        assert_eq!(meant(1_400, 1_500), 1_400);
        assert_eq!(meant(0, 1_500), 1_492);
        assert_eq!(meant(800, 40), 800, "what is quoted may have been cut off");
        assert_eq!(meant(0, 600), 576);
        assert_eq!(meant(68, 1_500), LEAST);
    }
}
