//! The whole stack from socket call to frame and back, two hosts in one thread: what a round trip
//! costs beside the link and the hooks.

#![allow(missing_docs)] // criterion's macros make undocumented functions

#[path = "support/buffers.rs"]
mod buffers;
#[path = "support/hosts.rs"]
mod hosts;

use criterion::{Criterion, criterion_group, criterion_main};
use hosts::Hosts;

fn round_trips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    for (name, tcp) in [("tcp", true), ("udp", false)] {
        for size in [64, 1_400] {
            group.bench_function(format!("{name} round trip of {size} octets, both hosts"), |b| {
                let mut hosts = Hosts::new();
                let (client, server) = if tcp { hosts.connect_tcp() } else { hosts.connect_udp() };
                let mut message = vec![0x5a; size];
                b.iter(|| hosts.round_trip(client, server, &mut message));
            });
        }
    }
    group.finish();
}

fn idle(criterion: &mut Criterion) {
    criterion.bench_function("shard/poll with nothing to do", |bencher| {
        let mut hosts = Hosts::new();
        hosts.connect_udp();
        bencher.iter(|| hosts.client.poll(hosts.now));
    });
}

criterion_group!(benches, round_trips, idle);
criterion_main!(benches);
