//! A shard among several: what it leaves to the others.

use super::wire::{header, inject_arp, ip_frame};
use super::*;
use crate::steering::{Owner, Share, owner};
use crate::wire::arp::{Operation, Packet};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ipv4::{Header, Protocol};

fn shard_of_two(index: u16) -> Host {
    let config = Config { share: Share::new(index, 2), ..config(0) };
    Host::with(TestDevice::new(MACS[0], MTU, BUFFERS), &config)
}

/// A SYN with 1,000 octets behind it, from a port whose flow is that shard's.
fn long_syn(shard: u16) -> Vec<u8> {
    let mut syn = vec![0; 1_020];
    syn[2..4].copy_from_slice(&80_u16.to_be_bytes());
    (syn[12], syn[13]) = (0x50, 0x02);
    for port in 1_000_u16.. {
        syn[0..2].copy_from_slice(&port.to_be_bytes());
        let frame = ip_frame(&header(Protocol::Tcp, syn.len()), &syn);
        if owner(&frame, 2) == Owner::Shard(shard) {
            break;
        }
    }
    let pseudo = pseudo_header(ADDRESSES[1].into(), ADDRESSES[0].into(), 6, syn.len());
    let sum = Sum::of(&syn).plus(pseudo).finish();
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    syn
}

fn inject_in_fragments(host: &mut Host, segment: &[u8]) {
    let (one, two) = segment.split_at(512);
    let first = Header { more_fragments: true, ..header(Protocol::Tcp, one.len()) };
    let second = Header { fragment_offset: 512, ..header(Protocol::Tcp, two.len()) };
    host.inject(&ip_frame(&first, one));
    host.inject(&ip_frame(&second, two));
}

#[test]
fn a_segment_that_came_in_fragments_goes_to_its_shard() {
    let mut host = shard_of_two(0);
    let theirs = long_syn(1);
    inject_in_fragments(&mut host, &theirs);
    let handed = host.sent();
    assert_eq!(handed.len(), 1, "no reset: it is not for us to say that nobody listens");
    assert_eq!(owner(&handed[0], 2), Owner::Shard(1));
    assert_eq!(handed[0][14..], ip_frame(&header(Protocol::Tcp, theirs.len()), &theirs)[14..]);
    assert_eq!(host.shard.counters().tcp.segments_in, 0);

    let mut other = shard_of_two(1);
    other.inject(&handed[0]);
    assert_eq!(other.shard.counters().tcp.segments_in, 1);
    inject_in_fragments(&mut host, &long_syn(0));
    assert_eq!(host.shard.counters().tcp.segments_in, 1);
    drop(handed);
}

#[test]
fn the_first_shard_speaks_for_the_host_and_every_one_listens() {
    let request = Packet {
        operation: Operation::Request,
        sender_mac: MACS[1],
        sender: ADDRESSES[1],
        target_mac: MacAddr::default(),
        target: ADDRESSES[0],
    };
    for index in 0..2 {
        let mut host = shard_of_two(index);
        inject_arp(&mut host, &request);
        assert_eq!(host.sent().len(), usize::from(index == 0));
        assert_eq!(host.shard.neighbors(host.now).count(), 1);
        let announced = host.shard.counters().neighbor.out_announcements;
        assert_eq!(announced > 0, index == 0);
    }
}
