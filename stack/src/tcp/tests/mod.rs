//! Packet scripts, by subject.

mod attack;
mod close;
mod fast_open;
mod info;
mod loops;
mod open;
mod pmtud;
mod ports;
mod recovery;
mod state;
mod syn_cookies;
mod time_wait_reuse;
mod timers;
mod transfer;
