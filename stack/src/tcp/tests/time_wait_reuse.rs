//! A connect that takes the place of a connection in TIME-WAIT (Linux's `tcp_tw_reuse`).

use crate::config::{TcpConfig, TimeWaitReuse};
use crate::error::Error;
use crate::tcp::testing::{PEER, PEER_PORT, Script};
use core::net::SocketAddr;

/// Our end of port 7000 in TIME-WAIT.
fn our_end_in_time_wait(s: &mut Script) {
    let id = s.socket();
    s.bind(id, 7000).unwrap();
    s.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
    s.port = 7000;
    s.out();
    s.inject("S. 0:0(0) ack 1 mss 1460 ts 100 0");
    s.close(id);
    s.out();
    s.inject("F. 1:1(0) ack 2 ts 101 1");
    s.out();
    assert_eq!(s.tcp.occupancy().time_wait, 1);
}

/// Connects from port 7000 again.
fn connect_again(s: &mut Script) -> Result<(), Error> {
    let id = s.socket();
    s.options(id, |o| o.reuse_address = true);
    s.options(id, |o| o.reuse_port = true);
    s.bind(id, 7000).unwrap();
    s.connect(id, SocketAddr::new(PEER, PEER_PORT))
}

#[test]
fn with_tw_reuse_a_connect_takes_its_place_after_a_second() {
    let config = TcpConfig { time_wait_reuse: TimeWaitReuse::On, ..TcpConfig::default() };
    let mut s = Script::with(&config);
    our_end_in_time_wait(&mut s);
    let old = s.last.seq;
    assert_eq!(connect_again(&mut s), Err(Error::AddressNotAvailable), "too early");
    s.wait_ms(1_001);
    assert_eq!(connect_again(&mut s), Ok(()));
    assert_eq!(s.out(), ["S 0:0(0)"]);
    assert!(s.iss.after(old + 65_000), "above the old incarnation");
    assert_eq!(s.last.timestamps.map(|ts| ts.echo), Some(101));
    assert_eq!((s.tcp.occupancy().time_wait, s.counters.time_wait_reused), (0, 1));
}

#[test]
fn by_default_only_on_loopback() {
    let mut s = Script::new();
    our_end_in_time_wait(&mut s);
    s.wait_ms(10_000);
    assert_eq!(connect_again(&mut s), Err(Error::AddressNotAvailable));
}
