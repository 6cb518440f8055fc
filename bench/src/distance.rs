//! How far apart two cores are: the time that a line of memory takes from one to the other and back. In a
//! virtual machine it changes while one measures, because the hypervisor moves the cores; then two
//! measurements cannot be compared, whatever they measure.

use crate::bench::Bench;
use crate::namespaces::Side;
use anyhow::{Context, Result, bail};
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
/// This many times farther or nearer than usual is another place.
const ELSEWHERE: f64 = 1.6;

/// What was found in the course of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Apart {
    /// ns there and back when a measurement counted: the least and the most.
    range_ns: Option<(u32, u32)>,
    /// Measurements that did not count, because the cores had been moved.
    discarded: u32,
    /// All that was seen, in ascending order.
    #[serde(skip)]
    seen: Vec<u32>,
}

impl Display for Apart {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (least, most) = self.range_ns.unwrap_or_default();
        write!(f, "between the two cores {least} to {most} ns there and back")?;
        if self.discarded > 0 {
            let discarded = self.discarded;
            write!(f, ", {discarded} measurements made again because they had been moved")?;
        }
        Ok(())
    }
}

impl Apart {
    /// The median: in a virtual machine the least may be that of a moment on one physical core.
    fn usual(&self) -> u32 {
        self.seen.get(self.seen.len() / 2).copied().unwrap_or(0)
    }

    fn see(&mut self, ns: u32) {
        let at = self.seen.partition_point(|seen| *seen < ns);
        self.seen.insert(at, ns);
    }

    /// Whether the cores were where they usually are.
    fn is_usual(&self, ns: u32) -> bool {
        let (ns, usual) = (f64::from(ns), f64::from(self.usual()));
        ns <= ELSEWHERE * usual && usual <= ELSEWHERE * ns
    }

    fn count(&mut self, ns: u32) {
        let (least, most) = self.range_ns.unwrap_or((ns, ns));
        self.range_ns = Some((least.min(ns), most.max(ns)));
    }
}

/// Measures, and again if the cores were moved meanwhile.
pub fn in_one_place<R>(bench: &Bench, mut measure: impl FnMut() -> Result<R>) -> Result<R> {
    let distance = || between(bench.core(Side::Server), bench.core(Side::Client));
    for attempt in 0.. {
        let before = distance()?;
        let result = measure()?;
        let after = distance()?;
        let mut apart = bench.apart().borrow_mut();
        apart.see(before);
        apart.see(after);
        if attempt >= bench.repeats() || (apart.is_usual(before) && apart.is_usual(after)) {
            apart.count(before);
            apart.count(after);
            return Ok(result);
        }
        let usual = apart.usual();
        eprintln!("the cores were {before} and {after} ns apart, usually {usual}: measured again");
        apart.discarded += 1;
    }
    bail!("no attempt")
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
    fn the_usual_place_is_where_most_was_measured() {
        let mut apart = Apart::default();
        [65, 27, 66, 270, 64, 70, 67].into_iter().for_each(|ns| apart.see(ns));
        assert_eq!(apart.usual(), 66);
        assert!(apart.is_usual(80) && !apart.is_usual(27) && !apart.is_usual(270));
    }

    #[test]
    fn a_line_takes_its_time() {
        if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            assert!(between(0, 1).unwrap() > 0);
        }
    }
}
