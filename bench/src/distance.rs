//! How far apart two cores are: the time that a line of memory takes from one to the other and back. In a
//! virtual machine it changes while one measures, because the hypervisor moves the cores; then two
//! measurements cannot be compared, whatever they measure.

use crate::bench::Bench;
use crate::namespaces::Side;
use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const TRIPS: u32 = 5_000;
/// The best of so many, for others may use the cores.
const TRIES: u32 = 5;
/// Farther than this many times the shortest distance is another place.
const ELSEWHERE: f64 = 1.6;
/// How often a measurement is made again whose cores were elsewhere.
const AGAIN: u32 = 4;

/// What was found in the course of a run, ns there and back.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Apart {
    /// When a measurement counted.
    pub least_ns: u32,
    /// The same.
    pub most_ns: u32,
    /// Measurements that did not, because the cores had been moved.
    pub discarded: u32,
}

impl Display for Apart {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Apart { least_ns, most_ns, discarded } = self;
        write!(f, "between the two cores {least_ns} to {most_ns} ns there and back")?;
        if *discarded > 0 {
            write!(f, ", {discarded} measurements made again because they had been moved")?;
        }
        Ok(())
    }
}

impl Apart {
    fn add(&mut self, ns: u32) {
        self.least_ns = self.least_ns.min(ns);
        self.most_ns = self.most_ns.max(ns);
    }
}

/// Measures, and again if the cores were moved meanwhile.
pub fn in_one_place<R>(bench: &Bench, mut measure: impl FnMut() -> Result<R>) -> Result<R> {
    let mut attempts = 0;
    loop {
        let before = between(bench.core(Side::Server), bench.core(Side::Client))?;
        let result = measure()?;
        let after = between(bench.core(Side::Server), bench.core(Side::Client))?;
        let mut apart = bench.apart().unwrap_or(Apart {
            least_ns: before.min(after),
            most_ns: 0,
            discarded: 0,
        });
        let (near, far) = (before.min(after).min(apart.least_ns), before.max(after));
        attempts += 1;
        let counts = f64::from(far) <= ELSEWHERE * f64::from(near) || attempts > AGAIN;
        if counts {
            apart.add(before);
            apart.add(after);
        } else {
            eprintln!("the cores were {far} ns apart, {near} ns at best: measured again");
            apart.discarded += 1;
        }
        bench.set_apart(apart);
        if counts {
            return Ok(result);
        }
    }
}

/// Nanoseconds that a line takes from core `a` to core `b` and back.
fn between(a: usize, b: usize) -> Result<u32> {
    let mut least = Duration::MAX;
    for _ in 0..TRIES {
        least = least.min(trips(a, b)?);
    }
    Ok((least.as_nanos() / u128::from(TRIPS)) as u32)
}

fn trips(a: usize, b: usize) -> Result<Duration> {
    let line = AtomicU32::new(0);
    let wait_for = |value| {
        while line.load(Ordering::Acquire) != value {
            spin_loop();
        }
    };
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            let pinned = pin(b);
            for trip in 0..TRIPS {
                wait_for(2 * trip + 1);
                line.store(2 * trip + 2, Ordering::Release);
            }
            pinned
        });
        let here = scope.spawn(|| {
            let pinned = pin(a);
            line.store(1, Ordering::Release);
            wait_for(2);
            let begun = Instant::now();
            for trip in 1..TRIPS {
                line.store(2 * trip + 1, Ordering::Release);
                wait_for(2 * trip + 2);
            }
            pinned.map(|()| begun.elapsed())
        });
        there.join().ok().context("a thread panicked")??;
        here.join().ok().context("a thread panicked")?
    })
}

/// Keeps this thread on a core.
fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("cannot choose a core")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_its_time() {
        if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            assert!(between(0, 1).unwrap() > 0);
        }
    }
}
