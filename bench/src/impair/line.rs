//! One direction of the path: a frame goes in, and it comes out later, twice, damaged, or never.
//! What befalls a frame depends on the seed and its number alone, never on when it came.

use anyhow::{Result, ensure};
use serde::Serialize;
use stack::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Shares are drawn in millionths.
const MILLION: f64 = 1e6;
/// Ethernet's header, and what else a frame takes of a real wire (preamble, check sequence, gap).
const HEADER: usize = 14;
const WIRE_OVERHEAD: usize = 24;

/// What a path does to frames, each direction on its own.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Impairments {
    /// Delay of each direction, as in 500us, 10ms, 1s
    #[arg(long, default_value = "0ms", value_parser = duration)]
    pub delay: Duration,
    /// Percent of the packets that are lost
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub loss: f64,
    /// Percent of the packets that those behind them overtake
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub reorder: f64,
    /// How much later such a packet comes [default: two fifths of the delay]
    #[arg(long, value_parser = duration)]
    pub reorder_by: Option<Duration>,
    /// Percent of the packets that come twice
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub duplicate: f64,
    /// Percent of the packets in which one bit is flipped
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub corrupt: f64,
    /// Megabits per second on the wire, 0 for no limit
    #[arg(long, default_value_t = 0.0, value_name = "MBIT")]
    pub rate: f64,
    /// Frames that wait for their turn at most; those that come then are dropped
    #[arg(long, default_value_t = 256, value_name = "FRAMES")]
    pub queue: usize,
    /// Decides what befalls each packet
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Impairments {
    /// Refuses what means nothing.
    pub fn check(&self) -> Result<()> {
        let shares = [
            ("loss", self.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ];
        for (name, share) in shares {
            ensure!((0.0..=100.0).contains(&share), "--{name}: {share} is no percentage");
        }
        ensure!(self.rate >= 0.0, "--rate: less than nothing");
        ensure!(self.queue > 0, "--queue: at least one frame must fit");
        Ok(())
    }

    fn lateness(&self) -> Duration {
        self.reorder_by.unwrap_or(self.delay * 2 / 5)
    }
}

/// Parses `250us`, `10ms` or `1.5s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err("a number with us, ms or s behind it is expected".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{digits} is no number"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|e| e.to_string())
}

/// What became of the frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Fates {
    /// Frames that came.
    pub came: u64,
    /// Frames that went on, copies included.
    pub went: u64,
    /// Lost by the dice.
    pub lost: u64,
    /// Held back.
    pub reordered: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// With a flipped bit.
    pub corrupted: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
}

/// A frame on its way: when it arrives, its place among those that arrive then.
type Travelling = Reverse<(Duration, u64, Vec<u8>)>;

/// One direction.
#[derive(Debug)]
pub struct Line {
    settings: Impairments,
    rng: Rng,
    /// When the wire has sent what it was given.
    free_at: Duration,
    /// When each of the frames that wait for the wire will be on it.
    waiting: VecDeque<Duration>,
    travelling: BinaryHeap<Travelling>,
    number: u64,
    fates: Fates,
}

impl Line {
    /// A direction; `which` tells the two of a path apart.
    pub fn new(settings: &Impairments, which: u8) -> Self {
        let mut seed = [0x5a ^ which; 32];
        seed[..8].copy_from_slice(&settings.seed.to_le_bytes());
        let mut rng = Rng::new(seed);
        // Seeds that differ in one bit are strangers only after a while.
        for _ in 0..32 {
            rng.next_u64();
        }
        Line {
            settings: settings.clone(),
            rng,
            free_at: Duration::ZERO,
            waiting: VecDeque::new(),
            travelling: BinaryHeap::new(),
            number: 0,
            fates: Fates::default(),
        }
    }

    /// What became of the frames so far.
    pub fn fates(&self) -> Fates {
        self.fates
    }

    fn draw(&mut self, percent: f64) -> bool {
        // Always drawn, so that one setting does not shift the luck of another.
        f64::from(self.rng.below(1_000_000)) < percent / 100.0 * MILLION
    }

    /// A frame enters at `now`.
    pub fn enter(&mut self, now: Duration, mut frame: Vec<u8>) {
        self.fates.came += 1;
        if !is_ip(&frame) {
            // Address resolution only takes its time: TCP's luck must not depend on it.
            self.travel(now + self.settings.delay, frame);
            return;
        }
        let lost = self.draw(self.settings.loss);
        let late = self.draw(self.settings.reorder);
        let twice = self.draw(self.settings.duplicate);
        let damaged = self.draw(self.settings.corrupt);
        let bit = self.rng.next_u32() as usize;
        while self.waiting.front().is_some_and(|&sent| sent <= now) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= self.settings.queue {
            self.fates.overflowed += 1;
            return;
        }
        let sent = self.on_the_wire(now, frame.len());
        if lost {
            self.fates.lost += 1;
            return;
        }
        if damaged {
            self.fates.corrupted += 1;
            let at = HEADER + (bit >> 3) % (frame.len() - HEADER);
            frame[at] ^= 1 << (bit & 7);
        }
        let mut arrives = sent + self.settings.delay;
        if late {
            self.fates.reordered += 1;
            arrives += self.settings.lateness();
        }
        if twice {
            self.fates.duplicated += 1;
            self.travel(arrives, frame.clone());
        }
        self.travel(arrives, frame);
    }

    /// When a frame of `len` octets that comes now has left.
    fn on_the_wire(&mut self, now: Duration, len: usize) -> Duration {
        if self.settings.rate <= 0.0 {
            return now;
        }
        let bits = ((len + WIRE_OVERHEAD) * 8) as f64;
        let takes = Duration::from_secs_f64(bits / (self.settings.rate * 1e6));
        self.free_at = self.free_at.max(now) + takes;
        self.waiting.push_back(self.free_at);
        self.free_at
    }

    fn travel(&mut self, arrives: Duration, frame: Vec<u8>) {
        self.number += 1;
        self.travelling.push(Reverse((arrives, self.number, frame)));
    }

    /// When the next frame arrives.
    pub fn next(&self) -> Option<Duration> {
        self.travelling.peek().map(|Reverse((arrives, _, _))| *arrives)
    }

    /// The next frame that has arrived.
    pub fn leave(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, _, frame)) = self.travelling.pop()?;
        self.fates.went += 1;
        Some(frame)
    }
}

fn is_ip(frame: &[u8]) -> bool {
    frame.len() > HEADER && matches!(frame.get(12..HEADER), Some([0x08, 0x00] | [0x86, 0xdd]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Impairments {
        Impairments {
            delay: Duration::from_millis(10),
            loss: 0.0,
            reorder: 0.0,
            reorder_by: None,
            duplicate: 0.0,
            corrupt: 0.0,
            rate: 0.0,
            queue: 256,
            seed: 7,
        }
    }

    fn frame(number: u8, len: usize) -> Vec<u8> {
        let mut frame = vec![number; len];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_frame_takes_the_delay() {
        let mut line = Line::new(&settings(), 0);
        line.enter(ms(5), frame(1, 100));
        assert_eq!(line.next(), Some(ms(15)));
        assert_eq!(line.leave(ms(14)), None);
        assert_eq!(line.leave(ms(15)), Some(frame(1, 100)));
        assert_eq!(line.next(), None);
    }

    #[test]
    fn the_rate_spaces_frames_and_the_queue_ends() {
        let rate = 8.0 * 1000.0 / 1e6; // A kilobyte per second.
        let mut line = Line::new(&Impairments { rate, queue: 2, ..settings() }, 0);
        for number in 0..3 {
            line.enter(ms(0), frame(number, 1000 - WIRE_OVERHEAD));
        }
        assert_eq!(line.next(), Some(ms(1010)));
        assert!(line.leave(ms(1010)).is_some());
        assert_eq!(line.next(), Some(ms(2010)));
        assert_eq!((line.fates().overflowed, line.fates().came), (1, 3));
    }

    #[test]
    fn fates_depend_on_the_seed_and_the_number_alone() {
        let run = |seed: u64, step: u64| {
            let settings = Impairments {
                loss: 10.0,
                reorder: 10.0,
                duplicate: 10.0,
                corrupt: 10.0,
                seed,
                ..settings()
            };
            let mut line = Line::new(&settings, 0);
            for number in 0..1000 {
                line.enter(ms(number * step), frame(number as u8, 64));
            }
            let mut left = Vec::new();
            while let Some(frame) = line.leave(Duration::MAX) {
                left.push(frame);
            }
            left.sort();
            (left, line.fates())
        };
        let (frames, fates) = run(1, 100);
        assert_eq!((&frames, fates), (&run(1, 200).0, run(1, 200).1));
        assert_ne!(frames, run(2, 100).0);
        for share in [fates.lost, fates.reordered, fates.duplicated, fates.corrupted] {
            assert!((50..150).contains(&share), "{fates:?}");
        }
        assert_eq!(fates.went, 1000 - fates.lost + fates.duplicated);
    }

    #[test]
    fn those_behind_overtake_one_that_is_late() {
        let mut line = Line::new(&Impairments { reorder: 100.0, ..settings() }, 0);
        line.enter(ms(0), frame(1, 64));
        line.settings.reorder = 0.0;
        line.enter(ms(1), frame(2, 64));
        assert_eq!(line.leave(ms(11)), Some(frame(2, 64)));
        assert_eq!(line.leave(ms(14)), Some(frame(1, 64)));
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(duration("2s"), Ok(ms(2000)));
        assert!(duration("2").is_err() && duration("ms").is_err() && duration("-1s").is_err());
    }
}
