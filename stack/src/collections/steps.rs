//! For tests: how many entries of tables a thread has looked at. What takes as many steps beside many
//! idle sockets as beside none cannot have walked over them.

use core::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// An entry is looked at.
pub(crate) fn count() {
    STEPS.set(STEPS.get() + 1);
}

/// How many were while `f` ran.
pub(crate) fn taken_by(f: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    f();
    STEPS.get() - before
}
