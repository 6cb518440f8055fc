//! libonwire.so: the interposed libc functions (`LD_PRELOAD`).
//!
//! A hook is a few lines: guard → lookup → decode → call → encode. `symbols.rs` is the table of
//! them all and `hook.rs` what becomes of it; `descriptors.rs` tells in a few nanoseconds that a
//! descriptor is the kernel's, which most are; `policy.rs` decides whose network a socket uses;
//! `abi` makes the numbers and knows the options. The families of functions have a file each. The engine below does
//! the work; nothing here touches a packet.
//!
//! What holds in every hook:
//!
//! * It works before our constructor has run: libc's function is found later, the syscall is made.
//! * The engine's and the driver's own calls pass straight through (`engine::thread::bypassed`).
//! * A vfork child changes nothing of ours.
//! * A panic does not leave: one line on standard error, `EIO`.

// A test build exports nothing, so nobody calls the hooks there.
#![cfg_attr(test, allow(dead_code))]

#[global_allocator]
static ALLOCATOR: engine::alloc::Allocator = engine::alloc::Allocator;

use abi::{errno, memory, messages, option_table, tcp_info};

mod address;
pub mod api;
mod copying;
mod datagram;
mod descriptors;
mod guard;
mod hook;
mod lifecycle;
mod mapped;
mod naming;
mod options;
mod passing;
mod policy;
mod process;
mod raw;
mod raw_syscall;
mod readiness;
mod signals;
mod spares;
mod stamps;
mod startup;
mod stdio;
mod stream;
mod threads;
mod transfer;
mod variadic;
mod waiting;
