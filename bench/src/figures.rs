//! Figures that are one number for each mode and round: medians with their spread, and ratios that
//! are taken within a round, since a machine's pace changes between them.

use crate::ways::Way;
use serde::Serialize;
use std::fmt::Write;

/// One kind of figure, for every mode that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What was measured.
    pub title: String,
    /// In what.
    pub unit: String,
    /// A line for each mode.
    pub lines: Vec<Line>,
}

/// One mode's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// How it was carried.
    pub way: Way,
    /// One for each round.
    pub rounds: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// How many times the kernel's best mode: the median of the rounds' ratios.
    pub of_kernel: Option<f64>,
}

impl Figures {
    /// Nothing found yet.
    pub fn new(title: impl Into<String>, unit: &str, ways: &[Way]) -> Self {
        let line = |&way| Line { way, rounds: Vec::new(), median: 0.0, of_kernel: None };
        Figures {
            title: title.into(),
            unit: unit.to_owned(),
            lines: ways.iter().map(line).collect(),
        }
    }

    /// One round of one mode.
    pub fn add(&mut self, way: Way, value: f64) {
        for line in self.lines.iter_mut().filter(|line| line.way == way) {
            line.rounds.push(value);
            line.median = median(&line.rounds);
        }
    }

    /// Compares every mode with the kernel's best one: with most if `more_is_better`, else least.
    pub fn compare(&mut self, more_is_better: bool) {
        let kernel = self.lines.iter().filter(|line| line.way.profile().is_none());
        let better = |a: &&Line, b: &&Line| {
            let order = a.median.total_cmp(&b.median);
            if more_is_better { order } else { order.reverse() }
        };
        let Some(base) = kernel.max_by(better).map(|line| (line.way, line.rounds.clone())) else {
            return;
        };
        for line in self.lines.iter_mut().filter(|line| line.way != base.0) {
            let ratios: Vec<f64> = line.rounds.iter().zip(&base.1).map(|(a, b)| a / b).collect();
            line.of_kernel = (!ratios.is_empty()).then(|| median(&ratios));
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!("{} ({})\n", self.title, self.unit);
        let _ = writeln!(text, "{:18} {:>12} {:>25} {:>8}", "", "median", "rounds", "×kernel");
        for line in self.lines.iter().filter(|line| !line.rounds.is_empty()) {
            let low = line.rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let high = line.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let range = format!("{}–{}", short(low), short(high));
            let ratio = line.of_kernel.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let median = short(line.median);
            let _ = writeln!(text, "{:18} {median:>12} {range:>25} {ratio:>8}", line.way.name());
        }
        text
    }
}

/// The middle one (the upper of two).
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Four significant figures are enough for what is measured here.
fn short(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.3}"),
        10.0..100.0 => format!("{value:.2}"),
        100.0..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round_and_to_the_kernels_best() {
        let ways = [Way::KernelBlocking, Way::KernelSpinning, Way::Onwire];
        let mut figures = Figures::new("requests", "per second", &ways);
        for (blocking, spinning, onwire) in [(1.0, 2.0, 8.0), (5.0, 10.0, 40.0), (1.0, 3.0, 9.0)] {
            figures.add(Way::KernelBlocking, blocking);
            figures.add(Way::KernelSpinning, spinning);
            figures.add(Way::Onwire, onwire);
        }
        figures.compare(true);
        let [_, spinning, onwire] = &figures.lines[..] else { unreachable!() };
        assert_eq!((spinning.of_kernel, onwire.of_kernel), (None, Some(4.0)));
        assert!(figures.table().contains("4.00"));
    }
}
