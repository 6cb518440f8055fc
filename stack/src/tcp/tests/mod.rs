//! Packet scripts, by subject.

mod attack;
mod close;
mod loops;
mod open;
mod ports;
mod recovery;
mod state;
mod syn_cookies;
mod timers;
mod transfer;
