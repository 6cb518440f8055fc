//! What was measured, as a table and as JSON, and what a check says about it.

use super::{Cell, PAIRS, Transfer};
use crate::machine::Machine;
use anyhow::Result;
use serde::Serialize;
use std::fmt;

/// The transfers of one path with one congestion control.
#[derive(Debug, Serialize)]
pub struct Row {
    congestion: String,
    #[serde(flatten)]
    cell: Cell,
    /// By pair.
    transfers: [Vec<Transfer>; 4],
    failures: Vec<String>,
}

impl Row {
    pub fn new(congestion: &str, cell: Cell) -> Self {
        let transfers = Default::default();
        Row { congestion: congestion.to_owned(), cell, transfers, failures: Vec::new() }
    }

    /// What to measure.
    pub fn what(&self) -> (Cell, String) {
        (self.cell, self.congestion.clone())
    }

    /// Takes a result; a line about it.
    pub fn add(&mut self, pair: usize, round: u32, done: Result<Transfer>) -> String {
        let name = format!("{}, {}, round {}", self.name(), pair_name(pair), round + 1);
        match done {
            Ok(transfer) => {
                let Transfer { megabits_per_second: rate, longest_wait_ms: wait, .. } = transfer;
                self.transfers[pair].push(transfer);
                format!("{name}: {rate:.2} Mbit/s, {wait:.0} ms without data at most")
            }
            Err(error) => {
                let line = format!("{name}: FAILED: {error:#}");
                self.failures.push(line.clone());
                line
            }
        }
    }

    fn name(&self) -> String {
        format!("{}, {}", self.congestion, self.cell)
    }

    fn goodput(&self, pair: usize) -> Option<f64> {
        median(self.transfers[pair].iter().map(|t| t.megabits_per_second))
    }

    /// The median over the rounds of the ratio to the kernel's goodput in the same round.
    fn ratio(&self, pair: usize) -> Option<f64> {
        median(self.transfers[pair].iter().filter_map(|ours| {
            let kernel = self.transfers[0].iter().find(|kernel| kernel.round == ours.round)?;
            Some(ours.megabits_per_second / kernel.megabits_per_second)
        }))
    }

    fn longest_wait_ms(&self, pair: usize) -> f64 {
        self.transfers[pair].iter().map(|t| t.longest_wait_ms).fold(0.0, f64::max)
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

fn pair_name(pair: usize) -> String {
    let (sender, receiver) = PAIRS[pair];
    format!("{sender:?} to {receiver:?}").to_lowercase()
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rate: f64,
    pub queue: usize,
    pub rows: Vec<Row>,
}

impl Report {
    /// What is not as it should be: a transfer that failed, and ratios below `bound`.
    pub fn verdicts(&self, bound: Option<f64>) -> Vec<String> {
        let mut verdicts = Vec::new();
        for row in &self.rows {
            verdicts.extend(row.failures.iter().cloned());
            for pair in 1..PAIRS.len() {
                if let (Some(ratio), Some(bound)) = (row.ratio(pair), bound)
                    && ratio < bound
                {
                    let (name, pair) = (row.name(), pair_name(pair));
                    verdicts.push(format!("{name}, {pair}: {ratio:.2} of the kernel's goodput"));
                }
            }
        }
        verdicts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine.lines())?;
        writeln!(f, "{} Mbit/s, a queue of {} frames, MTU 1500\n", self.rate, self.queue)?;
        writeln!(f, "Goodput, Mbit/s (median), and its ratio to kernel to kernel:\n")?;
        write!(f, "| {:34} ", "congestion control, path")?;
        for pair in 0..PAIRS.len() {
            write!(f, "| {:>16} ", pair_name(pair))?;
        }
        writeln!(f, "| longest wait, ms |")?;
        writeln!(f, "|:---|---:|---:|---:|---:|---:|")?;
        for row in &self.rows {
            write!(f, "| {:34} ", row.name())?;
            for pair in 0..PAIRS.len() {
                let shown = match (row.goodput(pair), row.ratio(pair)) {
                    (None, _) => "—".to_owned(),
                    (Some(goodput), Some(ratio)) if pair > 0 => {
                        format!("{goodput:.2} ({ratio:.2})")
                    }
                    (Some(goodput), _) => format!("{goodput:.2}"),
                };
                write!(f, "| {shown:>16} ")?;
            }
            let waits = [0, 1, 2, 3].map(|pair| format!("{:.0}", row.longest_wait_ms(pair)));
            writeln!(f, "| {:>16} |", waits.join(" "))?;
        }
        Ok(())
    }
}
