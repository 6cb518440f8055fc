//! A bounded table whose entries are named by generation-checked handles.

use core::mem::offset_of;
use core::ops::Range;
use prefetch_index::prefetch_index;

/// Names one entry of a [`Slab`]. A handle of an entry that has been removed finds nothing, even
/// when its place has been taken by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

impl Handle {
    /// The place in the table: below the slab's capacity, unique among the living entries.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which of the entries that lived in this place, counted from 1.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The handle with this place and generation (for handles that travelled as a number).
    #[must_use]
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        Handle { index, generation }
    }
}

/// Octets of a line of the caches.
const LINE: usize = 64;

#[derive(Debug)]
enum Content<T> {
    Free { next: Option<u32> },
    Used(T),
}

/// The generation comes first: see [`Slab::prefetch`].
#[derive(Debug)]
#[repr(C)]
struct Entry<T> {
    generation: u32,
    content: Content<T>,
}

/// Up to `capacity` values; inserting, finding and removing are O(1) and never allocate.
///
/// Places that were never used lie beyond a watermark and have never been written: their memory
/// is reserved, not touched. Freed places are used again first, the latest freed before others.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    capacity: usize,
    free: Option<u32>,
    len: usize,
}

impl<T> Slab<T> {
    /// Octets that a value takes in the table.
    pub const ENTRY: usize = size_of::<Entry<T>>();

    /// A slab for `capacity` values.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(u32::MAX as usize - 1);
        Slab { entries: Vec::with_capacity(capacity), capacity, free: None, len: 0 }
    }

    /// How many values it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many values it can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether an insertion would fail.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// Adds `value`.
    ///
    /// # Errors
    /// Gives the value back when the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Handle, T> {
        if let Some(index) = self.free {
            let Some(entry) = self.entries.get_mut(index as usize) else { return Err(value) };
            if let Content::Free { next } = entry.content {
                self.free = next;
                entry.generation = entry.generation.wrapping_add(1).max(1);
                entry.content = Content::Used(value);
                self.len += 1;
                return Ok(Handle { index, generation: entry.generation });
            }
        }
        if self.entries.len() >= self.capacity {
            return Err(value);
        }
        let index = self.entries.len() as u32;
        self.entries.push(Entry { generation: 1, content: Content::Used(value) });
        self.len += 1;
        Ok(Handle { index, generation: 1 })
    }

    /// The value named by `handle`.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        #[cfg(test)]
        super::steps::count();
        match self.entries.get(handle.index as usize) {
            Some(Entry { generation, content: Content::Used(value) })
                if *generation == handle.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value named by `handle`, to be changed.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        #[cfg(test)]
        super::steps::count();
        match self.entries.get_mut(handle.index as usize) {
            Some(Entry { generation, content: Content::Used(value) })
                if *generation == handle.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value in place `index`, whatever its generation: for lists whose members are alive.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        #[cfg(test)]
        super::steps::count();
        match self.entries.get(index as usize) {
            Some(Entry { content: Content::Used(value), .. }) => Some(value),
            _ => None,
        }
    }

    /// Asks for all lines of memory of the value in place `index`, and does not wait for them.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        self.prefetch_octets(index, 0..size_of::<Entry<T>>());
    }

    /// The same of some octets of it only.
    #[inline]
    pub fn prefetch_part(&self, index: u32, part: Range<usize>) {
        let value = offset_of!(Entry<T>, content);
        self.prefetch_octets(index, value + part.start..value + part.end);
    }

    #[inline]
    fn prefetch_octets(&self, index: u32, octets: Range<usize>) {
        let Some(entry) = self.entries.get(index as usize) else { return };
        // Counted in words from one that is there whatever the entry holds.
        let word = core::slice::from_ref(&entry.generation);
        // They need not begin where a line does: the last one may be in one line more.
        let last = octets.end.saturating_sub(size_of::<u32>());
        for at in octets.step_by(LINE).chain([last]) {
            prefetch_index(word, at / size_of::<u32>());
        }
    }

    /// The value in place `index`, to be changed.
    #[must_use]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        #[cfg(test)]
        super::steps::count();
        match self.entries.get_mut(index as usize) {
            Some(Entry { content: Content::Used(value), .. }) => Some(value),
            _ => None,
        }
    }

    /// The handle of the value in place `index`.
    #[must_use]
    pub fn handle_at(&self, index: u32) -> Option<Handle> {
        match self.entries.get(index as usize) {
            Some(Entry { generation, content: Content::Used(_) }) => {
                Some(Handle { index, generation: *generation })
            }
            _ => None,
        }
    }

    /// Takes the value named by `handle` out.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        self.remove_at(handle.index)
    }

    /// Takes the value in place `index` out.
    pub fn remove_at(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?;
        if matches!(entry.content, Content::Free { .. }) {
            return None;
        }
        let free = Content::Free { next: self.free };
        self.free = Some(index);
        self.len -= 1;
        match core::mem::replace(&mut entry.content, free) {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// Drops the value in place `index`, where it lies: [`Slab::remove_at`] without moving it out.
    #[inline]
    pub fn discard_at(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        if let Content::Used(_) = entry.content {
            entry.content = Content::Free { next: self.free };
            self.free = Some(index);
            self.len -= 1;
        }
    }

    /// Every value with its handle, by place.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| {
            #[cfg(test)]
            super::steps::count();
            match &entry.content {
                Content::Used(value) => {
                    Some((Handle { index: index as u32, generation: entry.generation }, value))
                }
                Content::Free { .. } => None,
            }
        })
    }

    /// One past the highest place ever used: `0..watermark` are the places worth visiting.
    #[must_use]
    pub fn watermark(&self) -> u32 {
        self.entries.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing() {
        let mut slab = Slab::new(2);
        let a = slab.insert("a").unwrap();
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b").unwrap();
        assert_eq!(a.index(), b.index());
        assert_eq!((slab.get(a), slab.get(b)), (None, Some(&"b")));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_full_slab_gives_the_value_back() {
        let mut slab = Slab::new(2);
        let a = slab.insert(1).unwrap();
        let _ = slab.insert(2).unwrap();
        assert_eq!(slab.insert(3), Err(3));
        let _ = slab.remove(a);
        assert!(slab.insert(3).is_ok());
        assert!(slab.is_full());
        assert_eq!(slab.iter().map(|(_, v)| *v).sum::<i32>(), 5);
    }
}
