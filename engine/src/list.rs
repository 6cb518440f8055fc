//! Doubly linked lists of slab entries, linked through fields of the entries themselves.
//!
//! Only code under the shard's lock touches them. They can be rebuilt from the entries after an
//! owner of the lock died in the middle of a change.

use stack::collections::Slab;

/// A list's ends, as index + 1; 0 means none.
#[derive(Debug, Clone, Copy, Default)]
pub struct List {
    first: u32,
    last: u32,
}

/// An entry's place in a list, as index + 1; 0 means none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// [`FIRST`] for the first of a list; 0 for what is in none.
    previous: u32,
    next: u32,
}

/// In place of the one before: there is none.
const FIRST: u32 = u32::MAX;

impl Link {
    /// Whether the entry is in a list.
    pub const fn is_linked(self) -> bool {
        self.previous != 0
    }

    /// The entry after this one.
    pub const fn next(self) -> Option<u32> {
        self.next.checked_sub(1)
    }
}

impl List {
    /// Whether it has no entry.
    pub const fn is_empty(self) -> bool {
        self.first == 0
    }

    /// The first entry's index.
    pub const fn first(self) -> Option<u32> {
        self.first.checked_sub(1)
    }

    /// Appends the entry at `index`, which is in no list by this link.
    pub fn push<T>(&mut self, slab: &mut Slab<T>, index: u32, link: fn(&mut T) -> &mut Link) {
        let last = self.last;
        if let Some(entry) = slab.at_mut(index) {
            *link(entry) = Link { previous: if last == 0 { FIRST } else { last }, next: 0 };
            match last.checked_sub(1).and_then(|last| slab.at_mut(last)) {
                Some(before) => link(before).next = index + 1,
                None => self.first = index + 1,
            }
            self.last = index + 1;
        }
    }

    /// Takes the entry at `index` out if it is in the list.
    pub fn remove<T>(&mut self, slab: &mut Slab<T>, index: u32, link: fn(&mut T) -> &mut Link) {
        let Some(entry) = slab.at_mut(index) else { return };
        let own = core::mem::take(link(entry));
        let before = match own.previous {
            0 => return,
            FIRST => 0,
            before => before,
        };
        match before.checked_sub(1).and_then(|at| slab.at_mut(at)) {
            Some(before) => link(before).next = own.next,
            None => self.first = own.next,
        }
        match own.next.checked_sub(1).and_then(|at| slab.at_mut(at)) {
            Some(after) => link(after).previous = own.previous,
            None => self.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Entry {
        link: Link,
    }

    fn members(list: List, slab: &mut Slab<Entry>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = list.first();
        while let Some(index) = at {
            found.push(index);
            at = slab.at_mut(index).and_then(|entry| entry.link.next());
        }
        found
    }

    #[test]
    fn entries_are_appended_and_removed_anywhere() {
        let mut slab = Slab::new(4);
        let mut list = List::default();
        for _ in 0..4 {
            let index = slab.insert(Entry::default()).ok().unwrap().index();
            list.push(&mut slab, index, |entry| &mut entry.link);
        }
        assert_eq!(members(list, &mut slab), [0, 1, 2, 3]);
        for (gone, rest) in [(1, &[0, 2, 3][..]), (3, &[0, 2]), (0, &[2]), (2, &[])] {
            list.remove(&mut slab, gone, |entry| &mut entry.link);
            list.remove(&mut slab, gone, |entry| &mut entry.link);
            assert_eq!(members(list, &mut slab), rest);
        }
        assert!(list.is_empty());
    }
}
