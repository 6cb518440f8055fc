//! A device that takes no frames.

use super::*;
use crate::options::Options;

/// A host that knows its neighbor, with frames that its device does not take.
fn stuck() -> (Net, SocketId, SocketId) {
    let mut net = Net::new();
    let client = net.udp(0, 4000);
    let server = net.udp(1, 7);
    net.send(0, client, b"?", Some(at(1, 7))).unwrap();
    net.settle();
    net.receive(1, server).unwrap();
    net.hosts[0].device_mut().tx_limit = 0;
    for _ in 0..10 {
        net.send(0, client, b"data", Some(at(1, 7))).unwrap();
    }
    assert!(net.hosts[0].occupancy().backlog > 0);
    (net, client, server)
}

#[test]
fn it_is_asked_ever_more_rarely_and_at_last_given_up() {
    let (mut net, _, _) = stuck();
    let end = net.now + Duration::from_secs(6);
    let mut turns = 0;
    while net.hosts[0].occupancy().backlog > 0 {
        let next = net.hosts[0].next_timeout().expect("frames wait: somebody must come back");
        assert!(next > net.now || turns == 0, "asked again at once: a core would spin");
        net.now = net.now.max(next);
        assert!(net.now < end, "frames are kept for ever");
        net.hosts[0].poll(net.now);
        turns += 1;
    }
    assert!(turns < 600, "{turns} turns in five seconds");
    let counters = net.hosts[0].counters().interface;
    assert!(counters.tx_given_up >= 10, "{}", counters.tx_given_up);
    assert_eq!(counters.tx_given_up, counters.tx_backlogged);
    assert_eq!(net.buffers_in_use(), 0);
}

#[test]
fn frames_go_in_order_once_it_takes_them_again() {
    let (mut net, client, server) = stuck();
    net.send(0, client, b"last", Some(at(1, 7))).unwrap();
    net.now += Duration::from_secs(4);
    net.hosts[0].poll(net.now);
    net.hosts[0].device_mut().tx_limit = usize::MAX;
    net.settle();
    assert_eq!(net.hosts[0].counters().interface.tx_given_up, 0);
    for _ in 0..10 {
        assert_eq!(net.receive(1, server).unwrap().0, b"data");
    }
    assert_eq!(net.receive(1, server).unwrap().0, b"last");
}

#[test]
fn a_connection_that_cannot_send_goes_on_or_times_out_as_the_program_wants() {
    let mut net = Net::new();
    let listener = net.listener(1, at(1, 80));
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    net.hosts[0].device_mut().tx_limit = 0;
    net.send(0, client, b"late", None).unwrap();
    for _ in 0..40 {
        net.advance(Duration::from_millis(100)); // It tries again: the copies wait, too.
    }
    net.hosts[0].device_mut().tx_limit = usize::MAX;
    net.settle();
    assert_eq!(net.receive(1, server).unwrap().0, b"late");
    let limit = |options: &mut Options| options.user_timeout = Duration::from_secs(3).into();
    net.hosts[0].update_options(net.now, client, limit).unwrap();
    net.hosts[0].device_mut().tx_limit = 0;
    net.send(0, client, b"never", None).unwrap();
    for _ in 0..28 {
        net.advance(Duration::from_millis(100));
        assert_eq!(net.hosts[0].take_error(client), None);
    }
    for _ in 0..15 {
        net.advance(Duration::from_millis(100));
    }
    assert_eq!(net.hosts[0].take_error(client), Some(Error::TimedOut));
}
