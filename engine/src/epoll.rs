//! Epoll sets: the stack's sockets beside the kernel descriptors of a real epfd.

use crate::file::FileId;
use core::num::NonZeroU64;

/// Names an epoll set; the same in every process. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpollId(NonZeroU64);

impl EpollId {
    /// As a number, for tables of atomics.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// From [`EpollId::to_bits`]; `None` for zero.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(EpollId(bits)),
            None => None,
        }
    }
}

/// The operation of epoll_ctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpollOp {
    /// `EPOLL_CTL_ADD`.
    Add,
    /// `EPOLL_CTL_MOD`.
    Modify,
    /// `EPOLL_CTL_DEL`.
    Delete,
}

/// What epoll_ctl(2) is asked: the key is descriptor number and description, as in Linux.
#[derive(Debug, Clone, Copy)]
pub struct EpollChange {
    /// The operation.
    pub op: EpollOp,
    /// The descriptor's number.
    pub fd: libc::c_int,
    /// The description behind it.
    pub file: FileId,
    /// `EPOLLIN | EPOLLET …`; not looked at by `Delete`.
    pub events: u32,
    /// What epoll_wait gives back.
    pub data: u64,
}

/// An entry of a set, as [`crate::Engine::epoll_entries`] lists them.
#[derive(Debug, Clone, Copy)]
pub struct EpollEntry {
    /// The set.
    pub set: EpollId,
    /// The descriptor's number in the process that added it.
    pub fd: libc::c_int,
    /// The events asked for.
    pub events: u32,
    /// What epoll_wait gives back.
    pub data: u64,
}

/// Why epoll_ctl(2) fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpollError {
    /// `EEXIST`.
    Exists,
    /// `ENOENT`.
    NotFound,
    /// `EINVAL`: a combination with `EPOLLEXCLUSIVE` that Linux refuses.
    Invalid,
    /// `ENOSPC`: the table of entries is full.
    NoSpace,
    /// `EBADF`: the set or the description is gone.
    BadDescriptor,
}
