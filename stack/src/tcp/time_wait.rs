//! TIME-WAIT (RFC 9293 §3.6.1): what is left of a connection so that its old segments die out.
//! Entries live in a table of their own, small enough to have very many.

use super::connection::Connection;
use super::demux::Tuple;
use super::reply::Reply;
use super::segment::{Flags, Header, Timestamps};
use super::seq::SeqNumber;
use crate::collections::{IndexList, Slab};
use crate::config::TimeWaitReuse;
use crate::options::Options;
use crate::time::{Duration, Instant};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a connection leaves behind: at most 64 octets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeWait {
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
    snd_nxt: SeqNumber,
    rcv_nxt: SeqNumber,
    ts_recent: u32,
    ts_offset: u32,
    /// Milliseconds on the caller's clock, wrapping.
    expires_ms: u32,
    window: u16,
    hop_limit: u8,
    marks: Marks,
}

bitflags::bitflags! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Marks: u8 {
        const V6 = 1;
        const TIMESTAMPS = 2;
        const REUSE_ADDRESS = 4;
    }
}

/// What a segment for an entry asks for.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing.
    Drop,
    /// This ACK, and the time starts anew.
    Acknowledge(Reply),
    /// A new connection may take the entry's place, starting above this number (RFC 6191).
    Reuse(SeqNumber),
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

/// No setting makes an entry stay longer.
const LONGEST_MS: u32 = 3_600_000;

impl TimeWait {
    /// When it ends, as seen from `now`.
    pub fn expires(&self, now: Instant) -> Instant {
        now + Duration::from_millis(self.left_ms(now).into())
    }

    pub fn new(connection: &Connection, options: &Options, expires: Instant) -> Self {
        let tuple = &connection.tuple;
        let mut marks = Marks::empty();
        marks.set(Marks::V6, tuple.is_v6());
        marks.set(Marks::TIMESTAMPS, connection.negotiated.timestamps);
        marks.set(Marks::REUSE_ADDRESS, options.reuse_address);
        let window = connection.receive.window() >> connection.negotiated.receive_shift;
        TimeWait {
            local: octets(tuple.local),
            remote: octets(tuple.remote),
            local_port: tuple.local_port,
            remote_port: tuple.remote_port,
            snd_nxt: connection.send.nxt,
            rcv_nxt: connection.receive.nxt,
            ts_recent: connection.timestamps.recent,
            ts_offset: connection.timestamps.offset,
            expires_ms: expires.as_millis() as u32,
            window: window.min(u32::from(u16::MAX)) as u16,
            hop_limit: options.hop_limit,
            marks,
        }
    }

    pub fn tuple(&self) -> Tuple {
        let address = |octets: [u8; 16]| {
            if self.marks.contains(Marks::V6) {
                return IpAddr::V6(Ipv6Addr::from(octets));
            }
            let [.., a, b, c, d] = octets;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        };
        Tuple {
            local: address(self.local),
            remote: address(self.remote),
            local_port: self.local_port,
            remote_port: self.remote_port,
        }
    }

    pub fn reuse_address(&self) -> bool {
        self.marks.contains(Marks::REUSE_ADDRESS)
    }

    /// How long it stays yet, in milliseconds.
    fn left_ms(&self, now: Instant) -> u32 {
        let left = self.expires_ms.wrapping_sub(now.as_millis() as u32);
        // More than it ever was: its time was over before, however long nobody looked.
        if left > LONGEST_MS { 0 } else { left }
    }

    /// Whether a connect may take its place: its old segments are told by their timestamps, whose
    /// clock has moved on since (Linux: `tcp_twsk_unique`). `stays`: how long entries stay.
    pub fn may_be_taken(&self, reuse: TimeWaitReuse, stays: Duration, now: Instant) -> bool {
        let tuple = self.tuple();
        let loopback = tuple.local.is_loopback() || tuple.remote.is_loopback();
        let allowed = match reuse {
            TimeWaitReuse::Off => false,
            TimeWaitReuse::On => true,
            TimeWaitReuse::Loopback => loopback,
        };
        let left = self.expires_ms.wrapping_sub(now.as_millis() as u32);
        let age = (stays.as_millis() as u32).wrapping_sub(left) as i32;
        allowed && self.marks.contains(Marks::TIMESTAMPS) && age > 1_000
    }

    /// What a connection that takes its place starts from: above every number of the old one, and
    /// with its peer's last timestamp.
    pub fn successor(&self) -> (SeqNumber, u32) {
        (self.snd_nxt + 65_537, self.ts_recent)
    }

    /// The ACK that answers what still comes.
    pub fn acknowledgment(&self, now: Instant) -> Reply {
        let timestamps = self.marks.contains(Marks::TIMESTAMPS).then(|| Timestamps {
            value: (now.as_millis() as u32).wrapping_add(self.ts_offset),
            echo: self.ts_recent,
        });
        Reply {
            tuple: self.tuple(),
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: Flags::ACK,
            window: self.window,
            timestamps,
            traffic_class: 0,
            hop_limit: self.hop_limit,
            syn: None,
        }
    }

    /// A segment for this entry, `len` octets of payload and controls.
    pub fn on_segment(&mut self, header: &Header, len: u32, now: Instant) -> Verdict {
        let flags = header.flags;
        let age = |value: u32| value.wrapping_sub(self.ts_recent) as i32;
        let stamped = self.marks.contains(Marks::TIMESTAMPS);
        let age = header.timestamps.filter(|_| stamped).map(|ts| age(ts.value));
        let old = age.is_some_and(|age| age < 0);
        if flags.contains(Flags::RST) {
            //= RFC 1337 §3 F1: a reset must not cut TIME-WAIT short.
            return Verdict::Drop;
        }
        if !old && header.seq == self.rcv_nxt && len == 0 {
            if let Some(ts) = header.timestamps.filter(|_| stamped) {
                self.ts_recent = ts.value;
            }
            return Verdict::Drop;
        }
        //= RFC 6191 §2: a SYN that is certainly new may reopen the connection.
        let fresh = header.seq.after(self.rcv_nxt) || age.is_some_and(|age| age > 0);
        if flags & (Flags::SYN | Flags::ACK) == Flags::SYN && !old && fresh {
            return Verdict::Reuse(self.snd_nxt + 65_537);
        }
        if old || flags.contains(Flags::ACK) {
            return Verdict::Acknowledge(self.acknowledgment(now));
        }
        Verdict::Drop
    }
}

/// Every entry, in the order in which they expire: all stay equally long.
#[derive(Debug)]
pub(crate) struct TimeWaits {
    pub entries: Slab<TimeWait>,
    order: IndexList,
}

impl TimeWaits {
    pub fn new(capacity: usize) -> Self {
        TimeWaits { entries: Slab::new(capacity), order: IndexList::new(capacity) }
    }

    pub fn insert(&mut self, entry: TimeWait) -> Option<u32> {
        let index = self.entries.insert(entry).ok()?.index();
        self.order.push_back(index);
        Some(index)
    }

    pub fn remove(&mut self, index: u32) -> Option<TimeWait> {
        self.order.remove(index);
        self.entries.remove_at(index)
    }

    /// The time of the entry starts anew.
    pub fn restart(&mut self, index: u32, expires: Instant) {
        if let Some(entry) = self.entries.at_mut(index) {
            entry.expires_ms = expires.as_millis() as u32;
            self.order.remove(index);
            self.order.push_back(index);
        }
    }

    /// An entry whose time is up at `now`.
    pub fn expired(&self, now: Instant) -> Option<u32> {
        let index = self.order.front()?;
        let entry = self.entries.at(index)?;
        (entry.left_ms(now) == 0).then_some(index)
    }

    /// When the first expires, as seen from `now`.
    pub fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let entry = self.entries.at(self.order.front()?)?;
        Some(entry.expires(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_at_most_64_octets() {
        assert!(size_of::<TimeWait>() <= 64, "{}", size_of::<TimeWait>());
    }
}
