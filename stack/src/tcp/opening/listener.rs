//! A listener: how many openings it has, and the queue of connections to accept.

use crate::time::Instant;

/// A socket in LISTEN. The queue's links are in the sockets themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listener {
    /// listen(2)'s, bounded by `somaxconn`.
    pub backlog: u32,
    /// Embryonic connections.
    pub openings: u32,
    /// Connections whose SYN's data was taken and that are not acknowledged yet (RFC 7413 §5.1).
    pub fast_opens: u32,
    /// First and last connection to accept, socket indices + 1; 0 for none.
    pub first: u32,
    pub last: u32,
    /// Connections to accept.
    pub waiting: u32,
    /// When its SYN queue was last full: since then there may be SYN cookies.
    pub overflowed_at: Option<Instant>,
}

impl Listener {
    pub const fn new(backlog: u32) -> Self {
        Listener {
            backlog,
            openings: 0,
            fast_opens: 0,
            first: 0,
            last: 0,
            waiting: 0,
            overflowed_at: None,
        }
    }

    /// Whether no more connection is taken. (One more than the backlog fits, as in Linux.)
    pub const fn is_full(&self) -> bool {
        self.waiting > self.backlog
    }

    /// Whether no more opening is remembered (Linux 6.14: `inet_csk_reqsk_queue_is_full`).
    pub const fn is_syn_queue_full(&self) -> bool {
        self.openings > self.backlog
    }
}
