//! TCP sockets that have a port of their own exist in every shard, where there are several.
//!
//! A bound socket's replicas keep its port in the other shards, so that each judges binds and
//! chooses ports as if it were alone. When it listens, they do too, with the same options: a SYN
//! finds a listener wherever its flow belongs. When it connects instead, the replica in the shard of
//! that connection takes its place. Everything here happens under all locks.

use crate::file::{File, FileId, bits_of_place, place_of};
use crate::process::Ending;
use crate::shard::SocketId;
use crate::shared::Held;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use stack::error::Error;
use stack::shard::SocketKind;
use stack::socket::Shutdown;
use stack::steering;
use stack::tcp::State;

/// The sockets of the other shards that stand for one; the own shard's place is empty.
#[derive(Debug)]
pub(crate) struct ReplicaSet {
    places: [AtomicU64; steering::MOST as usize],
}

impl ReplicaSet {
    /// The replica in a shard.
    pub(crate) fn get(&self, lane: usize) -> Option<SocketId> {
        let bits = self.places[lane].load(Ordering::Acquire);
        place_of(crate::Kind::Tcp, bits).map(|(_, socket)| socket)
    }

    fn put(&self, lane: usize, socket: Option<SocketId>) {
        let bits = socket.map_or(0, |socket| bits_of_place(lane, socket));
        self.places[lane].store(bits, Ordering::Release);
    }
}

/// How often a port that all shards have free is looked for.
const ATTEMPTS: usize = 64;

impl Held<'_> {
    fn description(&self, id: FileId) -> Result<&'static File, Error> {
        self.shared.file(id).ok_or(Error::BadDescriptor)
    }

    /// bind(2) of a TCP socket, in every shard.
    pub(crate) fn bind_everywhere(&mut self, id: FileId, at: SocketAddr) -> Result<(), Error> {
        let file = self.description(id)?;
        let (lane, mut socket) = self.socket(id)?;
        let bound = self.shards.at(lane).local_address(socket)?.port() != 0;
        if at.port() != 0 && !bound {
            self.replicate(file, at)?;
            let now = self.now;
            return self.shards.at(lane).bind(now, socket, at).inspect_err(|_| {
                self.drop_replicas(file, Ending::Graceful);
            });
        }
        for _ in 0..ATTEMPTS {
            let now = self.now;
            self.shards.at(lane).bind(now, socket, at)?;
            let local = self.shards.at(lane).local_address(socket)?;
            if local.port() == 0 {
                return Ok(()); // `IP_BIND_ADDRESS_NO_PORT`: connect chooses.
            }
            match self.replicate(file, local) {
                Ok(()) => return Ok(()),
                Err(error) => socket = self.renew(id)?.ok_or(error)?,
            }
        }
        Err(Error::AddressInUse)
    }

    /// Replaces the socket of a description by one that is not bound, with the same options.
    fn renew(&mut self, id: FileId) -> Result<Option<SocketId>, Error> {
        let file = self.description(id)?;
        let (lane, socket) = self.socket(id)?;
        let now = self.now;
        let shard = self.shards.at(lane);
        let options = *shard.options(socket)?;
        let fresh = shard.socket(SocketKind::Tcp, file.family())?;
        shard.update_options(now, fresh, |own| *own = options)?;
        shard.set_owner(socket, 0);
        shard.close(now, socket);
        shard.set_owner(fresh, id.to_bits());
        file.set_place(Some((lane, fresh)));
        Ok(Some(fresh))
    }

    /// Sockets in all other shards, with the options of the description's, bound to `at`.
    fn replicate(&mut self, file: &'static File, at: SocketAddr) -> Result<(), Error> {
        let (lane, socket) = file.place().ok_or(Error::BadDescriptor)?;
        let place = self.world.replica_sets.insert(()).map_err(|_| Error::NoBufferSpace)?.index();
        let set = &self.shared.replicas[place as usize];
        for other in self.shards.range() {
            set.put(other, None);
        }
        self.shared.spread(file).set_replicas(Some(place as u16));
        let options = *self.shards.at(lane).options(socket)?;
        let now = self.now;
        for other in self.shards.range().filter(|other| *other != lane) {
            let shard = self.shards.at(other);
            let made = shard.socket(SocketKind::Tcp, file.family()).and_then(|replica| {
                set.put(other, Some(replica));
                shard.update_options(now, replica, |own| *own = options)?;
                shard.bind(now, replica, at)
            });
            if let Err(error) = made {
                self.drop_replicas(file, Ending::Graceful);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The description's replicas are needed no more.
    pub(crate) fn drop_replicas(&mut self, file: &File, ending: Ending) {
        if !self.shared.is_several() {
            return;
        }
        let Some(place) = self.shared.spread(file).replicas() else { return };
        let set = &self.shared.replicas[place];
        for lane in self.shards.range() {
            if let Some(replica) = set.get(lane) {
                set.put(lane, None);
                let now = self.now;
                let shard = self.shards.at(lane);
                shard.set_owner(replica, 0);
                match ending {
                    Ending::Graceful => shard.close(now, replica),
                    Ending::Killed => shard.abort(now, replica),
                }
            }
        }
        self.shared.spread(file).set_listening(false);
        self.shared.spread(file).set_replicas(None);
        self.world.replica_sets.remove_at(place as u32);
    }

    /// listen(2), in every shard.
    pub(crate) fn listen_everywhere(&mut self, id: FileId, backlog: u32) -> Result<(), Error> {
        let file = self.description(id)?;
        if self.shared.spread(file).replicas().is_none() {
            let (lane, socket) = self.socket(id)?;
            let local = self.shards.at(lane).local_address(socket)?;
            if local.port() == 0 && local.ip().is_unspecified() {
                self.bind_everywhere(id, local)?;
            }
        }
        let (lane, socket) = self.socket(id)?;
        let now = self.now;
        self.shards.at(lane).listen(now, socket, backlog)?;
        if self.shared.spread(file).replicas().is_none() {
            // Bound without a port: listening has chosen one.
            let local = self.shards.at(lane).local_address(socket)?;
            self.replicate(file, local)?;
        }
        let Some(place) = self.shared.spread(file).replicas() else { return Ok(()) };
        if !self.shared.spread(file).is_listening() {
            self.shared.spread(file).set_listening(true);
        }
        let options = *self.shards.at(lane).options(socket)?;
        for other in self.shards.range() {
            let shard = self.shards.at(other);
            let replica = match self.shared.replicas[place].get(other) {
                Some(replica) => {
                    shard.update_options(now, replica, |own| *own = options)?;
                    shard.set_owner(replica, id.to_bits());
                    shard.listen(now, replica, backlog)?;
                    replica
                }
                None => socket,
            };
            self.shared.spread(file).note_readiness(file, other, shard.readiness(replica));
        }
        Ok(())
    }

    /// After something was done to a listener: its replicas follow.
    pub(crate) fn follow(&mut self, id: FileId) -> Result<(), Error> {
        let file = self.description(id)?;
        let (Some(place), true) =
            (self.shared.spread(file).replicas(), self.shared.spread(file).is_listening())
        else {
            return Ok(());
        };
        let (lane, socket) = self.socket(id)?;
        let options = *self.shards.at(lane).options(socket)?;
        let listens = self.shards.at(lane).state(socket) == Some(State::Listen);
        let now = self.now;
        for other in self.shards.range() {
            let Some(replica) = self.shared.replicas[place].get(other) else { continue };
            let shard = self.shards.at(other);
            if *shard.options(replica)? != options {
                shard.update_options(now, replica, |own| *own = options)?;
            }
            if !listens {
                shard.shutdown(now, replica, Shutdown::Both)?;
            }
        }
        if !listens {
            self.shared.spread(file).set_listening(false);
            let readiness = self.shards.at(lane).readiness(socket);
            self.shared.spread(file).note_readiness(file, lane, readiness);
        }
        Ok(())
    }

    /// Before a bound socket connects: it moves to the shard of that connection.
    pub(crate) fn settle_down(&mut self, id: FileId, remote: SocketAddr) -> Result<(), Error> {
        let file = self.description(id)?;
        let (lane, socket) = self.socket(id)?;
        let idle = self.shards.at(lane).state(socket) == Some(State::Closed);
        let (Some(place), true) = (self.shared.spread(file).replicas(), idle) else {
            return Ok(());
        };
        let local = self.shards.at(lane).local_address(socket)?;
        let source = if local.ip().is_unspecified() {
            let route = self.shards.at(lane).route_to(remote.ip());
            route.ok_or(Error::NetworkUnreachable)?.source
        } else {
            local.ip()
        };
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, remote.ip()) else {
            return Ok(());
        };
        let hash = steering::hash([source, destination], [local.port(), remote.port()]);
        let home = usize::from(steering::shard_of(hash, self.shared.lanes.len() as u16));
        let set = &self.shared.replicas[place];
        let Some(replica) = set.get(home) else { return Ok(()) };
        let options = *self.shards.at(lane).options(socket)?;
        let now = self.now;
        self.shards.at(home).update_options(now, replica, |own| *own = options)?;
        self.shards.at(lane).set_owner(socket, 0);
        self.shards.at(home).set_owner(replica, id.to_bits());
        set.put(home, None);
        set.put(lane, Some(socket));
        file.set_place(Some((home, replica)));
        Ok(())
    }
}
