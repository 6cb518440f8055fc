//! The engine's public calls on sockets and sets.

use crate::epoll::{DOORBELL_DATA, EpollChange, EpollEntry, EpollError, EpollId, Set};
use crate::file::{File, FileId, Kind, Path, Reason};
use crate::process::{Ending, Target};
use crate::quests::{Accept, Call, EpollWait, Found, Poll};
use crate::rx_watch::RxWatch;
use crate::shard::{Shard, SocketId};
use crate::shared::{Held, Shared};
use crate::wait::{PollEntry, Spinning, Wait};
use crate::world::FileLinks;
use crate::{alloc, clock, fds, sys};
use control::Settings;
use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};
use stack::error::Error;
use stack::options::Linger;
use stack::readiness::Readiness;
use stack::shard::SocketKind;
use stack::socket::{Family, Shutdown};
use stack::tcp::State;
use stack::time::{Duration, Instant};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The engine of this family of processes, as seen from this process.
pub struct Engine {
    pub(crate) shared: &'static Shared,
    pub(crate) settings: &'static Settings,
    pub(crate) spinning: Spinning,
    pub(crate) rx: RxWatch,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

/// This process's slot.
static SLOT: AtomicU32 = AtomicU32::new(0);

/// Turns a panic of the stack into an error: the lock is marked, and the next taker repairs.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or(Err(Error::NetworkDown))
}

impl Engine {
    pub(crate) fn slot(&self) -> u32 {
        SLOT.load(Ordering::Relaxed)
    }

    pub(crate) fn set_slot(slot: u32) {
        SLOT.store(slot, Ordering::Relaxed);
    }

    /// The clock of every deadline: `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn now(&self) -> Instant {
        clock::now()
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &'static Settings {
        self.settings
    }

    /// A new socket of the stack and its description, held once by this process.
    ///
    /// # Errors
    /// `TooManyFiles`, `NoBufferSpace`, `AddressFamilyNotSupported`, `NetworkDown`.
    pub fn create(&self, kind: Kind, family: Family) -> Result<FileId, Error> {
        guarded(|| {
            let (socket_kind, lane) = match kind {
                Kind::Tcp => (SocketKind::Tcp, self.shared.home()),
                // Datagrams come from anywhere: they are the first shard's.
                Kind::Udp => (SocketKind::Udp, 0),
            };
            let mut held = self.shared.enter_with(lane)?;
            held.change();
            let socket = held.shards.at(lane).socket(socket_kind, family)?;
            held.adopt(self.slot(), kind, family, (lane, socket)).inspect_err(|_| {
                let now = held.now;
                held.shards.at(lane).close(now, socket);
            })
        })
    }

    /// Takes a connection off a listener's queue, waiting as `wait` says (`O_NONBLOCK` is the
    /// caller's to look at). The new description is blocking, on [`Path::Stack`], and held once by
    /// this process.
    ///
    /// # Errors
    /// As accept(2): `WouldBlock`, `Interrupted`, `InvalidArgument`, `TooManyFiles`, ….
    pub fn accept(&self, listener: FileId, wait: Wait) -> Result<(FileId, SocketAddr), Error> {
        let mut quest = Accept { listener, process: self.slot(), wait, seen: 0 };
        guarded(|| self.pursue(&mut quest, wait, None)?.ok_or(Error::WouldBlock))
    }

    /// This process holds one more descriptor of `file`.
    ///
    /// # Errors
    /// `BadDescriptor` if it is gone, `TooManyFiles` if the table of references is full.
    pub fn retain(&self, file: FileId) -> Result<(), Error> {
        guarded(|| {
            let mut held = self.shared.enter_world()?;
            self.file(file).ok_or(Error::BadDescriptor)?;
            held.hold(self.slot(), Target::File(file.index()), 1)
        })
    }

    /// A descriptor of `file` is on its way to a process of the family (`SCM_RIGHTS`), and is held
    /// for it by this one until [`Engine::take_passed`]. `tag` names it there: not zero, and the same
    /// for no two sockets.
    ///
    /// # Errors
    /// As [`Engine::retain`].
    pub fn pass(&self, file: FileId, tag: u64) -> Result<(), Error> {
        guarded(|| {
            let mut held = self.shared.enter_world()?;
            let description = self.file(file).ok_or(Error::BadDescriptor)?;
            held.hold(self.slot(), Target::File(file.index()), 1)?;
            let passing = &self.shared.passing[file.index() as usize];
            description.pass(passing, tag, self.slot());
            Ok(())
        })
    }

    /// A descriptor has arrived: the description that was passed on under this name, held once more
    /// by this process; `None` if none was.
    #[must_use]
    pub fn take_passed(&self, tag: u64) -> Option<FileId> {
        guarded(|| {
            let mut held = self.shared.enter()?;
            let files = self.shared.files.iter().zip(self.shared.passing);
            let used = files.take(held.world.files.watermark() as usize).enumerate();
            let known = used.filter(|(_, (file, passing))| file.was_passed_as(passing, tag));
            let live = known.filter_map(|(at, (_, passing))| {
                let id = held.world.files.handle_at(at as u32).and_then(FileId::from_handle)?;
                Some((id, passing))
            });
            let (id, passing) = live.into_iter().next().ok_or(Error::BadDescriptor)?;
            let target = Target::File(id.index());
            held.hold(self.slot(), target, 1)?;
            if let Some(passer) = passing.take() {
                held.drop_one(passer, target);
            }
            Ok(id)
        })
        .ok()
    }

    /// This process holds one descriptor less. The last one anywhere closes the socket. (What
    /// `SO_LINGER` waits for comes before: [`Engine::linger`].)
    pub fn release(&self, file: FileId) {
        // A failed engine has nothing left to close.
        let _ = guarded(|| {
            let target = Target::File(file.index());
            let mut held = self.shared.enter_for(file)?;
            self.file(file).ok_or(Error::BadDescriptor)?;
            held.drop_one(self.slot(), target);
            held.dispatch();
            Ok(())
        });
    }

    /// Before a descriptor is closed: if it is the last one anywhere, and `SO_LINGER` says so, waits
    /// until the peer has acknowledged everything and the end, as Linux does; a signal ends it.
    pub fn linger(&self, file: FileId) {
        let unacknowledged = |state| {
            matches!(
                state,
                State::Established
                    | State::CloseWait
                    | State::FinWait1
                    | State::Closing
                    | State::LastAck
            )
        };
        let seconds =
            self.shared.enter_for(file).ok().and_then(|mut held| held.lingers(self.slot(), file));
        let Some(seconds) = seconds else { return };
        let end = clock::now() + Duration::from_secs(u64::from(seconds));
        let ended =
            self.with(file, |shard, socket, now| shard.shutdown(now, socket, Shutdown::Write));
        if ended.is_ok() {
            // However it ends, the descriptor is closed next.
            let _ =
                self.blocking(file, Readiness::WRITABLE, Wait::Until(end), |shard, socket, _| {
                    match shard.state(socket) {
                        Some(state) if unacknowledged(state) => Err(Error::WouldBlock),
                        _ => Ok(()),
                    }
                });
        }
    }

    /// Closes the stack's socket of `file` because the kernel carries it from now on; the
    /// description stays (for flags, path and listings) with [`File::socket`] `None`. Its epoll
    /// entries are removed: list them first ([`Engine::epoll_entries`]).
    pub fn surrender(&self, file: FileId, reason: Reason) {
        // A failed engine has nothing left to close.
        let _ = guarded(|| {
            let mut held = self.shared.enter()?;
            held.change();
            let state = self.file(file).ok_or(Error::BadDescriptor)?;
            state.set_path(Path::Kernel, reason);
            held.drop_entries_of_file(file.index());
            held.close_socket(state, Ending::Graceful);
            Ok(())
        });
    }

    /// The description; `None` if it is gone.
    #[inline]
    #[must_use]
    pub fn file(&self, file: FileId) -> Option<&'static File> {
        self.shared.file(file)
    }

    /// Runs `f` under the lock, for calls that never wait. The port is polled first if nobody has
    /// for a few microseconds. Wakes whoever became ready.
    ///
    /// # Errors
    /// `BadDescriptor` if the description or its socket is gone, `NetworkDown` if the engine
    /// failed, or what `f` says.
    pub fn with<R>(
        &self,
        file: FileId,
        f: impl FnOnce(&mut Shard, SocketId, Instant) -> Result<R, Error>,
    ) -> Result<R, Error> {
        guarded(|| {
            if self.shared.is_several() {
                let answer = self.shared.with_lane(file, f);
                if self.file(file).is_some_and(|f| self.shared.spread(f).is_listening()) {
                    let mut held = self.shared.enter()?;
                    held.change();
                    held.follow(file)?;
                }
                return answer;
            }
            let mut held = self.shared.enter()?;
            held.drive_if_stale();
            let (_, socket) = held.socket(file)?;
            held.change();
            let now = held.now;
            let answer = f(held.shards.first(), socket, now);
            held.dispatch();
            answer
        })
    }

    /// As [`Engine::with`] for questions about no socket in particular (routes, addresses).
    ///
    /// # Errors
    /// `NetworkDown` if the engine failed, or what `f` says.
    pub fn with_shard<R>(
        &self,
        f: impl FnOnce(&mut Shard, Instant) -> Result<R, Error>,
    ) -> Result<R, Error> {
        guarded(|| {
            let mut held = self.shared.enter_with(0)?;
            held.change();
            let now = held.now;
            let answer = f(held.shards.first(), now);
            held.dispatch();
            answer
        })
    }

    /// Runs `op`; when it says `WouldBlock`, drives the port, spins, then sleeps until the socket
    /// is ready for a part of `interest` (`ERROR` and `HANGUP` always count) and runs it again.
    /// `op` may have done a part: what it did stays done.
    ///
    /// # Errors
    /// What `op` says but `WouldBlock`; `WouldBlock` when the wait is over; `Interrupted` when a
    /// signal handler ran and the call must end: a handler without `SA_RESTART`, or any handler
    /// if `wait` has an end (as Linux does for `SO_RCVTIMEO`). Restarting is done inside.
    pub fn blocking<T>(
        &self,
        file: FileId,
        interest: Readiness,
        wait: Wait,
        op: impl FnMut(&mut Shard, SocketId, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut quest = Call { file, interest, wait, op, seen: 0 };
        guarded(|| self.pursue(&mut quest, wait, None)?.ok_or(Error::WouldBlock))
    }

    /// What `file` is ready for at this moment (drives the port once).
    ///
    /// # Errors
    /// `BadDescriptor`, `NetworkDown`.
    pub fn readiness(&self, file: FileId) -> Result<Readiness, Error> {
        guarded(|| {
            let mut held = self.shared.enter()?;
            held.drive();
            held.readiness(file)
        })
    }

    /// poll(2), ppoll(2), select(2), pselect(2), and waiting on sockets that live in both worlds:
    /// waits until a stack socket or a kernel descriptor is ready. Fills `found` of every entry and
    /// `revents` of every kernel descriptor. `wait` is `No`, `Until` or `Forever`; `mask` is in
    /// force while waiting, as in ppoll(2). Returns how many of both are ready.
    ///
    /// # Errors
    /// `Interrupted` when a handler ran; `NetworkDown`.
    pub fn poll(
        &self,
        entries: &mut [PollEntry],
        kernel: &mut [libc::pollfd],
        wait: Wait,
        mask: Option<&libc::sigset_t>,
    ) -> Result<usize, Error> {
        let mut quest = Poll { entries, kernel, seen: 0 };
        guarded(|| {
            let found = self.pursue(&mut quest, wait, mask.map(sys::signal_set))?;
            let Poll { entries, kernel, .. } = quest;
            if found == Some(Found::Stack) && !kernel.is_empty() {
                let _ = sys::ppoll(kernel, Some(Duration::ZERO), None);
            }
            let stack = entries.iter().filter(|entry| !entry.found.is_empty()).count();
            Ok(stack + kernel.iter().filter(|entry| entry.revents != 0).count())
        })
    }

    /// Waits until a socket is ready for a part of `interest`, in the stack or, if it has one, in its
    /// kernel half `kernel`; which of the two is for the caller to find out. `false` when the time
    /// is over.
    ///
    /// # Errors
    /// As [`Engine::poll`].
    pub fn wait_for(
        &self,
        file: FileId,
        interest: Readiness,
        kernel: Option<c_int>,
        wait: Wait,
    ) -> Result<bool, Error> {
        let mut entry = [PollEntry { file, interest, found: Readiness::empty() }];
        let events = interest.bits() as i16;
        let mut half = kernel.map(|fd| libc::pollfd { fd, events, revents: 0 });
        let mut quest = Poll { entries: &mut entry, kernel: half.as_mut_slice(), seen: 0 };
        guarded(|| Ok(self.pursue(&mut quest, wait, None)?.is_some()))
    }

    /// A set beside the kernel's `epfd`, held once by this process.
    ///
    /// # Errors
    /// `TooManyFiles`.
    pub fn epoll_create(&self) -> Result<EpollId, Error> {
        guarded(|| {
            let mut held = self.shared.enter_world()?;
            held.change();
            let handle = held.world.sets.insert(Set::default()).map_err(|_| Error::TooManyFiles)?;
            if let Err(error) = held.hold(self.slot(), Target::Set(handle.index()), 1) {
                held.world.sets.remove(handle);
                return Err(error);
            }
            EpollId::from_handle(handle).ok_or(Error::TooManyFiles)
        })
    }

    /// One more descriptor of the set in this process (`dup`).
    pub fn epoll_retain(&self, set: EpollId) {
        // Without a place for it the set ends with the descriptors that are counted.
        let _ = guarded(|| {
            let mut held = self.shared.enter_world()?;
            held.world.sets.get(set.handle()).ok_or(Error::BadDescriptor)?;
            held.hold(self.slot(), Target::Set(set.handle().index()), 1)
        });
    }

    /// One descriptor less; the last one anywhere frees the set.
    pub fn epoll_release(&self, set: EpollId) {
        // A failed engine has nothing left to free.
        let _ = guarded(|| {
            let mut held = self.shared.enter_world()?;
            held.world.sets.get(set.handle()).ok_or(Error::BadDescriptor)?;
            held.drop_one(self.slot(), Target::Set(set.handle().index()));
            Ok(())
        });
    }

    /// epoll_ctl(2) for a socket of the stack. (A socket on [`Path::Both`] is registered in the
    /// kernel's epfd as well, by the caller.)
    ///
    /// # Errors
    /// As Linux.
    pub fn epoll_ctl(&self, set: EpollId, change: EpollChange) -> Result<(), EpollError> {
        let mut outcome = Ok(());
        let called = guarded(|| {
            outcome = self.shared.enter_world()?.epoll_ctl(set, change);
            Ok(())
        });
        called.map_err(|_| EpollError::BadDescriptor).and(outcome)
    }

    /// The caller added (+1) or removed (-1) a kernel descriptor in the real epfd. While the count
    /// is zero the kernel is not asked.
    pub fn epoll_kernel_count(&self, set: EpollId, change: i32) {
        // A failed engine counts nothing.
        let _ = guarded(|| {
            let mut held = self.shared.enter_world()?;
            held.change();
            let state = held.world.sets.get_mut(set.handle()).ok_or(Error::BadDescriptor)?;
            let before = state.kernel;
            state.kernel = (before + change).max(0);
            if before == 0 && change > 0 {
                // Those who sleep without the kernel's part must look at it from now on.
                let index = set.handle().index();
                while held.world.wake_set(index, held.shared, held.wakes) {}
            }
            Ok(())
        });
    }

    /// The epfd itself is about to be watched by the kernel (added to another epfd, polled,
    /// selected): from now on it becomes readable when a stack socket of the set is ready.
    /// Idempotent and cheap.
    ///
    /// # Errors
    /// `TooManyFiles` when the socket for it cannot be made.
    pub fn epoll_expose(&self, set: EpollId, epfd: c_int) -> Result<(), Error> {
        guarded(|| {
            let mut held = self.shared.enter_world()?;
            let index = set.handle().index();
            let state = held.world.sets.get(set.handle()).ok_or(Error::BadDescriptor)?;
            if state.doorbell().is_some() {
                return Ok(());
            }
            held.change();
            let owner = crate::doorbell::NOBODY;
            let doorbells = &held.shared.doorbells;
            let (fd, doorbell) = doorbells.create(owner).map_err(|_| Error::TooManyFiles)?;
            let events = libc::EPOLLIN as u32;
            let added = sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, events, DOORBELL_DATA);
            if added.is_err() || !doorbells.remember(fd, doorbell) {
                fds::unprotect_fd(fd);
                sys::close(fd);
                doorbells.free(doorbell);
                return Err(Error::TooManyFiles);
            }
            if let Some(state) = held.world.sets.at_mut(index) {
                state.expose(doorbell);
            }
            held.world.exposed += 1;
            if held.has_ready(index) {
                held.wakes.ring(doorbell, held.shared);
            }
            // Those who sleep without the kernel's part must look at it from now on.
            while held.world.wake_set(index, held.shared, held.wakes) {}
            Ok(())
        })
    }

    /// Calls `each` with every entry for `file` in any set, outside the lock.
    pub fn epoll_entries(&self, file: FileId, each: &mut dyn FnMut(EpollEntry)) {
        let found = guarded(|| {
            let held = self.shared.enter_world()?;
            let mut found = Vec::new();
            alloc::allow(|| held.entries_of(file, &mut |entry| found.push(entry)));
            Ok(found)
        });
        found.unwrap_or_default().into_iter().for_each(each);
    }

    /// epoll_wait(2), epoll_pwait(2): stack sockets and the kernel descriptors of `epfd`.
    ///
    /// # Errors
    /// `Interrupted`; `BadDescriptor` if the set is gone; `NetworkDown`.
    pub fn epoll_wait(
        &self,
        set: EpollId,
        epfd: c_int,
        events: &mut [libc::epoll_event],
        wait: Wait,
        mask: Option<&libc::sigset_t>,
    ) -> Result<usize, Error> {
        let kernel = [libc::pollfd { fd: epfd, events: libc::POLLIN, revents: 0 }];
        let room = events.len();
        let mut quest = EpollWait {
            set,
            epfd,
            events,
            kernel,
            asks_kernel: false,
            exposed: false,
            kernel_asked: false,
            now: Instant::ZERO,
            seen: 0,
        };
        guarded(|| {
            let mask = mask.map(sys::signal_set);
            let found = self.pursue(&mut quest, wait, mask)?.unwrap_or(0);
            if found == 0 || found == room || quest.kernel_asked || !quest.is_kernel_due() {
                return Ok(found);
            }
            // The kernel's share of a call that the stack has answered already.
            Ok(found + quest.take_kernel(found))
        })
    }
}

impl Held<'_> {
    /// A description for a socket, held once by the process.
    pub(crate) fn adopt(
        &mut self,
        process: u32,
        kind: Kind,
        family: Family,
        (lane, socket): (usize, SocketId),
    ) -> Result<FileId, Error> {
        self.change();
        let links = FileLinks::default();
        let handle = self.world.files.insert(links).map_err(|_| Error::TooManyFiles)?;
        let id = FileId::from_handle(handle).ok_or(Error::TooManyFiles)?;
        if let Err(error) = self.hold(process, Target::File(handle.index()), 1) {
            self.world.files.remove(handle);
            return Err(error);
        }
        let file = &self.shared.files[handle.index() as usize];
        let passing = &self.shared.passing[handle.index() as usize];
        file.begin(passing, kind, family, (lane, socket));
        file.publish(handle.generation());
        let several = self.shared.is_several();
        let shard = self.shards.at(lane);
        shard.set_owner(socket, id.to_bits());
        if several {
            let spread = self.shared.spread(file);
            spread.begin();
            spread.note_readiness(file, lane, shard.readiness(socket));
        }
        self.shared.open_files.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Whether releasing this descriptor closes a socket that wants to linger, and how long.
    fn lingers(&mut self, process: u32, file: FileId) -> Option<u32> {
        let (lane, socket @ SocketId::Tcp(_)) = self.socket(file).ok()? else { return None };
        let linger = self.shards.at(lane).options(socket).ok()?.linger;
        match linger {
            Linger::Wait(seconds) if self.is_last(process, Target::File(file.index())) => {
                Some(seconds)
            }
            _ => None,
        }
    }
}
