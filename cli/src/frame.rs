//! One line per frame, for machines without tcpdump(1).

use crate::failure::Failure;
use crate::output;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcapng::{Block, PcapNgReader};
use std::io::Read;
use std::process::ExitCode;

/// Prints a line for each frame of a pcapng stream, until it ends or `count` is reached.
pub fn summarize(stream: &mut impl Read, count: Option<u64>) -> Result<ExitCode, Failure> {
    let mut reader =
        PcapNgReader::new(stream).map_err(|_| Failure::failed("the engine sent no pcapng"))?;
    let mut seen = 0;
    while let Some(block) = reader.next_block() {
        // A stream that ends within a block: the engine left.
        let Ok(block) = block else { break };
        let Block::EnhancedPacket(packet) = block else { continue };
        let time = packet.timestamp;
        let day = time.as_secs() % 86_400;
        output::print(&format!(
            "{:02}:{:02}:{:02}.{:06} {}\n",
            day / 3_600,
            day / 60 % 60,
            day % 60,
            time.subsec_micros(),
            describe(&packet.data, packet.original_len as usize)
        ))?;
        seen += 1;
        if count == Some(seen) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A frame of `length` octets, of which `octets` were kept, in one line.
fn describe(octets: &[u8], length: usize) -> String {
    let Ok(packet) = SlicedPacket::from_ethernet(octets) else {
        return format!("malformed or cut short, {length} octets");
    };
    let (source, destination, protocol) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let ends = (header.source_addr().to_string(), header.destination_addr().to_string());
            (ends.0, ends.1, format!("IP protocol {}", header.protocol().0))
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let ends = (header.source_addr().to_string(), header.destination_addr().to_string());
            (ends.0, ends.1, format!("IP protocol {}", header.next_header().0))
        }
        _ => return describe_ethernet(octets, length),
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.urg(), 'U'),
                (tcp.ece(), 'E'),
                (tcp.cwr(), 'W'),
                (tcp.ack(), '.'),
            ];
            let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect();
            format!(
                "{source}.{} > {destination}.{}: tcp [{flags}] seq {} ack {} win {}, {length} octets",
                tcp.source_port(),
                tcp.destination_port(),
                tcp.sequence_number(),
                tcp.acknowledgment_number(),
                tcp.window_size()
            )
        }
        Some(TransportSlice::Udp(udp)) => format!(
            "{source}.{} > {destination}.{}: udp, {length} octets",
            udp.source_port(),
            udp.destination_port()
        ),
        Some(TransportSlice::Icmpv4(icmp)) => {
            format!("{source} > {destination}: icmp {:?}, {length} octets", icmp.icmp_type())
        }
        _ => format!("{source} > {destination}: {protocol}, {length} octets"),
    }
}

fn describe_ethernet(octets: &[u8], length: usize) -> String {
    let mac = |at: usize| {
        let texts: Vec<String> = octets[at..at + 6].iter().map(|o| format!("{o:02x}")).collect();
        texts.join(":")
    };
    if octets.len() < 14 {
        return format!("{length} octets");
    }
    let kind = u16::from_be_bytes([octets[12], octets[13]]);
    let ip = |at: usize| {
        octets
            .get(at..at + 4)
            .map_or("?".to_owned(), |ip| format!("{}.{}.{}.{}", ip[0], ip[1], ip[2], ip[3]))
    };
    match (kind, octets.get(21)) {
        // RFC 826 for IPv4 on Ethernet.
        (0x0806, Some(1)) => format!("arp who has {} tell {}", ip(38), ip(28)),
        (0x0806, Some(2)) => format!("arp {} is at {}", ip(28), mac(6)),
        _ => format!("{} > {}: ethertype {kind:#06x}, {length} octets", mac(6), mac(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    #[test]
    fn frames_read_as_in_tcpdump() {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 80, 7, 500)
            .syn();
        let mut frame = Vec::new();
        builder.write(&mut frame, &[]).unwrap();
        let line = describe(&frame, frame.len());
        assert!(line.starts_with("10.0.0.1.1000 > 10.0.0.2.80: tcp [S] seq 7"), "{line}");
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(53, 54);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"x").unwrap();
        assert!(describe(&frame, 43).contains("10.0.0.1.53 > 10.0.0.2.54: udp"));
    }

    #[test]
    fn nothing_that_arrives_makes_it_panic() {
        let mut arp = vec![0xff; 12];
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.extend([0; 20]);
        assert!(describe(&arp, 42).starts_with("arp who has 0.0.0.0"));
        for length in 0..arp.len() {
            let _ = describe(&arp[..length], 42);
        }
        let mut random = 1_u64;
        for _ in 0..2_000 {
            let frame: Vec<u8> = (0..random % 80)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 33) as u8
                })
                .collect();
            let _ = describe(&frame, frame.len());
            random = random.wrapping_add(0x9e37_79b9);
        }
    }
}
