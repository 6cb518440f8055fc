//! Frames that the device had no room for.
//!
//! The shard offers them again in every turn, before anything newer. A device that takes nothing
//! for long (its other end has gone) must not keep anybody awake, nor hold memory: offers become
//! rarer, and at last the frames are dropped, as Linux's transmit watchdog does.

use crate::device::{BURST, Burst, Device};
use crate::packet::Buffer;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Frames it may hold.
pub(super) const CAPACITY: usize = super::BACKLOG_HARD;
/// When somebody who sleeps offers them again: at first, and at the rarest.
const SOONEST: Duration = Duration::from_micros(20);
const RAREST: Duration = Duration::from_millis(10);
/// How long a device may take nothing at all before the frames are given up.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Backlog<B> {
    frames: VecDeque<B>,
    /// Since when nothing was taken.
    stuck_since: Option<Instant>,
    retry_at: Instant,
}

impl<B: Buffer> Backlog<B> {
    pub fn new() -> Self {
        Backlog {
            frames: VecDeque::with_capacity(CAPACITY + 2 * BURST),
            stuck_since: None,
            retry_at: Instant::ZERO,
        }
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn clear(&mut self) {
        self.frames.clear();
    }

    /// Adds the newest; false if there is no room, and the frame is gone.
    #[must_use]
    pub fn push(&mut self, frame: B) -> bool {
        let room = self.frames.len() < CAPACITY;
        if room {
            self.frames.push_back(frame);
        }
        room
    }

    /// When the frames are to be offered again, if there are any.
    #[inline]
    pub fn next_timeout(&self) -> Option<Instant> {
        (!self.frames.is_empty()).then_some(self.retry_at)
    }

    /// Offers the frames, oldest first; how many were given up.
    pub fn offer<D: Device<Buffer = B>>(&mut self, now: Instant, device: &mut D) -> u64 {
        let before = self.frames.len();
        while !self.frames.is_empty() {
            let n = self.frames.len().min(BURST);
            let mut burst: Burst<B> = self.frames.drain(..n).collect();
            device.tx_burst(&mut burst);
            let refused = !burst.is_empty();
            for frame in burst.drain(..).rev() {
                self.frames.push_front(frame);
            }
            if refused {
                break;
            }
        }
        if self.frames.len() < before {
            self.stuck_since = None;
            self.retry_at = now;
            return 0;
        }
        let stuck = now.saturating_since(*self.stuck_since.get_or_insert(now));
        if stuck < PATIENCE {
            self.retry_at = now + (stuck / 4).clamp(SOONEST, RAREST);
            return 0;
        }
        self.frames.clear();
        self.stuck_since = None;
        before as u64
    }
}
