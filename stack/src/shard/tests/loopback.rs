//! What a host sends to itself never reaches its device.

use super::*;
use core::net::IpAddr;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn bound(host: &mut Host, address: IpAddr, port: u16) -> SocketId {
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.bind(host.now, socket, SocketAddr::new(address, port)).unwrap();
    socket
}

fn send(host: &mut Host, from: SocketId, data: &[u8], to: SocketAddr) -> Result<usize, Error> {
    let (control, flags) = (SendControl::default(), SendFlags::default());
    host.shard.send_to(host.now, from, &[IoSlice::new(data)], Some(to), &control, flags)
}

#[test]
fn a_datagram_to_ourselves_is_readable_when_send_returns() {
    let mut host = Host::new();
    for address in [LOCALHOST, ADDRESSES[0].into(), "127.9.9.9".parse().unwrap()] {
        let server = bound(&mut host, address, 7);
        let client = bound(&mut host, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        for len in [0, 1, 1472, 5000, 65_507] {
            let data = pattern(len);
            send(&mut host, client, &data, SocketAddr::new(address, 7)).unwrap();
            let (got, source) = receive(&mut host.shard, host.now, server).unwrap();
            assert_eq!(got, data);
            let own = if address.is_loopback() { LOCALHOST } else { address };
            assert_eq!(source.unwrap().ip(), own);
        }
        host.shard.close(host.now, server);
        host.shard.close(host.now, client);
    }
    assert!(host.sent().is_empty());
    assert_eq!(host.shard.device().buffers_in_use(), 0);
    assert_eq!(host.shard.occupancy().udp, crate::udp::Occupancy::default());
}

#[test]
fn a_closed_port_here_refuses_at_once() {
    let mut host = Host::new();
    let client = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    host.shard.connect(host.now, client, SocketAddr::new(LOCALHOST, 9)).unwrap();
    host.shard.send(host.now, client, &[IoSlice::new(b"x")], SendFlags::default()).unwrap();
    assert_eq!(host.shard.take_error(client), Some(Error::ConnectionRefused));
}

#[test]
fn without_loopback_127_is_not_ours_but_our_address_is() {
    let config = Config { loopback: false, ..config(0) };
    let mut host = Host::with(TestDevice::new(MACS[0], MTU, BUFFERS), &config);
    let socket = host.shard.socket(SocketKind::Udp, Family::V4).unwrap();
    let local = SocketAddr::new(LOCALHOST, 7);
    assert_eq!(host.shard.bind(host.now, socket, local), Err(Error::AddressNotAvailable));
    assert_eq!(host.shard.connect(host.now, socket, local), Err(Error::NetworkUnreachable));
    assert_eq!(host.shard.route_to(LOCALHOST), None);
    assert!(host.shard.is_local(ADDRESSES[0].into()));
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 7);
    host.shard.bind(host.now, socket, any).unwrap();
    send(&mut host, socket, b"me", at(0, 7)).unwrap();
    assert_eq!(receive(&mut host.shard, host.now, socket), Ok((b"me".to_vec(), Some(at(0, 7)))));
}

#[test]
fn a_loopback_source_never_leaves() {
    let mut host = Host::new();
    let socket = bound(&mut host, LOCALHOST, 7);
    assert_eq!(send(&mut host, socket, b"x", at(1, 7)), Err(Error::InvalidArgument));
}
