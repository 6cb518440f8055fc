//! The engine: what turns the sans-IO stack into sockets that many threads and processes share.
//!
//! It owns the shared region and its allocator, the lock around the shard, the table of open file
//! descriptions, epoll sets, waiting and waking, fork/exec/exit bookkeeping, the keeper process,
//! device setup and the control server. Its one caller is the interposition layer (`preload`),
//! which owns the descriptor table, errno and everything that libc's signatures look like.
//!
//! # How a caller uses it
//!
//! * [`start`] once, at the first socket that may be the stack's; [`get`] afterwards.
//! * One [`FileId`] per *open file description*: [`Engine::create`], [`Engine::accept`],
//!   [`Engine::retain`] for each further descriptor of this process (`dup`), [`Engine::release`]
//!   for each closed one. `fork` copies this process's counts ([`prepare_fork`]).
//! * [`Engine::with`] for calls that never wait, [`Engine::blocking`] for those that may,
//!   [`Engine::poll`] and [`Engine::epoll_wait`] for readiness.
//! * [`thread`] for signal handlers and for code that must not be interposed.
//!
//! What it never does: make errno, know descriptor numbers (but for its own), decide policy.
//!
//! # Rules for the caller
//!
//! * A closure given to [`Engine::with`] or [`Engine::blocking`] runs under the shard's lock: it
//!   must not allocate (debug builds abort), not block, and not call the engine again.
//! * The descriptor table must not change between [`prepare_fork`] and [`fork_parent`]: hold its
//!   lock across the fork (other threads' `close` and `dup` wait), so that the child's copied
//!   counts equal its copied table.
//! * [`start`] runs with interposition bypassed on its threads; see [`thread::bypassed`].

pub mod alloc;
mod apart;
pub mod cancel;
mod change;
mod clock;
mod control_server;
mod doorbell;
mod engine;
mod epoll;
mod fds;
mod file;
mod fork;
mod groups;
mod handover;
mod huge_pages;
mod keeper;
mod lane;
mod link;
mod list;
mod lock;
mod notify;
mod probe;
mod process;
mod quests;
mod region;
mod replicas;
mod report;
mod rx_watch;
mod setup;
mod shard;
mod shared;
mod sys;
mod tap;
pub mod thread;
mod timer_text;
mod wait;
mod words;
mod world;

pub use crate::engine::Engine;
pub use crate::epoll::{EpollChange, EpollEntry, EpollError, EpollId, EpollOp};
pub use crate::fds::{next_protected_fd, protect_fd, protected_fd, unprotect_fd};
pub use crate::file::{File, FileId, Kind, Path, Reason};
pub use crate::fork::{
    ForkToken, exec_begin, exec_failed, exiting, fork_child, fork_parent, prepare_fork,
};
pub use crate::setup::{StartError, get, start};
pub use crate::shard::{Nic, Shard, SocketId};
pub use crate::wait::{PollEntry, Wait};
pub use control::Settings;
