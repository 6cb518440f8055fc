//! A host: a shard on its card, and the checks that hold whenever it has its turn.

use crate::chance::Chance;
use crate::device::{Card, SimDevice};
use stack::config::Config;
use stack::shard::{Event, Occupancy, Shard};
use stack::time::Instant;

/// Turns without effect at one moment that are taken for a busy loop.
const IDLE_TURNS: u32 = 64;

/// A host.
#[derive(Debug)]
pub struct Host {
    pub shard: Shard<SimDevice>,
    /// Its card's wire is busy until then.
    pub wire_idle_at: Instant,
    /// Something is planned for then.
    pub awaits_card: bool,
    /// Nothing can be done before the card has sent something.
    pub blocked: bool,
    pub turns: u64,
    fruitless: u32,
    fruitless_at: Instant,
}

impl Host {
    pub fn new(config: &Config, card: Card, chance: &mut Chance) -> Self {
        Host {
            shard: Shard::new(config, SimDevice::new(card), chance.seed()),
            wire_idle_at: Instant::ZERO,
            awaits_card: false,
            blocked: false,
            turns: 0,
            fruitless: 0,
            fruitless_at: Instant::ZERO,
        }
    }

    /// When it has something to do by itself.
    pub fn due(&self) -> Option<Instant> {
        if self.blocked { None } else { self.shard.next_timeout() }
    }

    /// One turn.
    pub fn poll(&mut self, now: Instant) -> Vec<Event> {
        self.turns += 1;
        let handled = self.shard.poll(now);
        let events: Vec<Event> = core::iter::from_fn(|| self.shard.poll_event()).collect();
        if handled > 0 || !events.is_empty() {
            self.fruitless = 0;
            return events;
        }
        let still_due = self.shard.next_timeout().is_some_and(|due| due <= now);
        if still_due && self.shard.occupancy().backlog > 0 {
            assert!(self.shard.device().has_frames(), "a backlog though the ring is empty");
            self.blocked = true;
        } else if still_due {
            if self.fruitless_at != now {
                self.fruitless = 0;
            }
            (self.fruitless, self.fruitless_at) = (self.fruitless + 1, now);
            assert!(self.fruitless < IDLE_TURNS, "next_timeout says now, but nothing is done");
        }
        events
    }

    /// Nothing has arrived and nothing is due: a turn must find nothing to do.
    pub fn check_idle(&mut self, now: Instant) {
        if self.blocked || self.shard.device().has_received() || self.is_short() {
            return;
        }
        let due = self.shard.next_timeout();
        if due.is_some_and(|due| due <= now) {
            return;
        }
        let handled = self.shard.poll(now);
        let event = self.shard.poll_event();
        assert_eq!((handled, event), (0, None), "there was something to do before {due:?}");
    }

    /// Whether it may be waiting for buffers, which others give back.
    fn is_short(&self) -> bool {
        self.shard.counters().tcp.transmit_no_memory > 0
    }

    /// Everything is closed: nothing may be left.
    pub fn check_empty(&mut self) {
        let expected =
            Occupancy { neighbors: self.shard.occupancy().neighbors, ..Occupancy::default() };
        assert_eq!(self.shard.occupancy(), expected, "something is left though all is closed");
        self.shard.device_mut().reap(0);
        assert_eq!(self.shard.device().in_use(), 0, "buffers are left though all is closed");
    }

    /// Packets that it dropped itself.
    pub fn drops(&self) -> u64 {
        let (tcp, neighbor) = (&self.shard.counters().tcp, &self.shard.counters().neighbor);
        tcp.receive_no_memory
            + tcp.receive_buffer_full
            + tcp.accept_queue_full
            + neighbor.dropped_unresolved
            + neighbor.dropped_queue_full
    }

    /// Whether all tables are empty.
    pub fn is_empty(&self) -> bool {
        let occupancy = self.shard.occupancy();
        occupancy == Occupancy { neighbors: occupancy.neighbors, ..Occupancy::default() }
    }
}
