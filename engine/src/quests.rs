//! What calls wait for: one socket ([`Call`]), many and kernel descriptors ([`Poll`]), an epoll
//! set ([`EpollWait`]).

use crate::epoll::{DOORBELL_DATA, EpollId};
use crate::file::FileId;
use crate::shard::SocketId;
use crate::shared::{Held, Shared};
use crate::sys;
use crate::thread::Restartable;
use crate::wait::{PollEntry, Quest, Wait, Watched};
use core::cell::Cell;
use core::ffi::c_int;
use stack::error::Error;
use stack::readiness::Readiness;
use stack::time::{Duration, Instant};

/// A call on one socket.
pub(crate) struct Call<F> {
    pub(crate) file: FileId,
    pub(crate) interest: Readiness,
    pub(crate) wait: Wait,
    pub(crate) op: F,
    /// The count of events at the last attempt.
    pub(crate) seen: u32,
}

impl<T, F> Quest for Call<F>
where
    F: FnMut(&mut Held<'static>, SocketId) -> Result<T, Error>,
{
    type Answer = T;

    fn attempt(&mut self, held: &mut Held<'static>) -> Result<Option<T>, Error> {
        let file = held.shared.file(self.file).ok_or(Error::BadDescriptor)?;
        let socket = file.socket().ok_or(Error::BadDescriptor)?;
        self.seen = file.events();
        held.change();
        let answer = (self.op)(held, socket);
        held.dispatch();
        held.settle();
        match answer {
            Err(Error::WouldBlock) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => {
                held.pass_on(self.file);
                Ok(Some(answer))
            }
        }
    }

    fn has_changed(&self, shared: &Shared) -> bool {
        shared.file(self.file).is_none_or(|file| file.events() != self.seen)
    }

    fn watch(&self, held: &mut Held<'static>, waiter: u32) -> bool {
        held.world.watch(waiter, Watched::File(self.file.index()), self.interest, true)
    }

    fn kernel(&mut self) -> &mut [libc::pollfd] {
        &mut []
    }

    fn ask_kernel(&mut self) -> Result<Option<T>, Error> {
        Ok(None)
    }

    fn deadline(&self, held: &mut Held<'static>) -> Result<Option<Instant>, Error> {
        let socket = held.socket(self.file)?;
        let options = held.world.shard.options(socket)?;
        let timeout = match self.wait {
            Wait::SendTimeout => options.send_timeout,
            _ => options.receive_timeout,
        };
        Ok(timeout.map(|timeout| held.now + timeout.get()))
    }

    fn restartable(&self, deadline: Option<Instant>) -> Restartable {
        if deadline.is_some() { Restartable::No } else { Restartable::Yes }
    }
}

impl Held<'_> {
    /// A call took something; if there is more, another one that waits for it is woken.
    #[inline]
    fn pass_on(&mut self, file: FileId) {
        let waited = self.world.files.at(file.index()).is_some_and(|f| !f.waiters.is_empty());
        if waited && let Ok(socket) = self.socket(file) {
            let readiness = self.world.shard.readiness(socket);
            self.world.wake_waiters(file.index(), readiness, self.shared, self.wakes);
        }
    }
}

/// Which side a poll found something on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Stack,
    Kernel,
}

/// poll(2).
pub(crate) struct Poll<'a> {
    pub(crate) entries: &'a mut [PollEntry],
    pub(crate) kernel: &'a mut [libc::pollfd],
    pub(crate) seen: u32,
}

impl Quest for Poll<'_> {
    type Answer = Found;

    fn attempt(&mut self, held: &mut Held<'static>) -> Result<Option<Found>, Error> {
        self.seen = held.shared.sleepers.events();
        let always = Readiness::ERROR | Readiness::HANGUP;
        let mut any = false;
        for entry in self.entries.iter_mut() {
            entry.found = match held.socket(entry.file) {
                Ok(socket) => held.world.shard.readiness(socket) & (entry.interest | always),
                Err(_) => always,
            };
            any |= !entry.found.is_empty();
        }
        Ok(any.then_some(Found::Stack))
    }

    fn has_changed(&self, shared: &Shared) -> bool {
        shared.sleepers.events() != self.seen
    }

    fn watch(&self, held: &mut Held<'static>, waiter: u32) -> bool {
        self.entries.iter().all(|entry| {
            held.world.watch(waiter, Watched::File(entry.file.index()), entry.interest, false)
        })
    }

    fn kernel(&mut self) -> &mut [libc::pollfd] {
        self.kernel
    }

    fn ask_kernel(&mut self) -> Result<Option<Found>, Error> {
        let ready = sys::ppoll(self.kernel, Some(Duration::ZERO), None);
        Ok((ready.unwrap_or(0) > 0).then_some(Found::Kernel))
    }

    fn deadline(&self, _: &mut Held<'static>) -> Result<Option<Instant>, Error> {
        Ok(None)
    }

    fn restartable(&self, _: Option<Instant>) -> Restartable {
        Restartable::No
    }
}

/// epoll_wait(2).
pub(crate) struct EpollWait<'a> {
    pub(crate) set: EpollId,
    pub(crate) epfd: c_int,
    pub(crate) events: &'a mut [libc::epoll_event],
    pub(crate) kernel: [libc::pollfd; 1],
    /// There are kernel descriptors in the epfd.
    pub(crate) asks_kernel: bool,
    /// The kernel watches the epfd: its doorbell makes it readable.
    pub(crate) exposed: bool,
    /// The kernel's events are among what was found.
    pub(crate) kernel_asked: bool,
    /// When the last attempt was.
    pub(crate) now: Instant,
}

/// A call that the stack can answer asks the kernel as well, but not more often than this.
const KERNEL_SHARE: Duration = Duration::from_micros(20);

thread_local! {
    /// When this thread asked the kernel last, in nanoseconds.
    static KERNEL_ASKED: Cell<u64> = const { Cell::new(0) };
}

impl EpollWait<'_> {
    pub(crate) fn is_kernel_due(&self) -> bool {
        let asked = Instant::from_nanos(KERNEL_ASKED.get());
        self.asks_kernel && self.now.saturating_since(asked) >= KERNEL_SHARE
    }

    /// Puts the kernel's events behind the first `found`; how many.
    pub(crate) fn take_kernel(&mut self, found: usize) -> usize {
        self.kernel_asked = true;
        KERNEL_ASKED.set(self.now.as_nanos());
        let room = &mut self.events[found..];
        let Ok(count) = sys::epoll_wait(self.epfd, room, 0) else { return 0 };
        let mut kept = 0;
        for at in 0..count {
            if room[at].u64 != DOORBELL_DATA {
                room[kept] = room[at];
                kept += 1;
            }
        }
        if kept > 0 {
            KERNEL_ASKED.set(0); // What was ready probably still is: it is told next time, too.
        }
        kept
    }
}

impl Quest for EpollWait<'_> {
    type Answer = usize;

    fn attempt(&mut self, held: &mut Held<'static>) -> Result<Option<usize>, Error> {
        let state = held.world.sets.get_mut(self.set.handle()).ok_or(Error::BadDescriptor)?;
        self.asks_kernel = state.kernel > 0;
        self.exposed = state.doorbell().is_some();
        // It is the kernel's turn if the stack filled the last call's room.
        let kernel_first = core::mem::take(&mut state.kernel_first) && self.asks_kernel;
        self.now = held.now;
        self.kernel_asked = false;
        let mut found = 0;
        if kernel_first {
            found = self.take_kernel(0);
        }
        found += held.collect(self.set, &mut self.events[found..])?;
        if found == self.events.len()
            && let Some(state) = held.world.sets.get_mut(self.set.handle())
        {
            state.kernel_first = !kernel_first;
        }
        Ok((found > 0).then_some(found))
    }

    fn has_changed(&self, _: &Shared) -> bool {
        true // An attempt is cheap: it looks at the head of a list.
    }

    fn watch(&self, held: &mut Held<'static>, waiter: u32) -> bool {
        let set = Watched::Set(self.set.handle().index());
        held.world.watch(waiter, set, Readiness::all(), true)
    }

    fn kernel(&mut self) -> &mut [libc::pollfd] {
        if self.asks_kernel || self.exposed { &mut self.kernel } else { &mut [] }
    }

    fn ask_kernel(&mut self) -> Result<Option<usize>, Error> {
        let found = if self.asks_kernel { self.take_kernel(0) } else { 0 };
        Ok((found > 0).then_some(found))
    }

    fn deadline(&self, _: &mut Held<'static>) -> Result<Option<Instant>, Error> {
        Ok(None)
    }

    fn restartable(&self, _: Option<Instant>) -> Restartable {
        Restartable::No
    }
}
