//! Packet scripts, by subject.

mod attack;
mod close;
mod dctcp;
mod delivery_rate;
mod ecn;
mod fast_open;
mod frto;
mod info;
mod loops;
mod open;
mod pacing;
mod ports;
mod recovery;
mod reordering;
mod rfc;
mod state;
mod syn_cookies;
mod time_wait_reuse;
mod timers;
mod transfer;
mod window_validation;
