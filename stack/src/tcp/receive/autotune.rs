//! The receive buffer grows with what the program reads per round trip (dynamic right-sizing).

use super::Receiver;
use crate::options::Options;
use crate::tcp::seq::SeqNumber;
use crate::time::Instant;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Autotune {
    /// Octets that the program read in the last measured round trip.
    pub space: u32,
    seq: SeqNumber,
    since: Instant,
    /// The round-trip time seen from the receiver, µs; 0 while unknown.
    pub rtt_us: u32,
    rtt_seq: SeqNumber,
    rtt_since: Instant,
}

/// What receive buffers may grow by, octets, shared by the connections of a shard: what is offered to
/// their peers must have room when they all send it. (Linux: `tcp_mem`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room(i64);

/// Every buffer may grow to this limit, whatever is left: connections that were fast once and are idle
/// now keep what they took, and must not make those that come later slow for ever.
const FLOOR: u32 = 1 << 20;

impl Room {
    pub const UNBOUNDED: Room = Room(i64::MAX);

    /// With so much memory for packets. A buffer's limit is twice the window it stands for.
    pub fn of(packets: u64) -> Self {
        Room(i64::try_from(packets).unwrap_or(i64::MAX))
    }

    /// What a limit may grow by towards `wanted`: no more than a quarter of what is left, for there is
    /// to be some for who comes later, or up to [`FLOOR`].
    fn take(&mut self, limit: u32, wanted: u32) -> u32 {
        let quarter = u32::try_from((self.0 / 4).max(0)).unwrap_or(u32::MAX);
        let most = quarter.max(FLOOR.saturating_sub(limit));
        let granted = wanted.saturating_sub(limit).min(most);
        self.0 = self.0.saturating_sub(granted.into());
        granted
    }

    /// Octets that were taken are free again.
    pub fn give_back(&mut self, octets: u32) {
        self.0 = self.0.saturating_add(octets.into());
    }
}

impl Autotune {
    pub fn new(first: SeqNumber, window: u32) -> Self {
        Autotune {
            space: window.min(10 * 1460),
            seq: first,
            since: Instant::ZERO,
            rtt_us: 0,
            rtt_seq: first,
            rtt_since: Instant::ZERO,
        }
    }

    fn rtt_sample(&mut self, us: u32, least: bool) {
        let us = us.max(1);
        self.rtt_us = match self.rtt_us {
            0 => us,
            old if least => old.min(us),
            old => old - (old >> 3) + (us >> 3),
        };
    }
}

impl Receiver {
    /// A timestamp came back: the peer answered what we sent that long ago.
    pub fn on_echo(&mut self, echoed_ms_ago: u32) {
        if echoed_ms_ago < 600_000 {
            let us = echoed_ms_ago.saturating_mul(1000).max(1000);
            self.tune.rtt_sample(us, false);
        }
    }

    /// Without timestamps: a window's worth of data takes about a round trip.
    pub fn on_window_passed(&mut self, now: Instant) {
        if self.tune.rtt_since != Instant::ZERO && self.nxt.before(self.tune.rtt_seq) {
            return;
        }
        if self.tune.rtt_since != Instant::ZERO {
            let us = (now - self.tune.rtt_since).as_micros();
            self.tune.rtt_sample(u32::try_from(us).unwrap_or(u32::MAX), true);
        }
        self.tune.rtt_seq = self.nxt + self.window().max(1);
        self.tune.rtt_since = now;
    }

    /// How much of [`Room`] it has taken.
    pub fn grown(&self, options: &Options) -> u32 {
        if options.receive_buffer_locked {
            return 0;
        }
        self.limit.saturating_sub(options.receive_buffer)
    }

    /// The program has read: once per round trip, see whether the window held the peer up.
    pub fn adjust(
        &mut self,
        now: Instant,
        options: &Options,
        mss: u32,
        most: u32,
        room: &mut Room,
    ) {
        if self.tune.since == Instant::ZERO {
            self.tune.since = now;
            self.tune.seq = self.copied;
            return;
        }
        let rtt = u128::from(self.tune.rtt_us);
        if rtt == 0 || (now - self.tune.since).as_micros() < rtt {
            return;
        }
        let copied = self.copied.since(self.tune.seq);
        if copied > self.tune.space {
            if !options.receive_buffer_locked {
                // Twice what was read, for the peer may double; more if that grew.
                let growth = u64::from(copied - self.tune.space);
                let base = u64::from(copied) * 2 + 16 * u64::from(mss);
                let wanted = base + base * growth / u64::from(self.tune.space.max(1)) * 2;
                let limit = u32::try_from(wanted.saturating_mul(2)).unwrap_or(u32::MAX).min(most);
                self.limit += room.take(self.limit, limit);
            }
            self.tune.space = copied;
        }
        self.tune.seq = self.copied;
        self.tune.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_later_finds_room_too() {
        let mut room = Room::of(16 << 20);
        let taken: Vec<u32> = (0..16).map(|_| room.take(131_072, 6 << 20)).collect();
        assert_eq!(taken[0], 4 << 20);
        assert!(taken.iter().sum::<u32>() < 24 << 20);
        assert!(taken.iter().all(|taken| *taken >= FLOOR - 131_072));
        assert_eq!(room.take(FLOOR, 6 << 20), 0);
        taken.into_iter().for_each(|taken| room.give_back(taken));
        assert_eq!(room, Room::of(16 << 20));
    }
}
