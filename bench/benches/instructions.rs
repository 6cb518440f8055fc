//! The paths whose instructions are counted (`tests/instructions.py`, under valgrind's callgrind):
//! each is a function that is not inlined, so that counting can be limited to it.
//!
//! `cargo bench` runs each path once, as a test of this file.

#![allow(missing_docs)]

#[path = "support/buffers.rs"]
mod buffers;
#[path = "support/hosts.rs"]
mod hosts;

use hosts::Hosts;
use stack::shard::SocketId;
use std::hint::black_box;

/// A path: its name, and what runs it so often.
type Path = (&'static str, fn(u32));

const PATHS: &[Path] = &[
    ("tcp_round_trip", |n| round_trips(n, true, tcp_round_trip)),
    ("udp_round_trip", |n| round_trips(n, false, udp_round_trip)),
    ("idle_poll", idle_polls),
];

fn round_trips(count: u32, tcp: bool, path: fn(&mut Hosts, SocketId, SocketId, &mut [u8])) {
    let mut hosts = Hosts::new();
    let (client, server) = if tcp { hosts.connect_tcp() } else { hosts.connect_udp() };
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

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let wanted = words.next();
    let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    for (name, run) in PATHS {
        if wanted.as_deref().is_none_or(|wanted| wanted == *name) {
            run(count);
        }
    }
}
