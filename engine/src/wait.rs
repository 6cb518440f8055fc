//! Waiting: how long, on what.

use crate::file::FileId;
use stack::readiness::Readiness;
use stack::time::Instant;

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all (`O_NONBLOCK`, `MSG_DONTWAIT`): the port is polled once all the same.
    No,
    /// As the socket's `SO_RCVTIMEO` says.
    ReceiveTimeout,
    /// As the socket's `SO_SNDTIMEO` says.
    SendTimeout,
    /// Until this moment of [`crate::Engine::now`]; then `WouldBlock`.
    Until(Instant),
    /// For ever.
    Forever,
}

/// One socket of the stack in [`crate::Engine::poll`].
#[derive(Debug, Clone, Copy)]
pub struct PollEntry {
    /// Which.
    pub file: FileId,
    /// What is asked for; `ERROR` and `HANGUP` are always reported.
    pub interest: Readiness,
    /// What was found: `interest`, `ERROR` and `HANGUP` bits only; empty if not ready.
    pub found: Readiness,
}
