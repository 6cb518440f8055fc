//! Packet scripts, by subject.

mod attack;
mod close;
mod delivery_rate;
mod info;
mod loops;
mod open;
mod options;
mod pacing;
mod plain;
mod ports;
mod recovery;
mod rfc;
mod scoreboard;
mod stamps;
mod state;
mod time_wait_reuse;
mod timers;
mod transfer;
