//! Coalescing on the way in: consecutive segments of one flow that arrive in one burst go to TCP
//! as one packet, so that finding the connection, the eight steps and the decision about an
//! acknowledgment are done once for all of them. Nothing ever waits for company: a run ends with
//! its burst.
//!
//! `rx` asks it about every frame of a burst of more than one. It never drops a frame, and leaves
//! alone whatever is not plain: options that differ, flags beyond ACK and PSH, a bad checksum.

use crate::device::BURST;
use crate::packet::{Buffer, RxChecksum};
use crate::wire::checksum::{Sum, checksum};
use crate::wire::ethernet;
use arrayvec::ArrayVec;

/// Where the IP header starts in a frame.
const IP: usize = ethernet::HEADER_LEN;
/// Where the TCP header starts behind an IP header without options.
const TCP: usize = IP + 20;
/// Flags of TCP.
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// What a frame's headers say, if it could be part of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    header_len: usize,
    payload: usize,
    seq: u32,
    push: bool,
}

impl Look {
    /// The frame's headers, if they are those of a plain segment with payload.
    #[inline]
    pub fn at<B: Buffer>(frame: &B) -> Option<Look> {
        let data = frame.data();
        let fixed = data.first_chunk::<{ TCP + 20 }>()?;
        let total = usize::from(u16::from_be_bytes([fixed[IP + 2], fixed[IP + 3]]));
        let header_len = TCP + usize::from(fixed[TCP + 12] >> 4) * 4;
        let plain = fixed[12..15] == [0x08, 0x00, 0x45] // IPv4 without options,
            && fixed[IP + 6..IP + 8] == [0x40, 0] // not to be fragmented, and whole,
            && fixed[IP + 9] == 6 // TCP
            && fixed[TCP + 13] & !PSH == ACK
            && data.len() == IP + total
            && header_len >= TCP + 20
            && header_len < data.len()
            && frame.parts() == 1
            && frame.rx_segment_size() == 0;
        plain.then(|| Look {
            header_len,
            payload: data.len() - header_len,
            seq: u32::from_be_bytes([fixed[38], fixed[39], fixed[40], fixed[41]]),
            push: fixed[TCP + 13] & PSH != 0,
        })
    }
}

/// Consecutive segments of one flow.
#[derive(Debug)]
pub(super) struct Run<B> {
    parts: ArrayVec<B, BURST>,
    first: Look,
    next_seq: u32,
    octets: usize,
    ended: bool,
}

impl<B: Buffer> Run<B> {
    pub fn new() -> Self {
        let first = Look { header_len: 0, payload: 0, seq: 0, push: false };
        Run { parts: ArrayVec::new(), first, next_seq: 0, octets: 0, ended: true }
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Starts with `frame`.
    pub fn begin(&mut self, frame: B, look: Look) {
        debug_assert!(self.parts.is_empty());
        self.first = look;
        self.next_seq = look.seq.wrapping_add(look.payload as u32);
        self.octets = look.payload;
        self.ended = look.push;
        self.parts.push(frame);
    }

    /// Takes `frame` if it goes on where the run ends.
    pub fn join(&mut self, mut frame: B, look: Look) -> Result<(), B> {
        let goes_on = !self.ended
            && look.seq == self.next_seq
            && look.header_len == self.first.header_len
            && look.payload <= self.first.payload
            && self.octets + look.payload + self.first.header_len <= usize::from(u16::MAX)
            && !self.parts.is_full()
            && self.parts.first().is_some_and(|head| same_flow(head.data(), frame.data(), look));
        if !goes_on {
            return Err(frame);
        }
        if self.parts.len() == 1 && !is_sound(&self.parts[0], self.first) {
            self.ended = true;
            return Err(frame);
        }
        if !is_sound(&frame, look) {
            return Err(frame);
        }
        frame.trim_front(look.header_len);
        self.next_seq = self.next_seq.wrapping_add(look.payload as u32);
        self.octets += look.payload;
        self.ended = look.push || look.payload < self.first.payload;
        if look.push
            && let Some(flags) = self.parts[0].data_mut().get_mut(TCP + 13)
        {
            *flags |= PSH;
        }
        self.parts.push(frame);
        Ok(())
    }

    /// The run as one frame, and how many it was; empty afterwards.
    pub fn finish(&mut self) -> Option<(B, usize)> {
        let count = self.parts.len();
        let mut whole = self.parts.pop()?;
        if count == 1 {
            return Some((whole, 1));
        }
        while let Some(mut before) = self.parts.pop() {
            before.chain(whole);
            whole = before;
        }
        let total = (self.first.header_len - IP + self.octets) as u16;
        if let Some(field) = whole.data_mut().get_mut(IP + 2..IP + 4) {
            field.copy_from_slice(&total.to_be_bytes());
        }
        whole.set_rx_coalesced(self.first.payload as u16);
        Some((whole, count))
    }

    /// Octets of headers that the frames of a run of `count` had beyond those of the first.
    pub fn header_octets(&self, count: usize) -> usize {
        (count - 1) * self.first.header_len
    }
}

/// Whether all that names the flow, and all that a joined segment would lose, is the same.
#[inline]
fn same_flow(a: &[u8], b: &[u8], look: Look) -> bool {
    let same = |from: usize, to: usize| a.get(from..to) == b.get(from..to);
    // All but lengths, numbers of packets and checksums; the sequence number was looked at, and
    // PSH ends a run.
    same(0, IP + 2)
        && same(IP + 6, IP + 10)
        && same(IP + 12, TCP + 4)
        && same(TCP + 8, TCP + 13)
        && same(TCP + 14, TCP + 16)
        && same(TCP + 18, look.header_len)
}

/// Whether the frame's checksums hold.
fn is_sound<B: Buffer>(frame: &B, look: Look) -> bool {
    let verdict = frame.rx_checksum();
    let data = frame.data();
    if verdict != RxChecksum::Good && checksum(&data[IP..TCP]) != 0 {
        return false;
    }
    if matches!(verdict, RxChecksum::Good | RxChecksum::TransportGood) {
        return true;
    }
    let len = look.header_len - TCP + look.payload;
    let pseudo = Sum::of(&data[IP + 12..TCP]).plus_word(6).plus_word(len as u16);
    Sum::of(&data[TCP..]).plus(pseudo).finish() == 0
}
