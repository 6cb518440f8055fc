//! Whether somebody on the link already has one of our addresses (RFC 5227 §2.1).
//!
//! Setup asks before the stack exists, so that nothing of ours is announced before. Frames that
//! come meanwhile are for nobody yet. Never used on links of two ends, where both start at once.

use stack::addr::{Cidr, MacAddr};
use stack::device::{Burst, Device};
use stack::packet::Buffer;
use stack::wire::arp::{LEN, Operation, Packet};
use stack::wire::ethernet::{EtherType, HEADER_LEN, Header};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// How often it is asked. RFC 5227 waits seconds, which a program's start cannot.
const PROBES: usize = 2;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(20);

/// Who has one of `addresses`, if anybody says so. The answer may come to any of the queues.
pub(crate) fn holder<D: Device>(
    queues: &mut [D],
    addresses: &[Cidr],
) -> Option<(Ipv4Addr, MacAddr)> {
    for _ in 0..PROBES {
        for cidr in addresses {
            if let IpAddr::V4(address) = cidr.address() {
                ask(queues.first_mut()?, address);
            }
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            for device in &mut *queues {
                let mut frames = Burst::new();
                device.rx_burst(&mut frames);
                let ours = device.mac();
                let found = frames.iter().find_map(|frame| claim(frame.data(), ours, addresses));
                if found.is_some() {
                    return found;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    None
}

//= RFC 5227 §2.1.1
fn ask<D: Device>(device: &mut D, address: Ipv4Addr) {
    let source = device.mac();
    let Some(mut frame) = device.allocate() else { return };
    let header = Header { destination: MacAddr::BROADCAST, source, ether_type: EtherType::Arp };
    header.emit(frame.append(HEADER_LEN));
    let probe = Packet {
        operation: Operation::Request,
        sender_mac: source,
        sender: Ipv4Addr::UNSPECIFIED,
        target_mac: MacAddr::default(),
        target: address,
    };
    probe.emit(frame.append(LEN));
    let mut frames = Burst::new();
    frames.push(frame);
    device.tx_burst(&mut frames);
}

/// What `frame` says of our addresses: that another station has one.
fn claim(frame: &[u8], ours: MacAddr, addresses: &[Cidr]) -> Option<(Ipv4Addr, MacAddr)> {
    let header = Header::parse(frame).filter(|header| header.ether_type == EtherType::Arp)?;
    let arp = Packet::parse(frame.get(HEADER_LEN..)?)?;
    let wanted = addresses.iter().any(|cidr| cidr.address() == IpAddr::V4(arp.sender));
    let other = header.source != ours && arp.sender_mac != ours;
    (wanted && other).then_some((arp.sender, arp.sender_mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn reply(from: MacAddr, sender: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; HEADER_LEN + LEN];
        Header { destination: OURS, source: from, ether_type: EtherType::Arp }.emit(&mut frame);
        let arp = Packet {
            operation: Operation::Reply,
            sender_mac: from,
            sender: sender.into(),
            target_mac: OURS,
            target: Ipv4Addr::UNSPECIFIED,
        };
        arp.emit(&mut frame[HEADER_LEN..]);
        frame
    }

    #[test]
    fn only_another_station_that_claims_our_address_is_a_conflict() {
        let addresses = ["10.0.0.2/24".parse().unwrap()];
        let judge = |frame: &[u8]| claim(frame, OURS, &addresses);
        let address = Ipv4Addr::new(10, 0, 0, 2);
        assert_eq!(judge(&reply(THEIRS, [10, 0, 0, 2])), Some((address, THEIRS)));
        assert_eq!(judge(&reply(OURS, [10, 0, 0, 2])), None, "our own frame, come back");
        assert_eq!(judge(&reply(THEIRS, [10, 0, 0, 3])), None);
        assert_eq!(judge(&reply(THEIRS, [10, 0, 0, 2])[..30]), None, "cut off");
    }
}
