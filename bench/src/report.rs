//! The result of a latency run: the table for people, the JSON for programs, the verdict for CI.

use crate::bench::Link;
use crate::histogram::{Histogram, Summary};
use crate::latency::{Carrier, Effort, Load, Measured, Mode};
use crate::machine::Machine;
use crate::page::Page;
use crate::plot::{Axis, Series, lines};
use crate::role::{Protocol, Waiting};
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write;

/// At most this many raw-frame round trips fit in one of onwire's TCP.
pub const RAW_FACTOR: f64 = 3.0;
/// Below this part of the kernel's spinning sockets.
const KERNEL_FACTOR: f64 = 0.5;

/// A mode and what was found so far.
pub struct Row {
    /// The mode.
    pub mode: Mode,
    times: Histogram,
    medians: Vec<u64>,
    lost: u64,
    on: Option<String>,
}

impl Row {
    /// Nothing found yet.
    pub fn new(mode: Mode) -> Result<Self> {
        Ok(Row { mode, times: Histogram::new()?, medians: Vec::new(), lost: 0, on: None })
    }

    /// Takes in one round.
    pub fn add(&mut self, measured: &Measured) {
        self.times.merge(&measured.times);
        self.medians.push(measured.times.median());
        self.lost += measured.lost;
        if measured.on.is_some() {
            self.on.clone_from(&measured.on);
        }
    }

    /// How many of the other's round trips fit in one of this: the median of the rounds' ratios.
    /// A virtual machine's cores move closer and further apart, which changes a link's floor
    /// threefold; what was measured one after the other had the same distance, mostly.
    fn ratio_to(&self, other: &Row) -> Option<f64> {
        let pairs = self.medians.iter().zip(&other.medians);
        let mut ratios: Vec<f64> = pairs.map(|(own, base)| *own as f64 / *base as f64).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }

    /// The median of the rounds' medians: a round that the machine disturbed does not move it.
    fn median(&self) -> u64 {
        let mut sorted = self.medians.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }
}

/// What was found, as it is printed.
#[derive(Debug, Serialize)]
pub struct LatencyReport {
    /// What it was measured on.
    pub machine: Machine,
    server_core: usize,
    client_core: usize,
    rounds: u32,
    seconds_per_round: f64,
    results: Vec<Line>,
    #[serde(skip)]
    curves: [Vec<Series>; 2],
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    carrier: Carrier,
    link: Option<Link>,
    size: u32,
    #[serde(skip)]
    load: Load,
    /// The median of the rounds' medians.
    median_ns: u64,
    /// The least and the greatest of the rounds' medians.
    medians_range_ns: (u64, u64),
    /// All rounds together.
    all: Summary,
    lost: u64,
    /// How many raw-frame round trips of the same link fit in one of these: the median of the
    /// rounds' ratios.
    of_raw: Option<f64>,
    /// Which part of the round trip of the kernel's spinning sockets (same protocol, same program if
    /// that is sockperf) it is: the median of the rounds' ratios.
    of_kernel: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<String>,
}

/// Whether onwire keeps its promise.
#[derive(Debug)]
pub struct Verdict {
    /// It does.
    pub met: bool,
    /// Said in a line for each link and load.
    pub text: String,
}

impl LatencyReport {
    /// Puts everything together.
    pub fn new(
        machine: Machine,
        (server_core, client_core): (usize, usize),
        effort: Effort,
        rounds: u32,
        rows: Vec<Row>,
    ) -> Self {
        let results = rows.iter().map(|row| Line::new(row, &rows)).collect();
        let curve = |points: fn(&Histogram) -> Vec<(f64, f64)>| {
            let one = |row: &Row| Series { name: row.mode.name(), points: points(&row.times) };
            rows.iter().map(one).collect::<Vec<_>>()
        };
        let curves = [curve(Histogram::shares_us), curve(Histogram::cdf_us)];
        LatencyReport {
            machine,
            server_core,
            client_core,
            rounds,
            seconds_per_round: effort.time.as_secs_f64(),
            results,
            curves,
        }
    }

    /// For whoever publishes it.
    pub fn page(&self) -> Result<Page> {
        let x = Axis { label: "round trip, µs", logarithmic: true };
        let share = Axis { label: "% within 5 % of it", logarithmic: false };
        let below = Axis { label: "%", logarithmic: false };
        let [histogram, cdf] = &self.curves;
        Ok(Page {
            title: "onwire bench latency".to_owned(),
            on: None,
            text: self.table(),
            plots: vec![
                lines("Histogram", x, share, histogram)?,
                lines("Cumulative distribution", x, below, cdf)?,
            ],
            json: serde_json::to_value(self)?,
        })
    }

    /// For people.
    fn table(&self) -> String {
        let mut text = format!(
            "round trip (of 64 octets unless said), µs; server on core {}, client on core {}; {} \
             rounds of {} s, in turns\n",
            self.server_core, self.client_core, self.rounds, self.seconds_per_round
        );
        let width = self.results.iter().map(|l| l.name.chars().count()).max().unwrap_or(0);
        let _ = writeln!(
            text,
            "\n{:width$} {:>8} {:>15} {:>8} {:>8} {:>8} {:>9} {:>9} {:>6} {:>7}",
            "", "median", "rounds", "p90", "p99", "p99.9", "max", "count", "×raw", "×kernel"
        );
        for line in &self.results {
            let ratio = |of: Option<f64>| of.map_or("-".to_owned(), |r| format!("{r:.2}"));
            let (low, high) = line.medians_range_ns;
            let range = format!("{:.2}–{:.2}", micros(low), micros(high));
            let _ = writeln!(
                text,
                "{:width$} {:8.2} {range:>15} {:8.2} {:8.2} {:8.2} {:9.1} {:>9} {:>6} {:>7}",
                line.name,
                micros(line.median_ns),
                micros(line.all.p90_ns),
                micros(line.all.p99_ns),
                micros(line.all.p999_ns),
                micros(line.all.max_ns),
                line.all.count,
                ratio(line.of_raw),
                ratio(line.of_kernel)
            );
        }
        for line in &self.results {
            if let Some(on) = &line.on {
                let _ = writeln!(text, "{}: {on}", line.name);
            }
            if line.lost > 0 {
                let _ = writeln!(text, "{}: {} replies never came", line.name, line.lost);
            }
        }
        text
    }

    /// Compares onwire's TCP with what it promises, on every link that was measured.
    pub fn check(&self, raw_factor: f64) -> Verdict {
        let mut verdict = Verdict { met: true, text: String::new() };
        let mut checked = 0;
        for line in &self.results {
            let promised = match line.load {
                Load::Sockets(Protocol::Tcp, _) | Load::Sockperf(_) => {
                    line.carrier == Carrier::Onwire
                }
                _ => false,
            };
            if promised {
                checked += 1;
                line.check(raw_factor, &mut verdict);
            }
        }
        if checked == 0 {
            verdict.met = false;
            verdict.text = "check: NOT MET: onwire's TCP was not measured".to_owned();
        }
        verdict.text = verdict.text.trim_end().to_owned();
        verdict
    }
}

impl Line {
    fn new(row: &Row, rows: &[Row]) -> Self {
        let ratio = |other: Option<&Row>| row.ratio_to(other.filter(|o| o.mode != row.mode)?);
        let raw = rows
            .iter()
            .find(|r| r.mode == Mode { carrier: Carrier::Raw, load: Load::Frames, ..row.mode });
        let protocol = match row.mode.load {
            Load::Sockets(protocol, _) | Load::Balanced(protocol) => protocol,
            Load::Frames | Load::Sockperf(_) => Protocol::Tcp,
        };
        let kernel = |load| {
            let mode = Mode { carrier: Carrier::Kernel, link: None, load, size: row.mode.size };
            rows.iter().find(|r| r.mode == mode && r.mode != row.mode)
        };
        let sockets = kernel(Load::Sockets(protocol, Waiting::Spin));
        // Like with like: sockperf does more between two messages than our own program.
        let spinning = match row.mode.load {
            Load::Sockperf(_) => kernel(Load::Sockperf(Waiting::Spin)).or(sockets),
            Load::Sockets(..) | Load::Balanced(_) | Load::Frames => sockets,
        };
        let range = (row.medians.iter().min().copied(), row.medians.iter().max().copied());
        Line {
            name: row.mode.name(),
            carrier: row.mode.carrier,
            link: row.mode.link,
            size: row.mode.size,
            load: row.mode.load,
            median_ns: row.median(),
            medians_range_ns: (range.0.unwrap_or(0), range.1.unwrap_or(0)),
            all: row.times.summary(),
            lost: row.lost,
            of_raw: ratio(raw),
            of_kernel: ratio(spinning),
            on: row.on.clone(),
        }
    }

    fn check(&self, raw_factor: f64, verdict: &mut Verdict) {
        let (raw, kernel) = match (self.of_raw, self.of_kernel) {
            (Some(raw), Some(kernel)) => (raw, kernel),
            _ => {
                verdict.met = false;
                let _ = writeln!(
                    verdict.text,
                    "check: NOT MET: {}: raw frames and the kernel's spinning sockets must be \
                     measured in the same run",
                    self.name
                );
                return;
            }
        };
        let met = raw <= raw_factor && kernel < KERNEL_FACTOR;
        verdict.met &= met;
        let _ = writeln!(
            verdict.text,
            "check: {}: {}: median {:.2} µs; in the median round {raw:.2} × raw frames (at most \
             {raw_factor}) and {kernel:.2} × the kernel's spinning sockets (below {KERNEL_FACTOR})",
            if met { "met" } else { "NOT MET" },
            self.name,
            micros(self.median_ns)
        );
    }
}

/// Nanoseconds as microseconds.
pub fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}
