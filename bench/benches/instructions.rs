//! The paths whose instructions are counted (`tests/run.py instructions`, under valgrind's
//! callgrind): each is a function that is not inlined, so that counting can be limited to it.
//!
//! `instructions --list` names them and how many times each goes its way; `instructions NAME COUNT` runs one so often; `cargo bench` runs
//! each once, as a test of this file.

#![allow(missing_docs)]

#[path = "support/buffers.rs"]
mod buffers;
#[path = "support/hosts.rs"]
mod hosts;

use hosts::Hosts;
use stack::shard::SocketId;
use std::hint::black_box;
use std::time::Duration;

/// A path: its name, what runs it so often, and how many times it goes it each time.
type Path = (&'static str, fn(u32), u32);

const PATHS: &[Path] = &[
    ("tcp_round_trip", |n| between(n, Hosts::connect_tcp, tcp_round_trip), 1),
    ("udp_round_trip", |n| between(n, Hosts::connect_udp, udp_round_trip), 1),
    ("segment_out", stream, 2),
    ("segment_in", stream, 2),
    ("ack_in", stream, 1),
    ("connect_and_close", connections, 1),
    ("idle_poll", idle_polls, 1),
    ("segment_among_10000", segments_among_many, 1),
];

/// Octets of a full segment with timestamps at an MTU of 1,500.
const SEGMENT: usize = 1_448;
/// Sockets that are connected, and of which one is ready.
const MANY: usize = 10_000;

fn between(
    count: u32,
    connect: fn(&mut Hosts) -> (SocketId, SocketId),
    path: fn(&mut Hosts, SocketId, SocketId, &mut [u8]),
) {
    let mut hosts = Hosts::new();
    let (client, server) = connect(&mut hosts);
    let mut message = [0x5a; 64];
    for _ in 0..1_000 {
        hosts.round_trip(client, server, &mut message);
    }
    for _ in 0..count {
        path(&mut hosts, client, server, &mut message);
    }
}

/// One message there and back, the work of both hosts.
#[inline(never)]
fn tcp_round_trip(hosts: &mut Hosts, client: SocketId, server: SocketId, message: &mut [u8]) {
    hosts.round_trip(client, server, message);
}

#[inline(never)]
fn udp_round_trip(hosts: &mut Hosts, client: SocketId, server: SocketId, message: &mut [u8]) {
    hosts.round_trip(client, server, message);
    black_box(message);
}

/// Two segments of a stream, which are acknowledged together.
fn stream(count: u32) {
    let mut hosts = Hosts::new();
    let (client, server) = hosts.connect_tcp();
    let mut message = [0x5a; SEGMENT];
    for _ in 0..count {
        hosts.now += Duration::from_micros(20);
        for _ in 0..2 {
            segment_out(&mut hosts, client, &message);
            segment_in(&mut hosts, server, &mut message);
        }
        ack_in(&mut hosts);
    }
}

/// A full segment, from the call to the frame.
#[inline(never)]
fn segment_out(hosts: &mut Hosts, client: SocketId, message: &[u8]) {
    hosts::send(&mut hosts.client, hosts.now, client, message);
}

/// A full segment, from the frame to the program's memory.
#[inline(never)]
fn segment_in(hosts: &mut Hosts, server: SocketId, message: &mut [u8]) {
    hosts::receive(&mut hosts.server, hosts.now, server, message);
}

/// The acknowledgment of two segments.
#[inline(never)]
fn ack_in(hosts: &mut Hosts) {
    black_box(hosts.client.poll(hosts.now));
    black_box(hosts.client.poll_event());
}

fn connections(count: u32) {
    let mut hosts = Hosts::new();
    let listener = hosts.listen(7);
    for _ in 0..count {
        connect_and_close(&mut hosts, listener);
        // TIME-WAIT ends.
        hosts.now += Duration::from_secs(61);
        hosts.settle();
    }
}

/// A connection from SYN to TIME-WAIT, the work of both hosts.
#[inline(never)]
fn connect_and_close(hosts: &mut Hosts, listener: SocketId) {
    let (client, server) = hosts.connect(listener, 7);
    hosts.client.close(hosts.now, client);
    hosts.settle();
    hosts.server.close(hosts.now, server);
    hosts.settle();
}

fn idle_polls(count: u32) {
    let mut hosts = Hosts::new();
    hosts.connect_tcp();
    for _ in 0..count {
        idle_poll(&mut hosts);
    }
}

/// What a receiver does in each turn while it waits.
#[inline(never)]
fn idle_poll(hosts: &mut Hosts) {
    black_box(hosts.client.poll(hosts.now));
}

fn segments_among_many(count: u32) {
    let mut hosts = Hosts::with_sockets(MANY + 16);
    let listener = hosts.listen(7);
    let pairs: Vec<_> = (0..MANY).map(|_| hosts.connect(listener, 7)).collect();
    let mut message = [0x5a; 64];
    for n in 0..count as usize {
        hosts.now += Duration::from_micros(2);
        let (client, server) = pairs[n * 7_919 % MANY];
        hosts::send(&mut hosts.client, hosts.now, client, &message);
        segment_among_10000(&mut hosts, server, &mut message);
    }
}

/// A message for one of 10,000 connections: found, and the one that is ready told.
#[inline(never)]
fn segment_among_10000(hosts: &mut Hosts, server: SocketId, message: &mut [u8]) {
    hosts::receive(&mut hosts.server, hosts.now, server, message);
    black_box(message);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        PATHS.iter().for_each(|(name, _, times)| println!("{name} {times}"));
        return;
    }
    let mut words = words.into_iter().filter(|word| !word.starts_with('-'));
    let wanted = words.next();
    let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    for (name, run, _) in PATHS {
        if wanted.as_deref().is_none_or(|wanted| wanted == *name) {
            run(count);
        }
    }
}
