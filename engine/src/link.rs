//! Links in memory whose peer goes, and perhaps comes back.
//!
//! The driver maps such a link in the process that started it only. When the mapping changes, that
//! process alone can go on; for all others, the keeper among them, the link is down for good: they
//! neither receive nor send on it, count what they drop, and do not lead. The interrupt thread of
//! the first process, which makes such changes, holds the shard's lock meanwhile.
//!
//! And cards that go, or whose host resets them: then the link is lost to all.

use crate::engine::Engine;
use crate::shared::Held;
use crate::sys;
use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use dpdk::{ControlWatch, DeviceKind};

/// What every process of the family shares.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The device, as the user wrote it.
    name: String,
    /// Its cable.
    pub(crate) carrier: Carrier,
    /// What woke those who slept on it.
    pub(crate) wakings: Wakings,
    /// Why the card cannot be used any more, as a number of [`Gone`]; 0: it can.
    gone: AtomicU8,
    /// How often the driver said that the card's host has reset it.
    resets: AtomicU32,
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
/// This process does not touch the card any more.
static LET_GO: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The lock, while the interrupt thread works.
    static HELD: RefCell<Option<Held<'static>>> = const { RefCell::new(None) };
}

impl Link {
    pub(crate) fn new(name: String) -> Self {
        Link { name, ..Link::default() }
    }

    /// The card is of no use any more: from now on nobody receives or sends. Under the lock.
    pub(crate) fn lose_card(&self, why: Gone) {
        self.owner.store(u32::MAX, Ordering::Relaxed);
        self.gone.store(why as u8, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.let_go_quietly();
    }

    /// Why the card is gone, or about to be, if it is.
    pub(crate) fn gone(&self) -> Option<Gone> {
        [Gone::Removed, Gone::Reset]
            .into_iter()
            .find(|why| *why as u8 == self.gone.load(Ordering::Relaxed))
    }

    /// Whether the card is gone, or about to be.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) != 0
    }

    /// How often the driver said that the card's host has reset it.
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Acquire)
    }

    /// Whether the keeper has a reset to follow.
    pub(crate) fn is_reset(&self) -> bool {
        self.resets() > 0 && !self.is_gone()
    }

    /// The link is lost, which is found where the port would be used, under the lock: if it is the
    /// card that goes, its removal waits for this process. Who was not asleep learns of it here.
    #[cold]
    pub(crate) fn let_go(&self) {
        if self.let_go_quietly() {
            crate::alloc::allow(|| self.tell());
        }
    }

    /// Whether there was something to let go of.
    fn let_go_quietly(&self) -> bool {
        let first = self.is_gone() && !LET_GO.swap(true, Ordering::Relaxed);
        if first {
            // SAFETY: whoever uses the port holds the lock, as this thread does, and looks first
            // whether the link is lost.
            crate::alloc::allow(|| unsafe { dpdk::let_go_of_card() });
        }
        first
    }

    /// Says on standard error what has happened to the cable or the card, once in the family.
    #[inline]
    pub(crate) fn tell(&self) {
        if self.carrier.has_news() {
            self.tell_news();
        }
    }

    #[cold]
    fn tell_news(&self) {
        if !self.carrier.take_news() {
            return;
        }
        let name = &self.name;
        let ended = "its connections have ended (ENETDOWN)";
        sys::complain(&match (self.gone(), self.carrier.is_up()) {
            (Some(Gone::Removed), _) => format!("onwire: {name}: the card was taken out; {ended}"),
            (Some(Gone::Reset), _) => {
                format!("onwire: {name}: the card was reset by its host; {ended}: start anew")
            }
            (None, true) => format!("onwire: {name}: the link is up"),
            (None, false) => format!("onwire: {name}: the link is down"),
        });
    }

    /// Whether this process does not see the link any more.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.generation.load(Ordering::Relaxed) != SEEN.load(Ordering::Relaxed)
    }

    /// Frames cannot be sent because the link is lost.
    #[cold]
    pub(crate) fn drop_frames(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        if !self.is_gone() && !SAID.swap(true, Ordering::Relaxed) {
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

/// Why a card cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It is being taken out of the machine.
    Removed = 1,
    /// Its host has reset it, which only a start of the driver can follow, and that makes event
    /// descriptors that the other processes would not have.
    Reset = 2,
}

/// The cable of a card, as the keeper found it last.
#[derive(Debug, Default)]
pub(crate) struct Carrier {
    /// How often it came and went. Even while it is in.
    changes: AtomicU32,
    /// What of that (and of a removal) has been said.
    told: AtomicU32,
    news: AtomicU32,
}

impl Carrier {
    pub(crate) fn is_up(&self) -> bool {
        self.changes().is_multiple_of(2)
    }

    /// How often it came and went.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The keeper has looked; whether it was otherwise before.
    pub(crate) fn found(&self, up: bool) -> bool {
        let changed = up != self.is_up();
        if changed {
            self.changes.fetch_add(1, Ordering::Relaxed);
            self.report();
        }
        changed
    }

    /// There is something to be said.
    pub(crate) fn report(&self) {
        self.news.fetch_add(1, Ordering::Relaxed);
    }

    /// All has been said.
    pub(crate) fn quiet(&self) {
        self.take_news();
    }

    #[inline]
    fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) != self.told.load(Ordering::Relaxed)
    }

    /// Whether it is this thread that says it.
    fn take_news(&self) -> bool {
        let news = self.news.load(Ordering::Relaxed);
        self.told.swap(news, Ordering::Relaxed) != news
    }
}

/// How those who sleep on the port are woken.
#[derive(Debug, Default)]
pub(crate) struct Wakings {
    /// Sleeps of whoever led.
    pub(crate) sleeps: AtomicU64,
    /// Those that the port's descriptor ended, with frames.
    pub(crate) announced: AtomicU64,
    /// Those that ended otherwise and found frames that nothing had announced.
    pub(crate) unannounced: AtomicU64,
    /// Processes that do not count on the card's interrupt any more: it never came.
    pub(crate) given_up: AtomicU32,
}

/// From now on changes of the mapping, and resets, are noticed, if the device can have any.
pub(crate) fn watch(engine: &Engine) {
    if let Some(port) = engine.rx.port()
        && let Err(error) = dpdk::watch_reset(port, on_reset)
    {
        sys::complain(&format!("onwire: {error}"));
    }
    if matches!(engine.rx.kind(), DeviceKind::Memif | DeviceKind::Vhost) {
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

/// The keeper sees to it: this is a thread of DPDK's.
extern "C" fn on_reset() {
    let Some(engine) = crate::get() else { return };
    let shared = engine.shared;
    shared.link.resets.fetch_add(1, Ordering::Release);
    shared.doorbells.ring(shared.keeper.doorbell.load(Ordering::Relaxed));
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
    fn a_change_of_the_cable_is_told_once() {
        let carrier = Carrier::default();
        assert!(carrier.is_up() && !carrier.found(true) && !carrier.has_news());
        assert!(carrier.found(false) && !carrier.found(false));
        assert!(!carrier.is_up() && carrier.has_news());
        assert!(carrier.take_news() && !carrier.take_news() && !carrier.has_news());
        assert!(carrier.found(true) && carrier.is_up() && carrier.has_news());
        assert_eq!(carrier.changes(), 2);
    }

    #[test]
    fn a_card_that_is_gone_is_nobodys() {
        for why in [Gone::Removed, Gone::Reset] {
            let link = Link::new("pci:0000:00:02.0".into());
            assert!(link.gone().is_none() && !link.is_reset());
            link.resets.fetch_add(1, Ordering::Relaxed);
            assert!(link.is_reset());
            link.lose_card(why);
            assert!(link.is_lost() && !link.is_reset());
            assert_eq!((link.gone(), link.only_process()), (Some(why), Some(u32::MAX)));
        }
    }

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
