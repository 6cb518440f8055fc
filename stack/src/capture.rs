//! What crossed the wire, for `onwire tcpdump`: a bounded ring of frames, each cut to a snapshot
//! length, with the time and direction. Off, it costs one branch per frame.
//!
//! `shard` taps every frame into it and somebody reads it now and then; a slow reader loses new
//! frames, never old ones, and is told how many.

use crate::packet::Buffer;
use crate::stats::CaptureCounters;
use crate::time::Instant;

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To us.
    Received,
    /// From us.
    Sent,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedFrame<'a> {
    /// When it crossed.
    pub at: Instant,
    /// Which way.
    pub direction: Direction,
    /// Its length on the wire, in octets.
    pub wire_len: usize,
    /// Its first octets, as two slices: the ring may wrap within.
    pub octets: (&'a [u8], &'a [u8]),
}

/// Octets of a record's header: time, wire length, captured length, direction.
const HEADER: usize = 8 + 4 + 4 + 1;

/// The ring.
#[derive(Debug)]
pub struct Capture {
    ring: Vec<u8>,
    head: usize,
    used: usize,
    snapshot: usize,
    on: bool,
    counters: CaptureCounters,
}

impl Capture {
    /// A ring of `octets`, off. Its memory is not touched before it is used.
    #[must_use]
    pub fn new(octets: usize) -> Self {
        let counters = CaptureCounters::default();
        Capture { ring: vec![0; octets], head: 0, used: 0, snapshot: 0, on: false, counters }
    }

    /// Starts afresh, keeping the first `snapshot` octets of each frame; 0 keeps all.
    pub fn start(&mut self, snapshot: usize) {
        self.head = 0;
        self.used = 0;
        self.snapshot = if snapshot == 0 { usize::MAX } else { snapshot };
        self.on = true;
    }

    /// Stops; what was captured can still be read.
    pub fn stop(&mut self) {
        self.on = false;
    }

    /// Whether it is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// How many frames it caught and lost.
    #[must_use]
    pub const fn counters(&self) -> &CaptureCounters {
        &self.counters
    }

    /// Records one frame, given as its pieces in order.
    #[inline]
    pub fn tap(&mut self, now: Instant, direction: Direction, pieces: [&[u8]; 2]) {
        if self.on {
            self.record(now, direction, pieces);
        }
    }

    /// Records one frame that may consist of several buffers.
    #[inline]
    pub fn tap_packet<B: Buffer>(&mut self, now: Instant, direction: Direction, packet: &B) {
        if !self.on {
            return;
        }
        if packet.parts() == 1 {
            return self.record(now, direction, [packet.data(), &[]]);
        }
        let Some(mut left) = self.begin(now, direction, packet.packet_len()) else { return };
        packet.for_each_part(|part| {
            let n = part.len().min(left);
            self.write(&part[..n]);
            left -= n;
        });
    }

    /// Writes a record's header; returns how many octets are to follow, if there is room.
    fn begin(&mut self, now: Instant, direction: Direction, wire_len: usize) -> Option<usize> {
        let len = wire_len.min(self.snapshot);
        if HEADER + len > self.ring.len() - self.used {
            self.counters.dropped += 1;
            return None;
        }
        self.counters.captured += 1;
        self.write(&now.as_nanos().to_ne_bytes());
        self.write(&(wire_len as u32).to_ne_bytes());
        self.write(&(len as u32).to_ne_bytes());
        self.write(&[u8::from(direction == Direction::Sent)]);
        Some(len)
    }

    #[cold]
    fn record(&mut self, now: Instant, direction: Direction, pieces: [&[u8]; 2]) {
        let wire_len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let Some(len) = self.begin(now, direction, wire_len) else { return };
        let first = len.min(pieces[0].len());
        self.write(&pieces[0][..first]);
        self.write(&pieces[1][..len - first]);
    }

    /// Hands every frame to `each`, oldest first, and forgets them.
    pub fn read(&mut self, mut each: impl FnMut(CapturedFrame<'_>)) {
        while self.used >= HEADER {
            let at = Instant::from_nanos(u64::from_ne_bytes(self.take()));
            let wire_len = u32::from_ne_bytes(self.take()) as usize;
            let len = u32::from_ne_bytes(self.take()) as usize;
            let [sent] = self.take();
            let direction = if sent == 1 { Direction::Sent } else { Direction::Received };
            let (wrapped, straight) = (self.head + len)
                .checked_sub(self.ring.len())
                .map_or((0, len), |wrapped| (wrapped, len - wrapped));
            let octets = (&self.ring[self.head..self.head + straight], &self.ring[..wrapped]);
            each(CapturedFrame { at, direction, wire_len, octets });
            self.advance(len);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let tail = (self.head + self.used) % self.ring.len();
        let straight = bytes.len().min(self.ring.len() - tail);
        self.ring[tail..tail + straight].copy_from_slice(&bytes[..straight]);
        self.ring[..bytes.len() - straight].copy_from_slice(&bytes[straight..]);
        self.used += bytes.len();
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let bytes = core::array::from_fn(|at| self.ring[(self.head + at) % self.ring.len()]);
        self.advance(N);
        bytes
    }

    fn advance(&mut self, len: usize) {
        self.head = (self.head + len) % self.ring.len();
        self.used -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(capture: &mut Capture) -> Vec<(u64, Direction, usize, Vec<u8>)> {
        let mut frames = Vec::new();
        capture.read(|f| {
            let octets = [f.octets.0, f.octets.1].concat();
            frames.push((f.at.as_millis(), f.direction, f.wire_len, octets));
        });
        frames
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_ring_wraps() {
        let mut capture = Capture::new(100);
        capture.start(0);
        for round in 0..50u64 {
            let frame: Vec<u8> = (0..20).map(|n| n + round as u8).collect();
            capture.tap(Instant::from_millis(round), Direction::Sent, [&frame[..7], &frame[7..]]);
            capture.tap(Instant::from_millis(round), Direction::Received, [&frame, &[]]);
            let expected = [
                (round, Direction::Sent, 20, frame.clone()),
                (round, Direction::Received, 20, frame),
            ];
            assert_eq!(read(&mut capture), expected);
        }
        assert_eq!(*capture.counters(), CaptureCounters { captured: 100, dropped: 0 });
    }

    #[test]
    fn the_snapshot_cuts_and_a_full_ring_loses_new_frames() {
        let mut capture = Capture::new(50);
        capture.start(8);
        for n in 0..3 {
            capture.tap(Instant::from_millis(n), Direction::Received, [&[n as u8; 6], &[9; 6]]);
        }
        assert_eq!(*capture.counters(), CaptureCounters { captured: 2, dropped: 1 });
        let frames = read(&mut capture);
        assert_eq!(frames[1], (1, Direction::Received, 12, vec![1, 1, 1, 1, 1, 1, 9, 9]));
    }

    #[test]
    fn off_it_records_nothing() {
        let mut capture = Capture::new(0);
        capture.tap(Instant::ZERO, Direction::Sent, [&[1], &[2]]);
        assert_eq!(read(&mut capture), []);
        capture.start(0);
        capture.tap(Instant::ZERO, Direction::Sent, [&[1], &[2]]);
        assert_eq!(capture.counters().dropped, 1);
    }
}
