//! Links in memory whose peer goes, and perhaps comes back.
//!
//! The driver maps such a link in the process that started it only. When the mapping changes, that
//! process alone can go on; for all others, the keeper among them, the link is down for good: they
//! neither receive nor send on it, count what they drop, and do not lead. The interrupt thread of
//! the first process, which makes such changes, holds the shard's lock meanwhile.

use crate::engine::Engine;
use crate::shared::Held;
use crate::sys;
use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use dpdk::{ControlWatch, DeviceKind};

/// What every process of the family shares.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// How often the mapping has changed.
    generation: AtomicU32,
    /// The process that sees the changes, by its slot.
    owner: AtomicU32,
    /// Frames that others could not send.
    dropped: AtomicU64,
}

/// The changes that this process has seen; a fork copies it.
static SEEN: AtomicU32 = AtomicU32::new(0);
/// In the process that started the driver.
static STARTER: AtomicU32 = AtomicU32::new(0);
static SAID: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The lock, while the interrupt thread works.
    static HELD: RefCell<Option<Held<'static>>> = const { RefCell::new(None) };
}

impl Link {
    /// Whether this process does not see the link any more.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.generation.load(Ordering::Relaxed) != SEEN.load(Ordering::Relaxed)
    }

    /// Frames cannot be sent because the link is lost.
    #[cold]
    pub(crate) fn drop_frames(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        if !SAID.swap(true, Ordering::Relaxed) {
            sys::complain(
                "onwire: the other end of the link has gone: only the process that opened it can \
                 use it again; restart the program",
            );
        }
    }

    /// Frames that were dropped because the link is lost.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The only process that can use the link, by its slot; `None` while all can.
    pub(crate) fn only_process(&self) -> Option<u32> {
        let changed = self.generation.load(Ordering::Acquire) != 0;
        changed.then(|| self.owner.load(Ordering::Relaxed))
    }
}

/// From now on changes of the mapping are noticed, if the device can have any.
pub(crate) fn watch(kind: DeviceKind) {
    if matches!(kind, DeviceKind::Memif | DeviceKind::Vhost) {
        STARTER.store(sys::getpid(), Ordering::Release);
        dpdk::watch_control(ControlWatch { enter, leave, mapped });
    }
}

extern "C" fn enter() {
    if let Some(engine) = crate::get()
        && let Ok(held) = engine.shared.enter()
    {
        HELD.with(|place| *place.borrow_mut() = Some(held));
    }
}

extern "C" fn leave() {
    drop(HELD.with(|place| place.borrow_mut().take()));
}

extern "C" fn mapped() {
    let Some(engine) = crate::get() else { return };
    if STARTER.load(Ordering::Acquire) != sys::getpid() {
        return;
    }
    on_change(engine);
}

/// Others stop; whoever of them leads is woken to leave that to this process.
fn on_change(engine: &Engine) {
    let shared = engine.shared;
    shared.link.owner.store(engine.slot(), Ordering::Relaxed);
    let generation = shared.link.generation.fetch_add(1, Ordering::AcqRel) + 1;
    SEEN.store(generation, Ordering::Release);
    shared.doorbells.ring(shared.keeper.doorbell.load(Ordering::Relaxed));
    if let Some(doorbell) = shared.sleepers.leaders_doorbell() {
        shared.doorbells.ring(doorbell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_missed_a_change_has_lost_the_link() {
        let link = Link::default();
        assert!(!link.is_lost() && link.only_process().is_none());
        link.owner.store(3, Ordering::Relaxed);
        link.generation.store(1, Ordering::Relaxed);
        assert!(link.is_lost());
        assert_eq!(link.only_process(), Some(3));
        link.drop_frames(5);
        assert_eq!(link.dropped(), 5);
    }
}
