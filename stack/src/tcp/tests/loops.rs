//! Two stacks and a bad link: every octet arrives, in order, once; and everything is given back.

use crate::config::TcpConfig;
use crate::error::Error;
use crate::options::CongestionAlgorithm;
use crate::rng::Rng;
use crate::socket::{ReceiveFlags, SendFlags, Shutdown};
use crate::tcp::testing::{Link, OURS, PEER, Script};
use crate::tcp::{State, TcpId};
use crate::time::Duration;
use core::net::SocketAddr;

struct Transfer {
    /// Octets each way.
    octets: [usize; 2],
    reader_pause: bool,
}

/// Connects, moves the octets both ways at once, closes; returns how long it took.
fn transfer(link: &mut Link, what: &Transfer) -> Duration {
    let start = link.now;
    let listener = link.hosts[1].listener(80, 16);
    let client = link.hosts[0].socket();
    link.hosts[0].connect(client, SocketAddr::new(PEER, 80)).unwrap();
    let mut ends = [Some(client), None];
    let (mut sent, mut got) = ([0usize; 2], [0usize; 2]);
    let (mut shut, mut eof) = ([false; 2], [false; 2]);
    for turn in 0..4_000_000u32 {
        if ends[1].is_none() {
            ends[1] = link.hosts[1].accept(listener).ok();
        }
        for side in 0..2 {
            let Some(id) = ends[side] else { continue };
            while sent[side] < what.octets[side] {
                let n = (what.octets[side] - sent[side]).min(5000);
                let data = Script::stream(sent[side] as u32, n);
                match link.hosts[side].send(id, &data) {
                    Ok(n) => sent[side] += n,
                    Err(Error::WouldBlock) => break,
                    Err(error) => panic!("side {side}: {error} after {} octets", sent[side]),
                }
            }
            if sent[side] == what.octets[side]
                && !shut[side]
                && link.hosts[side].tcp.state(id).can_send()
            {
                link.hosts[side].shutdown(id, Shutdown::Write);
                shut[side] = true;
            }
            let paused = what.reader_pause && turn % 64 < 60;
            while !eof[side] && !paused {
                match link.hosts[side].receive(id, 3000) {
                    Ok(data) if data.is_empty() => eof[side] = true,
                    Ok(data) => {
                        assert_eq!(data, Script::stream(got[side] as u32, data.len()));
                        got[side] += data.len();
                    }
                    Err(Error::WouldBlock) => break,
                    Err(error) => panic!("side {side}: {error} after {} read", got[side]),
                }
            }
        }
        if eof == [true; 2] && shut == [true; 2] {
            break;
        }
        // A reader that pauses is not a stall: its turn comes.
        assert!(
            link.step() || what.reader_pause,
            "stalled: sent {sent:?}, got {got:?}, {shut:?} {eof:?}"
        );
        assert!(link.now - start < Duration::from_secs(3600), "sent {sent:?}, got {got:?}");
    }
    assert_eq!(got, [what.octets[1], what.octets[0]]);
    let took = link.now - start;
    link.hosts[0].close(client);
    link.hosts[1].close(ends[1].unwrap());
    link.hosts[1].close(listener);
    while link.step() {}
    for host in &mut link.hosts {
        assert!(host.is_empty(), "{:?}", host.tcp.occupancy());
    }
    took
}

#[test]
fn a_clean_link_carries_both_ways_and_everything_is_given_back() {
    let mut link = Link::new(1, &TcpConfig::default());
    let took = transfer(&mut link, &Transfer { octets: [3_000_000, 500_000], reader_pause: false });
    assert!(took < Duration::from_secs(2), "{took:?}");
    for host in &link.hosts {
        assert_eq!(host.counters.retransmitted, 0);
        assert_eq!(host.counters.resets_out, 0);
    }
}

#[test]
fn nothing_to_send_still_opens_and_closes() {
    let mut link = Link::new(2, &TcpConfig::default());
    transfer(&mut link, &Transfer { octets: [0, 0], reader_pause: false });
}

#[test]
fn losses_reordering_and_duplicates_are_mended() {
    for seed in 0..40u8 {
        let base = TcpConfig {
            sack: seed % 3 != 0,
            timestamps: seed % 2 == 0,
            window_scaling: seed % 5 != 0,
            congestion: if seed % 4 == 0 {
                CongestionAlgorithm::Reno
            } else {
                CongestionAlgorithm::Cubic
            },
            ..TcpConfig::default()
        };
        let mut link = Link::new(seed, &base);
        link.loss = u32::from(seed % 7) * 10;
        link.duplicate = u32::from(seed % 4) * 10;
        link.jitter = Duration::from_millis(u64::from(seed % 3) * 4);
        let octets = [200_000, 60_000];
        transfer(&mut link, &Transfer { octets, reader_pause: seed % 8 == 1 });
    }
}

#[test]
fn a_slow_reader_closes_the_window_and_loses_nothing() {
    let mut link = Link::new(9, &TcpConfig::default());
    link.loss = 20;
    transfer(&mut link, &Transfer { octets: [1_000_000, 0], reader_pause: true });
}

#[test]
fn one_percent_loss_costs_little_with_sack() {
    let mut link = Link::new(5, &TcpConfig::default());
    link.loss = 10;
    let took = transfer(&mut link, &Transfer { octets: [2_000_000, 0], reader_pause: false });
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn the_client_waits_in_time_wait() {
    let mut link = Link::new(3, &TcpConfig::default());
    let listener = link.hosts[1].listener(80, 16);
    let client = link.hosts[0].socket();
    link.hosts[0].connect(client, SocketAddr::new(PEER, 80)).unwrap();
    while link.hosts[0].tcp.state(client) != State::Established {
        assert!(link.step());
    }
    for _ in 0..4 {
        link.step();
    }
    let server = link.hosts[1].accept(listener).unwrap();
    link.hosts[0].close(client);
    while link.hosts[1].tcp.state(server) != State::CloseWait {
        assert!(link.step());
    }
    link.hosts[1].close(server);
    for _ in 0..20 {
        if link.hosts[0].tcp.occupancy().time_wait == 0 {
            link.step();
        }
    }
    assert_eq!(link.hosts[0].tcp.occupancy().time_wait, 1);
    let started = link.now;
    link.hosts[1].close(listener);
    while link.step() {}
    assert!(link.now - started > Duration::from_secs(59));
    assert!(link.hosts[0].is_empty() && link.hosts[1].is_empty());
}

/// Whatever programs do, in whatever order, over whatever link: no panic, and when all is closed
/// nothing is left.
#[test]
fn random_calls_leave_nothing_behind() {
    for seed in 0..60u8 {
        let config = TcpConfig { fin_timeout: Duration::from_secs(5), ..TcpConfig::default() };
        let mut link = Link::new(seed, &config);
        link.loss = u32::from(seed % 5) * 30;
        link.jitter = Duration::from_millis(u64::from(seed % 4) * 3);
        link.duplicate = u32::from(seed % 3) * 50;
        let mut rng = Rng::new([seed ^ 0xaa; 32]);
        let mut sockets: [Vec<TcpId>; 2] = Default::default();
        let listeners = [link.hosts[0].listener(80, 3), link.hosts[1].listener(80, 3)];
        for _ in 0..3000 {
            let side = rng.below(2) as usize;
            let host = &mut link.hosts[side];
            let pick = rng.below(64) as usize;
            let id = sockets[side].get(pick % sockets[side].len().max(1)).copied();
            match (rng.below(24), id) {
                (0, _) if sockets[side].len() < 20 => {
                    let id = host.socket();
                    let to = if side == 0 { PEER } else { OURS };
                    let _ = host.connect(id, SocketAddr::new(to, 80 + rng.below(8) as u16 / 7));
                    sockets[side].push(id);
                }
                (1..4, _) => sockets[side].extend(host.accept(listeners[side])),
                (4..10, Some(id)) => {
                    let flags = SendFlags {
                        more: rng.below(4) == 0,
                        urgent: rng.below(20) == 0,
                        end_of_record: rng.below(20) == 0,
                        ..SendFlags::default()
                    };
                    let _ = host.send_flags(id, &vec![1; rng.below(9000) as usize], flags);
                }
                (10..16, Some(id)) => {
                    let flags = ReceiveFlags {
                        peek: rng.below(4) == 0,
                        urgent: rng.below(20) == 0,
                        truncate: rng.below(20) == 0,
                    };
                    let _ = host.receive_flags(id, rng.below(20_000) as usize, flags);
                }
                (16, Some(id)) => {
                    let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both];
                    host.try_shutdown(id, how[rng.below(3) as usize]);
                }
                (17, Some(id)) => {
                    let (a, b, c) = (rng.below(2) == 0, rng.below(2) == 0, rng.below(2) == 0);
                    host.options(id, |o| {
                        (o.no_delay, o.cork, o.oob_inline) = (a, b, c);
                        o.keepalive = true;
                        o.keepalive_idle = Duration::from_millis(500).into();
                    });
                }
                (18, Some(id)) => {
                    sockets[side].retain(|other| *other != id);
                    host.close(id);
                }
                (19, Some(id)) if rng.below(3) == 0 => {
                    sockets[side].retain(|other| *other != id);
                    host.abort(id);
                }
                (20, _) => host.pool.left = if rng.below(4) == 0 { 90 } else { 100_000 },
                _ => {
                    link.step();
                }
            }
            let events: Vec<_> = link.hosts.iter_mut().map(|host| host.events()).collect();
            assert!(events.iter().all(|e| e.len() <= 64));
        }
        for side in 0..2 {
            link.hosts[side].pool.left = 100_000;
            for id in core::mem::take(&mut sockets[side]) {
                link.hosts[side].close(id);
            }
            link.hosts[side].close(listeners[side]);
        }
        link.loss = link.loss.min(50);
        for _ in 0..2_000_000 {
            if !link.step() {
                break;
            }
        }
        for host in &link.hosts {
            assert!(host.is_empty(), "seed {seed}: {:?}", host.tcp.occupancy());
        }
    }
}
