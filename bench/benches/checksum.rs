//! The Internet checksum of what packets are made of.

#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stack::wire::checksum::Sum;
use std::hint::black_box;

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    let bytes: Vec<u8> = (0..65_536u32).map(|i| (i * 31) as u8).collect();
    for len in [20usize, 84, 1_460, 65_536] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &len, |bencher, &len| {
            bencher.iter(|| Sum::of(black_box(&bytes[..len])));
        });
    }
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);
