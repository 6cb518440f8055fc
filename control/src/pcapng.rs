//! pcapng, as far as a capture needs it: section header, one interface, enhanced packets
//! (draft-ietf-opsawg-pcapng). Little-endian; times in nanoseconds.

use std::io::{self, Write};

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameDirection {
    /// From the link.
    Inbound,
    /// To the link.
    Outbound,
}

/// One captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    pub time_ns: u64,
    /// Which way it went.
    pub direction: FrameDirection,
    /// What was kept of it, from the Ethernet header on.
    pub octets: &'a [u8],
    /// How long it was.
    pub length: u32,
}

/// Writes one section with one Ethernet interface.
#[derive(Debug)]
pub struct Writer<W> {
    into: W,
    block: Vec<u8>,
}

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const LINKTYPE_ETHERNET: u16 = 1;

impl<W: Write> Writer<W> {
    /// Writes the section's and the interface's headers. `snaplen` 0 means whole frames.
    ///
    /// # Errors
    /// Those of `into`.
    pub fn new(into: W, interface: &str, snaplen: u32) -> io::Result<Self> {
        let mut writer = Writer { into, block: Vec::with_capacity(2_048) };
        writer.begin(SECTION_HEADER);
        writer.u32(0x1A2B_3C4D); // byte-order magic
        writer.u16(1); // version 1.0
        writer.u16(0);
        writer.block.extend(u64::MAX.to_le_bytes()); // section length not specified
        writer.option(4, concat!("onwire ", env!("CARGO_PKG_VERSION")).as_bytes()); // shb_userappl
        writer.option(0, &[]);
        writer.end()?;
        writer.begin(INTERFACE_DESCRIPTION);
        writer.u16(LINKTYPE_ETHERNET);
        writer.u16(0);
        writer.u32(snaplen);
        writer.option(2, interface.as_bytes()); // if_name
        writer.option(9, &[9]); // if_tsresol: 10^-9 s
        writer.option(0, &[]);
        writer.end()?;
        Ok(writer)
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// Those of the sink; some of the block may have been written then.
    pub fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.begin(ENHANCED_PACKET);
        self.u32(0); // the interface
        self.u32((frame.time_ns >> 32) as u32);
        self.u32(frame.time_ns as u32);
        self.u32(frame.octets.len() as u32);
        self.u32(frame.length);
        self.octets(frame.octets);
        let flags: u32 = match frame.direction {
            FrameDirection::Inbound => 1,
            FrameDirection::Outbound => 2,
        };
        self.option(2, &flags.to_le_bytes()); // epb_flags
        self.option(0, &[]);
        self.end()
    }

    /// Passes on what the sink holds back.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }

    /// The sink.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.into
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.u32(kind);
        self.u32(0); // the length, known at the end
    }

    fn u16(&mut self, value: u16) {
        self.block.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.block.extend(value.to_le_bytes());
    }

    /// Octets, padded to a multiple of four.
    fn octets(&mut self, octets: &[u8]) {
        self.block.extend_from_slice(octets);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.u16(code);
        self.u16(value.len() as u16);
        self.octets(value);
    }

    fn end(&mut self) -> io::Result<()> {
        let length = self.block.len() as u32 + 4;
        self.u32(length);
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.into.write_all(&self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn an_independent_reader_finds_what_was_written() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, "onwire0", 96).unwrap();
        let octets: Vec<u8> = (0..61).collect();
        for (direction, length) in [(FrameDirection::Inbound, 61), (FrameDirection::Outbound, 999)]
        {
            let time_ns = 1_700_000_000_123_456_789;
            writer.frame(&Frame { time_ns, direction, octets: &octets, length }).unwrap();
        }
        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let mut packets = 0;
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => assert_eq!(interface.snaplen, 96),
                Block::EnhancedPacket(packet) => {
                    assert_eq!(&*packet.data, octets.as_slice());
                    assert_eq!(packet.original_len, [61, 999][packets]);
                    packets += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(packets, 2);
    }
}
