//! The root of the region, and the way in: taking the lock, driving the port, leaving.

use crate::doorbell::Doorbells;
use crate::file::{File, FileId, Passing, Spread};
use crate::handover::Handover;
use crate::lane::{Homes, Lane, Shards};
use crate::link::Link;
use crate::lock::{SharedLock, Taken};
use crate::replicas::ReplicaSet;
use crate::rx_watch::Arming;
use crate::shard::SocketId;
use crate::wait::{Sleepers, WaiterWord};
use crate::world::{Wakes, World};
use crate::{clock, sys, thread};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use stack::error::Error;
use stack::shard::Timers;
use stack::time::{Duration, Instant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Nobody has polled for this long: a call polls before it looks at its socket.
const STALE: Duration = Duration::from_micros(10);

/// What every process of the family shares.
pub(crate) struct Shared {
    pub(crate) lock: &'static SharedLock,
    pub(crate) link: &'static Link,
    /// The shards.
    pub(crate) lanes: &'static [Lane],
    /// The ways between them, where there are several.
    pub(crate) handover: Option<&'static Handover>,
    pub(crate) homes: Homes,
    /// The sockets of other shards that stand for one socket.
    pub(crate) replicas: &'static [ReplicaSet],
    world: UnsafeCell<World>,
    wakes: UnsafeCell<Wakes>,
    pub(crate) files: &'static [File],
    /// Of each description; as many as there are of those.
    pub(crate) passing: &'static [Passing],
    /// The same where there are several shards; else there are none.
    pub(crate) spread: &'static [Spread],
    pub(crate) waiters: &'static [WaiterWord],
    pub(crate) doorbells: Doorbells,
    pub(crate) sleepers: Sleepers,
    pub(crate) arming: Arming,
    pub(crate) keeper: Keeper,
    /// When the port was polled last, in nanoseconds.
    pub(crate) last_poll: AtomicU64,
    /// A reset after a dead owner failed: nothing works any more.
    pub(crate) failed: AtomicBool,
    /// How often an owner died in the middle of a change.
    pub(crate) recoveries: AtomicU64,
    pub(crate) open_files: AtomicU32,
    /// A number that tells this engine from others.
    pub(crate) id: u64,
    pub(crate) started: Instant,
}

/// What the keeper and the processes tell each other.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    pub(crate) pid: AtomicU32,
    /// Its doorbell's number.
    pub(crate) doorbell: AtomicU32,
    pub(crate) alive: AtomicBool,
    /// It sleeps without end: a leader that stops leading after a long sleep rings.
    pub(crate) sleeps: AtomicBool,
    /// It watches the port: whoever begins to lead rings.
    pub(crate) leads: AtomicBool,
    /// When it wakes by itself, in nanoseconds; only meaningful while it leads.
    pub(crate) until: AtomicU64,
}

// SAFETY: the world and the wakes are only reached through `Held`, which holds the lock; all else is atomic.
unsafe impl Sync for Shared {}

/// The parts of which a [`Shared`] is made.
pub(crate) struct Parts {
    pub(crate) lock: &'static SharedLock,
    pub(crate) link: &'static Link,
    pub(crate) lanes: &'static [Lane],
    pub(crate) handover: Option<&'static Handover>,
    pub(crate) replicas: &'static [ReplicaSet],
    pub(crate) world: World,
    pub(crate) files: &'static [File],
    /// Of each description; as many as there are of those.
    pub(crate) passing: &'static [Passing],
    /// The same where there are several shards; else there are none.
    pub(crate) spread: &'static [Spread],
    pub(crate) waiters: &'static [WaiterWord],
    pub(crate) doorbells: Doorbells,
    pub(crate) id: u64,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            lock,
            link,
            lanes,
            handover,
            replicas,
            world,
            files,
            passing,
            spread,
            waiters,
            doorbells,
            id,
        } = parts;
        Shared {
            lock,
            link,
            lanes,
            handover,
            homes: Homes::default(),
            replicas,
            world: UnsafeCell::new(world),
            wakes: UnsafeCell::new(Wakes::default()),
            files,
            passing,
            spread,
            waiters,
            doorbells,
            sleepers: Sleepers::default(),
            arming: Arming::default(),
            keeper: Keeper::default(),
            last_poll: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            recoveries: AtomicU64::new(0),
            open_files: AtomicU32::new(0),
            id,
            started: clock::now(),
        }
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    #[inline]
    pub(crate) fn enter(&'static self) -> Result<Held<'static>, Error> {
        thread::enter();
        let (taken, shards) = self.lock_all();
        self.entered(taken, shards)
    }

    /// Takes the lock if nobody has it, where there is one shard.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    #[inline]
    pub(crate) fn try_enter(&'static self) -> Result<Option<Held<'static>>, Error> {
        thread::enter();
        match self.lock.try_lock(thread::tid()) {
            Some(taken) => self.entered(taken, self.only_shard()).map(Some),
            None => {
                thread::leave();
                Ok(None)
            }
        }
    }

    #[inline]
    pub(crate) fn entered(
        &'static self,
        taken: Taken,
        shards: Shards,
    ) -> Result<Held<'static>, Error> {
        // SAFETY: the lock is held until the `Held` is dropped.
        let (world, wakes) = unsafe { (&mut *self.world.get(), &mut *self.wakes.get()) };
        let now = clock::now();
        let (just_entered, changed) = (true, false);
        let mut held = Held { shared: self, world, shards, now, just_entered, changed, wakes };
        if taken == Taken::Dirty {
            held.recover();
        }
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::NetworkDown); // `held` gives the lock back
        }
        Ok(held)
    }

    /// What is known of a description where there are several shards.
    pub(crate) fn spread(&self, file: &File) -> &Spread {
        let octets = core::ptr::from_ref(file).addr() - self.files.as_ptr().addr();
        &self.spread[octets / size_of::<File>()]
    }

    /// The description, if it lives.
    #[inline]
    pub(crate) fn file(&self, id: FileId) -> Option<&File> {
        let file = self.files.get(id.index() as usize)?;
        file.is_live(id.handle().generation()).then_some(file)
    }
}

/// The lock, held by this thread. Dropping it wakes those who became ready, and then runs the
/// signal handlers that waited.
pub(crate) struct Held<'a> {
    pub(crate) shared: &'static Shared,
    pub(crate) world: &'a mut World,
    /// The shards that are held with it.
    pub(crate) shards: Shards,
    /// When the lock was taken, or the port was driven last.
    pub(crate) now: Instant,
    /// `now` was read when the lock was taken, and nothing was driven since.
    just_entered: bool,
    /// Something was changed: the leader may have to wake earlier.
    changed: bool,
    /// Whom to wake when the lock is given back. (Not in here: this is moved about on every call.)
    pub(crate) wakes: &'a mut Wakes,
}

impl Held<'_> {
    /// From now on the world is being changed: if this thread dies, it is not to be trusted.
    #[inline]
    pub(crate) fn change(&mut self) {
        self.shards.forget_due();
        self.shared.lock.mark_dirty();
        if self.shared.is_several() {
            self.each_lane(|lane| lane.lock.mark_dirty());
        }
    }

    /// Calls `each` with the shards that are held.
    fn each_lane(&self, each: impl FnMut(&Lane)) {
        self.shared.lanes[self.shards.range()].iter().for_each(each);
    }

    /// The world is whole again. Whoever dies from here on, holding the lock, does no harm.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if self.shared.lock.is_dirty() {
            self.changed = true;
            self.shared.lock.mark_clean();
        }
        if self.shared.is_several() {
            self.each_lane(|lane| lane.lock.mark_clean());
        }
    }

    /// Polls the port and passes events on; how many frames were handled.
    #[inline]
    pub(crate) fn drive(&mut self) -> usize {
        if self.shared.is_several() {
            return self.drive_all();
        }
        if !core::mem::take(&mut self.just_entered) {
            self.now = clock::now();
        }
        let mut timers = Timers::NotDue;
        if self.shards.next_timeout() <= self.now {
            self.change();
            timers = Timers::Due;
        }
        let frames = self.shards.first().poll_timers_known(self.now, timers);
        if frames > 0 {
            self.shards.forget_due();
        }
        self.shared.last_poll.store(self.now.as_nanos(), Ordering::Relaxed);
        self.dispatch();
        self.settle();
        frames
    }

    /// Looks once whether frames came since [`Held::drive`], and handles them; how many.
    #[inline]
    pub(crate) fn look(&mut self) -> usize {
        let now = &mut self.now;
        let frames = self.shards.first().look(|| {
            *now = clock::now();
            *now
        });
        if frames > 0 {
            self.shards.forget_due();
            self.just_entered = false;
            self.shared.last_poll.store(self.now.as_nanos(), Ordering::Relaxed);
            self.dispatch();
            self.settle();
        }
        frames
    }

    /// Drives if nobody has for a while; whether it did.
    #[inline]
    pub(crate) fn drive_if_stale(&mut self) -> bool {
        let last = Instant::from_nanos(self.shared.last_poll.load(Ordering::Relaxed));
        let stale = self.now.saturating_since(last) >= STALE;
        if stale {
            self.drive();
        }
        stale
    }

    /// Passes events on.
    #[inline]
    pub(crate) fn dispatch(&mut self) {
        if !self.shared.is_several() {
            return self.world.dispatch(0, self.shards.first(), self.shared, self.wakes);
        }
        for lane in self.shards.range() {
            self.world.dispatch(lane, self.shards.at(lane), self.shared, self.wakes);
        }
    }

    /// The shard and the socket behind a description.
    ///
    /// # Errors
    /// `BadDescriptor` when either is gone.
    #[inline]
    pub(crate) fn socket(&self, file: FileId) -> Result<(usize, SocketId), Error> {
        self.shared.file(file).and_then(File::place).ok_or(Error::BadDescriptor)
    }

    /// Every shard's turn, until no frames are on their way between them.
    #[cold]
    fn drive_all(&mut self) -> usize {
        const ROUNDS: usize = 8;
        if self.shared.link.is_lost() {
            self.shared.link.let_go();
        }
        self.just_entered = false;
        self.now = clock::now();
        self.change();
        let mut frames = 0;
        for _ in 0..ROUNDS {
            for lane in self.shards.range() {
                frames += self.shards.at(lane).poll(self.now);
                self.shared.lanes[lane].polled(self.now);
            }
            self.dispatch();
            if self.shared.handover.is_none_or(Handover::is_idle) {
                break;
            }
        }
        self.shared.last_poll.store(self.now.as_nanos(), Ordering::Relaxed);
        self.settle();
        frames
    }

    /// Wakes everybody who sleeps.
    #[cold]
    pub(crate) fn wake_all(&mut self) {
        self.world.wake_all(self.shared, self.wakes);
    }

    #[cold]
    fn recover(&mut self) {
        self.shared.recoveries.fetch_add(1, Ordering::Relaxed);
        let recovered = catch_unwind(AssertUnwindSafe(|| {
            self.shards.forget_due();
            for lane in self.shards.range() {
                self.shards.at(lane).reset_all(self.now);
            }
            self.shared.break_others(&self.shards.range());
            self.world.recover(self.shared, self.wakes);
            self.dispatch();
        }));
        if recovered.is_err() {
            self.shared.failed.store(true, Ordering::SeqCst);
            sys::complain("onwire: the stack cannot be repaired after the death of its driver");
        }
        self.shared.sleepers.forget_leader();
    }
}

impl Held<'_> {
    #[inline]
    fn unlock(&self) {
        self.shared.lock.unlock();
        if self.shared.is_several() {
            self.each_lane(|lane| lane.lock.unlock());
        }
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.settle();
        }
        if self.changed {
            self.hurry_leader();
        }
        if self.wakes.is_empty() {
            self.unlock();
        } else {
            // Taken out while the lock is held, done when it is free.
            let wakes = core::mem::take(self.wakes);
            self.unlock();
            wakes.execute(self.shared);
        }
        thread::leave();
    }
}
