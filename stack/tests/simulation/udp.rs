//! Programs that send datagrams: whatever arrives must be whole, and what arrives twice must have
//! been repeated by the wire.

use crate::device::SimDevice;
use crate::workload::Datagrams;
use stack::error::Error;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::{Family, ReceiveFlags, SendFlags};
use stack::time::Instant;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

/// The port that all of them use.
pub const PORT: u16 = 5_353;

/// The program on one host: it sends to the other's, and reads what comes.
#[derive(Debug)]
pub struct Program {
    socket: SocketId,
    peer: SocketAddr,
    plan: Option<Datagrams>,
    sent: u32,
    pub received: u32,
}

fn len_of(number: u32, largest: u32) -> usize {
    4 + (number.wrapping_mul(2_654_435_761) % largest) as usize
}

impl Program {
    pub fn new(
        shard: &mut Shard<SimDevice>,
        now: Instant,
        own: SocketAddr,
        peer: SocketAddr,
        plan: Option<Datagrams>,
    ) -> Self {
        let socket = shard.socket(SocketKind::Udp, Family::V4).expect("room for a socket");
        shard.bind(now, socket, own).expect("the port is free");
        Program { socket, peer, plan, sent: 0, received: 0 }
    }

    /// Sends one; answers when it wants to send the next.
    pub fn send(&mut self, shard: &mut Shard<SimDevice>, now: Instant) -> Option<Instant> {
        let plan = self.plan.filter(|plan| self.sent < plan.count)?;
        let mut data = vec![self.sent as u8; len_of(self.sent, plan.largest)];
        data[..4].copy_from_slice(&self.sent.to_be_bytes());
        let control = stack::socket::SendControl::default();
        let slices = [IoSlice::new(&data)];
        let to = Some(self.peer);
        match shard.send_to(now, self.socket, &slices, to, &control, SendFlags::default()) {
            Ok(n) => assert_eq!(n, data.len(), "a datagram was cut"),
            Err(Error::WouldBlock | Error::NoBufferSpace) => {}
            // What the peer's host said of an earlier one.
            Err(Error::ConnectionRefused | Error::HostUnreachable) => {}
            Err(error) => panic!("a datagram could not be sent: {error}"),
        }
        self.sent += 1;
        (self.sent < plan.count).then_some(now + plan.pause)
    }

    /// Reads all there is; `largest` is what the peer sends at most.
    pub fn read(&mut self, shard: &mut Shard<SimDevice>, now: Instant, peer: Option<Datagrams>) {
        let mut data = vec![0; 70_000];
        loop {
            let into = &mut [IoSliceMut::new(&mut data)];
            let got = match shard.receive(now, self.socket, into, ReceiveFlags::default()) {
                Ok(got) => got.len,
                Err(Error::WouldBlock) => return,
                Err(Error::ConnectionRefused | Error::HostUnreachable) => continue,
                Err(error) => panic!("receiving datagrams failed: {error}"),
            };
            let peer = peer.expect("nobody sends datagrams");
            let number = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
            assert!(number < peer.count, "a datagram that nobody sent");
            assert_eq!(got, len_of(number, peer.largest), "datagram {number} has a wrong length");
            let whole = data[4..got].iter().all(|octet| *octet == number as u8);
            assert!(whole, "datagram {number} is damaged");
            self.received += 1;
        }
    }

    pub fn close(&mut self, shard: &mut Shard<SimDevice>, now: Instant) {
        shard.close(now, self.socket);
    }

    pub fn socket(&self) -> SocketId {
        self.socket
    }
}
