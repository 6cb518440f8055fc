//! A SYN flood, and what SYN cookies make of it (RFC 4987 §3.6; as Linux's `tcp_syncookies`).

use crate::config::{EcnPolicy, SynCookies, TcpConfig};
use crate::tcp::info::{OPTION_ECN, OPTION_SACK, OPTION_TIMESTAMPS, OPTION_WSCALE};
use crate::tcp::segment::Header;
use crate::tcp::testing::Script;
use crate::tcp::{State, TcpId};
use crate::time::Duration;

const BACKLOG: u32 = 8;

impl Script {
    /// SYNs of `count` peers that never go on, and how many were answered.
    fn flood(&mut self, count: u32) -> usize {
        let mut answers = 0;
        for i in 0..count {
            let (mut syn, _) = self.parse("S 0:0(0) mss 1460 sackok ts 7 0 wscale 7");
            syn.source_port = 10_000 + (i % 50_000) as u16;
            syn.seq += i.wrapping_mul(2_654_435_761);
            self.inject_header(&syn, b"");
            answers += self.out().len();
        }
        answers
    }

    /// A listener whose SYN queue is full.
    fn under_pressure(&mut self) -> TcpId {
        let listener = self.listener(80, BACKLOG);
        self.flood(BACKLOG + 2);
        assert_eq!(self.tcp.occupancy().openings, BACKLOG as usize + 1);
        listener
    }

    fn syn_ack(&mut self, syn: &str) -> Header {
        self.inject(syn);
        assert_eq!(self.out(), ["S. 0:0(0) ack 1"]);
        self.last.clone()
    }
}

#[test]
fn a_flood_leaves_room_for_those_who_mean_it_and_takes_no_memory() {
    let mut s = Script::new();
    let listener = s.under_pressure();
    let before = s.tcp.occupancy();
    assert_eq!(s.flood(5_000), 5_000, "each is answered");
    assert_eq!(s.tcp.occupancy(), before);
    let answer = s.syn_ack("S 0:0(0) mss 1400 sackok ts 100 0 wscale 9");
    assert_eq!((answer.window, answer.mss, answer.window_scale), (65_160, Some(1460), Some(7)));
    assert!(answer.sack_permitted);
    s.now += Duration::from_secs(50);
    let echo = answer.timestamps.unwrap().value as i32;
    s.inject(&format!("P. 1:11(10) ack 1 win 500 ts 101 {echo}"));
    let id = s.accept(listener).unwrap();
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.receive(id, 100).unwrap(), Script::stream(1, 10));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.options & 7, OPTION_TIMESTAMPS | OPTION_SACK | OPTION_WSCALE);
    assert_eq!((info.snd_wscale, info.rcv_wscale, info.snd_wnd), (9, 7, 500 << 9));
    assert_eq!(info.snd_mss, 1_300 - 12, "the nearest of four sizes");
    let recv = (s.counters.syncookies_recv, s.counters.syncookies_failed);
    // Nine of the flood repeated SYNs that are remembered.
    assert_eq!((s.counters.syncookies_sent, recv), (1 + 4_991 + 1, (1, 0)));
    let stamped = s.last.timestamps.unwrap().value;
    s.out();
    s.send(id, b"x").unwrap();
    s.out();
    assert!(s.last.timestamps.unwrap().value.wrapping_sub(stamped) < 100_000, "time goes on");
}

#[test]
fn without_timestamps_only_the_mss_survives() {
    let mut s = Script::new();
    let listener = s.under_pressure();
    let answer = s.syn_ack("S 0:0(0) mss 1450 sackok wscale 9");
    assert_eq!((answer.window_scale, answer.sack_permitted), (None, false));
    s.inject(". 1:1(0) ack 1 win 500");
    let id = s.accept(listener).unwrap();
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.options & 7, info.snd_mss, info.snd_wnd), (0, 1_440, 500));
}

#[test]
fn an_ack_without_a_good_cookie_is_reset() {
    let mut s = Script::new();
    let listener = s.under_pressure();
    s.syn_ack("S 0:0(0) mss 1460");
    s.inject(". 1:1(0) ack 7");
    assert_eq!(s.out(), ["R 7:7(0)"]);
    s.inject(". 101:101(0) ack 1");
    assert_eq!(s.out(), ["R 1:1(0)"], "the cookie of another SYN");
    assert_eq!(s.counters.syncookies_failed, 2);
    s.wait(Duration::from_secs(121));
    s.iss = s.last.seq - 1;
    s.flood(BACKLOG + 3);
    s.inject(". 1:1(0) ack 1");
    assert_eq!(s.counters.syncookies_failed, 3, "too old");
    assert!(s.accept(listener).is_err());
}

#[test]
fn a_listener_that_was_not_full_of_late_takes_no_cookies() {
    let mut s = Script::new();
    let listener = s.under_pressure();
    s.syn_ack("S 0:0(0) mss 1460");
    let cookie = s.iss;
    s.wait(Duration::from_secs(119));
    s.wait(Duration::from_secs(2));
    s.iss = cookie;
    s.inject(". 1:1(0) ack 1");
    assert_eq!(s.out(), ["R 1:1(0)"]);
    assert_eq!(s.counters.syncookies_failed, 0, "it was not even looked at");
    assert!(s.accept(listener).is_err());
}

#[test]
fn a_good_cookie_waits_for_room_in_the_accept_queue() {
    let mut s = Script::new();
    let listener = s.listener(80, 0);
    let (syn, _) = s.parse("S 0:0(0) mss 1460");
    let mut acks = Vec::new();
    for source_port in [4_000, 4_001, 4_002] {
        s.inject_header(&Header { source_port, ..syn.clone() }, b"");
        assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
        acks.push(Header { source_port, ..s.parse(". 1:1(0) ack 1").0 });
    }
    s.inject_header(&acks[1], b"");
    s.inject_header(&acks[2], b"");
    assert_eq!((s.counters.syncookies_recv, s.counters.accept_queue_full), (2, 1));
    assert!(s.accept(listener).is_ok());
    s.inject_header(&acks[2], b"");
    assert!(s.accept(listener).is_ok());
}

#[test]
fn switched_off_a_full_queue_drops_syns() {
    let mut s = Script::with(&TcpConfig { syn_cookies: SynCookies::Off, ..TcpConfig::default() });
    s.listener(80, BACKLOG);
    assert_eq!(s.flood(100), BACKLOG as usize + 1);
    assert_eq!((s.counters.syncookies_sent, s.counters.syn_queue_full), (0, 91));
}

#[test]
fn switched_to_always_nothing_is_remembered() {
    let mut s =
        Script::with(&TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() });
    let listener = s.listener(80, BACKLOG);
    let echo = s.syn_ack("S 0:0(0) mss 1460 ts 5 0").timestamps.unwrap().value as i32;
    assert_eq!(s.tcp.occupancy().openings, 0);
    s.inject(&format!(". 1:1(0) ack 1 ts 6 {echo}"));
    let id = s.accept(listener).unwrap();
    assert_eq!(s.tcp.info(id, s.now).unwrap().options & 7, OPTION_TIMESTAMPS);
}

#[test]
fn ecn_survives_in_the_timestamp() {
    for (asked, stamps) in [(true, true), (true, false), (false, true)] {
        let config = TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() };
        let mut s = Script::with(&TcpConfig { ecn: EcnPolicy::Always, ..config });
        let listener = s.listener(80, BACKLOG);
        let flags = if asked { "SEW" } else { "S" };
        let options = if stamps { "ts 5 0" } else { "" };
        s.inject(&format!("{flags} 0:0(0) mss 1460 sackok {options}"));
        let granted = asked && stamps;
        assert_eq!(s.out(), [if granted { "SE. 0:0(0) ack 1" } else { "S. 0:0(0) ack 1" }]);
        let back = match s.last.timestamps {
            Some(ts) => format!("ts 6 {}", ts.value as i32),
            None => String::new(),
        };
        s.inject(&format!(". 1:1(0) ack 1 {back}"));
        let id = s.accept(listener).unwrap();
        let ecn = s.tcp.info(id, s.now).unwrap().options & OPTION_ECN != 0;
        assert_eq!(ecn, granted, "{asked} {stamps}");
        s.send(id, b"x").unwrap();
        let out = s.out();
        assert_eq!(out[0].ends_with("ect0"), granted, "{out:?}");
    }
}

#[test]
fn rfc_4987_an_acknowledgment_from_further_on_brings_no_cookie_back() {
    let mut s =
        Script::with(&TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() });
    let listener = s.listener(80, 0);
    let mut acks = Vec::new();
    for source_port in [4_000, 4_001] {
        let (syn, _) = s.parse("S 0:0(0) mss 1460");
        s.inject_header(&Header { source_port, ..syn }, b"");
        assert_eq!(s.out(), ["S. 0:0(0) ack 1"]);
        acks.push(Header { source_port, ..s.parse(". 1:1(0) ack 1").0 });
    }
    for ack in &acks {
        s.inject_header(ack, b"");
        assert_eq!(s.out(), [""; 0]);
    }
    assert_eq!((s.counters.syncookies_recv, s.counters.accept_queue_full), (2, 1));
    // That caller has finished already; a repeated SYN-ACK makes it say where it is. As Linux.
    let (header, _) = s.parse(". 2:2(0) ack 1");
    s.inject_header(&Header { source_port: 4_001, ..header }, b"");
    assert_eq!(s.out(), ["R 1:1(0)"]);
    assert!(s.accept(listener).is_ok());
}
