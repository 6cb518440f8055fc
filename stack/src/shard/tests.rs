//! Two shards back to back on a hand-moved clock, or one whose wire is in the test's hands.

mod backlog;
mod errors;
mod idle;
mod loopback;
mod offload;
mod share;
mod tcp;
mod udp;
mod wire;

use super::{Shard, SocketId, SocketKind};
use crate::addr::MacAddr;
use crate::config::{Capacity, Config};
use crate::error::Error;
use crate::packet::{Buffer, RxChecksum};
use crate::socket::{Family, ReceiveFlags, SendControl, SendFlags};
use crate::testing::TestDevice;
use crate::time::{Duration, Instant};
use core::net::{Ipv4Addr, SocketAddr};
use std::io::{IoSlice, IoSliceMut};

pub(super) const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
pub(super) const ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
const MTU: u16 = 1500;
const BUFFERS: usize = 1_024;

pub(super) fn config(host: usize) -> Config {
    Config {
        addresses: vec![format!("{}/24", ADDRESSES[host]).parse().unwrap()],
        loopback: true,
        capacity: Capacity {
            tcp_sockets: 64,
            time_wait: 64,
            udp_sockets: 64,
            segments: 1_024,
            neighbors: 16,
            unresolved_packets: 16,
            loopback_frames: 256,
            capture_octets: 1 << 16,
        },
        ..Config::default()
    }
}

/// Two hosts on one wire.
pub(super) struct Net {
    pub now: Instant,
    pub hosts: [Shard<TestDevice>; 2],
}

impl Net {
    pub fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    /// Both hosts' settings and devices changed.
    pub fn with(settings: impl Fn(&mut Config), device: impl Fn(&mut TestDevice)) -> Self {
        let mut devices = TestDevice::pair(MACS, MTU, BUFFERS);
        devices.iter_mut().for_each(device);
        let [left, right] = devices;
        let configs = [0, 1].map(|host| {
            let mut config = config(host);
            settings(&mut config);
            config
        });
        let hosts =
            [Shard::new(&configs[0], left, [1; 32]), Shard::new(&configs[1], right, [2; 32])];
        Net { now: Instant::from_millis(1_000), hosts }
    }

    /// Lets both run until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            let moved: usize = self.hosts.iter_mut().map(|host| host.poll(self.now)).sum();
            if moved == 0 {
                return;
            }
        }
        panic!("the hosts never come to rest");
    }

    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        self.settle();
    }

    pub fn socket(&mut self, host: usize, kind: SocketKind) -> SocketId {
        self.hosts[host].socket(kind, Family::V4).unwrap()
    }

    pub fn udp(&mut self, host: usize, port: u16) -> SocketId {
        let socket = self.socket(host, SocketKind::Udp);
        self.hosts[host].bind(self.now, socket, at(host, port)).unwrap();
        socket
    }

    pub fn send(
        &mut self,
        host: usize,
        socket: SocketId,
        data: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<usize, Error> {
        let slices = [IoSlice::new(data)];
        let (control, flags) = (SendControl::default(), SendFlags::default());
        self.hosts[host].send_to(self.now, socket, &slices, to, &control, flags)
    }

    /// The data that arrived, and from whom.
    pub fn receive(
        &mut self,
        host: usize,
        socket: SocketId,
    ) -> Result<(Vec<u8>, Option<SocketAddr>), Error> {
        receive(&mut self.hosts[host], self.now, socket)
    }

    /// Buffers in use on both hosts together.
    pub fn buffers_in_use(&self) -> usize {
        self.hosts.iter().map(|host| host.device().buffers_in_use()).sum()
    }
}

pub(super) fn receive(
    shard: &mut Shard<TestDevice>,
    now: Instant,
    socket: SocketId,
) -> Result<(Vec<u8>, Option<SocketAddr>), Error> {
    let mut data = vec![0; 70_000];
    let mut slices = [IoSliceMut::new(&mut data)];
    let received = shard.receive(now, socket, &mut slices, ReceiveFlags::default())?;
    data.truncate(received.len);
    Ok((data, received.source))
}

/// A socket address on a host.
pub(super) fn at(host: usize, port: u16) -> SocketAddr {
    SocketAddr::new(ADDRESSES[host].into(), port)
}

/// Octets that differ from their neighbors.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 256) as u8).collect()
}

/// One host whose wire is in the test's hands: it has announced itself and knows its neighbor.
pub(super) struct Host {
    pub now: Instant,
    pub shard: Shard<TestDevice>,
}

impl Host {
    pub fn new() -> Self {
        Self::with(TestDevice::new(MACS[0], MTU, BUFFERS), &config(0))
    }

    pub fn with(device: TestDevice, config: &Config) -> Self {
        let shard = Shard::new(config, device, [3; 32]);
        let mut host = Host { now: Instant::from_millis(1_000), shard };
        host.shard.poll(host.now);
        host.now += Duration::from_secs(5);
        host.shard.poll(host.now);
        host.sent();
        host
    }

    pub fn inject(&mut self, frame: &[u8]) {
        assert!(self.shard.device_mut().inject(frame, RxChecksum::Unknown));
        self.shard.poll(self.now);
    }

    /// The frames that it sent since last asked.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        core::iter::from_fn(|| self.shard.device_mut().sent())
            .map(|frame| frame.data().to_vec())
            .collect()
    }
}
