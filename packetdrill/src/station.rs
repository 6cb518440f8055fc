//! The lock, the clock, and the thread that is blocked in a call.
//!
//! Time is virtual: it moves by a microsecond with each look at the clock, to the next timer while
//! packetdrill waits for a packet, and as far as it sleeps. A call that a script marks as blocking
//! runs in a thread of its own, which must really sleep (packetdrill looks); after each change the
//! thread that made it waits until the sleeper has looked, so that the sleeper's call ends at the
//! moment of the change.

use crate::knobs::Flags;
use crate::world::World;
use core::cell::Cell;
use core::ffi::c_long;
use stack::tcp::TcpCounters;
use stack::time::{Duration, Instant};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// How long a waiter waits, in real time, before it moves the time itself.
const NOBODY: std::time::Duration = std::time::Duration::from_millis(100);
/// How long anything waits in virtual time.
const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_micros(1);

thread_local! {
    /// When this thread's blocking call ended: what its next look at the clock shows.
    static ENDED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A thread that is blocked.
#[derive(Debug)]
struct Waiter {
    id: u64,
    deadline: Option<Instant>,
    /// The change that it has looked at last.
    seen: u64,
}

/// The world and who waits for it.
#[derive(Debug)]
pub struct Guarded {
    pub world: World,
    changes: u64,
    next_id: u64,
    waiters: Vec<Waiter>,
    /// The threads whose calls have ended, and that packetdrill has not put to sleep again.
    returning: Vec<c_long>,
}

type Guard<'a> = MutexGuard<'a, Guarded>;

impl Guarded {
    fn waiter(&mut self, id: u64) -> Option<&mut Waiter> {
        self.waiters.iter_mut().find(|waiter| waiter.id == id)
    }

    /// The next moment at which something happens by itself.
    fn next_moment(&self) -> Option<Instant> {
        let waiting = self.waiters.iter().filter_map(|waiter| waiter.deadline);
        let soon = self.world.now + TICK;
        waiting.map(|at| at.max(soon)).chain(self.world.next_timeout()).min()
    }
}

/// Everything behind the interface.
#[derive(Debug)]
pub struct Station {
    guarded: Mutex<Guarded>,
    /// Something changed: waiters look.
    changed: Condvar,
    /// A waiter has looked.
    looked: Condvar,
}

static STATION: OnceLock<Station> = OnceLock::new();

/// Makes the station, once.
pub fn start(flags: Flags) -> &'static Station {
    STATION.get_or_init(|| Station::new(flags))
}

/// The station, if it has been made.
pub fn station() -> Option<&'static Station> {
    STATION.get()
}

/// Writes what scripts ask nstat(8) for to the file that the environment names.
fn publish(counters: &TcpCounters) {
    if let Some(path) = std::env::var_os("ONWIRE_PACKETDRILL_NSTAT")
        && counters.icmp_out_of_window > 0
    {
        let text = format!("TcpExtOutOfWindowIcmps {} 0.0\n", counters.icmp_out_of_window);
        // Who reads it finds out.
        let _ = std::fs::write(path, text);
    }
}

fn this_thread() -> c_long {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

/// Whether the thread sleeps (or is no more).
fn is_asleep(thread: c_long) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    // Behind the name, which may hold anything, in parentheses.
    stat.is_ok_and(|stat| stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('S')))
}

impl Station {
    pub fn new(flags: Flags) -> Self {
        let world = World::new(flags);
        let guarded =
            Guarded { world, changes: 0, next_id: 0, waiters: Vec::new(), returning: Vec::new() };
        Station { guarded: Mutex::new(guarded), changed: Condvar::new(), looked: Condvar::new() }
    }

    fn lock(&self) -> Guard<'_> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call that does not block, with the settings of the moment.
    pub fn call<T>(&self, call: impl FnOnce(&mut World) -> T) -> T {
        let mut guard = self.lock();
        guard.world.reread_settings();
        let answer = call(&mut guard.world);
        guard.world.turn();
        drop(self.tell(guard));
        answer
    }

    /// Runs `attempt` until it answers; `None` when `limit` has passed, or nothing comes of it.
    pub fn wait<T>(
        &self,
        limit: Option<Duration>,
        mut attempt: impl FnMut(&mut World) -> Option<T>,
    ) -> Option<T> {
        let mut guard = self.lock();
        guard.world.reread_settings();
        let mut answer = attempt(&mut guard.world);
        guard.world.turn();
        if answer.is_none() && limit != Some(Duration::ZERO) {
            (guard, answer) = self.sleep(guard, limit, attempt);
        }
        drop(self.tell(guard));
        answer
    }

    fn sleep<'a, T>(
        &'a self,
        mut guard: Guard<'a>,
        limit: Option<Duration>,
        mut attempt: impl FnMut(&mut World) -> Option<T>,
    ) -> (Guard<'a>, Option<T>) {
        let begun = guard.world.now;
        let (deadline, seen) = (limit.map(|limit| begun + limit), guard.changes);
        guard.next_id += 1;
        let id = guard.next_id;
        guard.waiters.push(Waiter { id, deadline, seen });
        loop {
            let unchanged = |guarded: &mut Guarded| {
                let changes = guarded.changes;
                guarded.waiter(id).is_some_and(|waiter| waiter.seen == changes)
            };
            let woken = self.changed.wait_timeout_while(guard, NOBODY, unchanged);
            let timeout;
            (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                let next = guard.next_moment().unwrap_or(Instant::FAR_FUTURE);
                guard.world.set_time(next.min(begun + PATIENCE));
            }
            let answer = attempt(&mut guard.world);
            guard.world.turn();
            let changes = guard.changes;
            if let Some(waiter) = guard.waiter(id) {
                waiter.seen = changes;
            }
            let now = guard.world.now;
            let late = deadline.is_some_and(|at| at <= now) || now >= begun + PATIENCE;
            if answer.is_some() || late {
                guard.waiters.retain(|waiter| waiter.id != id);
                guard.returning.push(this_thread());
                ENDED.set(Some(now));
                self.looked.notify_all();
                return (guard, answer);
            }
            self.looked.notify_all();
        }
    }

    /// Lets those who wait look at what has changed, before anything else changes.
    fn tell<'a>(&'a self, mut guard: Guard<'a>) -> Guard<'a> {
        if guard.waiters.is_empty() {
            return guard;
        }
        guard.changes += 1;
        let changes = guard.changes;
        self.changed.notify_all();
        let unseen = |guarded: &mut Guarded| guarded.waiters.iter().any(|w| w.seen < changes);
        let told = self.looked.wait_timeout_while(guard, 10 * NOBODY, unseen);
        told.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread of a call that has ended tells packetdrill what became of it: in no time, says
    /// the clock, so it gets some that does not count.
    fn await_returning(&self) {
        let returning = core::mem::take(&mut self.lock().returning);
        for thread in returning {
            let end = std::time::Instant::now() + NOBODY;
            while !is_asleep(thread) && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        }
    }

    /// usleep(3): everything that happens in that time happens.
    pub fn usleep(&self, time: Duration) {
        self.await_returning();
        let mut guard = self.lock();
        let target = guard.world.now + time;
        while let Some(next) = guard.next_moment()
            && next <= target
        {
            guard.world.set_time(next);
            guard = self.tell(guard);
        }
        guard.world.set_time(target);
        drop(self.tell(guard));
    }

    /// gettimeofday(2). A clock that stood still would be watched for ever.
    pub fn time(&self) -> Instant {
        if let Some(ended) = ENDED.take() {
            return ended;
        }
        let mut guard = self.lock();
        let next = guard.world.now + TICK;
        let due = guard.next_moment().is_some_and(|at| at <= next);
        guard.world.now = next;
        if due {
            guard.world.turn();
            guard = self.tell(guard);
        }
        guard.world.now
    }

    /// A packet arrives.
    pub fn arrive(&self, packet: &[u8]) {
        self.call(|world| world.shard.device_mut().arrive(packet));
        self.call(|world| publish(&world.shard.counters().tcp));
    }

    /// The next packet that the stack sends, and when; time moves on until there is one.
    pub fn depart(&self) -> Option<(Vec<u8>, Instant)> {
        self.await_returning();
        let mut guard = self.lock();
        let limit = guard.world.now + PATIENCE;
        loop {
            if let Some(departure) = guard.world.shard.device_mut().sent.pop_front() {
                return Some((departure.packet, departure.at));
            }
            let next = guard.next_moment().filter(|next| *next <= limit)?;
            guard.world.set_time(next);
            guard = self.tell(guard);
        }
    }
}
