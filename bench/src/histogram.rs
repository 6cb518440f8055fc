//! A histogram of times, and its way through a pipe.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Times between 1 ns and a minute, each to three significant figures.
#[derive(Debug, Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// What is reported of a histogram, in nanoseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Round trips measured.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Half of them were faster.
    pub median_ns: u64,
    /// 90 of 100 were faster.
    pub p90_ns: u64,
    /// 99 of 100 were faster.
    pub p99_ns: u64,
    /// 999 of 1000 were faster.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// A histogram as it is sent from a role to the harness: times in nanoseconds with their counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counts(Vec<(u64, u64)>);

impl Histogram {
    const MAX_NS: u64 = 60_000_000_000;

    /// An empty one.
    pub fn new() -> Result<Self> {
        let inner = hdrhistogram::Histogram::new_with_bounds(1, Self::MAX_NS, 3);
        Ok(Histogram(inner.context("cannot make a histogram")?))
    }

    /// Counts one time.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The median, in nanoseconds.
    pub fn median(&self) -> u64 {
        self.0.value_at_quantile(0.5)
    }

    /// The time below which this part of all lie, in nanoseconds.
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The cumulative distribution, for a plot: microseconds, and the percentage at most as long.
    pub fn cdf_us(&self) -> Vec<(f64, f64)> {
        let total = self.0.len() as f64;
        let mut seen = 0;
        let mut points = Vec::new();
        for step in self.0.iter_log(100, 1.05) {
            seen += step.count_since_last_iteration();
            if seen > 0 {
                points.push((step.value_iterated_to() as f64 / 1e3, 100.0 * seen as f64 / total));
            }
        }
        points
    }

    /// How often each duration occurs, for a plot: microseconds, and the percentage within 5 % of it.
    pub fn shares_us(&self) -> Vec<(f64, f64)> {
        let total = self.0.len() as f64;
        let steps = self.0.iter_log(100, 1.05);
        let points = steps.map(|step| {
            let share = 100.0 * step.count_since_last_iteration() as f64 / total;
            (step.value_iterated_to() as f64 / 1e3, share)
        });
        points.skip_while(|(_, share)| *share == 0.0).collect()
    }

    /// For the pipe.
    pub fn counts(&self) -> Counts {
        Counts(
            self.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect(),
        )
    }

    /// Adds what came through the pipe.
    pub fn add(&mut self, counts: &Counts) {
        for &(value, count) in &counts.0 {
            self.0.saturating_record_n(value, count);
        }
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.add(&other.counts());
    }

    /// What is reported of it.
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Summary {
            count: self.0.len(),
            min_ns: self.0.min(),
            median_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: self.0.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_the_pipe() {
        let mut sent = Histogram::new().unwrap();
        for nanos in [650, 651, 900, 5_700, 1_000_000] {
            sent.record(nanos);
        }
        let text = serde_json::to_string(&sent.counts()).unwrap();
        let mut received = Histogram::new().unwrap();
        received.add(&serde_json::from_str(&text).unwrap());
        assert_eq!(received.count(), 5);
        assert_eq!(received.summary().median_ns, sent.summary().median_ns);
        assert_eq!(received.summary().max_ns, sent.summary().max_ns);
        let cdf = received.cdf_us();
        assert!(cdf[0].0 > 0.6 && cdf[0].0 < 0.75, "{cdf:?}");
        assert_eq!(cdf.last().unwrap().1, 100.0);
        let whole: f64 = received.shares_us().iter().map(|point| point.1).sum();
        assert!((whole - 100.0).abs() < 1e-6);
    }
}
