//! RFC 4821: finding the path's MTU without any router's help, as Linux's `tcp_mtu_probing`.

use crate::config::{MtuProbing, TcpConfig};
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

fn script(mtu_probing: MtuProbing) -> (Script, TcpId) {
    let config = TcpConfig { mtu_probing, timestamps: false, ..TcpConfig::default() };
    let mut s = Script::with(&config);
    let id = s.established_in("mss 1460 sackok", Duration::from_millis(20));
    (s, id)
}

/// A line of the script: from, to, length.
fn range(line: &str) -> (u32, u32, u32) {
    let mut numbers = line.split([' ', ':', '(', ')']).filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap())
}

/// A path that takes IP packets of `mtu` octets and says nothing about others, until `octets` are
/// through. The lengths of the largest segments that arrived, in the order they came.
fn transfer(s: &mut Script, id: TcpId, mtu: u32, octets: usize) -> Vec<u32> {
    let (mut written, mut arrived, mut largest) = (0, 1u32, Vec::new());
    let mut beyond: Vec<(u32, u32)> = Vec::new();
    for _ in 0..2_000 {
        if arrived as usize > octets {
            return largest;
        }
        if written < octets {
            written += s.send(id, &vec![7; (octets - written).min(60_000)]).unwrap_or(0);
        }
        let mut out = s.out();
        if out.is_empty() {
            out = s.wait_ms(10);
        } else {
            s.now += Duration::from_millis(20);
        }
        for line in out {
            let (from, to, len) = range(&line);
            if len + 40 > mtu {
                continue;
            }
            if largest.last().is_none_or(|last| len > *last) {
                largest.push(len);
            }
            beyond.push((from, to));
            beyond.sort_unstable();
            beyond.retain(|(from, to)| {
                if *from <= arrived {
                    arrived = arrived.max(*to);
                }
                *from > arrived
            });
            match beyond.first() {
                None => s.inject(&format!(". 1:1(0) ack {arrived}")),
                Some(_) => {
                    let end = beyond.last().map_or(0, |last| last.1);
                    let start = beyond.iter().find(|b| b.1 == end).map_or(0, |b| b.0);
                    s.inject(&format!(". 1:1(0) ack {arrived} sack {start}:{end}"));
                }
            }
        }
    }
    panic!("stalled at {arrived}, {:?}", s.tcp.info(id, s.now));
}

#[test]
fn rfc_4821_7_a_search_ends_at_what_the_path_takes() {
    let (mut s, id) = script(MtuProbing::Always);
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_mss, 1_024, "`tcp_base_mss`");
    transfer(&mut s, id, 1_500, 2_000_000);
    let info = s.tcp.info(id, s.now).unwrap();
    assert!((1_453..=1_460).contains(&info.snd_mss), "within the threshold: {}", info.snd_mss);
    assert_eq!(s.counters.retransmitted, 0);
    assert_eq!(s.counters.mtu_probes, s.counters.mtu_probes_succeeded);
}

#[test]
fn rfc_4821_7_6_2_a_lost_probe_is_no_congestion() {
    let (mut s, id) = script(MtuProbing::Always);
    transfer(&mut s, id, 1_300, 2_000_000);
    let info = s.tcp.info(id, s.now).unwrap();
    assert!((1_253..=1_260).contains(&info.snd_mss), "{}", info.snd_mss);
    let c = &s.counters;
    assert!(c.mtu_probes_failed >= 3, "{c:?}");
    assert_eq!((c.fast_recoveries, c.timeouts), (0, 0), "{c:?}");
    assert!(info.snd_cwnd > 100, "{}", info.snd_cwnd);
}

#[test]
fn rfc_4821_7_4_a_probe_joins_what_is_queued_and_counts_for_two() {
    let (mut s, id) = script(MtuProbing::Always);
    s.send(id, &[7; 60 * 1_024]).unwrap();
    assert_eq!(s.out().len(), 10);
    assert_eq!(s.counters.mtu_probes, 0, "the window is too small");
    s.inject(". 1:1(0) ack 4097");
    // 1064 octets arrive, 1500 the peer takes: the middle, less 40 of headers.
    let out = s.out();
    assert_eq!(range(&out[0]), (10_241, 11_483, 1_242), "{out:?}");
    assert_eq!(range(&out[1]).2, 806, "the rest of what the probe took from");
    assert_eq!(range(&out[2]).2, 1_024);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.snd_cwnd, info.unacked), (13, 13));
    // It arrives: segments are as large, and the window holds as many octets.
    s.inject(". 1:1(0) ack 11483");
    s.out();
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.snd_mss, 1_242);
    assert!(info.snd_cwnd * 1_282 <= 21 * 1_064, "{}", info.snd_cwnd);
}

#[test]
fn rfc_4821_where_it_is_off_nothing_is_probed_nor_suspected() {
    let (mut s, id) = script(MtuProbing::Off);
    transfer(&mut s, id, 1_500, 1_000_000);
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_mss, 1_460);
    s.send(id, &[7; 1_460]).unwrap();
    s.out();
    assert!(s.wait(Duration::from_secs(60)).iter().all(|line| range(line).2 == 1_460));
    assert_eq!(s.counters.mtu_probes + s.counters.mtu_black_holes, 0);
    assert_eq!(s.tcp.rare.paths.len(), 0);
}

#[test]
fn rfc_2923_2_1_behind_a_black_hole_segments_shrink_until_they_get_through() {
    let (mut s, id) = script(MtuProbing::BlackHole);
    s.send(id, &[7; 2_920]).unwrap();
    assert_eq!(s.out().len(), 2);
    // Three seconds of timeouts: 200, 400, 800 and 1600 ms.
    let sent: Vec<u32> = s.wait_ms(2_900).iter().map(|line| range(line).2).collect();
    assert!(sent.len() >= 3 && sent.iter().all(|len| *len == 1_460), "{sent:?}");
    let sent = s.wait_ms(1_500);
    assert_eq!(range(&sent[0]).2, 1_024, "{sent:?}");
    assert_eq!(s.counters.mtu_black_holes, 1);
    let sent: Vec<u32> = s.wait(Duration::from_secs(30)).iter().map(|l| range(l).2).collect();
    assert!(sent.windows(2).all(|pair| pair[1] * 2 >= pair[0] && pair[1] <= pair[0]), "{sent:?}");
    assert!(*sent.last().unwrap() < 300, "{sent:?}");
    s.wait(Duration::from_secs(300));
    assert!(s.tcp.info(id, s.now).unwrap().snd_mss >= 48, "`tcp_mtu_probe_floor`");
    s.wait(Duration::from_secs(2_000));
    assert_eq!(s.tcp.rare.paths.len(), 0, "it was given up, and all is forgotten");
}

#[test]
fn rfc_4821_7_7_a_transfer_through_a_black_hole_ends() {
    let (mut s, id) = script(MtuProbing::BlackHole);
    let sizes = transfer(&mut s, id, 1_200, 300_000);
    assert!(sizes.iter().all(|len| *len <= 1_160), "{sizes:?}");
    assert!(s.counters.mtu_black_holes >= 1);
    // The search goes on upwards from there.
    let info = s.tcp.info(id, s.now).unwrap();
    assert!((1_100..=1_160).contains(&info.snd_mss), "{}", info.snd_mss);
}

#[test]
fn rfc_4821_7_7_what_was_found_is_looked_for_again_after_a_while() {
    let (mut s, id) = script(MtuProbing::Always);
    let sizes = transfer(&mut s, id, 1_300, 1_000_000);
    assert!(*sizes.last().unwrap() <= 1_260);
    let failed = s.counters.mtu_probes_failed;
    s.wait(Duration::from_secs(601));
    let base = s.tcp.info(id, s.now).unwrap().snd_mss;
    // The path has become wider meanwhile.
    let begun = s.tcp.info(id, s.now).unwrap().bytes_acked;
    let mut written = 0;
    while written < 2_000_000 {
        written += s.send(id, &[7; 60_000]).unwrap_or(0);
        for line in s.out() {
            let (_, end, _) = range(&line);
            s.inject(&format!(". 1:1(0) ack {end}"));
        }
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert!(info.bytes_acked > begun && info.snd_mss > base.max(1_450), "{}", info.snd_mss);
    assert_eq!(s.counters.mtu_probes_failed, failed);
}
