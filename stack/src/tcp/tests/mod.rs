//! Packet scripts, by subject.

mod attack;
mod close;
mod loops;
mod open;
mod ports;
mod recovery;
mod syn_cookies;
mod time_wait;
mod timers;
mod transfer;
