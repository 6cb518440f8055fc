//! Idle connections cost memory and nothing else: whatever is done beside them, no step of it is for
//! their sake.

use super::*;
use crate::collections::steps;

/// A client's and a server's end, beside `idle` connections between the same hosts.
fn beside(idle: usize) -> (Net, SocketId, SocketId) {
    let sockets = idle + 16;
    let mut net = Net::with(
        |config| {
            config.capacity.tcp_sockets = sockets;
            config.tcp.max_backlog = 16;
        },
        |_| {},
    );
    let listener = net.listener(1, at(1, 80));
    for n in 0..idle {
        let client = net.connect(0, at(1, 80));
        let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
        if n % 3 == 0 {
            // They have talked once.
            net.transfer((0, client), (1, server), b"once");
        }
        if n % 2 == 0 {
            for (host, socket) in [(0, client), (1, server)] {
                let keepalive = |options: &mut crate::options::Options| options.keepalive = true;
                net.hosts[host].update_options(net.now, socket, keepalive).unwrap();
            }
        }
    }
    let client = net.connect(0, at(1, 80));
    let (server, _) = net.hosts[1].accept(net.now, listener).unwrap();
    // Whatever was to be done for those that are idle now is done.
    for _ in 0..100 {
        net.advance(Duration::from_millis(100));
        while net.hosts.iter_mut().any(|host| host.poll_event().is_some()) {}
    }
    (net, client, server)
}

/// Steps of a round trip, and of ten quiet seconds in which both hosts are polled all the time.
fn steps_beside(idle: usize) -> [u64; 3] {
    let (mut net, client, server) = beside(idle);
    let mut exchange = || {
        net.transfer((0, client), (1, server), b"ping");
        net.transfer((1, server), (0, client), b"pong");
        while net.hosts.iter_mut().any(|host| host.poll_event().is_some()) {}
    };
    exchange();
    let round_trip = steps::taken_by(exchange);
    let quiet = steps::taken_by(|| {
        for _ in 0..1_000 {
            net.advance(Duration::from_millis(10));
            while net.hosts.iter_mut().any(|host| host.poll_event().is_some()) {}
        }
    });
    // What the keeper asks with every turn.
    let looked = steps::taken_by(|| {
        assert_eq!(net.hosts[1].occupancy().tcp.connections, idle + 1);
    });
    [round_trip, quiet, looked]
}

#[test]
fn nothing_that_is_done_beside_idle_connections_walks_over_them() {
    let [alone, few, many] = [0, 600, 1_200].map(steps_beside);
    assert_eq!(few[0], many[0], "steps of a round trip");
    // Beside many, a segment's connection is looked at once more, to have it in the cache.
    assert!(few[0] <= alone[0] + 8, "{} and {}", alone[0], few[0]);
    // Timers far ahead come nearer in the wheel: a step for each in hours, not in seconds.
    assert!(many[1] <= few[1] + 600 / 10, "{} and {}", few[1], many[1]);
    assert_eq!([alone[2], few[2], many[2]], [0; 3], "the tables' occupancy");
}
