//! What the command and the library of onwire say to each other.
//!
//! * [`Settings`]: everything a user can choose, merged from the defaults, a TOML file, the
//!   environment and the command line; one table ([`Settings::KEYS`]) is the source of all names.
//! * [`DeviceSpec`]: the string that names a device.
//! * [`Rules`]: which sockets stay with the kernel.
//! * [`RunDir`], [`Lease`]: the files by which engines find each other and keep out of each
//!   other's way.
//! * [`message`], [`Client`]: the control socket's language and its asking side.
//! * [`Change`]: what may be changed of an engine that runs.
//! * [`pcapng`]: the format in which a capture leaves an engine.
//!
//! Called by `engine`, `preload` and `cli`. It never touches the network, a device or the stack's
//! state; it reads and writes files and one Unix socket.

#![forbid(unsafe_code)]

pub mod change;
pub mod client;
pub mod device;
pub mod message;
pub mod pcapng;
pub mod rules;
pub mod run_dir;
pub mod settings;
pub(crate) mod text;

pub use change::{Change, Membership};
pub use client::{Client, ClientError};
pub use device::{DeviceSpec, MemifRole};
pub use message::{Request, Response};
pub use rules::{Direction, Path, Rule, Rules};
pub use run_dir::{Lease, LeaseError, LeaseHolder, RunDir};
pub use settings::{Layer, SettingError, Settings};
