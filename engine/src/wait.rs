//! Waiting: first by driving and spinning, then asleep.
//!
//! Every call that may wait is a [`Quest`]: it is attempted under the lock, between attempts the
//! port is driven, and when spinning has lasted long enough the thread sleeps. The first sleeper
//! leads: it watches the port's descriptor and the stack's timers for everybody; the others sleep
//! until somebody wakes them. A leader that leaves appoints another sleeper, or leaves the port to
//! the keeper.
//!
//! No wake-up is lost: a sleeper is put on the lists under the same lock under which it found
//! nothing, and whatever wakes it (a word, a doorbell, the port's descriptor) stays so until it
//! has been looked at.

use crate::doorbell::Borrowed;
use crate::engine::Engine;
use crate::file::FileId;
use crate::list::Link;
use crate::rx_watch::Interrupts;
use crate::shared::{Held, Shared};
use crate::sys::SignalSet;
use crate::thread::{Handlers, Restartable};
use crate::{cancel, clock, fork, sys, thread, words};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use stack::error::Error;
use stack::readiness::Readiness;
use stack::time::{Duration, Instant};

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all (`O_NONBLOCK`, `MSG_DONTWAIT`): the port is polled once all the same.
    No,
    /// As the socket's `SO_RCVTIMEO` says.
    ReceiveTimeout,
    /// As the socket's `SO_SNDTIMEO` says.
    SendTimeout,
    /// Until this moment of [`crate::Engine::now`]; then `WouldBlock`.
    Until(Instant),
    /// For ever.
    Forever,
}

/// One socket of the stack in [`crate::Engine::poll`].
#[derive(Debug, Clone, Copy)]
pub struct PollEntry {
    /// Which.
    pub file: FileId,
    /// What is asked for; `ERROR` and `HANGUP` are always reported.
    pub interest: Readiness,
    /// What was found: `interest`, `ERROR` and `HANGUP` bits only; empty if not ready.
    pub found: Readiness,
}

/// A waiter's word: it may sleep.
const ASLEEP: u32 = 0;
/// Somebody woke it: it is on no list any more.
pub(crate) const WOKEN: u32 = 1;
/// It shall lead.
const APPOINTED: u32 = 2;

/// The word a waiter sleeps on, in the region.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct WaiterWord {
    pub(crate) word: AtomicU32,
}

/// A sleeping thread, as the world knows it.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) process: u32,
    /// Its doorbell, if it has one: then it can lead.
    pub(crate) doorbell: Option<u32>,
    /// It sleeps in ppoll(2), where only the doorbell is heard.
    pub(crate) in_poll: bool,
    /// Its first node, as index + 1.
    pub(crate) nodes: u32,
    pub(crate) sleeping: Link,
}

/// What a waiter watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// A description, by its place.
    File(u32),
    /// An epoll set, by its place.
    Set(u32),
}

/// One waiter on one list.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) waiter: u32,
    pub(crate) interest: u32,
    /// One such waiter is woken per event: it is in a call that takes what came.
    pub(crate) exclusive: bool,
    pub(crate) watched: Watched,
    pub(crate) in_target: Link,
    /// The waiter's next node, as index + 1.
    pub(crate) next_of_waiter: u32,
}

/// Who leads.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    /// The leading waiter, as index + 1; changed under the lock.
    leader: AtomicU32,
    /// When it wakes by itself, in nanoseconds; `u64::MAX` while it is awake.
    until: AtomicU64,
    /// Since when it sleeps, in nanoseconds; 0 while it is awake.
    since: AtomicU64,
    /// Counts the events of all sockets, for those who spin.
    events: AtomicU32,
    /// The leader's doorbell, as number + 1; 0 while nobody leads.
    doorbell: AtomicU32,
    /// How many there are; changed under the lock.
    count: AtomicU32,
}

impl Shared {
    /// Whether the leader, or the keeper, would sleep past `next`; it is expected then from now on.
    pub(crate) fn is_hurry(&self, next: Instant) -> bool {
        let next = next.as_nanos();
        let until = if self.keeper.leads.load(Ordering::Relaxed) {
            &self.keeper.until
        } else if self.sleepers.since.load(Ordering::Relaxed) != 0 {
            &self.sleepers.until
        } else {
            return false;
        };
        next < until.fetch_min(next, Ordering::AcqRel)
    }

    /// Wakes whoever leads, to look at the timers anew.
    pub(crate) fn ring_leader(&self) {
        if self.keeper.leads.load(Ordering::Relaxed) {
            self.doorbells.ring(self.keeper.doorbell.load(Ordering::Relaxed));
        } else if let Some(doorbell) = self.sleepers.leaders_doorbell() {
            self.doorbells.ring(doorbell);
        }
    }
}

/// A leader that has slept for this long finds a keeper that sleeps without end.
const LONG_SLEEP: Duration = Duration::from_millis(1_000);

impl Sleepers {
    /// Whether somebody leads, and since when it sleeps.
    pub(crate) fn leader_asleep(&self) -> Option<Instant> {
        let since = self.since.load(Ordering::Acquire);
        (self.leader.load(Ordering::Acquire) != 0 && since != 0).then(|| Instant::from_nanos(since))
    }

    /// What wakes the leader, if there is one.
    pub(crate) fn leaders_doorbell(&self) -> Option<u32> {
        self.doorbell.load(Ordering::Acquire).checked_sub(1)
    }

    /// Under the lock: nobody else counts at the same time.
    #[inline]
    pub(crate) fn count_event(&self) {
        let events = self.events.load(Ordering::Relaxed);
        self.events.store(events.wrapping_add(1), Ordering::Release);
    }

    pub(crate) fn events(&self) -> u32 {
        self.events.load(Ordering::Acquire)
    }

    /// Whether the waiter leads and is awake: it looks at its word, under the lock, before it
    /// sleeps again.
    pub(crate) fn is_awake_leader(&self, waiter: u32) -> bool {
        self.leader.load(Ordering::Relaxed) == waiter + 1 && self.since.load(Ordering::Relaxed) == 0
    }

    /// Whether anybody sleeps, or is about to.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.leader.load(Ordering::Acquire) != 0
    }

    pub(crate) fn forget_leader(&self) {
        self.leader.store(0, Ordering::Release);
        self.doorbell.store(0, Ordering::Release);
        self.since.store(0, Ordering::Release);
    }
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Perhaps what was waited for.
    Ready,
    /// A kernel descriptor is ready.
    Kernel,
    /// The time is over.
    Timeout,
    /// A signal handler ran.
    Interrupted,
}

/// Something that a call waits for.
pub(crate) trait Quest {
    /// What it is after.
    type Answer;
    /// Looks, under the lock; `None` if it would have to wait.
    fn attempt(&mut self, held: &mut Held<'static>) -> Result<Option<Self::Answer>, Error>;
    /// The same without a lock: it takes what it needs. Where there are several shards.
    fn attempt_apart(&mut self, shared: &'static Shared) -> Result<Option<Self::Answer>, Error>;
    /// The shard that it is about.
    fn lane(&self, shared: &Shared) -> Option<usize>;
    /// Whether an attempt may end otherwise than the last one did.
    fn has_changed(&self, shared: &Shared) -> bool;
    /// The same where an attempt costs the world's lock.
    fn has_changed_apart(&self, shared: &Shared) -> bool {
        self.has_changed(shared)
    }
    /// [`Quest::deadline`] without a lock.
    fn deadline_apart(&self, _: &'static Shared) -> Result<Option<Instant>, Error> {
        Ok(None)
    }
    /// Puts the waiter on the lists; false if it has to look for itself.
    fn watch(&self, held: &mut Held<'static>, waiter: u32) -> bool;
    /// The kernel descriptors that are part of it.
    fn kernel(&mut self) -> &mut [libc::pollfd];
    /// Asks the kernel, without waiting.
    fn ask_kernel(&mut self) -> Result<Option<Self::Answer>, Error>;
    /// Until when, when that depends on the socket.
    fn deadline(&self, held: &mut Held<'static>) -> Result<Option<Instant>, Error>;
    /// Whether handlers with `SA_RESTART` leave it waiting.
    fn restartable(&self, deadline: Option<Instant>) -> Restartable;
}

/// How the profile spins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spinning {
    /// The longest, in nanoseconds; `u64::MAX` for ever.
    pub(crate) most: u64,
    /// Whether it adapts to what has paid off.
    pub(crate) adaptive: bool,
}

/// What spinning is cut down to where it does not pay, in nanoseconds.
const LEAST_SPIN: u64 = 2_000;
/// Looks at the port without giving the lock back, while nobody wants it.
const LOOKS: u32 = 64;
/// Between two questions to the kernel while spinning.
const KERNEL_EVERY: Duration = Duration::from_micros(15);
/// The shortest and longest sleep where the port has no descriptor to watch.
const TICK_SHORTEST: Duration = Duration::from_micros(50);
const TICK_LONGEST: Duration = Duration::from_millis(1);

/// How long this thread spins, in nanoseconds; `u64::MAX` before the first wait.
fn own_budget() -> u64 {
    !words::with(|words| words.spin.load(Ordering::Relaxed))
}

impl Spinning {
    pub(crate) fn budget(self) -> u64 {
        if self.adaptive { own_budget().min(self.most) } else { self.most }
    }

    /// Learns from a wait that took so long.
    pub(crate) fn learn(self, waited: Duration) {
        if self.adaptive {
            let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            let budget = own_budget().min(self.most);
            let next = if waited <= self.most { self.most } else { (budget / 2).max(LEAST_SPIN) };
            words::with(|words| words.spin.store(!next, Ordering::Relaxed));
        }
    }
}

impl Engine {
    /// Pursues a quest; `None` when the time is over.
    pub(crate) fn pursue<Q: Quest>(
        &self,
        quest: &mut Q,
        wait: Wait,
        mask: Option<SignalSet>,
    ) -> Result<Option<Q::Answer>, Error> {
        if self.shared.is_several() {
            return self.pursue_apart(quest, wait, mask);
        }
        let since = Handlers::until_now();
        let mut held = self.shared.enter()?;
        let driven = held.drive_if_stale();
        if let Some(answer) = quest.attempt(&mut held)? {
            return Ok(Some(answer));
        }
        if !driven {
            held.drive();
            if quest.has_changed(self.shared)
                && let Some(answer) = quest.attempt(&mut held)?
            {
                return Ok(Some(answer));
            }
        }
        let begun = held.now;
        let deadline = match wait {
            Wait::No => None,
            Wait::ReceiveTimeout | Wait::SendTimeout => quest.deadline(&mut held)?,
            Wait::Until(moment) => Some(moment),
            Wait::Forever => None,
        };
        if !quest.kernel().is_empty() {
            held.refresh_exposed();
        }
        drop(held);
        if !quest.kernel().is_empty()
            && let Some(answer) = quest.ask_kernel()?
        {
            return Ok(Some(answer));
        }
        if wait == Wait::No || deadline.is_some_and(|moment| moment <= begun) {
            return if mask.is_some_and(|mask| interrupted_by_pending(mask, since)) {
                Err(Error::Interrupted)
            } else {
                Ok(None)
            };
        }
        let bed = Bed { deadline, mask, since, restartable: quest.restartable(deadline) };
        let answer = match self.spin(quest, bed, begun) {
            Ok(Spun::Tired) => self.sleep_and_attempt(quest, bed),
            Ok(Spun::Found(answer)) => Ok(Some(answer)),
            Ok(Spun::Late) => Ok(None),
            Err(error) => Err(error),
        };
        if self.spinning.adaptive {
            self.spinning.learn(clock::now().saturating_since(begun));
        }
        answer
    }

    fn spin<Q: Quest>(
        &self,
        quest: &mut Q,
        bed: Bed,
        begun: Instant,
    ) -> Result<Spun<Q::Answer>, Error> {
        let budget = self.spinning.budget();
        let has_kernel = !quest.kernel().is_empty();
        let mut asked = begun;
        let mut now = begun;
        while u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX) < budget {
            if bed.since.interrupt(bed.restartable) {
                return Err(Error::Interrupted);
            }
            match self.shared.try_enter()? {
                Some(mut held) => {
                    let idle = held.drive() == 0 && !self.keep_looking(&mut held);
                    now = held.now;
                    if quest.has_changed(self.shared)
                        && let Some(answer) = quest.attempt(&mut held)?
                    {
                        return Ok(Spun::Found(answer));
                    }
                    drop(held);
                    if idle {
                        // Where two hardware threads share a core, the other end needs it more.
                        core::hint::spin_loop();
                    }
                }
                None => {
                    // Somebody else drives.
                    for _ in 0..32 {
                        core::hint::spin_loop();
                    }
                    now = clock::now();
                    // A lock that is kept for somebody who has died meanwhile is nobody's.
                    if quest.has_changed(self.shared) || self.shared.lock.is_reserved() {
                        let mut held = self.shared.enter()?;
                        if let Some(answer) = quest.attempt(&mut held)? {
                            return Ok(Spun::Found(answer));
                        }
                    }
                }
            }
            if bed.deadline.is_some_and(|moment| moment <= now) {
                return Ok(Spun::Late);
            }
            if now - asked >= KERNEL_EVERY {
                asked = now;
                if has_kernel && let Some(answer) = quest.ask_kernel()? {
                    return Ok(Spun::Found(answer));
                }
                // More spinning threads than cores must not starve whom they wait for.
                sys::yield_now();
            }
        }
        Ok(Spun::Tired)
    }

    /// Looks on for a little while nobody wants the lock; whether frames came.
    #[inline]
    fn keep_looking(&self, held: &mut Held<'static>) -> bool {
        for _ in 0..LOOKS {
            if self.shared.lock.is_wanted() || thread::is_deferring() {
                return false;
            }
            if held.look() > 0 {
                return true;
            }
        }
        false
    }

    pub(crate) fn sleep_and_attempt<Q: Quest>(
        &self,
        quest: &mut Q,
        bed: Bed,
    ) -> Result<Option<Q::Answer>, Error> {
        // A doorbell lets this thread lead, and wakes it where a futex cannot.
        let doorbell = Borrowed::take(&self.shared.doorbells, self.slot());
        loop {
            let mut held = self.shared.enter()?;
            held.drive();
            if let Some(answer) = quest.attempt(&mut held)? {
                return Ok(Some(answer));
            }
            held.refresh_exposed();
            let (woken, mut held) = self.sleep(quest, held, bed, doorbell.as_ref())?;
            if let Some(answer) = quest.attempt(&mut held)? {
                return Ok(Some(answer));
            }
            if woken == Woken::Kernel {
                // A set within the set may have rung for what somebody else has taken since.
                held.refresh_exposed();
            }
            drop(held);
            if woken == Woken::Kernel
                && let Some(answer) = quest.ask_kernel()?
            {
                return Ok(Some(answer));
            }
            match woken {
                Woken::Interrupted => return Err(Error::Interrupted),
                Woken::Timeout => return Ok(None),
                Woken::Ready | Woken::Kernel => {}
            }
        }
    }

    /// Sleeps once, as a follower or as the leader, until woken for good.
    fn sleep<Q: Quest>(
        &self,
        quest: &mut Q,
        mut held: Held<'static>,
        bed: Bed,
        doorbell: Option<&Borrowed<'_>>,
    ) -> Result<(Woken, Held<'static>), Error> {
        held.change();
        let in_poll = !quest.kernel().is_empty() || bed.mask.is_some();
        let Some(me) = held.lie_down(self.slot(), doorbell, in_poll) else {
            drop(held);
            return self.nap(bed); // The table is full.
        };
        let watched = quest.watch(&mut held, me);
        let mut backoff = TICK_SHORTEST;
        loop {
            let rx = self.rx.get();
            let by_clock = rx.is_none() || self.rx.is_doubtful();
            if rx.is_some() {
                backoff = TICK_LONGEST; // It shall have the time to prove itself.
            }
            let plan = held.plan(me, bed.deadline, rx, by_clock.then_some(&mut backoff));
            // Without a doorbell, or with incomplete lists, look again soon.
            held.settle();
            let blind = !watched || (doorbell.is_none() && plan.in_poll);
            let timeout = if blind { Some(TICK_LONGEST) } else { plan.timeout };
            drop(held);
            let (kernel_ready, rx_found) =
                self.doze(quest, me, Doze { timeout, ..plan }, bed, doorbell);
            self.shared.link.tell();
            held = self.shared.enter()?;
            held.get_up(me);
            if let Some(rx) = plan.rx.filter(|_| self.rx.needs_arming()) {
                self.rx.disarm(rx, me, &held);
            }
            if plan.lead {
                let frames = held.drive();
                self.rx.learn(rx_found, frames);
                if frames > 0 {
                    backoff = TICK_SHORTEST;
                }
            } else if self.shared.link.is_gone() {
                held.drive(); // Nothing else makes this process let go of the card.
            } else {
                held.now = clock::now();
            }
            let word = self.shared.waiters[me as usize].word.swap(ASLEEP, Ordering::SeqCst);
            let woken = if word == WOKEN {
                Some(Woken::Ready)
            } else if kernel_ready {
                Some(Woken::Kernel)
            } else if bed.since.interrupt(bed.restartable) {
                Some(Woken::Interrupted)
            } else if bed.deadline.is_some_and(|moment| moment <= held.now) {
                Some(Woken::Timeout)
            } else if blind {
                Some(Woken::Ready)
            } else {
                None
            };
            if let Some(woken) = woken {
                held.change();
                held.end_sleep(me);
                held.settle();
                return Ok((woken, held));
            }
        }
    }

    fn nap(&self, bed: Bed) -> Result<(Woken, Held<'static>), Error> {
        let _ = sys::ppoll(&mut [], Some(TICK_LONGEST), bed.mask.as_ref());
        let held = self.shared.enter()?;
        let woken = if bed.since.interrupt(bed.restartable) {
            Woken::Interrupted
        } else if bed.deadline.is_some_and(|moment| moment <= held.now) {
            Woken::Timeout
        } else {
            Woken::Ready
        };
        Ok((woken, held))
    }

    /// Sleeps in the kernel; whether a kernel descriptor of the quest is ready, and what is with
    /// the port's.
    fn doze<Q: Quest>(
        &self,
        quest: &mut Q,
        me: u32,
        plan: Doze,
        bed: Bed,
        doorbell: Option<&Borrowed<'_>>,
    ) -> (bool, libc::c_short) {
        let word = &self.shared.waiters[me as usize].word;
        if !plan.in_poll {
            let _guard = (thread::sleep_on(word), cancel::sleep(word, None));
            if !bed.since.interrupt(bed.restartable) {
                let _ = sys::futex_wait(word, ASLEEP, plan.timeout);
            }
            return (false, 0);
        }
        let rx = plan.rx;
        let mut timeout = plan.timeout;
        if let Some(rx) = rx.filter(|_| self.rx.needs_arming()) {
            let longest = self.arm(rx, me);
            timeout = longest.map_or(timeout, |most| Some(timeout.map_or(most, |t| t.min(most))));
        }
        // The leader also notices the keeper's death.
        let lifeline =
            (plan.lead && self.shared.keeper.alive.load(Ordering::Relaxed)).then(fork::lifeline);
        let mut extra = [None; EXTRA];
        extra[0] = doorbell.map(|doorbell| doorbell.fd);
        extra[1] = lifeline;
        if let Some(rx) = &rx {
            extra[2..].iter_mut().zip(rx.fds()).for_each(|(place, fd)| *place = Some(fd));
        }
        let _guard = cancel::sleep(word, doorbell.map(|doorbell| doorbell.index));
        let (kernel_ready, ours) = with_extra(quest.kernel(), extra, |fds| {
            // Signals are blocked from the last look to the sleep, where they end it.
            let before = sys::set_signal_mask(sys::ALL_SIGNALS);
            if !bed.since.interrupt(bed.restartable) && word.load(Ordering::SeqCst) == ASLEEP {
                let _ = sys::ppoll(fds, timeout, Some(&bed.mask.unwrap_or(before)));
            }
            sys::set_signal_mask(before);
        });
        if let Some(doorbell) = doorbell {
            self.shared.doorbells.hear(doorbell.fd, doorbell.index);
        }
        if ours[1] != 0 {
            fork::check_lifeline(self.shared);
        }
        (kernel_ready, ours[2..].iter().fold(0, |all, one| all | one))
    }

    /// Asks the port for an interrupt; how long the sleep may be at most, if there is a limit.
    fn arm(&self, rx: Interrupts, me: u32) -> Option<Duration> {
        let Ok(mut held) = self.shared.enter() else { return Some(Duration::ZERO) };
        let armed = self.rx.arm(rx, me, &held);
        // A frame may have come before.
        let word = &self.shared.waiters[me as usize].word;
        if held.drive() > 0 || word.load(Ordering::SeqCst) != ASLEEP {
            return Some(Duration::ZERO);
        }
        (!armed).then_some(TICK_LONGEST)
    }
}

/// How far spinning got.
enum Spun<T> {
    Found(T),
    Late,
    Tired,
}

/// What bounds a sleep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bed {
    pub(crate) deadline: Option<Instant>,
    pub(crate) mask: Option<SignalSet>,
    pub(crate) since: Handlers,
    pub(crate) restartable: Restartable,
}

/// How to sleep next.
#[derive(Debug, Clone, Copy)]
struct Doze {
    lead: bool,
    in_poll: bool,
    timeout: Option<Duration>,
    /// The port's descriptor, for the leader.
    rx: Option<Interrupts>,
}

/// Whether a signal that `mask` lets through is pending, as ppoll(2) without a wait finds.
pub(crate) fn interrupted_by_pending(mask: SignalSet, since: Handlers) -> bool {
    let _ = sys::ppoll(&mut [], Some(Duration::ZERO), Some(&mask));
    since.interrupt(Restartable::No)
}

/// Descriptors of ours in a sleep: doorbell, lifeline, and the port's.
const EXTRA: usize = 2 + stack::steering::MOST as usize;

/// Runs `f` on the kernel descriptors of a quest and some of ours behind them; whether one of the
/// quest's is ready, and what is with ours.
fn with_extra(
    kernel: &mut [libc::pollfd],
    extra: [Option<libc::c_int>; EXTRA],
    f: impl FnOnce(&mut [libc::pollfd]),
) -> (bool, [libc::c_short; EXTRA]) {
    const FEW: usize = 62;
    // The kernel is given no more than there are.
    let extra_count = extra.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let none = libc::pollfd { fd: -1, events: 0, revents: 0 };
    let mut few = [none; FEW + EXTRA];
    let mut many = Vec::new();
    let count = kernel.len();
    let all = if count <= FEW {
        &mut few[..count + extra_count]
    } else {
        many.resize(count + extra_count, none);
        &mut many[..]
    };
    all[..count].copy_from_slice(kernel);
    for (place, fd) in all[count..].iter_mut().zip(extra) {
        *place = libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 };
    }
    for place in all[..count].iter_mut() {
        place.revents = 0;
    }
    f(all);
    kernel.copy_from_slice(&all[..count]);
    let mut ours = [0; EXTRA];
    ours.iter_mut().zip(&all[count..]).for_each(|(place, entry)| *place = entry.revents);
    (kernel.iter().any(|entry| entry.revents != 0), ours)
}

impl Held<'_> {
    /// A waiter for this thread; it leads if nobody does. `None` when the table is full.
    fn lie_down(
        &mut self,
        process: u32,
        doorbell: Option<&Borrowed<'_>>,
        in_poll: bool,
    ) -> Option<u32> {
        let doorbell = doorbell.map(|doorbell| doorbell.index);
        let waiter = Waiter { process, doorbell, in_poll, nodes: 0, sleeping: Link::default() };
        let me = self.world.waiters.insert(waiter).ok()?.index();
        self.shared.waiters[me as usize].word.store(ASLEEP, Ordering::SeqCst);
        self.world.sleepers.push(&mut self.world.waiters, me, |waiter| &mut waiter.sleeping);
        self.count_sleepers();
        Some(me)
    }

    /// How this waiter sleeps next.
    fn plan(
        &mut self,
        me: u32,
        deadline: Option<Instant>,
        rx: Option<Interrupts>,
        by_clock: Option<&mut Duration>,
    ) -> Doze {
        let sleepers = &self.shared.sleepers;
        let lost = self.shared.link.is_lost();
        if lost {
            self.abdicate(me); // Somebody who reaches the port shall watch it.
        }
        let Some(waiter) = self.world.waiters.at_mut(me) else {
            return Doze { lead: false, in_poll: false, timeout: Some(TICK_LONGEST), rx: None };
        };
        if let Some(doorbell) = waiter.doorbell
            && !lost
            && !sleepers.has_leader()
        {
            sleepers.leader.store(me + 1, Ordering::Release);
            sleepers.doorbell.store(doorbell + 1, Ordering::Release);
            if self.shared.keeper.leads.load(Ordering::Relaxed) {
                self.wakes.ring(self.shared.keeper.doorbell.load(Ordering::Relaxed), self.shared);
            }
        }
        let lead = sleepers.leader.load(Ordering::Relaxed) == me + 1;
        waiter.in_poll |= lead;
        let in_poll = waiter.in_poll;
        let mut until = deadline;
        if lead {
            let next = Some(self.shards.next_timeout()).filter(|next| *next < Instant::FAR_FUTURE);
            sleepers.until.store(next.map_or(u64::MAX, Instant::as_nanos), Ordering::Release);
            sleepers.since.store(self.now.as_nanos().max(1), Ordering::Release);
            until = match (until, next) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        let mut timeout = until.map(|moment| moment.saturating_since(self.now));
        if let Some(backoff) = by_clock.filter(|_| lead) {
            timeout = Some(timeout.map_or(*backoff, |timeout| timeout.min(*backoff)));
            *backoff = (*backoff * 2).min(TICK_LONGEST);
        }
        Doze { lead, in_poll, timeout, rx: rx.filter(|_| lead) }
    }

    /// The waiter is awake: if it leads, it cannot be hurried for now.
    fn get_up(&mut self, me: u32) {
        let sleepers = &self.shared.sleepers;
        if sleepers.leader.load(Ordering::Relaxed) == me + 1 {
            let since = Instant::from_nanos(sleepers.since.swap(0, Ordering::AcqRel));
            let long = clock::now().saturating_since(since) >= LONG_SLEEP / 2;
            if long && self.shared.keeper.sleeps.load(Ordering::Acquire) {
                self.wakes.ring(self.shared.keeper.doorbell.load(Ordering::Relaxed), self.shared);
            }
        }
    }

    /// The waiter is needed no more. If it led, another sleeper is appointed.
    fn end_sleep(&mut self, me: u32) {
        self.world.unlink_waiter(me);
        self.world.waiters.remove_at(me);
        self.count_sleepers();
        self.abdicate(me);
    }

    fn count_sleepers(&self) {
        let count = self.world.waiters.len() as u32;
        self.shared.sleepers.count.store(count, Ordering::Release);
    }

    /// If the waiter leads, somebody else shall.
    pub(crate) fn abdicate(&mut self, waiter: u32) {
        let sleepers = &self.shared.sleepers;
        if sleepers.leader.load(Ordering::Relaxed) != waiter + 1 {
            return;
        }
        sleepers.forget_leader();
        let only = self.shared.link.only_process();
        let mut at = self.world.sleepers.first();
        while let Some(index) = at {
            let Some(waiter) = self.world.waiters.at(index) else { return };
            at = waiter.sleeping.next();
            let asleep = self.shared.waiters[index as usize].word.load(Ordering::SeqCst) == ASLEEP;
            let can_lead = only.is_none_or(|slot| slot == waiter.process);
            if asleep && can_lead && waiter.doorbell.is_some() {
                self.world.signal(index, APPOINTED, self.shared, self.wakes);
                return;
            }
        }
    }

    /// If the leader would sleep past the next timer, it is woken to look at it anew.
    #[inline]
    pub(crate) fn hurry_leader(&mut self) {
        let sleepers = &self.shared.sleepers;
        let keeper = &self.shared.keeper;
        let leads = keeper.leads.load(Ordering::Relaxed);
        if sleepers.since.load(Ordering::Relaxed) == 0 && !leads {
            return;
        }
        let next = self.shards.next_timeout();
        if next == Instant::FAR_FUTURE {
            return;
        }
        if leads {
            if next.as_nanos() < keeper.until.load(Ordering::Relaxed) {
                keeper.until.store(next.as_nanos(), Ordering::Relaxed);
                self.wakes.ring(keeper.doorbell.load(Ordering::Relaxed), self.shared);
            }
        } else if next.as_nanos() < sleepers.until.load(Ordering::Relaxed) {
            sleepers.until.store(next.as_nanos(), Ordering::Relaxed);
            let leader = sleepers.leader.load(Ordering::Relaxed).checked_sub(1);
            let leader = leader.and_then(|leader| self.world.waiters.at(leader));
            if let Some(doorbell) = leader.and_then(|leader| leader.doorbell) {
                self.wakes.ring(doorbell, self.shared);
            }
        }
    }
}
