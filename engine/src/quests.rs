//! What calls wait for: one socket ([`Call`]), many and kernel descriptors ([`Poll`]), an epoll
//! set ([`EpollWait`]).

use crate::epoll::{DOORBELL_DATA, EpollId};
use crate::file::{File, FileId, Kind, Path, Reason};
use crate::shard::{Shard, SocketId};
use crate::shared::{Held, Shared};
use crate::sys;
use crate::thread::Restartable;
use crate::wait::{PollEntry, Quest, Wait, Watched};
use core::cell::Cell;
use core::ffi::c_int;
use stack::error::Error;
use stack::options::Options;
use stack::readiness::Readiness;
use stack::socket::Family;
use stack::time::{Duration, Instant};
use std::net::SocketAddr;

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
    F: FnMut(&mut Shard, SocketId, Instant) -> Result<T, Error>,
{
    type Answer = T;

    fn attempt(&mut self, held: &mut Held<'static>) -> Result<Option<T>, Error> {
        let file = held.shared.file(self.file).ok_or(Error::BadDescriptor)?;
        let (lane, socket) = file.place().ok_or(Error::BadDescriptor)?;
        self.seen = file.events();
        held.change();
        let now = held.now;
        let shard = held.shards.at(lane);
        let answer = (self.op)(shard, socket, now);
        if held.shared.is_several() {
            let readiness = held.shards.at(lane).readiness(socket);
            held.shared.spread(file).note_readiness(file, lane, readiness);
        }
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

    fn attempt_apart(&mut self, shared: &'static Shared) -> Result<Option<T>, Error> {
        self.seen = shared.file(self.file).ok_or(Error::BadDescriptor)?.events();
        match shared.with_lane(self.file, &mut self.op) {
            Err(Error::WouldBlock) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => {
                if shared.sleepers.any() {
                    shared.enter_world()?.pass_on(self.file);
                }
                Ok(Some(answer))
            }
        }
    }

    fn lane(&self, shared: &Shared) -> Option<usize> {
        shared.file(self.file).and_then(File::place).map(|(lane, _)| lane)
    }

    fn deadline_apart(&self, shared: &'static Shared) -> Result<Option<Instant>, Error> {
        let kind = self.wait;
        shared.with_lane(self.file, |shard, socket, now| {
            Ok(timeout_of(shard.options(socket)?, kind).map(|timeout| now + timeout))
        })
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
        let (lane, socket) = held.socket(self.file)?;
        let timeout = timeout_of(held.shards.at(lane).options(socket)?, self.wait);
        Ok(timeout.map(|timeout| held.now + timeout))
    }

    fn restartable(&self, deadline: Option<Instant>) -> Restartable {
        if deadline.is_some() { Restartable::No } else { Restartable::Yes }
    }
}

/// `SO_SNDTIMEO` or `SO_RCVTIMEO`.
fn timeout_of(options: &Options, wait: Wait) -> Option<Duration> {
    let timeout = match wait {
        Wait::SendTimeout => options.send_timeout,
        _ => options.receive_timeout,
    };
    timeout.map(|timeout| timeout.get())
}

/// accept(2).
pub(crate) struct Accept {
    pub(crate) listener: FileId,
    /// The slot of whoever accepts.
    pub(crate) process: u32,
    pub(crate) wait: Wait,
    /// The count of events at the last attempt.
    pub(crate) seen: u32,
}

impl Accept {
    /// Takes a connection of one shard's listener, under its lock and the world's.
    fn take(
        &self,
        held: &mut Held<'static>,
        lane: usize,
        socket: SocketId,
    ) -> Result<(FileId, SocketAddr), Error> {
        let now = held.now;
        let (accepted, peer) = held.shards.at(lane).accept(now, socket)?;
        let family = Family::of(peer.ip());
        match held.adopt(self.process, Kind::Tcp, family, (lane, accepted)) {
            Ok(file) => {
                if let Some(file) = held.shared.file(file) {
                    file.set_path(Path::Stack, Reason::Routed);
                }
                Ok((file, peer))
            }
            Err(error) => {
                held.shards.at(lane).abort(now, accepted);
                Err(error)
            }
        }
    }

    /// The same where there are several shards: what is left is noted.
    fn take_noting(
        &self,
        held: &mut Held<'static>,
        lane: usize,
    ) -> Result<Option<(FileId, SocketAddr)>, Error> {
        let file = held.shared.file(self.listener).ok_or(Error::BadDescriptor)?;
        let Some(socket) = replica_of(held.shared, file, lane) else { return Ok(None) };
        held.change();
        let taken = self.take(held, lane, socket);
        let readiness = held.shards.at(lane).readiness(socket);
        held.shared.spread(file).note_readiness(file, lane, readiness);
        held.dispatch();
        held.settle();
        match taken {
            Err(Error::WouldBlock) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => {
                held.pass_on(self.listener);
                Ok(Some(answer))
            }
        }
    }

    /// The shards in which connections may wait, the own one first; the socket's own if it does not
    /// listen, which then says so.
    fn lanes(&self, shared: &Shared) -> Result<impl Iterator<Item = usize> + use<>, Error> {
        let file = shared.file(self.listener).ok_or(Error::BadDescriptor)?;
        let (own, _) = file.place().ok_or(Error::BadDescriptor)?;
        let (home, count) = (shared.home(), shared.lanes.len());
        let spread = shared.spread(file);
        let bits = if spread.is_listening() { spread.acceptable() } else { 1 << own };
        Ok((0..count).map(move |step| (home + step) % count).filter(move |l| bits & 1 << l != 0))
    }
}

/// The socket of a description in a shard.
fn replica_of(shared: &Shared, file: &File, lane: usize) -> Option<SocketId> {
    match file.place()? {
        (own, socket) if own == lane => Some(socket),
        _ => shared.replicas[shared.spread(file).replicas()?].get(lane),
    }
}

impl Quest for Accept {
    type Answer = (FileId, SocketAddr);

    fn attempt(&mut self, held: &mut Held<'static>) -> Result<Option<Self::Answer>, Error> {
        let file = held.shared.file(self.listener).ok_or(Error::BadDescriptor)?;
        self.seen = file.events();
        if held.shared.is_several() {
            for lane in self.lanes(held.shared)? {
                if let Some(answer) = self.take_noting(held, lane)? {
                    return Ok(Some(answer));
                }
            }
            return Ok(None);
        }
        let (_, socket) = file.place().ok_or(Error::BadDescriptor)?;
        held.change();
        let answer = self.take(held, 0, socket);
        held.dispatch();
        held.settle();
        match answer {
            Err(Error::WouldBlock) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => {
                held.pass_on(self.listener);
                Ok(Some(answer))
            }
        }
    }

    fn attempt_apart(&mut self, shared: &'static Shared) -> Result<Option<Self::Answer>, Error> {
        self.seen = shared.file(self.listener).ok_or(Error::BadDescriptor)?.events();
        for lane in self.lanes(shared)? {
            if let Some(answer) = self.take_noting(&mut shared.enter_with(lane)?, lane)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn lane(&self, _: &Shared) -> Option<usize> {
        None
    }

    fn deadline_apart(&self, shared: &'static Shared) -> Result<Option<Instant>, Error> {
        self.deadline(&mut shared.enter_for(self.listener)?)
    }

    fn has_changed(&self, shared: &Shared) -> bool {
        shared.file(self.listener).is_none_or(|file| file.events() != self.seen)
    }

    fn watch(&self, held: &mut Held<'static>, waiter: u32) -> bool {
        let listener = Watched::File(self.listener.index());
        held.world.watch(waiter, listener, Readiness::READABLE, true)
    }

    fn kernel(&mut self) -> &mut [libc::pollfd] {
        &mut []
    }

    fn ask_kernel(&mut self) -> Result<Option<Self::Answer>, Error> {
        Ok(None)
    }

    fn deadline(&self, held: &mut Held<'static>) -> Result<Option<Instant>, Error> {
        let (lane, socket) = held.socket(self.listener)?;
        let timeout = timeout_of(held.shards.at(lane).options(socket)?, self.wait);
        Ok(timeout.map(|timeout| held.now + timeout))
    }

    fn restartable(&self, deadline: Option<Instant>) -> Restartable {
        if deadline.is_some() { Restartable::No } else { Restartable::Yes }
    }
}

impl Held<'_> {
    /// What a description's socket is ready for.
    pub(crate) fn readiness(&mut self, id: FileId) -> Result<Readiness, Error> {
        let (lane, socket) = self.socket(id)?;
        if self.shared.is_several() {
            let noted = self.shared.file(id).map(|file| self.shared.spread(file).noted_readiness());
            return noted.ok_or(Error::BadDescriptor);
        }
        Ok(self.shards.at(lane).readiness(socket))
    }

    /// A call took something; if there is more, another one that waits for it is woken.
    #[inline]
    fn pass_on(&mut self, file: FileId) {
        let waited = self.world.files.at(file.index()).is_some_and(|f| !f.waiters.is_empty());
        if waited && let Ok(readiness) = self.readiness(file) {
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
            entry.found = match held.readiness(entry.file) {
                Ok(ready) => ready & (entry.interest | always),
                Err(_) => always,
            };
            any |= !entry.found.is_empty();
        }
        Ok(any.then_some(Found::Stack))
    }

    fn attempt_apart(&mut self, shared: &'static Shared) -> Result<Option<Found>, Error> {
        self.seen = shared.sleepers.events();
        let always = Readiness::ERROR | Readiness::HANGUP;
        let mut any = false;
        for entry in self.entries.iter_mut() {
            let file = shared.file(entry.file).filter(|file| file.place().is_some());
            let ready = file.map(|file| shared.spread(file).noted_readiness());
            entry.found = ready.map_or(always, |ready| ready & (entry.interest | always));
            any |= !entry.found.is_empty();
        }
        Ok(any.then_some(Found::Stack))
    }

    fn lane(&self, shared: &Shared) -> Option<usize> {
        let [entry] = &*self.entries else { return None };
        shared.file(entry.file).and_then(File::place).map(|(lane, _)| lane)
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
    /// The count of all events at the last attempt; kept where there are several shards.
    pub(crate) seen: u32,
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

    fn attempt_apart(&mut self, shared: &'static Shared) -> Result<Option<usize>, Error> {
        self.seen = shared.sleepers.events();
        self.attempt(&mut shared.enter_world()?)
    }

    fn lane(&self, _: &Shared) -> Option<usize> {
        None
    }

    fn has_changed(&self, _: &Shared) -> bool {
        true // An attempt is cheap: it looks at the head of a list.
    }

    fn has_changed_apart(&self, shared: &Shared) -> bool {
        shared.sleepers.events() != self.seen
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
