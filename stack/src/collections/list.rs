//! Linked lists of small indices. The links live beside the entries, in arrays of their own.

/// Links are stored as index + 1 so that untouched (zero) memory means "not linked".
const fn encode(index: u32) -> u32 {
    index + 1
}

const fn decode(link: u32) -> Option<u32> {
    link.checked_sub(1)
}

/// A queue of distinct indices below a bound: append, take the first, remove any, all O(1).
#[derive(Debug)]
pub struct IndexList {
    /// Of each index the one behind, and the one before or [`FIRST`].
    links: Vec<[u32; 2]>,
    first: u32,
    last: u32,
    len: usize,
}

/// Places in the links of an index.
const NEXT: usize = 0;
const PREV: usize = 1;

/// In place of a link to the one before: there is none.
const FIRST: u32 = u32::MAX;

impl IndexList {
    /// Octets for each index.
    pub const EACH: usize = size_of::<[u32; 2]>();

    /// A list for indices below `bound`.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        IndexList { links: vec![[0; 2]; bound], first: 0, last: 0, len: 0 }
    }

    /// How many indices it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it holds `index`. An empty list does not look at its memory.
    #[inline]
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.len > 0 && self.links.get(index as usize).is_some_and(|links| links[PREV] != 0)
    }

    /// The first index.
    #[inline]
    #[must_use]
    pub fn front(&self) -> Option<u32> {
        decode(self.first)
    }

    /// Appends `index`; no effect if it is there already or out of bounds.
    #[inline]
    pub fn push_back(&mut self, index: u32) {
        #[cfg(test)]
        super::steps::count();
        let Some([_, prev]) = self.links.get_mut(index as usize) else { return };
        if *prev != 0 {
            return;
        }
        match decode(self.last) {
            Some(last) => {
                *prev = self.last;
                self.links[last as usize][NEXT] = encode(index);
            }
            None => {
                *prev = FIRST;
                self.first = encode(index);
            }
        }
        self.last = encode(index);
        self.len += 1;
    }

    /// Takes the first index out.
    #[inline]
    pub fn pop_front(&mut self) -> Option<u32> {
        let index = self.front()?;
        self.remove(index);
        Some(index)
    }

    /// Takes `index` out; no effect if it is not there.
    #[inline]
    pub fn remove(&mut self, index: u32) {
        #[cfg(test)]
        super::steps::count();
        if !self.contains(index) {
            return;
        }
        let [next, prev] = core::mem::take(&mut self.links[index as usize]);
        match decode(next) {
            Some(behind) => self.links[behind as usize][PREV] = prev,
            None => self.last = if prev == FIRST { 0 } else { prev },
        }
        if prev == FIRST {
            self.first = next;
        } else {
            self.links[prev as usize - 1][NEXT] = next;
        }
        self.len -= 1;
    }

    /// The indices in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let mut at = self.front();
        core::iter::from_fn(move || {
            #[cfg(test)]
            super::steps::count();
            let index = at?;
            at = decode(self.links[index as usize][NEXT]);
            Some(index)
        })
    }
}

/// Many lists over one set of indices; each index is in at most one of them.
#[derive(Debug)]
pub struct IndexBuckets {
    heads: Vec<u32>,
    /// Of each index the one behind, and the one before or, of the first of a bucket, the bucket's
    /// number with the top bit set.
    links: Vec<[u32; 2]>,
}

const BUCKET: u32 = 1 << 31;

impl IndexBuckets {
    /// Octets for each index.
    pub const EACH: usize = size_of::<[u32; 2]>();

    /// `buckets` lists for indices below `bound` (less than 2^31).
    #[must_use]
    pub fn new(buckets: usize, bound: usize) -> Self {
        IndexBuckets { heads: vec![0; buckets], links: vec![[0; 2]; bound] }
    }

    /// Whether `index` is in a list.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.links.get(index as usize).is_some_and(|links| links[PREV] != 0)
    }

    /// The first index of `bucket`.
    #[must_use]
    pub fn first(&self, bucket: u32) -> Option<u32> {
        self.heads.get(bucket as usize).copied().and_then(decode)
    }

    /// The index behind `index` in its list.
    #[must_use]
    pub fn following(&self, index: u32) -> Option<u32> {
        self.links.get(index as usize).and_then(|links| decode(links[NEXT]))
    }

    /// Puts `index` first in `bucket`; no effect if it is in a list or out of bounds.
    pub fn push_front(&mut self, bucket: u32, index: u32) {
        if self.contains(index)
            || index as usize >= self.links.len()
            || bucket as usize >= self.heads.len()
        {
            return;
        }
        let behind = core::mem::replace(&mut self.heads[bucket as usize], encode(index));
        self.links[index as usize] = [behind, bucket | BUCKET];
        if let Some(behind) = decode(behind) {
            self.links[behind as usize][PREV] = encode(index);
        }
    }

    /// Takes `index` out of its list; no effect if it is in none.
    pub fn remove(&mut self, index: u32) {
        #[cfg(test)]
        super::steps::count();
        if !self.contains(index) {
            return;
        }
        let [next, prev] = core::mem::take(&mut self.links[index as usize]);
        if prev & BUCKET != 0 {
            self.heads[(prev & !BUCKET) as usize] = next;
        } else if let Some(before) = decode(prev) {
            self.links[before as usize][NEXT] = next;
        }
        if let Some(behind) = decode(next) {
            self.links[behind as usize][PREV] = prev;
        }
    }

    /// The indices of `bucket` in order.
    pub fn iter(&self, bucket: u32) -> impl Iterator<Item = u32> {
        let mut at = self.first(bucket);
        core::iter::from_fn(move || {
            #[cfg(test)]
            super::steps::count();
            let index = at?;
            at = self.following(index);
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_order_and_knows_its_members() {
        let mut list = IndexList::new(8);
        for index in [3, 1, 7, 0, 3] {
            list.push_back(index);
        }
        list.push_back(8); // Out of bounds.
        assert_eq!(list.iter().collect::<Vec<_>>(), [3, 1, 7, 0]);
        list.remove(0);
        list.remove(1);
        list.push_back(1);
        assert_eq!((list.len(), list.contains(0), list.contains(1)), (3, false, true));
        assert_eq!(list.pop_front(), Some(3));
        assert_eq!(list.pop_front(), Some(7));
        assert_eq!(list.pop_front(), Some(1));
        assert_eq!(list.pop_front(), None);
    }

    #[test]
    fn buckets_are_separate() {
        let mut buckets = IndexBuckets::new(4, 8);
        buckets.push_front(2, 5);
        buckets.push_front(2, 6);
        buckets.push_front(0, 7);
        buckets.push_front(1, 7); // In a list already.
        assert_eq!(buckets.iter(2).collect::<Vec<_>>(), [6, 5]);
        buckets.remove(6);
        buckets.remove(7);
        assert_eq!(buckets.iter(2).collect::<Vec<_>>(), [5]);
        assert_eq!(buckets.first(0), None);
        assert_eq!(buckets.first(1), None);
    }
}
