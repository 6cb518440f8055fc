//! One direction of the wire between the hosts: it takes time, has a queue, and loses, repeats,
//! delays and damages frames as its seed says.

use crate::chance::Chance;
use stack::time::{Duration, Instant};

/// How bad a direction is.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Bits per second.
    pub rate: u64,
    pub delay: Duration,
    /// Octets that wait at most.
    pub queue: u64,
    /// Parts per ten thousand.
    pub loss: u32,
    pub duplication: u32,
    pub reordering: u32,
    pub corruption: u32,
    /// How much later a reordered frame comes, or a repeated one: so much, or up to that.
    pub shuffle: Duration,
    pub exactly: bool,
    /// Octets waiting from which on ECN-capable packets are marked; 0 is never.
    pub marking: u64,
}

/// What became of the frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fate {
    pub carried: u64,
    pub lost: u64,
    pub overflowed: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupted: u64,
    pub marked: u64,
}

impl Fate {
    /// Frames that did not arrive as they should.
    pub fn trouble(&self) -> u64 {
        self.lost + self.overflowed + self.duplicated + self.reordered + self.corrupted
    }
}

/// A frame on its way.
#[derive(Debug, Clone)]
pub struct Frame {
    pub octets: Vec<u8>,
    /// Some bit is wrong: it must not be believed.
    pub damaged: bool,
}

/// One direction.
#[derive(Debug)]
pub struct Link {
    pub quality: Quality,
    pub up: bool,
    pub fate: Fate,
    /// When the last octet of what is queued has left.
    idle_at: Instant,
    chance: Chance,
}

impl Link {
    pub fn new(quality: Quality, chance: Chance) -> Self {
        Link { quality, up: true, fate: Fate::default(), idle_at: Instant::ZERO, chance }
    }

    /// Octets enter; `arrive` is told when which frame leaves at the other end.
    pub fn carry(&mut self, now: Instant, octets: Vec<u8>, mut arrive: impl FnMut(Instant, Frame)) {
        let mut frame = Frame { octets, damaged: false };
        let q = self.quality;
        if !self.up || self.chance.hits(q.loss) {
            self.fate.lost += 1;
            return;
        }
        let waiting = (self.idle_at - now).as_nanos() as u64 * q.rate / 8_000_000_000;
        if waiting + frame.octets.len() as u64 > q.queue {
            self.fate.overflowed += 1;
            return;
        }
        if q.marking > 0 && waiting >= q.marking && mark(&mut frame.octets) {
            self.fate.marked += 1;
        }
        let takes = Duration::from_nanos((frame.octets.len() as u64 + 24) * 8_000_000_000 / q.rate);
        self.idle_at = self.idle_at.max(now) + takes;
        let mut at = self.idle_at + q.delay;
        if self.chance.hits(q.reordering) {
            self.fate.reordered += 1;
            at += self.lateness();
        }
        if self.chance.hits(q.duplication) {
            self.fate.duplicated += 1;
            arrive(at + self.lateness(), frame.clone());
        }
        if is_ip(&frame.octets) && self.chance.hits(q.corruption) {
            // One bit: every checksum catches that. ARP has none; there the card's does.
            self.fate.corrupted += 1;
            let place = self.chance.below(frame.octets.len() as u32) as usize;
            frame.octets[place] ^= 1 << self.chance.below(8);
            // Nobody believes a link header's source, right or wrong.
            frame.damaged = !(6..12).contains(&place);
        }
        self.fate.carried += 1;
        arrive(at, frame);
    }
}

impl Link {
    fn lateness(&mut self) -> Duration {
        let most = self.quality.shuffle;
        if self.quality.exactly { most } else { self.chance.duration(most) }
    }
}

/// Congestion experienced (RFC 3168 §5), if the packet is ECN-capable.
fn mark(frame: &mut [u8]) -> bool {
    let Some(header) = frame.get_mut(14..34).filter(|header| header[0] >> 4 == 4) else {
        return false;
    };
    if header[1] & 3 == 0 {
        return false;
    }
    //= RFC 1624 §3: HC' = ~(~HC + ~m + m')
    let before = u16::from_be_bytes([header[0], header[1]]);
    header[1] |= 3;
    let after = u16::from_be_bytes([header[0], header[1]]);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    let total = u32::from(!sum) + u32::from(!before) + u32::from(after);
    let folded = (total & 0xffff) + (total >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    [header[10], header[11]] = (!(folded as u16)).to_be_bytes();
    true
}

fn is_ip(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0])
}
