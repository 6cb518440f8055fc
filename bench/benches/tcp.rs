//! TCP's paths, one at a time: the cost of a segment in, an ACK in, a segment out, an echo, a
//! connection; and of finding one connection among many.
//!
//! Each stage of a batch is timed by itself, so that the clock is read once per [`BATCH`] segments.
//! `ONWIRE_BENCH_CONNECTIONS=1000000` makes the large table larger.

#![allow(missing_docs)] // criterion's macros make undocumented functions

#[path = "support/buffers.rs"]
mod buffers;
#[path = "support/layers.rs"]
mod layers;

use criterion::{Criterion, criterion_group, criterion_main};
use layers::{Packet, Pair};
use stack::tcp::TcpId;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Segments per stage.
const BATCH: u64 = 32;
/// Octets per segment.
const MESSAGE: usize = 64;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// send() and the segment that it makes.
    SegmentOut,
    /// A segment that is next in sequence, up to the receive queue.
    SegmentIn,
    /// receive() of what one segment brought.
    Receive,
    /// The acknowledgment of data, at the sender.
    AckIn,
}

/// Runs batches of one-way messages over `connections` and times one stage of them.
fn batches(
    pair: &mut Pair,
    connections: &[(TcpId, TcpId)],
    iterations: u64,
    stage: Stage,
) -> Duration {
    let message = [0x5a; MESSAGE];
    let mut into = [0; MESSAGE];
    let mut packets: Vec<Packet> = Vec::new();
    let mut total = Duration::ZERO;
    let mut done = 0;
    let mut next = 0usize;
    while done < iterations {
        pair.pass(Duration::from_micros(10));
        let now = pair.now;
        let chosen: Vec<(TcpId, TcpId)> = (0..BATCH)
            .map(|_| {
                // A stride that is prime to any table size used here visits all of them.
                next = (next + 7_919) % connections.len();
                connections[next]
            })
            .collect();
        let mut timed = |this: Stage, work: &mut dyn FnMut()| {
            let before = Instant::now();
            work();
            if this == stage {
                total += before.elapsed();
            }
        };
        timed(Stage::SegmentOut, &mut || {
            for &(client, _) in &chosen {
                pair.client.send(now, client, &message);
                pair.client.transmit(now, &mut packets);
            }
        });
        assert_eq!(packets.len() as u64, BATCH);
        timed(Stage::SegmentIn, &mut || pair.server.deliver(now, &mut packets));
        timed(Stage::Receive, &mut || {
            for &(_, server) in &chosen {
                pair.server.receive(now, server, black_box(&mut into));
            }
        });
        pair.server.transmit(now, &mut packets);
        // The ACKs that were delayed come with the timer; they are part of the same measurement.
        pair.pass(Duration::from_millis(50));
        pair.server.call(pair.now, |tcp, cx| tcp.on_timeouts(cx));
        pair.server.transmit(pair.now, &mut packets);
        let now = pair.now;
        timed(Stage::AckIn, &mut || pair.client.deliver(now, &mut packets));
        pair.settle();
        done += BATCH;
    }
    total.mul_f64(iterations as f64 / done as f64)
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tcp");
    let mut pair = Pair::new(64);
    // A connection for each segment of a batch: each ACK acknowledges one segment.
    let connections: Vec<_> = (0..BATCH).map(|_| pair.connect()).collect();
    for (name, stage) in [
        ("segment out", Stage::SegmentOut),
        ("segment in", Stage::SegmentIn),
        ("receive", Stage::Receive),
        ("ack in", Stage::AckIn),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| batches(&mut pair, &connections, iterations, stage));
        });
    }
    group.finish();
}

fn echo(criterion: &mut Criterion) {
    let mut pair = Pair::new(4);
    let (client, server) = pair.connect();
    let mut message = [0x5a; MESSAGE];
    let mut packets: Vec<Packet> = Vec::new();
    // Both sides' work for one round trip: two segments sent, two received.
    criterion.bench_function("tcp/round trip, both sides", |bencher| {
        bencher.iter(|| {
            pair.pass(Duration::from_micros(2));
            let now = pair.now;
            pair.client.send(now, client, &message);
            pair.client.transmit(now, &mut packets);
            pair.server.deliver(now, &mut packets);
            pair.server.receive(now, server, &mut message);
            pair.server.send(now, server, &message);
            pair.server.transmit(now, &mut packets);
            pair.client.deliver(now, &mut packets);
            pair.client.receive(now, client, &mut message);
        });
    });
}

fn connect(criterion: &mut Criterion) {
    let mut pair = Pair::new(64);
    criterion.bench_function("tcp/connect, accept, reset, both sides", |bencher| {
        bencher.iter(|| {
            pair.pass(Duration::from_micros(10));
            let (client, server) = pair.connect();
            pair.abort(client, server);
        });
    });
}

fn demux(criterion: &mut Criterion) {
    let wanted = std::env::var("ONWIRE_BENCH_CONNECTIONS").ok().and_then(|n| n.parse().ok());
    let count: usize = wanted.unwrap_or(100_000);
    let mut pair = Pair::new(count);
    let connections: Vec<_> = (0..count)
        .map(|_| {
            pair.pass(Duration::from_micros(1));
            pair.connect()
        })
        .collect();
    criterion.bench_function(&format!("tcp/segment in, among {count} connections"), |bencher| {
        bencher.iter_custom(|iterations| {
            batches(&mut pair, &connections, iterations, Stage::SegmentIn)
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = stages, echo, connect, demux
}
criterion_main!(benches);
