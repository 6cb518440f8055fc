//! What someone may try who cannot see the connection (RFC 5961), or who is its other end and
//! means no good: a file per attack, and here what concerns several.

mod ack_division;
mod blind_data;
mod blind_reset;
mod blind_syn;
mod fin_flood;
mod optimistic_ack;
mod overlapping_segments;
mod sequence_wrap;
mod tiny_mss;
mod window_shrink;

use crate::tcp::State;
use crate::tcp::testing::Script;

#[test]
fn a_syn_flood_is_bounded_and_passes() {
    let mut s = Script::with(&crate::config::TcpConfig {
        syn_cookies: crate::config::SynCookies::Off,
        ..crate::config::TcpConfig::default()
    });
    let listener = s.listener(80, 10);
    for port in 1..2000u16 {
        let (mut syn, _) = s.parse("S 0:0(0) mss 1000");
        syn.source_port = port;
        s.inject_header(&syn, b"");
    }
    assert_eq!(s.tcp.occupancy().openings, 11, "one more than the backlog");
    assert!(s.counters.syn_queue_full > 1800);
    s.out();
    s.wait(crate::time::Duration::from_secs(200));
    s.close(listener);
    assert!(s.is_empty(), "{:?}", s.tcp.occupancy());
}

#[test]
fn nonsense_does_no_harm() {
    let mut s = Script::new();
    let id = s.established("mss 1000 sackok ts 1 0 wscale 3");
    s.send(id, &[0; 5000]).unwrap();
    let mut rng = crate::rng::Rng::new([42; 32]);
    for _ in 0..30_000 {
        let (mut header, _) = s.parse(". 1:1(0) ack 1");
        let near = |rng: &mut crate::rng::Rng, base: crate::tcp::SeqNumber| {
            if rng.below(4) == 0 {
                crate::tcp::SeqNumber(rng.next_u32())
            } else {
                base + rng.below(6000) - 1000
            }
        };
        header.seq = near(&mut rng, header.seq);
        header.ack = near(&mut rng, s.iss);
        header.flags = crate::tcp::segment::Flags::from_bits_retain(rng.next_u32() as u8);
        if rng.below(8) != 0 {
            header.flags -= crate::tcp::segment::Flags::RST;
        }
        header.window = rng.next_u32() as u16;
        header.urgent = rng.below(2000) as u16;
        for _ in 0..rng.below(4) {
            let start = near(&mut rng, s.iss);
            let end = start + rng.below(4000);
            let _ = header.sack.try_push(crate::tcp::segment::SackBlock { start, end });
        }
        if rng.below(2) == 0 {
            let value = rng.below(100);
            header.timestamps = Some(crate::tcp::segment::Timestamps { value, echo: value });
        }
        let payload = vec![7; rng.below(3) as usize * rng.below(700) as usize];
        s.inject_header(&header, &payload);
        let _ = s.send(id, &[1; 100]);
        let _ = s.receive(id, 100);
        while s.transmit().is_some() {}
        let jump = u64::from(rng.below(3)) * u64::from(rng.below(300));
        s.now += crate::time::Duration::from_millis(jump);
        s.run_timers();
        if s.state(id) == State::Closed {
            break;
        }
    }
    s.close(id);
    while s.transmit().is_some() {}
}
