//! Bounded containers: what the layers keep their sockets, segments and timers in.
//!
//! Everything here takes its memory once, when it is built, and never grows: capacity is reserved,
//! not touched, so a table for a million entries costs nothing until it is used. Entries are
//! named by small indices (lists, wheels) or by generation-checked handles ([`Slab`]), never by
//! pointers. Used by every layer of the stack; knows none of them.

mod list;
mod slab;
#[cfg(test)]
pub(crate) mod steps;
mod wheel;

pub use list::{IndexBuckets, IndexList};
pub use slab::{Handle, Slab};
pub use wheel::TimerWheel;
