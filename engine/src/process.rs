//! The processes of the family and what each of them holds.
//!
//! A [`Reference`] says how many descriptors of one process lead to one description or epoll set.
//! The last reference anywhere closes it. When a process is gone the keeper drops what it held.

use crate::file::FileId;
use crate::list::{Link, List};
use crate::shared::Held;
use core::sync::atomic::Ordering;
use stack::error::Error;

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its parent is about to fork.
    Expected,
    /// It runs.
    Running,
    /// It runs an exec: when its lifeline ends, the program has been replaced.
    Executing,
    /// It has been replaced by exec; what it left open across that stays until it dies.
    Replaced,
    /// It said that it exits.
    Exiting,
}

/// A process of the family.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its id; 0 until it has told.
    pub(crate) pid: u32,
    pub(crate) stage: Stage,
    pub(crate) references: List,
}

impl Process {
    /// A process at this stage.
    pub(crate) fn new(pid: u32, stage: Stage) -> Self {
        Process { pid, stage, references: List::default() }
    }
}

/// What can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An open file description, by its place.
    File(u32),
    /// An epoll set, by its place.
    Set(u32),
}

/// How many descriptors of one process lead to one target.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) process: u32,
    pub(crate) target: Target,
    pub(crate) count: u32,
    /// Stays across the exec that has begun.
    pub(crate) kept: bool,
    pub(crate) in_process: Link,
    pub(crate) in_target: Link,
}

/// How a process ended, as far as what it held is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As if it had closed everything.
    Graceful,
    /// Killed: its connections are reset.
    Killed,
}

impl Held<'_> {
    fn reference(&self, process: u32, target: Target) -> Option<u32> {
        let list = match target {
            Target::File(file) => self.world.files.at(file)?.references,
            Target::Set(set) => self.world.sets.at(set)?.references,
        };
        let mut at = list.first();
        while let Some(index) = at {
            let reference = self.world.references.at(index)?;
            if reference.process == process {
                return Some(index);
            }
            at = reference.in_target.next();
        }
        None
    }

    /// The process holds `count` more descriptors of the target.
    ///
    /// # Errors
    /// `TooManyFiles` when the table is full.
    pub(crate) fn hold(&mut self, process: u32, target: Target, count: u32) -> Result<(), Error> {
        self.change();
        if let Some(index) = self.reference(process, target) {
            if let Some(reference) = self.world.references.at_mut(index) {
                reference.count += count;
            }
            return Ok(());
        }
        let (in_process, in_target) = (Link::default(), Link::default());
        let kept = false;
        let reference = Reference { process, target, count, kept, in_process, in_target };
        let handle = self.world.references.insert(reference).map_err(|_| Error::TooManyFiles)?;
        self.world.link_reference(handle.index(), process, target);
        Ok(())
    }

    /// The process holds one descriptor less. The last one anywhere ends the target.
    pub(crate) fn drop_one(&mut self, process: u32, target: Target) {
        self.change();
        let Some(index) = self.reference(process, target) else { return };
        let Some(reference) = self.world.references.at_mut(index) else { return };
        reference.count = reference.count.saturating_sub(1);
        if reference.count == 0 {
            self.drop_reference(index, Ending::Graceful);
        }
    }

    /// Whether the process is the only holder, with one descriptor.
    pub(crate) fn is_last(&self, process: u32, target: Target) -> bool {
        let Some(index) = self.reference(process, target) else { return false };
        let Some(reference) = self.world.references.at(index) else { return false };
        let list = match target {
            Target::File(file) => self.world.files.at(file).map(|links| links.references),
            Target::Set(set) => self.world.sets.at(set).map(|set| set.references),
        };
        let alone =
            list.and_then(List::first) == Some(index) && reference.in_target.next().is_none();
        alone && reference.count == 1
    }

    fn drop_reference(&mut self, index: u32, ending: Ending) {
        let world = &mut *self.world;
        let Some(reference) = world.references.at(index) else { return };
        let (process, target) = (reference.process, reference.target);
        if let Some(state) = world.processes.at_mut(process) {
            let list = &mut state.references;
            list.remove(&mut world.references, index, |reference| &mut reference.in_process);
        }
        let list = match target {
            Target::File(file) => world.files.at_mut(file).map(|links| &mut links.references),
            Target::Set(set) => world.sets.at_mut(set).map(|set| &mut set.references),
        };
        let mut orphaned = false;
        if let Some(list) = list {
            list.remove(&mut world.references, index, |reference| &mut reference.in_target);
            orphaned = list.is_empty();
        }
        world.references.remove_at(index);
        if orphaned {
            match target {
                Target::File(file) => self.end_file(file, ending),
                Target::Set(set) => self.end_set(set),
            }
        }
    }

    /// Closes a description that nobody holds any more.
    fn end_file(&mut self, file: u32, ending: Ending) {
        self.drop_entries_of_file(file);
        let Some(handle) = self.world.files.handle_at(file) else { return };
        let shared = &self.shared.files[file as usize];
        shared.publish(0);
        self.world.ended.count(shared);
        self.close_socket(shared, ending);
        // Whoever still waits on it finds that it is gone.
        while let Some(node) = self.world.files.at(file).and_then(|links| links.waiters.first()) {
            let Some(node) = self.world.nodes.at(node) else { break };
            let waiter = node.waiter;
            self.world.wake(waiter, self.shared, self.wakes);
        }
        self.world.files.remove(handle);
        self.shared.open_files.fetch_sub(1, Ordering::Relaxed);
    }

    /// A slot for a process.
    ///
    /// # Errors
    /// `TooManyFiles` when the table is full.
    pub(crate) fn add_process(&mut self, process: Process) -> Result<u32, Error> {
        self.change();
        let handle = self.world.processes.insert(process).map_err(|_| Error::TooManyFiles)?;
        Ok(handle.index())
    }

    /// Copies what `parent` holds to `child`, as fork does.
    ///
    /// # Errors
    /// `TooManyFiles` when the table is full; what was copied stays with `child`.
    pub(crate) fn copy_references(&mut self, parent: u32, child: u32) -> Result<(), Error> {
        let mut at = self.world.processes.at(parent).and_then(|state| state.references.first());
        while let Some(index) = at {
            let Some(reference) = self.world.references.at(index) else { break };
            at = reference.in_process.next();
            let (target, count) = (reference.target, reference.count);
            let (in_process, in_target) = (Link::default(), Link::default());
            let kept = false;
            let copy = Reference { process: child, target, count, kept, in_process, in_target };
            let handle = self.world.references.insert(copy).map_err(|_| Error::TooManyFiles)?;
            self.world.link_reference(handle.index(), child, target);
        }
        Ok(())
    }

    /// Drops what a process held, or only what it did not keep across an exec.
    pub(crate) fn drop_references(&mut self, process: u32, ending: Ending, only_unkept: bool) {
        self.change();
        let mut at = self.world.processes.at(process).and_then(|state| state.references.first());
        while let Some(index) = at {
            let Some(reference) = self.world.references.at(index) else { return };
            at = reference.in_process.next();
            if !(only_unkept && reference.kept) {
                self.drop_reference(index, ending);
            }
        }
    }

    /// The process is gone: its slot, references, doorbells and sleepers go with it.
    pub(crate) fn end_process(&mut self, process: u32, ending: Ending) {
        self.drop_references(process, ending, false);
        for index in 0..self.world.waiters.watermark() {
            if self.world.waiters.at(index).is_some_and(|waiter| waiter.process == process) {
                self.world.unlink_waiter(index);
                self.world.waiters.remove_at(index);
                self.abdicate(index);
            }
        }
        self.shared.doorbells.free_of(process);
        self.world.processes.remove_at(process);
        // It may have been woken for something that it did not live to take.
        self.world.wake_all(self.shared, self.wakes);
    }

    /// Marks what stays across an exec: the references to `kept`.
    pub(crate) fn mark_kept(&mut self, process: u32, kept: &[FileId]) {
        self.change();
        let mut at = self.world.processes.at(process).and_then(|state| state.references.first());
        while let Some(index) = at {
            let Some(reference) = self.world.references.at_mut(index) else { return };
            at = reference.in_process.next();
            reference.kept = match reference.target {
                Target::File(file) => kept.iter().any(|id| id.index() == file),
                Target::Set(_) => false,
            };
        }
    }
}
