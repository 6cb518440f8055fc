//! Epoll sets: the stack's sockets beside the kernel descriptors of a real epfd.
//!
//! A set keeps its ready entries in a list, which events feed and epoll_wait(2) takes from; what is
//! level-triggered goes back to its end and is looked at again by the next call, as in Linux.

use crate::file::{FileId, bits_of, handle_of};
use crate::list::{Link, List};
use crate::shared::Held;
use core::num::NonZeroU64;
use libc::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT};
use stack::collections::Handle;
use stack::error::Error;

/// `EPOLLERR | EPOLLHUP`: reported whether asked for or not.
pub(crate) const EPOLL_ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// What the doorbell in an exposed epfd carries as its data: no program's.
pub(crate) const DOORBELL_DATA: u64 = 0x6f6e_7769_7265_bea7;

/// Names an epoll set; the same in every process. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpollId(NonZeroU64);

impl EpollId {
    /// As a number, for tables of atomics.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// From [`EpollId::to_bits`]; `None` for zero.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(EpollId(bits)),
            None => None,
        }
    }

    pub(crate) const fn handle(self) -> Handle {
        handle_of(self.0.get())
    }

    pub(crate) const fn from_handle(handle: Handle) -> Option<Self> {
        Self::from_bits(bits_of(handle))
    }
}

/// The operation of epoll_ctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpollOp {
    /// `EPOLL_CTL_ADD`.
    Add,
    /// `EPOLL_CTL_MOD`.
    Modify,
    /// `EPOLL_CTL_DEL`.
    Delete,
}

/// What epoll_ctl(2) is asked: the key is descriptor number and description, as in Linux.
#[derive(Debug, Clone, Copy)]
pub struct EpollChange {
    /// The operation.
    pub op: EpollOp,
    /// The descriptor's number.
    pub fd: libc::c_int,
    /// The description behind it.
    pub file: FileId,
    /// `EPOLLIN | EPOLLET …`; not looked at by `Delete`.
    pub events: u32,
    /// What epoll_wait gives back.
    pub data: u64,
}

/// An entry of a set, as [`crate::Engine::epoll_entries`] lists them.
#[derive(Debug, Clone, Copy)]
pub struct EpollEntry {
    /// The set.
    pub set: EpollId,
    /// The descriptor's number in the process that added it.
    pub fd: libc::c_int,
    /// The events asked for.
    pub events: u32,
    /// What epoll_wait gives back.
    pub data: u64,
}

/// Why epoll_ctl(2) fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpollError {
    /// `EEXIST`.
    Exists,
    /// `ENOENT`.
    NotFound,
    /// `EINVAL`: a combination with `EPOLLEXCLUSIVE` that Linux refuses.
    Invalid,
    /// `ENOSPC`: the table of entries is full.
    NoSpace,
    /// `EBADF`: the set or the description is gone.
    BadDescriptor,
}

/// A set.
#[derive(Debug, Default)]
pub(crate) struct Set {
    pub(crate) entries: List,
    pub(crate) ready: List,
    pub(crate) waiters: List,
    pub(crate) references: List,
    /// The doorbell in the kernel's epfd, as number + 1.
    doorbell: u32,
    /// Kernel descriptors in the real epfd.
    pub(crate) kernel: i32,
    /// The next call asks the kernel first: this one's room was filled by the stack.
    pub(crate) kernel_first: bool,
}

impl Set {
    pub(crate) fn doorbell(&self) -> Option<u32> {
        self.doorbell.checked_sub(1)
    }

    pub(crate) fn expose(&mut self, doorbell: u32) {
        self.doorbell = doorbell + 1;
    }

    pub(crate) fn forget_lists(&mut self) {
        self.entries = List::default();
        self.ready = List::default();
        self.waiters = List::default();
        self.references = List::default();
    }
}

/// A socket of the stack in a set.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) set: u32,
    pub(crate) file: u32,
    fd: libc::c_int,
    pub(crate) events: u32,
    /// In two halves, so that an entry has no gaps.
    data: [u32; 2],
    /// False after `EPOLLONESHOT` has reported, until it is modified.
    pub(crate) armed: bool,
    pub(crate) ready: Link,
    pub(crate) in_set: Link,
    pub(crate) in_file: Link,
}

const fn halves(data: u64) -> [u32; 2] {
    [data as u32, (data >> 32) as u32]
}

const fn whole([low, high]: [u32; 2]) -> u64 {
    (high as u64) << 32 | low as u64
}

impl Entry {
    pub(crate) fn is_exclusive(&self) -> bool {
        self.events & EPOLLEXCLUSIVE as u32 != 0
    }

    pub(crate) fn unlink(&mut self) {
        self.ready = Link::default();
        self.in_set = Link::default();
        self.in_file = Link::default();
    }
}

/// What Linux allows beside `EPOLLEXCLUSIVE`.
const EXCLUSIVE_ALLOWED: u32 = (libc::EPOLLIN
    | libc::EPOLLOUT
    | libc::EPOLLERR
    | libc::EPOLLHUP
    | libc::EPOLLWAKEUP
    | libc::EPOLLET
    | libc::EPOLLEXCLUSIVE) as u32;

impl Held<'_> {
    /// epoll_ctl(2).
    pub(crate) fn epoll_ctl(
        &mut self,
        set: EpollId,
        change: EpollChange,
    ) -> Result<(), EpollError> {
        let alive = self.world.sets.get(set.handle()).is_some()
            && self.world.files.get(change.file.handle()).is_some();
        if !alive {
            return Err(EpollError::BadDescriptor);
        }
        self.change();
        let set = set.handle().index();
        let found = self.find_entry(set, change.file.index(), change.fd);
        let exclusive = change.events & EPOLLEXCLUSIVE as u32 != 0;
        match (change.op, found) {
            (EpollOp::Add, _) if exclusive && change.events & !EXCLUSIVE_ALLOWED != 0 => {
                Err(EpollError::Invalid)
            }
            (EpollOp::Modify, _) if exclusive => Err(EpollError::Invalid),
            (EpollOp::Add, Some(_)) => Err(EpollError::Exists),
            (EpollOp::Add, None) => self.add_entry(set, change),
            (EpollOp::Modify | EpollOp::Delete, None) => Err(EpollError::NotFound),
            (EpollOp::Modify, Some(index)) => self.modify_entry(index, change),
            (EpollOp::Delete, Some(index)) => {
                self.drop_entry(index);
                Ok(())
            }
        }
    }

    fn find_entry(&self, set: u32, file: u32, fd: libc::c_int) -> Option<u32> {
        let mut at = self.world.files.at(file)?.entries.first();
        while let Some(index) = at {
            let entry = self.world.entries.at(index)?;
            if entry.set == set && entry.fd == fd {
                return Some(index);
            }
            at = entry.in_file.next();
        }
        None
    }

    fn add_entry(&mut self, set: u32, change: EpollChange) -> Result<(), EpollError> {
        let file = change.file.index();
        let entry = Entry {
            set,
            file,
            fd: change.fd,
            events: change.events,
            data: halves(change.data),
            armed: true,
            ready: Link::default(),
            in_set: Link::default(),
            in_file: Link::default(),
        };
        let handle = self.world.entries.insert(entry).map_err(|_| EpollError::NoSpace)?;
        self.world.link_entry(handle.index(), set, file);
        self.look_at_entry(handle.index());
        Ok(())
    }

    fn modify_entry(&mut self, index: u32, change: EpollChange) -> Result<(), EpollError> {
        let Some(entry) = self.world.entries.at_mut(index) else {
            return Err(EpollError::NotFound);
        };
        if entry.is_exclusive() {
            return Err(EpollError::Invalid);
        }
        entry.events = change.events;
        entry.data = halves(change.data);
        entry.armed = true;
        self.look_at_entry(index);
        Ok(())
    }

    /// Queues an entry whose socket is ready already.
    fn look_at_entry(&mut self, index: u32) {
        let Some(entry) = self.world.entries.at(index) else { return };
        let set = entry.set;
        let found = self.entry_events(index);
        if found != 0 {
            self.shared.sleepers.count_event();
            self.world.make_ready(index, self.shared, self.wakes);
            self.world.wake_set(set, self.shared, self.wakes);
        }
    }

    /// What an entry would report now.
    fn entry_events(&mut self, index: u32) -> u32 {
        let Some(entry) = self.world.entries.at(index) else { return 0 };
        let file = &self.shared.files[entry.file as usize];
        let Some((lane, socket)) = file.place() else { return 0 };
        if !entry.armed {
            return 0;
        }
        let ready = if self.shared.is_several() {
            self.shared.spread(file).noted_readiness()
        } else {
            self.shards.at(lane).readiness(socket)
        };
        ready.bits() & (entry.events | EPOLL_ALWAYS)
    }

    /// Takes an entry out of its set.
    pub(crate) fn drop_entry(&mut self, index: u32) {
        let world = &mut *self.world;
        let Some(entry) = world.entries.at(index) else { return };
        let (set, file) = (entry.set, entry.file);
        if let Some(state) = world.sets.at_mut(set) {
            state.entries.remove(&mut world.entries, index, |entry| &mut entry.in_set);
            state.ready.remove(&mut world.entries, index, |entry| &mut entry.ready);
        }
        if let Some(links) = world.files.at_mut(file) {
            links.entries.remove(&mut world.entries, index, |entry| &mut entry.in_file);
        }
        world.entries.remove_at(index);
    }

    /// A description ends: so do its entries in all sets.
    pub(crate) fn drop_entries_of_file(&mut self, file: u32) {
        while let Some(index) = self.world.files.at(file).and_then(|links| links.entries.first()) {
            self.drop_entry(index);
        }
    }

    /// Nobody holds the set any more.
    pub(crate) fn end_set(&mut self, set: u32) {
        while let Some(index) = self.world.sets.at(set).and_then(|state| state.entries.first()) {
            self.drop_entry(index);
        }
        while let Some(node) = self.world.sets.at(set).and_then(|state| state.waiters.first()) {
            let Some(node) = self.world.nodes.at(node) else { break };
            let waiter = node.waiter;
            self.world.wake(waiter, self.shared, self.wakes);
        }
        if let Some(state) = self.world.sets.remove_at(set)
            && let Some(doorbell) = state.doorbell()
        {
            self.shared.doorbells.forget_exposed(doorbell);
            self.world.exposed -= 1;
        }
    }

    /// Takes ready entries into `events`; how many. What is level-triggered stays queued.
    pub(crate) fn collect(
        &mut self,
        set: EpollId,
        events: &mut [libc::epoll_event],
    ) -> Result<usize, Error> {
        let state = self.world.sets.get(set.handle()).ok_or(Error::BadDescriptor)?;
        let set = set.handle().index();
        if state.ready.is_empty() {
            return Ok(0);
        }
        self.change();
        // Stop at the first one that this call has put back.
        let mut put_back: Option<u32> = None;
        let mut found = 0;
        while found < events.len() {
            let Some(index) = self.world.sets.at(set).and_then(|state| state.ready.first()) else {
                break;
            };
            if put_back == Some(index) {
                break;
            }
            self.dequeue(set, index);
            let ready = self.entry_events(index);
            if ready == 0 {
                continue;
            }
            let Some(entry) = self.world.entries.at_mut(index) else { continue };
            events[found] = libc::epoll_event { events: ready, u64: whole(entry.data) };
            found += 1;
            if entry.events & EPOLLONESHOT as u32 != 0 {
                entry.armed = false;
            } else if entry.events & EPOLLET as u32 == 0 {
                put_back.get_or_insert(index);
                self.enqueue(set, index);
            }
        }
        self.after_collecting(set);
        self.settle();
        Ok(found)
    }

    fn dequeue(&mut self, set: u32, index: u32) {
        let world = &mut *self.world;
        if let Some(state) = world.sets.at_mut(set) {
            state.ready.remove(&mut world.entries, index, |entry| &mut entry.ready);
        }
    }

    fn enqueue(&mut self, set: u32, index: u32) {
        let world = &mut *self.world;
        if let Some(state) = world.sets.at_mut(set) {
            state.ready.push(&mut world.entries, index, |entry| &mut entry.ready);
        }
    }

    /// Another waiter gets what is left, as in Linux; the doorbell of an exposed epfd rests when
    /// nothing is.
    fn after_collecting(&mut self, set: u32) {
        let Some(state) = self.world.sets.at(set) else { return };
        if !state.ready.is_empty() {
            self.world.wake_set(set, self.shared, self.wakes);
        } else if let Some(doorbell) = state.doorbell() {
            self.shared.doorbells.hear_exposed(doorbell);
        }
    }

    /// Whether the set has an entry that is ready now. Forgets those that are not any more.
    pub(crate) fn has_ready(&mut self, set: u32) -> bool {
        while let Some(index) = self.world.sets.at(set).and_then(|state| state.ready.first()) {
            if self.entry_events(index) != 0 {
                return true;
            }
            self.change();
            self.dequeue(set, index);
        }
        false
    }

    /// Before the kernel is asked about epfds that it watches for us: their doorbells must ring
    /// exactly if something is ready.
    pub(crate) fn refresh_exposed(&mut self) {
        if self.world.exposed == 0 {
            return;
        }
        for set in 0..self.world.sets.watermark() {
            let Some(doorbell) = self.world.sets.at(set).and_then(Set::doorbell) else { continue };
            if self.shared.doorbells.is_rung(doorbell) && !self.has_ready(set) {
                self.shared.doorbells.hear_exposed(doorbell);
            }
        }
    }

    /// Every entry for a description.
    pub(crate) fn entries_of(&self, file: FileId, each: &mut dyn FnMut(EpollEntry)) {
        let links = self.world.files.get(file.handle());
        let mut at = links.and_then(|links| links.entries.first());
        while let Some(entry) = at.and_then(|index| self.world.entries.at(index)) {
            at = entry.in_file.next();
            let set = self.world.sets.handle_at(entry.set).and_then(EpollId::from_handle);
            if let Some(set) = set {
                each(EpollEntry {
                    set,
                    fd: entry.fd,
                    events: entry.events,
                    data: whole(entry.data),
                });
            }
        }
    }
}
