//! Frames that came to the queue of another shard than theirs.
//!
//! The device, or the other end, spreads frames over the queues as it likes; correctness never
//! depends on it. Between any two shards there is a ring with one writer, who holds the one's lock,
//! and one reader, who holds the other's. What finds its ring full is dropped and counted, as by a
//! queue that is full.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use dpdk::{Mbuf, Stray};

/// Frames on their way from one shard to another at most.
const ROOM: usize = 256;

/// The way from one shard to another. All-zero is empty.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Ring {
    /// Frames written so far; wraps.
    written: AtomicU32,
    full: AtomicU64,
    read: AtomicU32,
    slots: [AtomicU64; ROOM],
}

impl Ring {
    /// By whoever holds the shard that it leads from; whether there was room.
    fn give(&self, frame: Stray) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        if written.wrapping_sub(self.read.load(Ordering::Acquire)) as usize >= ROOM {
            self.full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.slots[written as usize % ROOM].store(frame.into_bits(), Ordering::Relaxed);
        self.written.store(written.wrapping_add(1), Ordering::Release);
        true
    }

    /// By whoever holds the shard that it leads to.
    fn take(&self) -> Option<Stray> {
        let read = self.read.load(Ordering::Relaxed);
        if read == self.written.load(Ordering::Acquire) {
            return None;
        }
        let bits = self.slots[read as usize % ROOM].load(Ordering::Relaxed);
        // First, so that a reader who dies leaks the frame, and nobody frees it twice.
        self.read.store(read.wrapping_add(1), Ordering::Release);
        // SAFETY: `give` stored it, and it is read once.
        unsafe { Stray::from_bits(bits) }
    }
}

/// All ways between the shards.
#[derive(Debug)]
pub(crate) struct Handover {
    shards: usize,
    rings: &'static [Ring],
    /// A bit for each shard that has frames to take.
    waiting: AtomicU32,
}

/// How many rings there are between so many shards.
pub(crate) const fn rings_of(shards: usize) -> usize {
    shards * shards
}

impl Handover {
    pub(crate) fn new(shards: usize, rings: &'static [Ring]) -> Self {
        Handover { shards, rings, waiting: AtomicU32::new(0) }
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    fn ring(&self, from: usize, to: usize) -> &Ring {
        &self.rings[from * self.shards + to]
    }

    /// Gives a frame to another shard; the lock of `from` is held.
    pub(crate) fn give(&self, from: usize, to: usize, frame: Mbuf) {
        if self.ring(from, to).give(Stray::from(frame)) {
            self.waiting.fetch_or(1 << to, Ordering::Release);
        }
    }

    /// Whether a shard has frames to take.
    #[inline]
    pub(crate) fn has_frames_for(&self, shard: usize) -> bool {
        self.waiting.load(Ordering::Acquire) & 1 << shard != 0
    }

    /// Whether any shard has.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Calls `each` with frames for a shard, whose lock is held, until it wants no more.
    pub(crate) fn take(&self, shard: usize, mut each: impl FnMut(Stray) -> bool) {
        if !self.has_frames_for(shard) {
            return;
        }
        self.waiting.fetch_and(!(1 << shard), Ordering::AcqRel);
        for from in 0..self.shards {
            while let Some(frame) = self.ring(from, shard).take() {
                if !each(frame) {
                    // There may be more: look again in the next turn.
                    self.waiting.fetch_or(1 << shard, Ordering::Release);
                    return;
                }
            }
        }
    }

    /// Frames dropped on the way from a shard.
    pub(crate) fn dropped_from(&self, shard: usize) -> u64 {
        (0..self.shards).map(|to| self.ring(shard, to).full.load(Ordering::Relaxed)).sum()
    }
}

/// What a queue counts of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HandoverCounters {
    /// Frames given to other shards.
    pub(crate) given: u64,
    /// Frames taken from other shards.
    pub(crate) taken: u64,
    /// Frames of others for which there was no buffer.
    pub(crate) no_buffer: u64,
}
