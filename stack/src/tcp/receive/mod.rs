//! The receiving half of a connection: what is read, what waits for a gap, what the peer is told.

pub(crate) mod ack_policy;
pub(crate) mod assembler;
pub(crate) mod autotune;
pub(crate) mod reader;
pub(crate) mod receiver;
pub(crate) mod report;

pub(crate) use receiver::{Receiver, Urgent};
