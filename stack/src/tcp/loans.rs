//! What few connections need, apart from them: a table of values that are lent. A connection keeps
//! a name, four octets, and has a value only while there is something in it that is not the default.
//!
//! `Rare` owns such tables; there is room for as many as there are connections.

use crate::collections::Slab;

/// The name of a value; 0 for none.
pub(crate) type Name = u32;

/// Values of one kind.
#[derive(Debug)]
pub(crate) struct Loans<T> {
    table: Slab<T>,
}

impl<T: Default> Loans<T> {
    /// Room for `capacity` values, reserved and not touched.
    pub fn new(capacity: usize) -> Self {
        Loans { table: Slab::new(capacity) }
    }

    /// The value, if there is one.
    pub fn get(&self, name: Name) -> Option<&T> {
        self.table.at(name.checked_sub(1)?)
    }

    /// The value, if there is one, to be changed.
    pub fn get_mut(&mut self, name: Name) -> Option<&mut T> {
        self.table.at_mut(name.checked_sub(1)?)
    }

    /// The value; the default if there was none. `None` when the table is full.
    pub fn borrow(&mut self, name: &mut Name) -> Option<&mut T> {
        if *name == 0 {
            let handle = self.table.insert(T::default()).ok()?;
            *name = handle.index() + 1;
        }
        self.get_mut(*name)
    }

    /// There is nothing in it any more.
    pub fn give_back(&mut self, name: &mut Name) {
        if let Some(place) = core::mem::take(name).checked_sub(1) {
            self.table.remove_at(place);
        }
    }

    /// How many are lent.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.table.len()
    }
}
