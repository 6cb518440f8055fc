//! Two whole stacks, a bad wire between them, and programs that talk: everything that happens is
//! decided by a seed, so that any failure can be replayed.
//!
//! `SIM_SEED=n` runs one seed (`SIM_TRACE=1` prints its segments), `SIM_SEEDS=n` runs that many,
//! `SIM_FIRST=n` starts elsewhere than at 1.
//!
//! `chance` is the dice, `workload` what a seed stands for, `device` the cards, `link` the wire,
//! `endpoint` and `udp` the programs, `golden` the table of throughput, `host` and `observer` what must always be true, `world` what
//! brings them together in virtual time.

mod chance;
mod device;
mod endpoint;
mod golden;
mod host;
mod link;
mod observer;
mod udp;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use world::{Outcome, World};

/// Seeds that every run of the tests covers.
const SEEDS: u64 = 500;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

fn run(seed: u64, trace: bool) -> Outcome {
    let scenario = workload::scenario(seed);
    if trace {
        eprintln!("{scenario:#?}");
    }
    World::new(seed, scenario, trace).run()
}

fn passes(seed: u64, trace: bool) -> bool {
    let passed = catch_unwind(AssertUnwindSafe(|| run(seed, trace))).is_ok();
    if !passed {
        eprintln!("seed {seed} failed; to replay it:");
        eprintln!("    SIM_SEED={seed} SIM_TRACE=1 cargo test -p onwire-stack --test simulation");
    }
    passed
}

#[test]
fn programs_get_what_was_sent_whatever_the_wire_does() {
    if let Some(seed) = variable("SIM_SEED") {
        let outcome = run(seed, variable("SIM_TRACE").is_some());
        eprintln!("seed {seed}: {outcome:?}");
        return;
    }
    let first = variable("SIM_FIRST").unwrap_or(1);
    let seeds = first..first + variable("SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failures) = (AtomicU64::new(first), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Many failures are likely one: the first few tell enough.
                    if seed >= seeds.end || failures.load(Ordering::Relaxed) > 3 {
                        return;
                    }
                    if !passes(seed, false) {
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner(), 0, "seeds failed; see above how to replay them");
}

#[test]
fn a_seed_always_runs_the_same_way() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed, false), run(seed, false));
    }
}
