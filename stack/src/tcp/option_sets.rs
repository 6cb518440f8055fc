//! The option values of the sockets. Most sockets have the same ones: the defaults, or what their
//! listener had when they were accepted. So a set of values is kept once for all sockets that have
//! it, and an idle connection pays four octets for its share.
//!
//! [`super::Tcp`] owns it; a socket that changes an option moves to another set. There is room for
//! a set for each socket, so nothing here can fail for want of it.

use crate::collections::Slab;
use crate::options::Options;

/// Names a socket's set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionsId(u32);

/// Sets that a changed one is compared with: servers set the same options on every connection.
const RECENT: usize = 8;

#[derive(Debug)]
struct Set {
    options: Options,
    /// Sockets that have it.
    users: u32,
}

/// The sets in use.
#[derive(Debug)]
pub(crate) struct OptionSets {
    sets: Slab<Set>,
    /// The latest sets, as index + 1; 0 for none.
    recent: [u32; RECENT],
    /// The place in `recent` that was taken last while none was empty.
    turn: usize,
    /// Of a socket that has none, which there is not.
    none: Options,
}

impl OptionSets {
    /// Sets for `sockets` sockets.
    pub fn new(sockets: usize) -> Self {
        OptionSets {
            sets: Slab::new(sockets + 1),
            recent: [0; RECENT],
            turn: 0,
            none: Options::default(),
        }
    }

    /// The values of a set.
    #[inline]
    pub fn get(&self, id: OptionsId) -> &Options {
        self.sets.at(id.0).map_or(&self.none, |set| &set.options)
    }

    /// A set with these values, for one more socket.
    pub fn with(&mut self, options: &Options) -> OptionsId {
        if let Some(id) = self.known(options) {
            return self.share(id);
        }
        let set = Set { options: *options, users: 1 };
        let index = self.sets.insert(set).map_or(u32::MAX, |handle| handle.index());
        // Those that were only a step on the way to others have left their places empty.
        let empty = self.recent.iter().position(|at| *at == 0);
        let place = empty.unwrap_or_else(|| {
            self.turn = (self.turn + 1) % RECENT;
            self.turn
        });
        self.recent[place] = index.wrapping_add(1);
        OptionsId(index)
    }

    fn known(&self, options: &Options) -> Option<OptionsId> {
        let recent = self.recent.iter().filter_map(|at| at.checked_sub(1));
        let mut alike =
            recent.filter(|at| self.sets.at(*at).is_some_and(|s| s.options == *options));
        alike.next().map(OptionsId)
    }

    /// The same set for one more socket.
    pub fn share(&mut self, id: OptionsId) -> OptionsId {
        if let Some(set) = self.sets.at_mut(id.0) {
            set.users += 1;
        }
        id
    }

    /// A socket is gone.
    pub fn release(&mut self, id: OptionsId) {
        let Some(set) = self.sets.at_mut(id.0) else { return };
        set.users -= 1;
        if set.users == 0 {
            self.sets.remove_at(id.0);
            for at in &mut self.recent {
                if *at == id.0 + 1 {
                    *at = 0;
                }
            }
        }
    }

    /// The set of a socket that had `id` and changes some of its values.
    #[must_use]
    pub fn change(&mut self, id: OptionsId, change: impl FnOnce(&mut Options)) -> OptionsId {
        let mut options = *self.get(id);
        change(&mut options);
        if options == *self.get(id) {
            return id;
        }
        let changed = self.with(&options);
        self.release(id);
        changed
    }

    /// How many different sets there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.sets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_set_the_same_options_share_them() {
        let mut sets = OptionSets::new(100);
        let first = sets.with(&Options::default());
        let others: Vec<_> = (0..50).map(|_| sets.share(first)).collect();
        let changed: Vec<_> = others
            .iter()
            .map(|id| {
                let corked = sets.change(*id, |options| options.cork = true);
                sets.change(corked, |options| options.no_delay = true)
            })
            .collect();
        assert_eq!(sets.len(), 2, "the corked ones have moved on");
        assert!(!sets.get(first).no_delay);
        assert!(changed.iter().all(|id| sets.get(*id).no_delay && sets.get(*id).cork));
        for id in changed {
            sets.release(id);
        }
        assert_eq!(sets.len(), 1);
        sets.release(first);
        assert_eq!(sets.len(), 0);
    }

    #[test]
    fn there_is_a_set_for_every_socket() {
        let mut sets = OptionSets::new(64);
        let mut ids: Vec<_> = (0..64).map(|_| sets.with(&Options::default())).collect();
        for round in 0..3 {
            for (n, id) in ids.iter_mut().enumerate() {
                let mark = 1 + n as u32 + round * 1_000;
                *id = sets.change(*id, |options| options.mark = mark);
            }
            for (n, id) in ids.iter().enumerate() {
                assert_eq!(sets.get(*id).mark, 1 + n as u32 + round * 1_000);
            }
            assert_eq!(sets.len(), 64);
        }
    }
}
