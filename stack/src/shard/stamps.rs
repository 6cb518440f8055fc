//! Timestamps of what a stream sends and receives (`SO_TIMESTAMPING`).

use super::api::stream;
use super::{Shard, SocketId};
use crate::device::Device;
use crate::error::Error;
use crate::options::Timestamping;
use crate::tcp::SendStamp;
use crate::time::Instant;

impl<D: Device> Shard<D> {
    /// `SO_TIMESTAMPING`.
    ///
    /// # Errors
    /// `OperationNotSupported` on UDP, `InvalidArgument` for numbers before there is a connection,
    /// `NoBufferSpace` when too many sockets ask.
    pub fn set_timestamping(&mut self, id: SocketId, wanted: Timestamping) -> Result<(), Error> {
        self.tcp.set_timestamping(stream(id)?, wanted)
    }

    /// recvmsg(2) with `MSG_ERRQUEUE` on a stream: how far the last octet of a send has come.
    ///
    /// # Errors
    /// `WouldBlock` when there is no report, `OperationNotSupported` on UDP.
    pub fn receive_stamp(&mut self, id: SocketId) -> Result<SendStamp, Error> {
        self.tcp.receive_stamp(stream(id)?)
    }

    /// When the last octet came that was read from a stream, if the program asked for that in time.
    pub fn received_at(&mut self, id: SocketId) -> Option<Instant> {
        self.tcp.received_at(stream(id).ok()?)
    }
}
