//! One socket's own state.

use super::UdpId;
use super::send::Cork;
use crate::collections::Handle;
use crate::error::Error;
use crate::options::Options;
use crate::socket::Family;
use core::net::{IpAddr, SocketAddr};

/// First and last of a list in a slab.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queue {
    pub first: Option<Handle>,
    pub last: Option<Handle>,
    pub len: u32,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub family: Family,
    pub owner: u64,
    pub options: Options,
    pub local_address: IpAddr,
    /// 0 while not bound.
    pub local_port: u16,
    /// bind(2) named the address: disconnecting keeps it.
    pub address_locked: bool,
    /// bind(2) named the port: disconnecting keeps it.
    pub port_locked: bool,
    pub remote: Option<SocketAddr>,
    pub shut_read: bool,
    pub shut_write: bool,
    /// `SO_ERROR`.
    pub error: Option<Error>,
    pub received: Queue,
    /// What the received datagrams cost, as Linux counts it, in octets.
    pub received_cost: u32,
    /// Octets of payload received and not read.
    pub received_octets: u32,
    /// Datagrams dropped because there was no room.
    pub drops: u64,
    pub errors: Queue,
    pub cork: Option<Cork>,
}

impl Socket {
    pub fn new(family: Family, options: Options) -> Self {
        Socket {
            family,
            owner: 0,
            options,
            local_address: family.unspecified(),
            local_port: 0,
            address_locked: false,
            port_locked: false,
            remote: None,
            shut_read: false,
            shut_write: false,
            error: None,
            received: Queue::default(),
            received_cost: 0,
            received_octets: 0,
            drops: 0,
            errors: Queue::default(),
            cork: None,
        }
    }

    pub fn summary(&self, id: UdpId) -> SocketSummary {
        SocketSummary {
            id,
            owner: self.owner,
            local: SocketAddr::new(self.local_address, self.local_port),
            remote: self.remote,
            receive_queue: self.received_octets,
            drops: self.drops,
        }
    }
}

/// One socket, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSummary {
    /// The socket.
    pub id: UdpId,
    /// What `set_owner` was told.
    pub owner: u64,
    /// Our address; port 0 while not bound.
    pub local: SocketAddr,
    /// The peer, if connected.
    pub remote: Option<SocketAddr>,
    /// Octets received and not read.
    pub receive_queue: u32,
    /// Datagrams dropped because its receive buffer was full.
    pub drops: u64,
}
