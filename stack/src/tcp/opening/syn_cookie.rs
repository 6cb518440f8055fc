//! SYN cookies: a listener whose SYN queue is full answers a SYN without remembering it. All that
//! the connection needs is in the numbers that the peer's final ACK brings back: the peer's MSS
//! (rounded down to one of four) in our initial sequence number, the other options in the low bits
//! of our timestamp. Without timestamps only the MSS survives, as on Linux.
//!
//! `dispatch` asks for a cookie when a SYN finds the queue full and checks one when an ACK comes
//! for a listener that was full of late. Nothing here keeps state.

use crate::rng::HashKey;
use crate::tcp::demux::Tuple;
use crate::tcp::seq::SeqNumber;
use crate::time::{Duration, Instant};

/// The cookie's clock: it counts these.
const PERIOD: Duration = Duration::from_secs(60);
/// For so many periods, the current one included, a cookie is good.
const PERIODS: u32 = 2;
/// How long after the queue was last full cookies are looked for.
pub(crate) const PRESSURE: Duration = Duration::from_secs(120);
/// The MSS that a cookie can stand for: what nearly every path has.
const SEGMENT_SIZES: [u16; 4] = [536, 1_300, 1_440, 1_460];
/// Bits of the sequence number below the clock.
const LOW: u32 = (1 << 24) - 1;

/// Low bits of the timestamp that carry options.
const OPTION_BITS: u32 = 6;
const OPTIONS: u32 = (1 << OPTION_BITS) - 1;
/// No window scaling.
const NO_SCALE: u32 = 0xf;
const SACK: u32 = 1 << 4;
const ECN: u32 = 1 << 5;

fn period(now: Instant) -> u32 {
    (now.as_millis() / PERIOD.as_millis() as u64) as u32
}

/// What the low bits hide in each period; nobody without the key can tell it. It depends on the
/// number of the peer's SYN: an ACK from an octet or two further on must not look like one that
/// brings back a smaller MSS, or those octets would be lost.
fn blur(tuple: u64, key: HashKey, peer: SeqNumber, period: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = tuple.to_le_bytes();
    let [i, j, k, l] = period.to_le_bytes();
    let [m, n, o, p] = peer.0.to_le_bytes();
    key.hash(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) as u32
}

/// Our initial sequence number for the peer's SYN with number `peer` and this MSS.
pub(crate) fn sequence(
    tuple: &Tuple,
    key: HashKey,
    peer: SeqNumber,
    mss: u16,
    now: Instant,
) -> SeqNumber {
    let (hash, period) = (tuple.hash(key), period(now));
    let size = SEGMENT_SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0) as u32;
    let low = blur(hash, key, peer, period).wrapping_add(size) & LOW;
    peer + (hash as u32).wrapping_add(period << 24).wrapping_add(low)
}

/// The MSS that `cookie`, our number before the one that the peer acknowledges, stands for;
/// `None` if we never gave it out, or too long ago. `peer` is the number of the peer's SYN.
pub(crate) fn check(
    tuple: &Tuple,
    key: HashKey,
    peer: SeqNumber,
    cookie: SeqNumber,
    now: Instant,
) -> Option<u16> {
    let (hash, period) = (tuple.hash(key), period(now));
    let value = cookie.0.wrapping_sub(hash as u32).wrapping_sub(peer.0);
    let age = period.wrapping_sub(value >> 24) & 0xff;
    if age >= PERIODS {
        return None;
    }
    let low = value.wrapping_sub(blur(hash, key, peer, period.wrapping_sub(age))) & LOW;
    SEGMENT_SIZES.get(low as usize).copied()
}

/// The options that a timestamp remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The shift of the peer's windows.
    pub scale: Option<u8>,
    pub sack: bool,
    pub ecn: bool,
}

impl Kept {
    /// `clock`, but for its low bits, which become the options. Never later than `clock`: the
    /// connection's next timestamp must not go back.
    pub fn into_clock(self, clock: u32) -> u32 {
        let mut bits = self.scale.map_or(NO_SCALE, |shift| u32::from(shift) & 0xf);
        bits |= if self.sack { SACK } else { 0 };
        bits |= if self.ecn { ECN } else { 0 };
        let value = clock & !OPTIONS | bits;
        if bits > clock & OPTIONS { value.wrapping_sub(1 << OPTION_BITS) } else { value }
    }

    /// The options that the timestamp `clock`, which the peer echoed, remembers.
    pub fn from_clock(clock: u32) -> Self {
        let scale = clock & 0xf;
        Kept {
            scale: (scale != NO_SCALE).then_some(scale as u8),
            sack: clock & SACK != 0,
            ecn: clock & ECN != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use core::net::{IpAddr, Ipv4Addr};

    fn tuple() -> Tuple {
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        Tuple { local: address(1), remote: address(2), local_port: 80, remote_port: 4000 }
    }

    #[test]
    fn a_cookie_is_good_for_one_to_two_minutes_and_for_one_connection() {
        let key = HashKey::new(&mut Rng::new([1; 32]));
        let (peer, at) = (SeqNumber(u32::MAX - 1), Instant::from_millis(59_000));
        for (mss, kept) in [(1, 536), (536, 536), (1_299, 536), (1_448, 1_440), (9_000, 1_460)] {
            let cookie = sequence(&tuple(), key, peer, mss, at);
            let check =
                |tuple: Tuple, ms| check(&tuple, key, peer, cookie, Instant::from_millis(ms));
            for later in [59_000, 60_000, 119_999] {
                assert_eq!(check(tuple(), later), Some(kept));
            }
            assert_eq!(check(tuple(), 120_000), None);
            assert_eq!(check(Tuple { remote_port: 4001, ..tuple() }, 59_000), None);
        }
    }

    #[test]
    fn an_acknowledgment_from_further_on_brings_no_cookie_back() {
        let key = HashKey::new(&mut Rng::new([1; 32]));
        let now = Instant::from_millis(7_777_777);
        let cookie = sequence(&tuple(), key, SeqNumber(1_000), 1_460, now);
        for peer in [997, 998, 999, 1_001, 1_002, 1_003] {
            assert_eq!(check(&tuple(), key, SeqNumber(peer), cookie, now), None, "{peer}");
        }
        assert_eq!(check(&tuple(), key, SeqNumber(1_000), cookie, now), Some(1_460));
    }

    #[test]
    fn guesses_fail() {
        let key = HashKey::new(&mut Rng::new([2; 32]));
        let mut rng = Rng::new([3; 32]);
        let now = Instant::from_millis(7_777_777);
        let hits = (0..200_000)
            .filter(|_| {
                let guess = SeqNumber(rng.next_u32());
                check(&tuple(), key, SeqNumber(5), guess, now).is_some()
            })
            .count();
        assert!(hits <= 1, "eight in 2^32 are right: {hits}");
    }

    #[test]
    fn options_survive_in_a_timestamp_that_is_not_in_the_future() {
        for clock in [0u32, 63, 64, 1_000_003, u32::MAX] {
            for scale in [None, Some(0), Some(7), Some(14)] {
                for (sack, ecn) in [(false, false), (true, false), (true, true)] {
                    let kept = Kept { scale, sack, ecn };
                    let stamped = kept.into_clock(clock);
                    assert!(clock.wrapping_sub(stamped) < 128);
                    assert_eq!(Kept::from_clock(stamped), kept);
                }
            }
        }
    }
}
