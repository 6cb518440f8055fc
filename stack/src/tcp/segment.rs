//! The TCP header and its options (RFC 9293 §3.1): parsed once into [`Header`], emitted from it
//! in the order that Linux writes them.

use super::opening::fast_open::{Cookie, Form};
use super::seq::SeqNumber;
use arrayvec::ArrayVec;

/// Octets of a header without options.
pub(crate) const MIN_HEADER: usize = 20;
/// Octets of a header with all the options that fit.
pub(crate) const MAX_HEADER: usize = 60;
/// Octets that timestamps take in every segment (padded).
pub(crate) const TIMESTAMPS_LEN: u16 = 12;

bitflags::bitflags! {
    /// The control bits.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub(crate) struct Flags: u8 {
        const FIN = 0x01;
        const SYN = 0x02;
        const RST = 0x04;
        const PSH = 0x08;
        const ACK = 0x10;
        const URG = 0x20;
        const ECE = 0x40;
        const CWR = 0x80;
    }
}

/// A range of received octets, `start..end` (RFC 2018).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SackBlock {
    pub start: SeqNumber,
    pub end: SeqNumber,
}

/// At most four fit a header, three beside timestamps.
pub(crate) type SackBlocks = ArrayVec<SackBlock, 4>;

/// TSval and TSecr (RFC 7323 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timestamps {
    pub value: u32,
    pub echo: u32,
}

impl Timestamps {
    #[inline]
    fn write(self, into: &mut [u8; TIMESTAMPS_LEN as usize]) {
        let [a, b, c, d] = self.value.to_be_bytes();
        let [e, f, g, h] = self.echo.to_be_bytes();
        *into = [1, 1, 8, 10, a, b, c, d, e, f, g, h];
    }
}

/// A header without options but timestamps, as nearly every segment has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Ours and the peer's.
    pub ports: [u16; 2],
    pub seq: SeqNumber,
    pub ack: SeqNumber,
    pub flags: Flags,
    /// As on the wire: not scaled.
    pub window: u16,
    pub timestamps: Option<Timestamps>,
}

impl Plain {
    /// Octets that [`Plain::emit`] writes.
    #[inline]
    pub fn len(&self) -> usize {
        MIN_HEADER + if self.timestamps.is_some() { usize::from(TIMESTAMPS_LEN) } else { 0 }
    }

    /// Writes the header, its checksum zero, into `into`, whose length is [`Plain::len`].
    #[inline]
    pub fn emit(&self, into: &mut [u8]) {
        let words = (self.len() / 4) as u8;
        let Some((fixed, options)) = into.split_first_chunk_mut::<MIN_HEADER>() else { return };
        self.write_fixed(fixed, words, 0);
        if let (Some(timestamps), Some(options)) = (self.timestamps, options.first_chunk_mut()) {
            timestamps.write(options);
        }
    }

    #[inline]
    fn write_fixed(&self, fixed: &mut [u8; MIN_HEADER], words: u8, urgent: u16) {
        let [a, b] = self.ports[0].to_be_bytes();
        let [c, d] = self.ports[1].to_be_bytes();
        let [e, f, g, h] = self.seq.0.to_be_bytes();
        let [i, j, k, l] = self.ack.0.to_be_bytes();
        let [m, n] = self.window.to_be_bytes();
        let [o, p] = urgent.to_be_bytes();
        let flags = self.flags.bits();
        *fixed = [a, b, c, d, e, f, g, h, i, j, k, l, words << 4, flags, m, n, 0, 0, o, p];
    }
}

/// A TCP header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: SeqNumber,
    /// Meaningful with `Flags::ACK`.
    pub ack: SeqNumber,
    pub flags: Flags,
    /// As on the wire: not scaled.
    pub window: u16,
    /// Meaningful with `Flags::URG`.
    pub urgent: u16,
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    pub timestamps: Option<Timestamps>,
    pub sack: SackBlocks,
    /// Fast Open (RFC 7413); empty: a request. Only in a SYN.
    pub fast_open: Option<Cookie>,
    /// Which kind that option has.
    pub fast_open_form: Form,
    /// There is a signature (RFC 2385); never written.
    pub signed: bool,
}

/// A header that is shorter than it says, or says it is shorter than a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Header {
    /// The header at the start of `octets`, and its length.
    pub fn parse(octets: &[u8]) -> Result<(Header, usize), Malformed> {
        let (fixed, _) = octets.split_first_chunk::<MIN_HEADER>().ok_or(Malformed)?;
        let len = usize::from(fixed[12] >> 4) * 4;
        let options = octets.get(MIN_HEADER..len).ok_or(Malformed)?;
        let u16_at = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
        let u32_at = |i| u32::from(u16_at(i)) << 16 | u32::from(u16_at(i + 2));
        let mut header = Header {
            source_port: u16_at(0),
            destination_port: u16_at(2),
            seq: SeqNumber(u32_at(4)),
            ack: SeqNumber(u32_at(8)),
            flags: Flags::from_bits_retain(fixed[13]),
            window: u16_at(14),
            urgent: u16_at(18),
            ..Header::default()
        };
        header.parse_options(options);
        Ok((header, len))
    }

    /// Options that make no sense end the parsing, as in Linux; those before them count.
    fn parse_options(&mut self, mut rest: &[u8]) {
        //= RFC 7323 appendix A: the layout nearly every segment has.
        if let [1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3] = *rest {
            self.timestamps = Some(Timestamps {
                value: u32::from_be_bytes([v0, v1, v2, v3]),
                echo: u32::from_be_bytes([e0, e1, e2, e3]),
            });
            return;
        }
        while let Some((&kind, tail)) = rest.split_first() {
            match kind {
                0 => return,
                1 => rest = tail,
                _ => {
                    let Some(&len) = tail.first() else { return };
                    let len = usize::from(len);
                    let (2.., Some(body)) = (len, rest.get(2..len)) else { return };
                    self.parse_option(kind, body);
                    rest = rest.get(len..).unwrap_or_default();
                }
            }
        }
    }

    fn parse_option(&mut self, kind: u8, body: &[u8]) {
        let syn = self.flags.contains(Flags::SYN);
        match (kind, body) {
            (2, &[a, b]) if syn => self.mss = Some(u16::from_be_bytes([a, b])),
            //= RFC 7323 §2.3: a shift beyond 14 is taken for 14.
            (3, &[shift]) if syn => self.window_scale = Some(shift.min(14)),
            (4, &[]) if syn => self.sack_permitted = true,
            //= RFC 7413 §4.1.1: 4 to 16 octets, an even number; none is a request.
            (34, cookie) if syn && matches!(cookie.len(), 0 | 4..=16) && cookie.len() % 2 == 0 => {
                self.fast_open = Cookie::try_from(cookie).ok();
                self.fast_open_form = Form::Registered;
            }
            //= RFC 6994 §3: an experiment is named by two octets.
            (254, [0xf9, 0x89, cookie @ ..])
                if syn
                    && self.fast_open.is_none()
                    && matches!(cookie.len(), 0 | 4..=16)
                    && cookie.len() % 2 == 0 =>
            {
                self.fast_open = Cookie::try_from(cookie).ok();
                self.fast_open_form = Form::Experimental;
            }
            (19, signature) if signature.len() == 16 => self.signed = true,
            (5, blocks) if !syn && blocks.len() % 8 == 0 => {
                for block in blocks.chunks_exact(8) {
                    let &[a, b, c, d, e, f, g, h] = block else { return };
                    let start = SeqNumber(u32::from_be_bytes([a, b, c, d]));
                    let end = SeqNumber(u32::from_be_bytes([e, f, g, h]));
                    let _ = self.sack.try_push(SackBlock { start, end });
                }
            }
            (8, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                });
            }
            _ => {}
        }
    }

    /// Octets that [`Header::emit`] writes.
    pub fn len(&self) -> usize {
        let sack = if self.sack.is_empty() { 0 } else { 4 + 8 * self.sack.len() };
        MIN_HEADER
            + if self.mss.is_some() { 4 } else { 0 }
            + if self.timestamps.is_some() {
                usize::from(TIMESTAMPS_LEN)
            } else if self.sack_permitted {
                4
            } else {
                0
            }
            + if self.window_scale.is_some() { 4 } else { 0 }
            + sack
            + self.fast_open.as_ref().map_or(0, |cookie| {
                let kind = if self.fast_open_form == Form::Experimental { 4 } else { 2 };
                (kind + cookie.len()).next_multiple_of(4)
            })
    }

    /// Writes the header, its checksum zero, into `into`, whose length is [`Header::len`].
    pub fn emit(&self, into: &mut [u8]) {
        let words = (into.len() / 4) as u8;
        let Some((fixed, options)) = into.split_first_chunk_mut::<MIN_HEADER>() else { return };
        let Header { source_port, destination_port, seq, ack, flags, window, urgent, .. } = *self;
        let ports = [source_port, destination_port];
        Plain { ports, seq, ack, flags, window, timestamps: None }
            .write_fixed(fixed, words, urgent);
        //= RFC 7323 appendix A: the layout nearly every segment has.
        if let (Some(timestamps), Ok(options), false) = (
            self.timestamps,
            <&mut [u8; TIMESTAMPS_LEN as usize]>::try_from(&mut *options),
            self.sack_permitted,
        ) {
            timestamps.write(options);
        } else if !options.is_empty() {
            self.emit_options(options);
        }
    }

    fn emit_options(&self, into: &mut [u8]) {
        let mut octets = ArrayVec::<u8, { MAX_HEADER - MIN_HEADER }>::new();
        let mut put = |bytes: &[u8]| {
            let _ = octets.try_extend_from_slice(bytes);
        };
        if let Some(mss) = self.mss {
            put(&[2, 4]);
            put(&mss.to_be_bytes());
        }
        if let Some(timestamps) = self.timestamps {
            put(if self.sack_permitted { &[4, 2] } else { &[1, 1] });
            put(&[8, 10]);
            put(&timestamps.value.to_be_bytes());
            put(&timestamps.echo.to_be_bytes());
        } else if self.sack_permitted {
            put(&[1, 1, 4, 2]);
        }
        if let Some(shift) = self.window_scale {
            put(&[1, 3, 3, shift]);
        }
        if !self.sack.is_empty() {
            put(&[1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for block in &self.sack {
                put(&block.start.0.to_be_bytes());
                put(&block.end.0.to_be_bytes());
            }
        }
        if let Some(cookie) = &self.fast_open {
            let used = if self.fast_open_form == Form::Experimental {
                put(&[254, 4 + cookie.len() as u8, 0xf9, 0x89]);
                4 + cookie.len()
            } else {
                put(&[34, 2 + cookie.len() as u8]);
                2 + cookie.len()
            };
            put(cookie);
            put(&[1, 1][..used % 4]);
        }
        for (to, from) in into.iter_mut().zip(&octets) {
            *to = *from;
        }
    }

    /// Octets of sequence space that the control bits take.
    pub fn control_len(&self) -> u32 {
        u32::from(self.flags.contains(Flags::SYN)) + u32::from(self.flags.contains(Flags::FIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emitted(header: &Header) -> Vec<u8> {
        let mut octets = vec![0; header.len()];
        header.emit(&mut octets);
        octets
    }

    #[test]
    fn of_fast_opens_two_forms_the_registered_one_counts() {
        let (old, new) = ([254, 8, 0xf9, 0x89, 1, 2, 3, 4], [34, 6, 5, 6, 7, 8, 1, 1]);
        for options in [[old, new].concat(), [new, old].concat()] {
            let mut octets = vec![0; MIN_HEADER];
            (octets[12], octets[13]) = (9 << 4, Flags::SYN.bits());
            octets.extend(options);
            let (header, _) = Header::parse(&octets).unwrap();
            assert_eq!(header.fast_open.as_deref(), Some(&[5, 6, 7, 8][..]));
            assert_eq!(header.fast_open_form, Form::Registered);
        }
    }

    #[test]
    fn options_are_written_in_the_order_of_linux() {
        let syn = Header {
            flags: Flags::SYN,
            mss: Some(1460),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 1, echo: 0 }),
            window_scale: Some(7),
            ..Header::default()
        };
        let expected = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(emitted(&syn)[20..], expected);
        let bare = Header { timestamps: None, ..syn };
        assert_eq!(emitted(&bare)[20..], [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
    }

    #[test]
    fn a_truncated_header_is_malformed() {
        let octets = emitted(&Header { mss: Some(536), ..Header::default() });
        assert!(Header::parse(&octets[..23]).is_err());
        assert!(Header::parse(&octets[..19]).is_err());
        let mut short = octets;
        short[12] = 4 << 4;
        assert!(Header::parse(&short).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_parse_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((header, len)) = Header::parse(&octets) {
                prop_assert!(len <= octets.len());
                prop_assert!(header.sack.len() <= 4);
            }
        }

        /// What follows the header is payload: whatever it holds, the header is the same.
        #[test]
        fn nothing_behind_the_header_is_read(
            header in proptest::collection::vec(any::<u8>(), 60), words in 5usize..16,
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut header = header[..words * 4].to_vec();
            header[12] = (words as u8) << 4 | header[12] & 0xf;
            let alone = Header::parse(&header);
            prop_assert_eq!(alone.as_ref().map(|(_, len)| *len), Ok(words * 4));
            header.extend_from_slice(&payload);
            prop_assert_eq!(Header::parse(&header), alone);
        }

        /// What was understood is understood again when it is written as we write it.
        #[test]
        fn what_is_parsed_survives_emission(
            kinds in proptest::collection::vec((0u8..10, 0u8..12, any::<[u8; 12]>()), 0..12),
            flags in any::<u8>(),
        ) {
            let mut octets = vec![0u8; MIN_HEADER];
            octets[13] = flags;
            for (kind, len, body) in kinds {
                octets.extend_from_slice(&[kind, len]);
                octets.extend_from_slice(&body[..usize::from(len).saturating_sub(2).min(12)]);
            }
            octets.resize(octets.len().min(MAX_HEADER).next_multiple_of(4), 0);
            octets[12] = ((octets.len() / 4) as u8) << 4;
            let (header, _) = Header::parse(&octets).unwrap();
            prop_assert!(header.len() <= MAX_HEADER);
            prop_assert_eq!(Header::parse(&emitted(&header)).unwrap().0, header);
        }

        #[test]
        fn what_is_emitted_parses_back(
            seq in any::<u32>(), ack in any::<u32>(), flags in any::<u8>(), window in any::<u16>(),
            ts in proptest::option::of((any::<u32>(), any::<u32>())), mss in any::<u16>(),
            cookie in proptest::collection::vec(any::<u8>(), 4..17),
            shift in 0u8..15, blocks in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..4),
        ) {
            let flags = Flags::from_bits_retain(flags);
            let syn = flags.contains(Flags::SYN);
            let sack = blocks.iter().map(|(a, b)| SackBlock {
                start: SeqNumber(*a), end: SeqNumber(*b),
            });
            let header = Header {
                source_port: 1, destination_port: 2, seq: SeqNumber(seq), ack: SeqNumber(ack),
                flags, window, urgent: 3,
                mss: syn.then_some(mss),
                window_scale: syn.then_some(shift),
                sack_permitted: syn,
                timestamps: ts.map(|(value, echo)| Timestamps { value, echo }),
                sack: if syn { SackBlocks::new() } else { sack.collect() },
                fast_open_form: Form::Registered,
                signed: false,
                fast_open: syn.then(|| cookie[..cookie.len() & !1].iter().copied().collect()),
            };
            prop_assert_eq!(Header::parse(&emitted(&header)), Ok((header.clone(), header.len())));
        }
    }
}
