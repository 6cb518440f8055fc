//! Stand-ins for the types of the sibling crates until those compile; same names, then removed:
//! `Settings` = `control::Settings`, `Shard` = `stack::shard::Shard<…>`, `SocketId` =
//! `stack::shard::SocketId`.

/// `stack::shard::Shard` over the engine's device.
#[derive(Debug)]
pub struct Shard {}

/// `stack::shard::SocketId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketId {
    /// A TCP socket.
    Tcp(u64),
    /// A UDP socket.
    Udp(u64),
}

/// `control::Settings`.
#[derive(Debug)]
pub struct Settings {}
