//! Units of TCP segments on the way out: handed to a device that cuts them (TSO), or cut here, last
//! thing before the device, each segment with a copy of the one header (GSO).

use super::Shard;
use crate::config::Config;
use crate::device::{Device, Offloads};
use crate::ip::Hop;
use crate::packet::{Buffer, Transmit};
use crate::time::Instant;

/// Segments that a unit has at most where it is cut here: 64 KiB of an Ethernet's.
const MOST: u16 = 47;
/// The longest TCP header.
const MAX_HEADER: usize = 60;
/// Where the flags are in a TCP header, and those that only the last segment carries.
const FLAGS_AT: usize = 13;
const ONLY_LAST: u8 = 0x01 | 0x08;

/// How many segments TCP may hand over as one.
pub(super) fn unit_segments(config: &Config, offloads: &Offloads) -> u16 {
    match (config.segment, offloads.tso) {
        (false, _) => 0,
        // One buffer is the header's.
        (true, true) => offloads.max_parts.saturating_sub(1).min(MOST),
        (true, false) => MOST,
    }
}

impl<D: Device> Shard<D> {
    /// Sends a unit.
    pub(super) fn send_unit(&mut self, now: Instant, transmit: Transmit<D::Buffer>) {
        let neighbor = matches!(self.hop(transmit.destination), Some(Hop::Neighbor(_)));
        if self.offloads.tso && neighbor {
            let interface = &mut self.counters.interface;
            interface.tx_tso_packets += 1;
            interface.tx_tso_segments += transmit.packet.parts() as u64 - 1;
            self.send_segment(now, transmit);
            // The peer may start on it while we make the next.
            return self.send_frames();
        }
        self.counters.interface.tx_gso_packets += 1;
        self.cut_unit(now, transmit);
    }

    /// Sends every part of a unit as a segment.
    fn cut_unit(&mut self, now: Instant, transmit: Transmit<D::Buffer>) {
        let Transmit {
            source,
            destination,
            traffic_class,
            hop_limit,
            dont_fragment,
            packet: mut head,
            header_len,
            segment_size: _,
        } = transmit;
        let mut template = [0; MAX_HEADER];
        let header = &mut template[..usize::from(header_len).min(MAX_HEADER)];
        let mut behind = head.take_rest();
        header.copy_from_slice(&head.data()[..header.len()]);
        drop(head);
        let mut seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let flags = header[FLAGS_AT];
        while let Some(mut packet) = behind {
            behind = packet.take_rest();
            let len = packet.data().len() as u32;
            header[4..8].copy_from_slice(&seq.to_be_bytes());
            header[FLAGS_AT] = if behind.is_some() { flags & !ONLY_LAST } else { flags };
            packet.prepend(header.len()).copy_from_slice(header);
            let segment = Transmit {
                source,
                destination,
                traffic_class,
                hop_limit,
                dont_fragment,
                packet,
                header_len,
                segment_size: 0,
            };
            if let Some(segment) = self.send_quickly(now, segment) {
                self.send_segment(now, segment);
            }
            seq = seq.wrapping_add(len);
        }
    }
}
