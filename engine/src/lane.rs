//! The shards and their locks.
//!
//! With one shard the world's lock is its lock, and whoever is in holds everything. With several,
//! each has a lock of its own, which is taken before the world's and never after it: a thread may
//! hold one shard ([`LaneHeld`]), one shard and the world, the world alone, or, for what is rare,
//! every shard in order and the world. Events stay in their shard until the world is held too, so
//! that none is lost with whoever dies in between.

use crate::file::{File, FileId};
use crate::lock::{SharedLock, Taken};
use crate::shard::{Shard, SocketId};
use crate::shared::{Held, Shared};
use crate::world::Due;
use crate::{clock, sys, thread};
use core::cell::{Cell, UnsafeCell};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use stack::error::Error;
use stack::shard::Timers;
use stack::time::{Duration, Instant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A shard whose port nobody has looked at for so long is looked at by whoever waits.
const NEGLECTED: Duration = Duration::from_micros(20);

/// One shard with its lock.
pub(crate) struct Lane {
    /// The world's where there is one shard.
    pub(crate) lock: &'static SharedLock,
    state: UnsafeCell<LaneState>,
    /// When its queue was polled last, in nanoseconds.
    last_poll: AtomicU64,
    /// The world was not whole: the shard is to be reset by whoever takes it next.
    broken: AtomicBool,
}

// SAFETY: the state is only reached by whoever holds the lock; all else is atomic.
unsafe impl Sync for Lane {}

/// What the lock of a shard protects.
struct LaneState {
    shard: Shard,
    /// What the shard said last about its timers.
    due: Due,
}

impl LaneState {
    #[inline]
    fn next_timeout(&mut self) -> Instant {
        if self.due == Due::UNKNOWN {
            self.due = Due::at(self.shard.next_timeout().unwrap_or(Instant::FAR_FUTURE));
        }
        self.due.get()
    }
}

impl Lane {
    pub(crate) fn new(shard: Shard, lock: &'static SharedLock) -> Self {
        Lane {
            lock,
            state: UnsafeCell::new(LaneState { shard, due: Due::UNKNOWN }),
            last_poll: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Its queue has been polled.
    pub(crate) fn polled(&self, now: Instant) {
        self.last_poll.store(now.as_nanos(), Ordering::Relaxed);
    }

    fn is_neglected(&self, now: Instant) -> bool {
        let last = Instant::from_nanos(self.last_poll.load(Ordering::Relaxed));
        now.saturating_since(last) >= NEGLECTED
    }
}

/// The shards whose locks are held.
pub(crate) struct Shards {
    lanes: &'static [Lane],
    held: Range<usize>,
}

impl Shards {
    /// # Safety
    /// The locks of the lanes in `held` are held for as long as this lives, and nobody else has
    /// such a value for them.
    unsafe fn new(lanes: &'static [Lane], held: Range<usize>) -> Self {
        Shards { lanes, held }
    }

    /// The only one, or the first.
    #[inline]
    pub(crate) fn first(&mut self) -> &mut Shard {
        self.at(0)
    }

    /// One of those held.
    #[inline]
    pub(crate) fn at(&mut self, lane: usize) -> &mut Shard {
        &mut self.state(lane).shard
    }

    #[inline]
    fn state(&mut self, lane: usize) -> &mut LaneState {
        assert!(self.held.contains(&lane), "a shard that is not held");
        // SAFETY: its lock is held, and nobody else has a reference: see `new`.
        unsafe { &mut *self.lanes[lane].state.get() }
    }

    /// Which are held.
    #[inline]
    pub(crate) fn range(&self) -> Range<usize> {
        self.held.clone()
    }

    /// Their timers are to be asked anew.
    #[inline]
    pub(crate) fn forget_due(&mut self) {
        if let [only] = self.lanes {
            assert!(self.held == (0..1), "a shard that is not held");
            // SAFETY: its lock is held, and nobody else has a reference: see `new`.
            unsafe { (*only.state.get()).due = Due::UNKNOWN };
            return;
        }
        for lane in self.range() {
            self.state(lane).due = Due::UNKNOWN;
        }
    }

    /// The next timeout of those held, remembered while nothing changes.
    #[inline]
    pub(crate) fn next_timeout(&mut self) -> Instant {
        if self.lanes.len() == 1 {
            return self.state(0).next_timeout();
        }
        let mut next = Instant::FAR_FUTURE;
        for lane in self.range() {
            next = next.min(self.state(lane).next_timeout());
        }
        next
    }
}

thread_local! {
    /// This thread's home, as number + 1.
    static HOME: Cell<usize> = const { Cell::new(0) };
}

/// In the child after a fork: its thread finds a home of its own.
pub(crate) fn leave_home() {
    HOME.set(0);
}

/// Deals out homes.
#[derive(Debug, Default)]
pub(crate) struct Homes(AtomicU32);

impl Shared {
    /// Whether there are several shards.
    #[inline]
    pub(crate) fn is_several(&self) -> bool {
        self.lanes.len() > 1
    }

    /// The shard that this thread works on.
    pub(crate) fn home(&self) -> usize {
        if !self.is_several() {
            return 0;
        }
        match HOME.get().checked_sub(1) {
            Some(home) => home,
            None => {
                let next = self.homes.0.fetch_add(1, Ordering::Relaxed) as usize;
                let home = next % self.lanes.len();
                HOME.set(home + 1);
                home
            }
        }
    }

    /// When the shard that was neglected most was polled last, in nanoseconds.
    pub(crate) fn oldest_poll(&self) -> u64 {
        if self.is_several() {
            self.lanes.iter().map(|l| l.last_poll.load(Ordering::Relaxed)).min().unwrap_or(0)
        } else {
            self.last_poll.load(Ordering::Relaxed)
        }
    }

    /// The shard, whose lock, the world's, is held.
    #[inline]
    pub(crate) fn only_shard(&'static self) -> Shards {
        // SAFETY: as the caller says; without several shards there is no other way to it.
        unsafe { Shards::new(self.lanes, 0..usize::from(!self.is_several())) }
    }

    /// Takes every lock, in order; whether the world was whole. The shards are made whole.
    #[inline]
    pub(crate) fn lock_all(&'static self) -> (Taken, Shards) {
        if !self.is_several() {
            let taken = self.lock.lock(thread::tid());
            return (taken, self.only_shard());
        }
        self.lock_each()
    }

    #[cold]
    fn lock_each(&'static self) -> (Taken, Shards) {
        let tid = thread::tid();
        for lane in 0..self.lanes.len() {
            let taken = self.lanes[lane].lock.lock(tid);
            self.mend(lane, taken);
        }
        let taken = self.lock.lock(tid);
        // SAFETY: all locks are held.
        (taken, unsafe { Shards::new(self.lanes, 0..self.lanes.len()) })
    }

    /// Takes the world's lock alone: for what needs no shard, where there are several.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn enter_world(&'static self) -> Result<Held<'static>, Error> {
        if !self.is_several() {
            return self.enter();
        }
        thread::enter();
        let taken = self.lock.lock(thread::tid());
        // SAFETY: no shard is claimed.
        self.entered(taken, unsafe { Shards::new(self.lanes, 0..0) })
    }

    /// Takes the world's lock and one shard's.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn enter_with(&'static self, lane: usize) -> Result<Held<'static>, Error> {
        if !self.is_several() {
            return self.enter();
        }
        self.enter_lane(lane)?.deepen()
    }

    /// Takes the world's lock and those of the shards in which a description has sockets.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn enter_for(&'static self, id: FileId) -> Result<Held<'static>, Error> {
        let place = |file: &File| file.place().filter(|_| self.spread(file).replicas().is_none());
        if self.is_several()
            && let Some(file) = self.file(id)
            && let Some((lane, socket)) = place(file)
        {
            let held = self.enter_with(lane)?;
            // What adds replicas, or moves the socket, holds every lock.
            if place(file) == Some((lane, socket)) {
                return Ok(held);
            }
        }
        self.enter()
    }

    /// Takes one shard's lock, where there are several.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn enter_lane(&'static self, lane: usize) -> Result<LaneHeld, Error> {
        thread::enter();
        let taken = self.lanes[lane].lock.lock(thread::tid());
        self.entered_lane(lane, taken)
    }

    /// Takes one shard's lock if nobody has it.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn try_enter_lane(&'static self, lane: usize) -> Result<Option<LaneHeld>, Error> {
        thread::enter();
        match self.lanes[lane].lock.try_lock(thread::tid()) {
            Some(taken) => self.entered_lane(lane, taken).map(Some),
            None => {
                thread::leave();
                Ok(None)
            }
        }
    }

    /// The same, but a lock that is kept for somebody is waited for: they may have died meanwhile,
    /// and then it is nobody's.
    fn reach_lane(&'static self, lane: usize) -> Result<Option<LaneHeld>, Error> {
        match self.try_enter_lane(lane)? {
            None if self.lanes[lane].lock.is_reserved() => self.enter_lane(lane).map(Some),
            reached => Ok(reached),
        }
    }

    fn entered_lane(&'static self, lane: usize, taken: Taken) -> Result<LaneHeld, Error> {
        self.mend(lane, taken);
        // SAFETY: the lock is held until the `LaneHeld` is dropped or becomes a `Held`.
        let shards = unsafe { Shards::new(self.lanes, lane..lane + 1) };
        let held = LaneHeld { shared: self, lane, shards, now: clock::now() };
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::NetworkDown);
        }
        Ok(held)
    }

    /// Resets a shard that is not to be trusted; its lock has just been taken.
    fn mend(&'static self, lane: usize, taken: Taken) {
        let at = &self.lanes[lane];
        if taken == Taken::Clean && !at.broken.load(Ordering::Relaxed) {
            return;
        }
        at.broken.store(false, Ordering::Relaxed);
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the lock is held, and no reference exists yet.
        let state = unsafe { &mut *at.state.get() };
        state.due = Due::UNKNOWN;
        let now = clock::now();
        if catch_unwind(AssertUnwindSafe(|| state.shard.reset_all(now))).is_err() {
            self.failed.store(true, Ordering::SeqCst);
            sys::complain("onwire: the stack cannot be repaired after the death of its driver");
        }
        at.lock.mark_clean();
    }

    /// The world was found in pieces: the shards that are not held here are not to be trusted.
    pub(crate) fn break_others(&self, held: &Range<usize>) {
        for (index, lane) in self.lanes.iter().enumerate() {
            if !held.contains(&index) {
                lane.broken.store(true, Ordering::Release);
            }
        }
    }

    /// Looks at the ports of the shard `first`, and of those that nobody looks at; how many frames.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn drive_lanes(&'static self, first: usize) -> Result<usize, Error> {
        let mut frames = 0;
        let mut now = Instant::ZERO;
        if let Some(mut held) = self.reach_lane(first)? {
            frames += held.drive();
            now = held.now;
            held.leave()?;
        }
        if now == Instant::ZERO {
            now = clock::now();
        }
        for lane in (0..self.lanes.len()).filter(|lane| *lane != first) {
            if self.lanes[lane].is_neglected(now)
                && let Some(mut held) = self.reach_lane(lane)?
            {
                frames += held.drive();
                held.leave()?;
            }
        }
        frames += self.drive_receivers()?;
        Ok(frames)
    }

    /// Drives the shards that were handed frames: whoever hands over sees to it.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn drive_receivers(&'static self) -> Result<usize, Error> {
        let mut frames = 0;
        let Some(handover) = self.handover.filter(|handover| !handover.is_idle()) else {
            return Ok(0);
        };
        for lane in 0..self.lanes.len() {
            if handover.has_frames_for(lane) {
                let mut held = self.enter_lane(lane)?;
                frames += held.drive();
                held.leave()?;
            }
        }
        Ok(frames)
    }
}

/// One shard's lock, held by this thread, where there are several.
pub(crate) struct LaneHeld {
    shared: &'static Shared,
    pub(crate) lane: usize,
    shards: Shards,
    /// When the lock was taken, or the port was driven last.
    pub(crate) now: Instant,
}

impl LaneHeld {
    /// The shard, to be changed.
    pub(crate) fn shard(&mut self) -> &mut Shard {
        self.change();
        self.shards.at(self.lane)
    }

    fn change(&mut self) {
        self.shards.forget_due();
        self.shared.lanes[self.lane].lock.mark_dirty();
    }

    /// What the description's socket is ready for is known from now on without the lock.
    pub(crate) fn note(&mut self, file: &File, socket: SocketId) {
        let readiness = self.shards.at(self.lane).readiness(socket);
        self.shared.spread(file).note_readiness(file, self.lane, readiness);
    }

    /// Polls the port; how many frames were handled.
    pub(crate) fn drive(&mut self) -> usize {
        self.now = clock::now();
        let state = self.shards.state(self.lane);
        let mut timers = Timers::NotDue;
        if state.next_timeout() <= self.now {
            state.due = Due::UNKNOWN;
            self.shared.lanes[self.lane].lock.mark_dirty();
            timers = Timers::Due;
        }
        let frames = state.shard.poll_timers_known(self.now, timers);
        if frames > 0 {
            state.due = Due::UNKNOWN;
        }
        let polled = self.now.as_nanos();
        self.shared.lanes[self.lane].last_poll.store(polled, Ordering::Relaxed);
        self.shared.last_poll.store(polled, Ordering::Relaxed);
        frames
    }

    /// Drives if nobody has for a while.
    pub(crate) fn drive_if_stale(&mut self) {
        if self.shared.lanes[self.lane].is_neglected(self.now) {
            self.drive();
        }
    }

    /// Gives the lock back; if there are events, passes them on first.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn leave(mut self) -> Result<(), Error> {
        if self.shards.at(self.lane).has_events() {
            self.deepen()?.dispatch();
        }
        Ok(())
    }

    /// Takes the world's lock as well.
    ///
    /// # Errors
    /// `NetworkDown` when the engine has failed.
    pub(crate) fn deepen(self) -> Result<Held<'static>, Error> {
        let (shared, lane) = (self.shared, self.lane);
        core::mem::forget(self);
        let taken = shared.lock.lock(thread::tid());
        // SAFETY: the lane's lock stays held, by the new value.
        shared.entered(taken, unsafe { Shards::new(shared.lanes, lane..lane + 1) })
    }
}

impl Drop for LaneHeld {
    fn drop(&mut self) {
        let lock = self.shared.lanes[self.lane].lock;
        let changed = lock.is_dirty();
        if !std::thread::panicking() {
            lock.mark_clean();
        }
        let hurry = changed && self.shared.is_hurry(self.shards.next_timeout());
        lock.unlock();
        if hurry {
            self.shared.ring_leader();
        }
        thread::leave();
    }
}
