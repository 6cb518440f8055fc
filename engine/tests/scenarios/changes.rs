//! What an operator changes while programs run.

use super::{
    begin, connect, connection, echo_one, end, fork, keeper, listener, stat, until, wait_for,
};
use control::{Change, Membership};
use stack::addr::MacAddr;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::time::Duration;

/// The kernel's neighbor entry follows, and a connection that a child serves goes on.
pub fn our_ethernet_address_changes_under_connections() {
    let engine = begin();
    let listening = listener(engine, 80);
    let (file, mut peer) = connection(engine, listening);
    let pid = fork(|| {
        engine.release(listening);
        assert_eq!(echo_one(engine, file), 5 * 50_000);
        // A child's frames come from the new address, too, and so do those of new connections.
        let new = connect(engine, "10.78.0.1:81");
        engine.release(new);
    });
    engine.release(file);
    let server = TcpListener::bind("10.78.0.1:81").unwrap();
    let data: Vec<u8> = (0..50_000).map(|at| (at * 7) as u8).collect();
    let mut echo = |round: u8| {
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer.write_all(&data).unwrap();
        let mut got = vec![0; data.len()];
        peer.read_exact(&mut got).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(got == data);
    };
    let before = keeper().info().unwrap().mac;
    echo(0);
    for round in 1..5 {
        // Back to the first at last.
        let mac = if round == 4 { before } else { MacAddr([2, 0, 0, 0, 0x77, round]) };
        assert_eq!(keeper().change(Change::Mac(mac)).unwrap(), None);
        assert_eq!(keeper().info().unwrap().mac, mac);
        until("the kernel to follow", || {
            std::fs::read_to_string("/proc/net/arp").unwrap().contains(&mac.to_string())
        });
        echo(round);
    }
    // Not closed: the child has it, too.
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wait_for(pid), 0);
    drop(server);
    let nobody = MacAddr([0; 6]);
    let refused = keeper().change(Change::Mac(nobody)).unwrap_err().to_string();
    assert!(refused.contains("no station's address"), "{refused}");
    assert_eq!(keeper().info().unwrap().mac, before);
    engine.release(listening);
    end();
}

pub fn groups_are_taken_and_shown() {
    begin();
    let groups = [[1, 0, 0x5e, 1, 2, 3], [0x33, 0x33, 0, 0, 0, 0xfb]].map(MacAddr);
    let set = |membership, group| keeper().change(Change::Multicast { membership, group });
    let shown = || keeper().info().map(|info| (info.multicast, info.allmulticast)).unwrap();
    for group in [groups[0], groups[1], groups[0]] {
        // A TAP has no filter: there is nothing to be told of it.
        assert_eq!(set(Membership::Add, group).unwrap(), None);
    }
    assert_eq!(shown(), (groups.to_vec(), false));
    set(Membership::Del, groups[0]).unwrap();
    let twice = set(Membership::Del, groups[0]).unwrap_err().to_string();
    assert!(twice.contains("01:00:5e:01:02:03 was not added"), "{twice}");
    let station = MacAddr([2, 0, 0, 0, 0, 1]);
    let wrong = set(Membership::Add, station).unwrap_err().to_string();
    assert!(wrong.contains("no group's address"), "{wrong}");
    assert_eq!(shown(), (vec![groups[1]], false));
    assert_eq!(keeper().change(Change::AllMulticast(true)).unwrap(), None);
    assert_eq!(shown(), (vec![groups[1]], true));
    keeper().change(Change::AllMulticast(false)).unwrap();
    assert_eq!(shown(), (vec![groups[1]], false));
    // What nobody has joined is counted where it is dropped.
    let before = (stat("interface", "rx_multicast"), stat("ip", "in_not_member"));
    let sender = UdpSocket::bind("10.78.0.1:0").unwrap();
    sender.send_to(b"hello", "239.1.2.3:5000").unwrap();
    until("the frame", || {
        let after = (stat("interface", "rx_multicast"), stat("ip", "in_not_member"));
        after.0 > before.0 && after.1 > before.1
    });
    end();
}
