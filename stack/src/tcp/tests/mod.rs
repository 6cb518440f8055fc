//! Packet scripts, by subject.

mod loops;
