//! Watches the wire and holds every TCP segment against what RFC 9293 allows its sender.

use stack::time::Instant;
use std::collections::HashMap;
use std::fmt;

/// Addresses and ports of the sender and of the receiver.
type Way = ([u8; 6], [u8; 6]);

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What matters of a TCP segment.
#[derive(Debug, Clone, Copy)]
struct Segment {
    way: Way,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u32,
    len: u32,
    shift: Option<u8>,
    sack: [(u32, u32); 4],
}

impl Segment {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number behind its payload and FIN.
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len).wrapping_add(u32::from(self.has(FIN)))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |end: [u8; 6]| (end[3], u16::from_be_bytes([end[4], end[5]]));
        let (from, to) = (port(self.way.0), port(self.way.1));
        write!(f, "{}:{} > {}:{} ", from.0, from.1, to.0, to.1)?;
        for (flag, letter) in [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (0x08, 'P'), (ACK, '.')] {
            if self.has(flag) {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " {}+{} ack {} win {}", self.seq, self.len, self.ack, self.window)?;
        for (start, end) in self.sack.iter().filter(|(start, end)| start != end) {
            write!(f, " sack {start}..{end}")?;
        }
        Ok(())
    }
}

/// The segment in an Ethernet frame, if it holds a whole one.
fn parse(frame: &[u8]) -> Option<Segment> {
    let ip = frame.get(14..)?;
    let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
    if frame.get(12..14) != Some(&[8, 0]) || ip.get(9) != Some(&6) || fragment != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let tcp = ip.get(20..total)?;
    let header = usize::from(*tcp.get(12)? >> 4) * 4;
    let word =
        |at: usize| tcp.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let end = |address: &[u8], port: &[u8]| {
        [address[0], address[1], address[2], address[3], port[0], port[1]]
    };
    let mut segment = Segment {
        way: (end(&ip[12..16], &tcp[0..2]), end(&ip[16..20], &tcp[2..4])),
        flags: tcp[13],
        seq: word(4)?,
        ack: word(8)?,
        window: u32::from(u16::from_be_bytes([tcp[14], tcp[15]])),
        len: tcp.len().checked_sub(header)? as u32,
        shift: None,
        sack: [(0, 0); 4],
    };
    let mut options = tcp.get(20..header)?;
    while let [kind, rest @ ..] = options {
        let step = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(*rest.first()?).max(2),
        };
        match kind {
            3 => segment.shift = options.get(2).copied(),
            5 => {
                for (n, block) in options.get(2..step)?.chunks_exact(8).enumerate() {
                    let at = |i: usize| u32::from_be_bytes([0, 1, 2, 3].map(|k| block[i + k]));
                    *segment.sack.get_mut(n)? = (at(0), at(4));
                }
            }
            _ => {}
        }
        options = options.get(step..)?;
    }
    Some(segment)
}

/// How far `a` is beyond `b`.
fn beyond(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// What one end of a connection has sent, and what it knows of the other.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    iss: u32,
    /// Behind the last octet it sent.
    sent: u32,
    /// Behind its FIN.
    fin: Option<u32>,
    shift: Option<u8>,
    acked: Option<u32>,
    /// The right edge of the window that it offered.
    offered: Option<u32>,
    /// The right edge that it was told.
    told: Option<u32>,
}

/// The observer of the wire.
#[derive(Debug, Default)]
pub struct Observer {
    halves: HashMap<Way, Half>,
    trace: bool,
    /// Changes with everything that was sent, when and in which order.
    pub digest: u64,
}

impl Observer {
    /// `trace`: every segment is printed.
    pub fn new(trace: bool) -> Self {
        Observer { trace, ..Observer::default() }
    }

    /// Whether segments are printed.
    pub fn is_tracing(&self) -> bool {
        self.trace
    }

    /// `host` puts `frame` on the wire.
    pub fn on_sent(&mut self, now: Instant, frame: &[u8]) {
        let stir =
            |digest: u64, word: u64| (digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b1);
        self.digest = stir(stir(self.digest, now.as_nanos()), frame.len() as u64);
        let Some(segment) = parse(frame) else { return };
        if self.trace {
            eprintln!("{:>13.6} {segment}", now.as_nanos() as f64 / 1e9);
        }
        if segment.has(RST) {
            return;
        }
        let back = (segment.way.1, segment.way.0);
        let peer = self.halves.get(&back).copied();
        let known = self.halves.get(&segment.way).copied();
        let mut half = match known {
            Some(half) if !segment.has(SYN) || half.iss == segment.seq => half,
            None if !segment.has(SYN) => return,
            _ => self.begin(&segment, back),
        };
        let peer = peer.filter(|_| self.halves.contains_key(&back));
        let complain = |what: &str| panic!("{what}: {segment} at {now:?} of {half:?}, {peer:?}");
        if !segment.has(SYN) {
            check_sequence(&segment, &half, &complain);
        }
        if segment.has(ACK)
            && let Some(peer) = peer
        {
            check_acknowledgment(&segment, &half, &peer, &complain);
            half.acked = Some(segment.ack);
            half.offered = Some(segment.ack.wrapping_add(offer(&segment, &half, &peer)));
        }
        if segment.has(FIN) {
            half.fin = Some(segment.end());
        }
        if beyond(segment.end(), half.sent) > 0 {
            half.sent = segment.end();
        }
        self.halves.insert(segment.way, half);
    }

    /// A new connection; if the other half is of an older one, it does not count any more.
    fn begin(&mut self, segment: &Segment, back: Way) -> Half {
        let opening = |half: &Half| half.sent == half.iss.wrapping_add(1);
        if self.halves.get(&back).is_some_and(|half| !opening(half)) {
            self.halves.remove(&back);
        }
        let sent = segment.seq.wrapping_add(1);
        Half { iss: segment.seq, sent, shift: segment.shift, ..Half::default() }
    }

    /// An undamaged `frame` reaches its destination.
    pub fn on_arrived(&mut self, frame: &[u8]) {
        let Some(segment) = parse(frame).filter(|s| s.has(ACK) && !s.has(RST)) else { return };
        let back = (segment.way.1, segment.way.0);
        let Some(sender) = self.halves.get(&segment.way).copied() else { return };
        let Some(half) = self.halves.get_mut(&back) else { return };
        let edge = segment.ack.wrapping_add(offer(&segment, &sender, half));
        if half.told.is_none_or(|told| (1..1 << 30).contains(&beyond(edge, told))) {
            half.told = Some(edge);
        }
    }
}

/// The window that `segment` of `half` offers, in octets.
fn offer(segment: &Segment, half: &Half, peer: &Half) -> u32 {
    match (half.shift, peer.shift) {
        (Some(shift), Some(_)) if !segment.has(SYN) => segment.window << shift,
        _ => segment.window,
    }
}

fn check_sequence(segment: &Segment, half: &Half, complain: &impl Fn(&str)) {
    let end = segment.end();
    if let Some(fin) = half.fin {
        if beyond(end, fin) > 0 {
            complain("data after the FIN");
        }
        if segment.has(FIN) && end != fin {
            complain("the FIN has moved");
        }
    }
    let last = segment.seq.wrapping_add(segment.len);
    if segment.len > 0 && half.told.is_none_or(|told| beyond(last, told) > 0) {
        complain("beyond the advertised window");
    }
}

fn check_acknowledgment(segment: &Segment, half: &Half, peer: &Half, complain: &impl Fn(&str)) {
    if beyond(segment.ack, peer.sent) > 0 {
        complain("acknowledges what was never sent");
    }
    if half.acked.is_some_and(|acked| beyond(segment.ack, acked) < 0) {
        complain("acknowledges less than before");
    }
    let edge = segment.ack.wrapping_add(offer(segment, half, peer));
    let open = peer.fin.is_none_or(|fin| segment.ack != fin);
    if open && half.offered.is_some_and(|offered| beyond(edge, offered) < 0) {
        complain("the window's right edge moved left");
    }
    for (start, end) in segment.sack.iter().filter(|(start, end)| start != end) {
        if beyond(*end, *start) < 0 || beyond(*end, peer.sent) > 0 {
            complain("SACK of what was never sent");
        }
    }
}
