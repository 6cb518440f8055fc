//! A path, as the command line names it.

use crate::impair::duration;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cell {
    /// Percent of the packets that are lost, each way.
    pub loss: f64,
    /// The round trip without queues.
    pub rtt: Duration,
    /// Percent of the packets that are overtaken, each way.
    pub reorder: f64,
}

/// The paths that the project promises to be good on.
pub fn all() -> Vec<Cell> {
    let rtts = [1, 20, 100].map(Duration::from_millis);
    let mut cells = Vec::new();
    for (loss, reorder) in [(0.1, 0.0), (1.0, 0.0), (3.0, 0.0), (0.0, 5.0)] {
        cells.extend(rtts.map(|rtt| Cell { loss, rtt, reorder }));
    }
    cells
}

impl Cell {
    /// What the box is told.
    pub fn options(&self, rate: f64, queue: usize, by: Option<Duration>) -> Vec<String> {
        let mut options = vec![
            ("--delay", format!("{}us", (self.rtt / 2).as_micros())),
            ("--loss", self.loss.to_string()),
            ("--reorder", self.reorder.to_string()),
            ("--rate", rate.to_string()),
            ("--queue", queue.to_string()),
        ];
        if let Some(by) = by {
            options.push(("--reorder-by", format!("{}us", by.as_micros())));
        }
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// Fit to be part of a file's name.
    pub fn file_name(&self) -> String {
        format!("{}-{}us-{}", self.loss, self.rtt.as_micros(), self.reorder)
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let mut next = || words.next().unwrap_or("0");
        let percent = |word: &str| match word.parse::<f64>() {
            Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
            _ => Err(format!("{word} is no percentage")),
        };
        let loss = percent(next())?;
        let rtt = duration(next())?;
        let reorder = percent(next())?;
        Ok(Cell { loss, rtt, reorder })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.loss, self.reorder) {
            (loss, 0.0) => write!(f, "{loss} % loss")?,
            (0.0, reorder) => write!(f, "{reorder} % reordering")?,
            (loss, reorder) => write!(f, "{loss} % loss, {reorder} % reordering")?,
        }
        write!(f, ", {} ms", self.rtt.as_secs_f64() * 1000.0)
    }
}
