//! Open file descriptions: what several descriptors of several processes can share.

use crate::seam::SocketId;
use core::num::NonZeroU64;
use core::sync::atomic::AtomicU32;
use stack::socket::Family;

/// Names an open file description; generation-checked, the same in every process. Fits in a
/// `u64`, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(NonZeroU64);

impl FileId {
    /// As a number, for tables of atomics.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// From [`FileId::to_bits`]; `None` for zero.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(FileId(bits)),
            None => None,
        }
    }
}

/// What kind of socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `SOCK_STREAM`, TCP.
    Tcp,
    /// `SOCK_DGRAM`, UDP.
    Udp,
}

/// Which stack carries the socket's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Path {
    /// Neither bound, connected nor listening: both could still take it.
    Undecided,
    /// Ours.
    Stack,
    /// The kernel's.
    Kernel,
    /// Both: a wildcard listener or datagram socket.
    Both,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// Why a socket took its path, as `onwire ss` says it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];
            /// The text that listings show.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Nothing was decided yet.
    None = "",
    /// The destination is reached over the stack's device.
    Routed = "routed by the stack",
    /// A wildcard address: both worlds.
    Wildcard = "wildcard address",
    /// A rule of the settings said so.
    Rule = "rule",
    /// A loopback address, and loopback stays with the kernel.
    Loopback = "loopback address",
    /// The address is one of the host's, not of the stack.
    HostAddress = "address of the host",
    /// The stack has no route to the destination.
    NoRoute = "no route in the stack",
    /// The stack does not speak the address family.
    Family = "address family",
    /// The program asked for an option that only the kernel has.
    Option = "option of the kernel",
    /// The descriptor was passed to another program.
    Passed = "descriptor passed on",
    /// The stack's tables are full.
    TableFull = "table full",
    /// The engine failed or is not running.
    EngineDown = "engine down",
}

/// One open file description. Shared by every process; its fields are atomics.
#[derive(Debug)]
pub struct File {
    /// For the caller's own use (shared by all descriptors in all processes), zero at first.
    pub caller_flags: AtomicU32,
}

impl File {
    /// What it was created as.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Tcp
    }
    /// What it was created as.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::V4
    }
    /// Its socket; `None` once [`crate::Engine::surrender`] gave it to the kernel.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        None
    }
    /// `O_NONBLOCK`.
    #[must_use]
    pub fn nonblocking(&self) -> bool {
        false
    }
    /// Sets `O_NONBLOCK`.
    pub fn set_nonblocking(&self, on: bool) {
        let _ = on;
    }
    /// Who carries its traffic.
    #[must_use]
    pub fn path(&self) -> Path {
        Path::Undecided
    }
    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::None
    }
    /// Decides the path, for everybody who shares the description.
    pub fn set_path(&self, path: Path, reason: Reason) {
        let _ = (path, reason);
    }
}
