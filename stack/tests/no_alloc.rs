//! Nothing in the stack allocates after `Shard::new`: its memory is shared between processes, and
//! malloc has no place on the fast path. A counting allocator watches TCP, UDP, fragments, ARP,
//! loopback and capture at work.

use stack::addr::MacAddr;
use stack::config::{Capacity, Config};
use stack::error::Error;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::{Family, ReceiveFlags, SendControl, SendFlags, Shutdown};
use stack::testing::TestDevice;
use stack::time::{Duration, Instant};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and none is asked for.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

struct Net {
    now: Instant,
    hosts: [Shard<TestDevice>; 2],
    data: Vec<u8>,
    into: Vec<u8>,
}

impl Net {
    fn new() -> Self {
        let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
        let [left, right] = TestDevice::pair(macs, 1500, 4_096);
        let host = |n: usize, device| {
            let capacity = Capacity {
                tcp_sockets: 256,
                time_wait: 64,
                udp_sockets: 64,
                segments: 2_048,
                neighbors: 16,
                unresolved_packets: 64,
                loopback_frames: 256,
                capture_octets: 1 << 16,
            };
            let addresses = vec![format!("10.0.0.{n}/24").parse().unwrap()];
            let config = Config { addresses, loopback: true, capacity, ..Config::default() };
            Shard::new(&config, device, [n as u8; 32])
        };
        let data = (0..60_000u32).map(|n| n as u8).collect();
        let now = Instant::from_millis(1_000);
        Net { now, hosts: [host(1, left), host(2, right)], data, into: vec![0; 70_000] }
    }

    fn settle(&mut self) {
        while self.hosts.iter_mut().map(|host| host.poll(self.now)).sum::<usize>() > 0 {}
        for host in &mut self.hosts {
            while host.poll_event().is_some() {}
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.settle();
    }

    fn receive(&mut self, host: usize, id: SocketId) -> Result<usize, Error> {
        let into = &mut [IoSliceMut::new(&mut self.into)];
        let received = self.hosts[host].receive(self.now, id, into, ReceiveFlags::default())?;
        Ok(received.len)
    }

    fn udp_round(&mut self, sockets: [SocketId; 2]) {
        for (host, len) in [(0, 10), (1, 20_000), (0, 60_000), (1, 0)] {
            let to = SocketAddr::new(self.hosts[1 - host].addresses()[0].address(), 7);
            let slices = [IoSlice::new(&self.data[..len])];
            while self.hosts[host].receive_error(sockets[host], &mut []).is_ok() {}
            let (control, flags) = (SendControl::default(), SendFlags::default());
            let sent = self.hosts[host].send_to(
                self.now,
                sockets[host],
                &slices,
                Some(to),
                &control,
                flags,
            );
            assert_eq!(sent, Ok(len));
            self.settle();
            assert_eq!(self.receive(1 - host, sockets[1 - host]), Ok(len));
        }
        // To ourselves, and to nobody.
        for (to, len) in [("127.0.0.1:9", 5), ("10.0.0.1:9", 5), ("10.0.0.77:9", 5)] {
            let slices = [IoSlice::new(&self.data[..len])];
            let (control, flags) = (SendControl::default(), SendFlags::default());
            let to = to.parse().ok();
            let _ = self.hosts[0].send_to(self.now, sockets[0], &slices, to, &control, flags);
        }
        self.advance(Duration::from_secs(2));
    }

    fn tcp_round(&mut self, listener: SocketId) {
        let client = self.hosts[0].socket(SocketKind::Tcp, Family::V4).unwrap();
        let to = SocketAddr::new(self.hosts[1].addresses()[0].address(), 80);
        self.hosts[0].connect(self.now, client, to).unwrap();
        self.settle();
        let (server, _) = self.hosts[1].accept(self.now, listener).expect("a connection");
        let (mut sent, mut got) = (0, 0);
        while got < self.data.len() {
            let slices = [IoSlice::new(&self.data[sent..])];
            match self.hosts[0].send(self.now, client, &slices, SendFlags::default()) {
                Ok(n) => sent += n,
                Err(error) => assert_eq!(error, Error::WouldBlock),
            }
            self.settle();
            match self.receive(1, server) {
                Ok(n) => got += n,
                Err(error) => assert_eq!(error, Error::WouldBlock),
            }
            self.advance(Duration::from_millis(10));
        }
        self.hosts[0].shutdown(self.now, client, Shutdown::Write).unwrap();
        self.settle();
        assert_eq!(self.receive(1, server), Ok(0));
        self.hosts[1].close(self.now, server);
        self.hosts[0].close(self.now, client);
        self.advance(Duration::from_secs(1));
    }
}

fn udp_sockets(net: &mut Net) -> [SocketId; 2] {
    [0, 1].map(|host| {
        let socket = net.hosts[host].socket(SocketKind::Udp, Family::V4).unwrap();
        net.hosts[host].bind(net.now, socket, "0.0.0.0:7".parse().unwrap()).unwrap();
        let change = |o: &mut stack::options::Options| {
            o.receive_buffer = 1 << 20;
            o.receive_errors = true;
        };
        net.hosts[host].update_options(net.now, socket, change).unwrap();
        socket
    })
}

#[test]
fn udp_and_its_surroundings_allocate_nothing() {
    let mut net = Net::new();
    let before = allocations();
    net.hosts[0].capture_start(64);
    let sockets = udp_sockets(&mut net);
    for _ in 0..20 {
        net.udp_round(sockets);
        net.hosts[0].capture_read(|_| {});
    }
    net.hosts[0].close(net.now, sockets[0]);
    assert_eq!(allocations() - before, 0);
}

#[test]
fn tcp_allocates_nothing() {
    let mut net = Net::new();
    let before = allocations();
    let listener = net.hosts[1].socket(SocketKind::Tcp, Family::V4).unwrap();
    net.hosts[1].bind(net.now, listener, "0.0.0.0:80".parse().unwrap()).unwrap();
    net.hosts[1].listen(net.now, listener, 8).unwrap();
    for _ in 0..20 {
        net.tcp_round(listener);
    }
    assert_eq!(allocations() - before, 0);
}
