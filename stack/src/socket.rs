//! What the socket calls of every transport share: families, flags, events.

use crate::options::Timestamping;
use crate::readiness::Readiness;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io::IoSlice;

/// The address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address that means "any of ours".
    #[must_use]
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// [`Family::unspecified`] with port 0: what getsockname(2) says of an unbound socket.
    #[must_use]
    pub const fn unspecified_socket(self) -> SocketAddr {
        SocketAddr::new(self.unspecified(), 0)
    }
}

/// Which directions shutdown(2) shuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// `SHUT_RD`.
    Read,
    /// `SHUT_WR`.
    Write,
    /// `SHUT_RDWR`.
    Both,
}

/// How to send (the `MSG_` flags that a transport acts upon; blocking is the caller's business).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendFlags {
    /// `MSG_MORE`: more follows soon.
    pub more: bool,
    /// `MSG_OOB`: the last octet is urgent.
    pub urgent: bool,
    /// `MSG_EOR`: a record ends here.
    pub end_of_record: bool,
    /// `MSG_ZEROCOPY`: to be reported when the data is needed no longer.
    pub zero_copy: bool,
    /// `MSG_DONTROUTE`: only to hosts on the link.
    pub dont_route: bool,
    /// `MSG_CONFIRM`: the neighbor is known to be reachable.
    pub confirm: bool,
    /// The caller waits until all is taken: what is taken before that is not the end of a send.
    pub waits: bool,
    /// What to report of this send, if it does not go by the socket's `SO_TIMESTAMPING`.
    pub stamps: Option<Timestamping>,
}

impl SendFlags {
    /// Whether nothing out of the ordinary is asked for.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == SendFlags { waits: self.waits, ..SendFlags::default() }
    }
}

/// The data that a connect brings along, for the SYN to carry (`MSG_FASTOPEN`).
#[derive(Debug, Clone, Copy)]
pub struct First<'a> {
    /// The octets.
    pub data: &'a [IoSlice<'a>],
    /// `MSG_ZEROCOPY`.
    pub zero_copy: bool,
    /// The caller waits for the connection, and then sends what the SYN did not carry.
    pub waits: bool,
}

impl First<'_> {
    /// Whether more follows when the SYN took `taken` octets and the connection is there.
    pub(crate) fn goes_on(&self, taken: usize) -> bool {
        self.waits && taken < self.data.iter().map(|slice| slice.len()).sum()
    }
}

/// How to receive (the `MSG_` flags that a transport acts upon).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveFlags {
    /// `MSG_PEEK`: leave it in the queue.
    pub peek: bool,
    /// `MSG_OOB`: the urgent octet.
    pub urgent: bool,
    /// `MSG_TRUNC`: TCP throws data away instead of copying it; UDP returns the real length.
    pub truncate: bool,
}

/// What sendmsg(2) can say about one datagram beside its data; `None` means as the socket is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendControl {
    /// `IP_PKTINFO`: the address of ours to send from.
    pub source: Option<IpAddr>,
    /// `IP_TOS`.
    pub traffic_class: Option<u8>,
    /// `IP_TTL`.
    pub hop_limit: Option<u8>,
    /// `UDP_SEGMENT`, in octets.
    pub segment_size: Option<u16>,
    /// `SO_TIMESTAMPING`: what to report, on a stream.
    pub stamps: Option<Timestamping>,
}

/// A socket became ready for something, or had a new edge (more data, though it was readable).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<Id> {
    /// The socket.
    pub socket: Id,
    /// What `set_owner` was told.
    pub owner: u64,
    /// Everything it is ready for now.
    pub readiness: Readiness,
    /// What is new of it.
    pub edges: Readiness,
}
