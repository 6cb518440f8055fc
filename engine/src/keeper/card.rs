//! What the keeper does about a card: it looks whether the cable is in, sees to a card that goes, and
//! leaves none at work.

use super::State;
use crate::link::Gone;
use crate::{clock, fds, sys};
use stack::time::Duration;
use std::time::Duration as StdDuration;

/// How often a card's cable is looked at.
pub(super) const CABLE_TICK: Duration = Duration::from_millis(1_000);
/// How long what is queued may take to be on the wire.
const LAST_WORDS: StdDuration = StdDuration::from_millis(1);
/// How long stopping a card may take, in seconds.
const STOP_PATIENCE_S: u32 = 5;

impl State {
    /// Once a second: whether the cable is in.
    pub(super) fn look_at_cable(&mut self) {
        if !self.rx.has_cable() || clock::now().saturating_since(self.cable_seen) < CABLE_TICK {
            return;
        }
        self.cable_seen = clock::now();
        if self.rx.look_at_cable() {
            self.wake_leader();
        }
    }

    /// The card is to be taken out, or was reset: connections end, and every process lets go of it.
    pub(super) fn lose_card(&mut self, why: Gone) {
        sys::close(self.removal);
        fds::unprotect_fd(self.removal);
        self.removal = -1;
        let Ok(mut held) = self.shared.enter() else { return };
        held.change();
        let now = held.now;
        for lane in held.shards.range() {
            held.shards.at(lane).device_gone(now);
        }
        if why == Gone::Removed {
            // Peers are told by then, and who has the card next finds it at rest.
            std::thread::sleep(LAST_WORDS);
            self.stop_card();
        }
        held.shared.link.lose_card(why);
        held.shared.link.carrier.report();
        held.dispatch();
        held.wake_all();
        held.settle();
    }

    /// A card that is not stopped goes on writing to what was our memory, as far as the IOMMU lets
    /// it, and some are not reset when they are given back.
    pub(super) fn stop_card(&self) {
        // The driver's code takes locks whose holders may have ended: it shall not keep us.
        sys::alarm(STOP_PATIENCE_S);
        sys::set_signal_mask(sys::ALL_SIGNALS & !(1 << (libc::SIGALRM - 1)));
        self.rx.stop_card();
        sys::alarm(0);
    }

    /// Whoever leads has something to say.
    fn wake_leader(&self) {
        if let Some(doorbell) = self.shared.sleepers.leaders_doorbell() {
            self.shared.doorbells.ring(doorbell);
        }
    }
}
