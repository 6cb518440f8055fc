//! Calls where there are several shards: a call takes the lock of the shard that it is about, and
//! the world's only for what concerns others. What is rare takes all of them ([`Shared::enter`]).

use crate::engine::{Engine, guarded};
use crate::file::{File, FileId, Kind};
use crate::process::Ending;
use crate::shard::{Shard, SocketId};
use crate::shared::{Held, Shared};
use crate::sys::SignalSet;
use crate::thread::Handlers;
use crate::wait::{Bed, Quest, Wait, interrupted_by_pending};
use crate::{clock, sys};
use stack::error::Error;
use stack::readiness::Readiness;
use stack::shard::{Counters, Occupancy};
use stack::socket::First;
use stack::tcp::State;
use stack::time::{Duration, Instant};
use std::net::SocketAddr;

/// Between two questions to the kernel while spinning.
const KERNEL_EVERY: Duration = Duration::from_micros(15);

impl Shared {
    /// Runs `f` under the lock of the description's shard.
    pub(crate) fn with_lane<R>(
        &'static self,
        id: FileId,
        f: impl FnOnce(&mut Shard, SocketId, Instant) -> Result<R, Error>,
    ) -> Result<R, Error> {
        loop {
            let file = self.file(id).ok_or(Error::BadDescriptor)?;
            let place = file.place().ok_or(Error::BadDescriptor)?;
            let (lane, socket) = place;
            let mut held = self.enter_lane(lane)?;
            if self.file(id).is_none() || file.place() != Some(place) {
                continue; // It has moved to another shard meanwhile, or is gone.
            }
            held.drive_if_stale();
            let now = held.now;
            let answer = f(held.shard(), socket, now);
            held.note(file, socket);
            held.leave()?;
            self.drive_receivers()?;
            return answer;
        }
    }
}

impl Engine {
    /// bind(2).
    ///
    /// # Errors
    /// As [`Shard::bind`].
    pub fn bind(&self, id: FileId, at: SocketAddr) -> Result<(), Error> {
        let stream = self.file(id).is_some_and(|file| file.kind() == Kind::Tcp);
        if !self.shared.is_several() || !stream {
            return self.with(id, |shard, socket, now| shard.bind(now, socket, at));
        }
        self.with_all(|held| held.bind_everywhere(id, at))
    }

    /// listen(2).
    ///
    /// # Errors
    /// As [`Shard::listen`].
    pub fn listen(&self, id: FileId, backlog: u32) -> Result<(), Error> {
        let stream = self.file(id).is_some_and(|file| file.kind() == Kind::Tcp);
        if !self.shared.is_several() || !stream {
            return self.with(id, |shard, socket, now| shard.listen(now, socket, backlog));
        }
        self.with_all(|held| held.listen_everywhere(id, backlog))
    }

    /// Whether connections wait to be accepted.
    ///
    /// # Errors
    /// `InvalidArgument` if the socket does not listen.
    pub fn has_connections(&self, id: FileId) -> Result<bool, Error> {
        if self.shared.is_several() {
            self.shared.drive_lanes(self.shared.home())?;
            let spread = self.file(id).map(|file| self.shared.spread(file));
            if let Some(listener) = spread.filter(|spread| spread.is_listening()) {
                return Ok(listener.acceptable() != 0);
            }
        }
        self.with(id, |shard, socket, _| {
            if shard.state(socket) != Some(State::Listen) {
                return Err(Error::InvalidArgument);
            }
            Ok(shard.readiness(socket).contains(Readiness::READABLE))
        })
    }

    /// connect(2) of a TCP socket: how much of `first` its SYN carries, and whether it waits for the
    /// first data.
    ///
    /// # Errors
    /// As [`Shard::connect_fast`].
    pub fn connect(
        &self,
        id: FileId,
        remote: SocketAddr,
        first: Option<First<'_>>,
    ) -> Result<(usize, bool), Error> {
        if self.shared.is_several()
            && self.file(id).is_some_and(|f| self.shared.spread(f).replicas().is_some())
        {
            self.with_all(|held| held.settle_down(id, remote))?;
        }
        self.with(id, |shard, socket, now| {
            let sent = shard.connect_fast(now, socket, remote, first)?;
            Ok((sent, shard.awaits_data(socket)))
        })
    }

    /// Every counter, of all shards together.
    ///
    /// # Errors
    /// `NetworkDown` if the engine failed.
    pub fn counters(&self) -> Result<Counters, Error> {
        self.with_all(|held| Ok(held.counters()))
    }

    fn with_all<R>(
        &self,
        f: impl FnOnce(&mut Held<'static>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        guarded(|| {
            let mut held = self.shared.enter()?;
            held.change();
            let answer = f(&mut held);
            held.dispatch();
            answer
        })
    }

    /// [`Engine::pursue`] where there are several shards. Only who has to sleep takes every lock.
    pub(crate) fn pursue_apart<Q: Quest>(
        &self,
        quest: &mut Q,
        wait: Wait,
        mask: Option<SignalSet>,
    ) -> Result<Option<Q::Answer>, Error> {
        let since = Handlers::until_now();
        let shared = self.shared;
        let first = quest.lane(shared).unwrap_or_else(|| shared.home());
        shared.drive_lanes(first)?;
        if let Some(answer) = quest.attempt_apart(shared)? {
            return Ok(Some(answer));
        }
        let begun = clock::now();
        let deadline = match wait {
            Wait::No | Wait::Forever => None,
            Wait::ReceiveTimeout | Wait::SendTimeout => quest.deadline_apart(shared)?,
            Wait::Until(moment) => Some(moment),
        };
        if !quest.kernel().is_empty() {
            shared.enter_world()?.refresh_exposed();
            if let Some(answer) = quest.ask_kernel()? {
                return Ok(Some(answer));
            }
        }
        if wait == Wait::No || deadline.is_some_and(|moment| moment <= begun) {
            return if mask.is_some_and(|mask| interrupted_by_pending(mask, since)) {
                Err(Error::Interrupted)
            } else {
                Ok(None)
            };
        }
        let bed = Bed { deadline, mask, since, restartable: quest.restartable(deadline) };
        let answer = match self.spin_apart(quest, bed, begun, first)? {
            Spun::Found(answer) => Ok(Some(answer)),
            Spun::Late => Ok(None),
            Spun::Tired => self.sleep_and_attempt(quest, bed),
        };
        if self.spinning.adaptive {
            self.spinning.learn(clock::now().saturating_since(begun));
        }
        answer
    }

    fn spin_apart<Q: Quest>(
        &self,
        quest: &mut Q,
        bed: Bed,
        begun: Instant,
        first: usize,
    ) -> Result<Spun<Q::Answer>, Error> {
        let shared = self.shared;
        let budget = self.spinning.budget();
        let has_kernel = !quest.kernel().is_empty();
        let (mut asked, mut now) = (begun, begun);
        while u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX) < budget {
            if bed.since.interrupt(bed.restartable) {
                return Err(Error::Interrupted);
            }
            let frames = shared.drive_lanes(first)?;
            if quest.has_changed_apart(shared)
                && let Some(answer) = quest.attempt_apart(shared)?
            {
                return Ok(Spun::Found(answer));
            }
            if frames == 0 {
                core::hint::spin_loop();
            }
            now = clock::now();
            if bed.deadline.is_some_and(|moment| moment <= now) {
                return Ok(Spun::Late);
            }
            if now - asked >= KERNEL_EVERY {
                asked = now;
                if has_kernel && let Some(answer) = quest.ask_kernel()? {
                    return Ok(Spun::Found(answer));
                }
                sys::yield_now();
            }
        }
        Ok(Spun::Tired)
    }
}

/// How far spinning got.
enum Spun<T> {
    Found(T),
    Late,
    Tired,
}

impl Held<'_> {
    /// The counters of all shards together.
    pub(crate) fn counters(&mut self) -> Counters {
        let mut sum = Counters::default();
        for lane in self.shards.range() {
            sum.add(self.shards.at(lane).counters());
        }
        sum
    }

    /// How full the tables of all shards are together.
    pub(crate) fn occupancy(&mut self) -> Occupancy {
        let mut sum = Occupancy::default();
        for lane in self.shards.range() {
            sum.add(&self.shards.at(lane).occupancy());
        }
        sum
    }

    /// A socket is closed for a description that ends.
    pub(crate) fn close_socket(&mut self, file: &File, ending: Ending) {
        if let Some((lane, socket)) = file.place() {
            let now = self.now;
            let shard = self.shards.at(lane);
            // Events of the orphan concern nobody.
            shard.set_owner(socket, 0);
            match ending {
                Ending::Graceful => shard.close(now, socket),
                Ending::Killed => shard.abort(now, socket),
            }
        }
        self.drop_replicas(file, ending);
        file.set_place(None);
    }
}
