//! What a segment needs of a connection that is in no cache: its lines are asked for all at once, for
//! one after the other each would take the time that all of them take together. For a burst, the
//! lines of all its connections are on their way before the first frame is handled.
//!
//! There is no prefetching without unsafe code: these are loads whose values nobody uses. While
//! the tables are small they are in the caches anyway, and nothing is done.

use super::Tcp;
use super::connection::Connection;
use super::demux::{Target, Tuple};
use super::seq::SeqNumber;
use super::socket::{Kind, Socket};
use crate::packet::Buffer;
use crate::time::Instant;
use core::hint::black_box;
use core::net::Ipv4Addr;

/// With fewer sockets than this they fit a second-level cache.
const FEW: usize = 512;

/// Addresses and ports of a segment, local ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Ours.
    pub local: Ipv4Addr,
    /// The peer's.
    pub remote: Ipv4Addr,
    /// Ours and the peer's.
    pub ports: (u16, u16),
}

impl From<Flow> for Tuple {
    #[inline]
    fn from(flow: Flow) -> Self {
        let Flow { local, remote, ports: (local_port, remote_port) } = flow;
        Tuple { local: local.into(), remote: remote.into(), local_port, remote_port }
    }
}

/// Something that can be loaded.
trait Load {
    fn load(self) -> u32;
}

macro_rules! load {
    ($($type:ty: |$value:ident| $octets:expr,)+) => {
        $(impl Load for $type {
            #[inline]
            fn load(self) -> u32 {
                let $value = self;
                $octets
            }
        })+
    };
}

load! {
    u8: |n| n.into(),
    u16: |n| n.into(),
    u32: |n| n,
    SeqNumber: |n| n.0,
    Instant: |at| at.as_nanos() as u32,
}

/// One number in each of a connection's lines.
macro_rules! lines {
    ($($($field:tt).+,)+) => {
        impl Connection {
            /// Loads from each of its lines.
            #[inline]
            fn touch(&self) -> u32 {
                0 $(^ self.$($field).+.load())+
            }
        }

        #[cfg(test)]
        const TOUCHED: &[usize] = &[$(core::mem::offset_of!(Connection, $($field).+),)+];
    };
}

lines! {
    stats.segments_in,
    stats.segments_out,
    recovery.reordering,
    recovery.prior_cwnd,
    window.cwnd,
    heard,
    rate.delivered,
    timestamps.recent,
    rtt.min_us,
    hash,
    rtt.backoff,
    timers.alarm_at,
    send.una,
    send.limit,
    send.not_sent_limit,
    send.used,
    receive.nxt,
    receive.clamp,
    receive.tune.space,
    tuple.local_port,
    probes,
}

impl Socket {
    /// Loads from each of the lines that a segment needs.
    #[inline]
    fn touch(&self) {
        let connection = match &self.kind {
            Kind::Connected(connection) => connection.touch(),
            _ => 0,
        };
        black_box(connection ^ u32::from(self.port) ^ self.next_waiting);
    }
}

impl<B: Buffer> Tcp<B> {
    /// Whether there are so many connections that one of them is in no cache.
    #[inline]
    pub fn is_cold(&self) -> bool {
        self.sockets.len() > FEW
    }

    /// Asks for the table's line of a flow; where that is.
    #[inline]
    pub fn touch_place(&self, flow: Flow) -> u64 {
        let hash = Tuple::from(flow).place(self.keys.demux);
        self.demux.touch(hash);
        hash
    }

    /// Asks for the lines of the connection that is probably the one at this place.
    #[inline]
    pub fn touch_connection(&self, hash: u64) {
        if let Some(Target::Socket(index)) =
            self.demux.find(hash, |target| matches!(target, Target::Socket(_)))
        {
            self.touch_socket(index);
        }
    }

    /// Asks for the lines of the socket at `index`.
    #[inline]
    pub(super) fn touch_socket(&self, index: u32) {
        if let Some(socket) = self.sockets.at(index) {
            socket.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::congestion::Controller;

    /// But for those in the middle of its controller, which only acknowledgments of data need.
    #[test]
    fn no_line_of_a_connection_is_left_out() {
        let mut touched = TOUCHED.to_vec();
        let controller = core::mem::offset_of!(Connection, controller);
        touched.extend([controller, controller + size_of::<Controller>() / 2]);
        touched.push(size_of::<Connection>());
        touched.sort_unstable();
        let (mut lines, mut last) = (vec![0], 0);
        for at in touched {
            // Wherever the connection begins in a line.
            if at - last > 64 {
                lines.push(at);
            }
            last = at;
        }
        assert_eq!(lines, [0], "gaps before these; touched are {TOUCHED:?}");
    }
}
