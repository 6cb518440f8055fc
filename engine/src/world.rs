//! What the shard's lock protects: the shard itself and everything that the engine knows about who
//! holds what, who watches what and who sleeps.
//!
//! Events of the stack's sockets are turned into wake-ups here. Nothing in this file sleeps, makes
//! a system call or allocates (after [`World::new`]).

use crate::epoll::{EPOLL_ALWAYS, Entry, Set};
use crate::file::{File, FileId, Kind, Path};
use crate::groups::Groups;
use crate::list::{Link, List};
use crate::process::{Process, Reference, Target};
use crate::shard::Shard;
use crate::shared::Shared;
use crate::wait::{Node, Waiter, Watched};
use core::sync::atomic::Ordering;
use stack::collections::Slab;
use stack::readiness::Readiness;
use stack::time::Instant;

/// Entries of the tables, whatever the configuration says.
pub(crate) const PROCESSES: usize = 8_192;
pub(crate) const SETS: usize = 16_384;
pub(crate) const ENTRIES: usize = 262_144;
pub(crate) const WAITERS: usize = 16_384;
pub(crate) const NODES: usize = 131_072;
pub(crate) const REFERENCES: usize = 524_288;
pub(crate) const REPLICA_SETS: usize = 16_384;

/// Everything under the lock.
pub(crate) struct World {
    pub(crate) files: Slab<FileLinks>,
    pub(crate) processes: Slab<Process>,
    pub(crate) references: Slab<Reference>,
    pub(crate) sets: Slab<Set>,
    pub(crate) entries: Slab<Entry>,
    pub(crate) waiters: Slab<Waiter>,
    pub(crate) nodes: Slab<Node>,
    /// Which places of the shared table of replicas are taken.
    pub(crate) replica_sets: Slab<()>,
    /// Every waiter that sleeps, the longest first.
    pub(crate) sleepers: List,
    /// Sets whose epfd the kernel watches.
    pub(crate) exposed: u32,
    /// Descriptions that ended, by who carried them.
    pub(crate) ended: Carried,
    /// The groups whose frames the device is to take.
    pub(crate) groups: Groups,
}

/// How many sockets were carried by whom: a row for each kind, a column for each path.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Carried([[u64; Path::ALL.len()]; 2]);

impl Carried {
    pub(crate) fn count(&mut self, file: &File) {
        self.0[file.kind() as usize][file.path() as usize] += 1;
    }

    pub(crate) fn get(&self, kind: Kind, path: Path) -> u64 {
        self.0[kind as usize][path as usize]
    }
}

/// When the shard's timers are due, as far as that is remembered: whoever waits asks with every
/// turn, and only changes and frames move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due(Instant);

impl Due {
    /// To be asked.
    pub(crate) const UNKNOWN: Due = Due(Instant::ZERO);

    /// At this moment.
    #[inline]
    pub(crate) fn at(moment: Instant) -> Self {
        Due(moment)
    }

    #[inline]
    pub(crate) fn get(self) -> Instant {
        self.0
    }
}

/// What hangs on an open file description.
#[derive(Debug, Default)]
pub(crate) struct FileLinks {
    pub(crate) references: List,
    pub(crate) entries: List,
    pub(crate) waiters: List,
}

/// Who is to be woken once the lock is free: waiters and doorbells.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    // Whoever finds no place is woken before the lock is given back.
    list: arrayvec::ArrayVec<Wake, 8>,
}

#[derive(Debug, Clone, Copy)]
enum Wake {
    Futex(u32),
    Doorbell(u32),
    /// The owner of a description, about what is new.
    Owner(u32, Readiness),
}

impl Wakes {
    fn add(&mut self, wake: Wake, shared: &Shared) {
        if let Err(full) = self.list.try_push(wake) {
            execute(full.element(), shared);
        }
    }

    pub(crate) fn ring(&mut self, doorbell: u32, shared: &Shared) {
        self.add(Wake::Doorbell(doorbell), shared);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Wakes everybody; after the lock has been given back.
    #[cold]
    pub(crate) fn execute(self, shared: &Shared) {
        for wake in self.list {
            execute(wake, shared);
        }
    }
}

fn execute(wake: Wake, shared: &Shared) {
    match wake {
        Wake::Futex(waiter) => crate::sys::futex_wake(&shared.waiters[waiter as usize].word, 1),
        Wake::Doorbell(doorbell) => shared.doorbells.ring(doorbell),
        Wake::Owner(file, edges) => crate::notify::tell(&shared.files[file as usize], edges),
    }
}

impl World {
    /// A world with room for `files` descriptions.
    pub(crate) fn new(files: usize) -> Self {
        World {
            replica_sets: Slab::new(REPLICA_SETS),
            files: Slab::new(files),
            processes: Slab::new(PROCESSES),
            references: Slab::new(REFERENCES),
            sets: Slab::new(SETS),
            entries: Slab::new(ENTRIES),
            waiters: Slab::new(WAITERS),
            nodes: Slab::new(NODES),
            sleepers: List::default(),
            exposed: 0,
            ended: Carried::default(),
            groups: Groups::default(),
        }
    }

    /// Passes the stack's events on to whoever watches.
    #[inline]
    pub(crate) fn dispatch(
        &mut self,
        lane: usize,
        shard: &mut Shard,
        shared: &Shared,
        wakes: &mut Wakes,
    ) {
        if shard.has_events() {
            self.dispatch_events(lane, shard, shared, wakes);
        }
    }

    fn dispatch_events(
        &mut self,
        lane: usize,
        shard: &mut Shard,
        shared: &Shared,
        wakes: &mut Wakes,
    ) {
        while let Some(event) = shard.poll_event_for(|owner| self.is_watched(owner, shared)) {
            if let Some(file) = FileId::from_bits(event.owner)
                && self.files.get(file.handle()).is_some()
            {
                let description = &shared.files[file.index() as usize];
                description.count_event();
                shared.sleepers.count_event();
                if shared.is_several() {
                    let spread = shared.spread(description);
                    spread.note_readiness(description, lane, event.readiness);
                }
                if description.owner().is_some() {
                    let mut edges = event.edges;
                    if description.kind() == Kind::Tcp && self.is_awaited(file.index()) {
                        // Linux does not tell of data for which a reader sleeps.
                        edges -= Readiness::READABLE;
                    }
                    wakes.add(Wake::Owner(file.index(), edges), shared);
                }
                self.on_ready(file.index(), event.readiness, shared, wakes);
            }
        }
    }

    /// Whether what the description is ready for is of interest to anybody who does not ask himself.
    #[inline]
    fn is_watched(&self, owner: u64, shared: &Shared) -> bool {
        let Some(file) = FileId::from_bits(owner) else { return true };
        let Some(links) = self.files.at(file.index()) else { return true };
        let unheeded = links.waiters.is_empty() && links.entries.is_empty();
        !unheeded || shared.is_several() || shared.files[file.index() as usize].owner().is_some()
    }

    /// Whether somebody sleeps in a call that takes what comes.
    #[cold]
    fn is_awaited(&self, file: u32) -> bool {
        let mut at = self.files.at(file).and_then(|links| links.waiters.first());
        while let Some(node) = at.and_then(|index| self.nodes.at(index)) {
            if node.exclusive && node.interest & Readiness::READABLE.bits() != 0 {
                return true;
            }
            at = node.in_target.next();
        }
        false
    }

    /// A socket became ready, or has a new edge.
    pub(crate) fn on_ready(
        &mut self,
        file: u32,
        readiness: Readiness,
        shared: &Shared,
        wakes: &mut Wakes,
    ) {
        let Some(links) = self.files.at(file) else { return };
        let mut at = links.entries.first();
        if !links.waiters.is_empty() {
            self.wake_waiters(file, readiness, shared, wakes);
        }
        let mut exclusive_woken = false;
        while let Some(index) = at {
            let Some(entry) = self.entries.at(index) else { return };
            at = entry.in_file.next();
            if !entry.armed || readiness.bits() & (entry.events | EPOLL_ALWAYS) == 0 {
                continue;
            }
            let (set, exclusive) = (entry.set, entry.is_exclusive());
            self.make_ready(index, shared, wakes);
            if exclusive && exclusive_woken {
                continue; // it finds the entry when it looks, but is not woken for it
            }
            if self.wake_set(set, shared, wakes) && exclusive {
                exclusive_woken = true;
            }
        }
    }

    /// Wakes those who wait for the socket itself: everybody who polls it, and one of those who
    /// are in a call on it.
    pub(crate) fn wake_waiters(
        &mut self,
        file: u32,
        readiness: Readiness,
        shared: &Shared,
        wakes: &mut Wakes,
    ) {
        let mut exclusive_woken = false;
        let mut at = self.files.at(file).and_then(|links| links.waiters.first());
        while let Some(index) = at {
            let Some(node) = self.nodes.at(index) else { return };
            let wanted = node.interest & readiness.bits() != 0;
            if !wanted || (node.exclusive && exclusive_woken) {
                at = node.in_target.next();
                continue;
            }
            exclusive_woken |= node.exclusive;
            // Unlinks all nodes of that waiter: begin again with what is left.
            self.wake(node.waiter, shared, wakes);
            at = self.files.at(file).and_then(|links| links.waiters.first());
        }
    }

    /// Puts an entry on its set's ready list and makes the epfd readable if the kernel watches it.
    pub(crate) fn make_ready(&mut self, index: u32, shared: &Shared, wakes: &mut Wakes) {
        let Some(entry) = self.entries.at(index) else { return };
        let (set, queued) = (entry.set, entry.ready.is_linked());
        let Some(state) = self.sets.at_mut(set) else { return };
        if !queued {
            state.ready.push(&mut self.entries, index, |entry| &mut entry.ready);
        }
        if let Some(doorbell) = state.doorbell() {
            wakes.ring(doorbell, shared);
        }
    }

    /// Wakes one of those who wait for the set; whether there was one.
    pub(crate) fn wake_set(&mut self, set: u32, shared: &Shared, wakes: &mut Wakes) -> bool {
        let first = self.sets.at(set).and_then(|state| state.waiters.first());
        let Some(node) = first.and_then(|first| self.nodes.at(first)) else { return false };
        self.wake(node.waiter, shared, wakes);
        true
    }

    /// Wakes a waiter for good: it is taken off every list.
    pub(crate) fn wake(&mut self, waiter: u32, shared: &Shared, wakes: &mut Wakes) {
        self.unlink_waiter(waiter);
        self.signal(waiter, crate::wait::WOKEN, shared, wakes);
    }

    /// Writes a waiter's word and wakes it, whatever it sleeps on.
    pub(crate) fn signal(&mut self, waiter: u32, value: u32, shared: &Shared, wakes: &mut Wakes) {
        let Some(state) = self.waiters.at(waiter) else { return };
        shared.waiters[waiter as usize].word.store(value, Ordering::SeqCst);
        if shared.sleepers.is_awake_leader(waiter) {
            return; // It is this very thread, or one that looks at its word before it sleeps.
        }
        match (state.in_poll, state.doorbell) {
            (true, Some(doorbell)) => wakes.add(Wake::Doorbell(doorbell), shared),
            _ => wakes.add(Wake::Futex(waiter), shared),
        }
    }

    /// Wakes everybody who sleeps: they look again and sleep on if nothing changed for them.
    pub(crate) fn wake_all(&mut self, shared: &Shared, wakes: &mut Wakes) {
        while let Some(waiter) = self.sleepers.first() {
            self.wake(waiter, shared, wakes);
            self.sleepers.remove(&mut self.waiters, waiter, |state| &mut state.sleeping);
        }
    }

    /// Takes a waiter off every list.
    pub(crate) fn unlink_waiter(&mut self, waiter: u32) {
        let Some(state) = self.waiters.at_mut(waiter) else { return };
        let mut at = core::mem::take(&mut state.nodes).checked_sub(1);
        self.sleepers.remove(&mut self.waiters, waiter, |state| &mut state.sleeping);
        while let Some(index) = at {
            let Some(node) = self.nodes.at(index) else { return };
            at = node.next_of_waiter.checked_sub(1);
            match node.watched {
                Watched::File(file) => {
                    if let Some(links) = self.files.at_mut(file) {
                        links.waiters.remove(&mut self.nodes, index, |node| &mut node.in_target);
                    }
                }
                Watched::Set(set) => {
                    if let Some(state) = self.sets.at_mut(set) {
                        state.waiters.remove(&mut self.nodes, index, |node| &mut node.in_target);
                    }
                }
            }
            self.nodes.remove_at(index);
        }
    }

    /// Puts a waiter on the list of `watched`; false when the table is full (it has to look for
    /// itself then, after a short sleep).
    pub(crate) fn watch(
        &mut self,
        waiter: u32,
        watched: Watched,
        interest: Readiness,
        exclusive: bool,
    ) -> bool {
        let Some(state) = self.waiters.at_mut(waiter) else { return false };
        let node = Node {
            waiter,
            interest: interest.bits() | EPOLL_ALWAYS,
            exclusive,
            watched,
            in_target: Link::default(),
            next_of_waiter: state.nodes,
        };
        let Ok(handle) = self.nodes.insert(node) else { return false };
        let index = handle.index();
        state.nodes = index + 1;
        match watched {
            Watched::File(file) => {
                if let Some(links) = self.files.at_mut(file) {
                    links.waiters.push(&mut self.nodes, index, |node| &mut node.in_target);
                }
            }
            Watched::Set(set) => {
                if let Some(state) = self.sets.at_mut(set) {
                    state.waiters.push(&mut self.nodes, index, |node| &mut node.in_target);
                }
            }
        }
        true
    }

    /// After an owner of the lock died in the middle of a change: every connection is reset, every
    /// list is made anew from the entries, and everybody looks again.
    pub(crate) fn recover(&mut self, shared: &Shared, wakes: &mut Wakes) {
        for index in 0..self.waiters.watermark() {
            if self.waiters.at(index).is_some() {
                self.signal(index, crate::wait::WOKEN, shared, wakes);
            }
            if let Some(state) = self.waiters.at_mut(index) {
                state.nodes = 0;
                state.sleeping = Link::default();
            }
        }
        self.sleepers = List::default();
        for index in 0..self.nodes.watermark() {
            self.nodes.remove_at(index);
        }
        self.rebuild_heads();
        for index in 0..self.references.watermark() {
            let Some(reference) = self.references.at_mut(index) else { continue };
            reference.in_process = Link::default();
            reference.in_target = Link::default();
            let (process, target) = (reference.process, reference.target);
            self.link_reference(index, process, target);
        }
        for index in 0..self.entries.watermark() {
            let Some(entry) = self.entries.at_mut(index) else { continue };
            entry.unlink();
            let (set, file) = (entry.set, entry.file);
            self.link_entry(index, set, file);
            self.make_ready(index, shared, wakes);
        }
    }

    fn rebuild_heads(&mut self) {
        for index in 0..self.files.watermark() {
            if let Some(links) = self.files.at_mut(index) {
                *links = FileLinks::default();
            }
        }
        for index in 0..self.sets.watermark() {
            if let Some(set) = self.sets.at_mut(index) {
                set.forget_lists();
            }
        }
        for index in 0..self.processes.watermark() {
            if let Some(process) = self.processes.at_mut(index) {
                process.references = List::default();
            }
        }
    }

    /// Hangs a reference on its process and its target.
    pub(crate) fn link_reference(&mut self, index: u32, process: u32, target: Target) {
        if let Some(state) = self.processes.at_mut(process) {
            let list = &mut state.references;
            list.push(&mut self.references, index, |reference| &mut reference.in_process);
        }
        let list = match target {
            Target::File(file) => self.files.at_mut(file).map(|links| &mut links.references),
            Target::Set(set) => self.sets.at_mut(set).map(|set| &mut set.references),
        };
        if let Some(list) = list {
            list.push(&mut self.references, index, |reference| &mut reference.in_target);
        }
    }

    /// Hangs an epoll entry on its set and its file.
    pub(crate) fn link_entry(&mut self, index: u32, set: u32, file: u32) {
        if let Some(state) = self.sets.at_mut(set) {
            state.entries.push(&mut self.entries, index, |entry| &mut entry.in_set);
        }
        if let Some(links) = self.files.at_mut(file) {
            links.entries.push(&mut self.entries, index, |entry| &mut entry.in_file);
        }
    }

    /// The id of the description in this place.
    pub(crate) fn file_id(&self, index: u32) -> Option<FileId> {
        self.files.handle_at(index).and_then(FileId::from_handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::File;

    #[test]
    fn an_idle_connection_costs_at_most_a_kibibyte_all_told() {
        let mut parts = stack::tcp::footprint::IDLE_CONNECTION.to_vec();
        parts.extend([
            ("its description", size_of::<File>()),
            ("what hangs on the description", Slab::<FileLinks>::ENTRY),
            ("a process's hold on it", Slab::<Reference>::ENTRY),
            ("an entry of an epoll set", Slab::<Entry>::ENTRY),
        ]);
        let sum: usize = parts.iter().map(|(_, octets)| octets).sum();
        assert!(sum <= 1_024, "{sum}: {parts:#?}");
    }
}
