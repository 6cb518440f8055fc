//! libonwire_packetdrill.so: packetdrill's interface for shared objects, over the stack, in virtual
//! time.
//!
//! packetdrill loads it (`--so_filename`), fills `interface::Interface` by calling
//! `packetdrill_interface_init`, and makes every call of a script through it. What packetdrill
//! calls on a descriptor itself comes to `hooks.rs`, for which the library is also preloaded.
//!
//! * `station.rs` owns the one lock, the clock, and who waits for what: time moves only when
//!   packetdrill sleeps, waits for a packet or asks for the time;
//! * `world.rs` is what the lock guards: the stack, the descriptors, the epoll sets;
//! * `device.rs` is the link: L3 packets in and out, a router that answers ARP;
//! * `knobs.rs` reads the settings that scripts change: `/proc/sys/net/ipv4`, `--so_flags`;
//! * `sockets.rs`, `data.rs`, `options.rs`, `readiness.rs` are the calls.
//!
//! It tests the stack; no program runs on it.

// A test build exports nothing, so nobody calls the hooks there.
#![cfg_attr(test, allow(dead_code))]

mod data;
mod device;
mod hooks;
mod interface;
mod knobs;
mod options;
mod readiness;
mod sockets;
mod station;
#[cfg(test)]
mod tests;
mod world;
