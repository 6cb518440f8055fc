//! The sans-IO TCP/UDP/IP stack of onwire.
//!
//! Everything here is a machine: `(state, event, now) -> (state, answer)`. Nothing reads a clock,
//! draws entropy, takes a lock, makes a syscall or prints; time, randomness and buffers are
//! arguments. All memory is allocated when a shard is built, never later.
//!
//! Layers, arrows pointing down only (a test enforces it):
//!
//! * L2 `shard`: the only code that knows two protocols; the packet path reads top-down there.
//! * L1 `neighbor`, `ip`, `icmp`, `udp`, `tcp`, `capture`: one protocol each, strangers to each
//!   other.
//! * L0 `addr`, `wire`, `time`, `rng`, `collections`, `packet`, `device`, `error`, `readiness`,
//!   `options`, `config`, `socket`, `stats`, `steering`,
//!   `testing`: the vocabulary.

#![forbid(unsafe_code)]

pub mod addr;
pub mod capture;
pub mod collections;
pub mod config;
pub mod device;
pub mod error;
pub mod icmp;
pub mod ip;
pub mod neighbor;
pub mod options;
pub mod packet;
pub mod readiness;
pub mod rng;
pub mod shard;
pub mod socket;
pub mod stats;
pub mod steering;
pub mod tcp;
pub mod testing;
pub mod time;
pub mod udp;
pub mod wire;
