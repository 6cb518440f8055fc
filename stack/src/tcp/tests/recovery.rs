//! Loss recovery: RFC 5681, RFC 6298, RFC 6582, RFC 6675, RFC 8985, RFC 6937, RFC 3522.

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

pub(super) fn config() -> TcpConfig {
    TcpConfig { timestamps: false, congestion: CongestionAlgorithm::Reno, ..TcpConfig::default() }
}

/// A connection with a round trip of 20 ms, `n` segments of 1000 octets just sent.
pub(super) fn sending(options: &str, n: u32) -> (Script, TcpId) {
    let mut s = Script::with(&config());
    let id = s.established_in(options, Duration::from_millis(20));
    s.options(id, |o| {
        o.send_buffer = 1 << 20;
        o.send_buffer_locked = true;
        o.no_delay = true;
    });
    s.send(id, &[0; 1000]).unwrap();
    assert_eq!(s.out().len(), 1);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001");
    s.out();
    s.send(id, &vec![0; 1000 * n as usize]).unwrap();
    assert_eq!(s.out().len(), n.min(10) as usize);
    (s, id)
}

#[test]
fn rfc_6298_a_timeout_sends_the_first_segment_and_backs_off() {
    let (mut s, id) = sending("mss 1000", 4);
    let before = s.tcp.info(id, s.now).unwrap();
    assert_eq!(before.rtt / 1000, 20);
    let seen = s.wait_ms(400);
    assert_eq!(seen, [". 1001:2001(1000) ack 1"]);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.snd_cwnd, info.ca_state, info.backoff), (1, 4, 1));
    assert_eq!(s.wait_ms(450), [". 1001:2001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 5001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.backoff, info.unacked, info.lost), (0, 0, 0, 0));
}

#[test]
fn rfc_6298_what_a_retransmission_released_is_no_round_trip() {
    let (mut s, id) = sending("mss 1000", 4);
    s.wait_ms(900);
    // The first was lost, the others have waited at the peer all the while.
    s.inject(". 1:1(0) ack 5001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.rtt / 1000, info.backoff), (20, 0));
}

#[test]
fn a_silent_peer_is_given_up_after_about_15_minutes() {
    let (mut s, id) = sending("mss 1000", 1);
    s.wait(Duration::from_secs(900));
    assert_eq!(s.tcp.take_error(id), None);
    s.wait(Duration::from_secs(130));
    assert_eq!(s.tcp.take_error(id), Some(crate::error::Error::TimedOut));
}

#[test]
fn user_timeout_gives_up_sooner() {
    let (mut s, id) = sending("mss 1000", 1);
    s.options(id, |o| o.user_timeout = Duration::from_secs(3).into());
    s.wait(Duration::from_millis(2900));
    assert_eq!(s.tcp.take_error(id), None);
    s.wait(Duration::from_millis(1500));
    assert_eq!(s.tcp.take_error(id), Some(crate::error::Error::TimedOut));
}

#[test]
fn rfc_5681_three_duplicates_retransmit_without_sack() {
    let (mut s, id) = sending("mss 1000", 8);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001");
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [""; 0]);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 1001:2001(1000) ack 1"]);
    assert_eq!(s.tcp.info(id, s.now).unwrap().ca_state, 3);
    //= RFC 6582 §3.2: a partial acknowledgment.
    s.inject(". 1:1(0) ack 3001");
    assert_eq!(s.out()[0], ". 3001:4001(1000) ack 1");
    s.inject(". 1:1(0) ack 9001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.unacked), (0, 0));
    assert_eq!(info.snd_ssthresh, 5);
}

#[test]
fn rfc_3042_limited_transmit_sends_new_data_on_duplicates() {
    let (mut s, _) = sending("mss 1000", 14);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 11001:12001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 1001");
    assert_eq!(s.out(), [". 12001:13001(1000) ack 1"]);
}

#[test]
fn rfc_6675_sack_retransmits_exactly_what_is_missing() {
    let (mut s, id) = sending("mss 1000 sackok", 10);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:3001");
    s.inject(". 1:1(0) ack 1001 sack 2001:4001");
    assert_eq!(s.out(), [""; 0]);
    s.inject(". 1:1(0) ack 1001 sack 5001:6001 sack 2001:4001");
    assert_eq!(s.out(), [". 1001:2001(1000) ack 1"]);
    s.inject(". 1:1(0) ack 1001 sack 5001:8001 sack 2001:4001");
    assert_eq!(s.out(), [". 4001:5001(1000) ack 1"]);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.sacked, info.lost, info.retrans), (5, 2, 2));
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 11001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.sacked, info.lost, info.retrans, info.unacked), (0, 0, 0, 0));
    assert_eq!((info.ca_state, info.total_retrans), (0, 2));
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn rfc_8985_a_lost_retransmission_is_found() {
    let (mut s, _) = sending("mss 1000 sackok", 10);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:5001");
    assert_eq!(s.out()[0], ". 1001:2001(1000) ack 1");
    s.send_more();
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:11001");
    s.out();
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 2001:12001");
    let seen = s.out();
    assert!(seen.iter().any(|l| l.starts_with(". 1001:2001")), "{seen:?}");
}

impl Script {
    /// The program writes one more segment.
    fn send_more(&mut self) {
        let mut id = None;
        self.host.tcp.sockets(|socket| id = id.or(socket.id));
        self.host.send(id.unwrap(), &[0; 2000]).unwrap();
        self.out();
    }
}

#[test]
fn rfc_8985_7_the_tail_is_probed_before_the_timeout() {
    let (mut s, id) = sending("mss 1000 sackok", 3);
    let seen = s.wait_ms(60);
    assert_eq!(seen, ["P. 3001:4001(1000) ack 1"], "the last segment, after two round trips");
    assert_eq!(s.counters.tail_loss_probes, 1);
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1001 sack 3001:4001");
    let mut seen = s.out();
    seen.extend(s.wait_ms(50));
    assert!(seen.iter().any(|l| l.starts_with(". 1001:2001")), "{seen:?}");
    s.inject(". 1:1(0) ack 4001");
    assert_eq!(s.tcp.info(id, s.now).unwrap().unacked, 0);
}

#[test]
fn rfc_6937_the_window_comes_down_as_data_arrives() {
    let (mut s, id) = sending("mss 1000 sackok", 11);
    s.send(id, &[0; 20_000]).unwrap();
    s.out();
    s.now += Duration::from_millis(20);
    let mut sent = 0;
    for i in 2..11u32 {
        s.inject(&format!(". 1:1(0) ack 1001 sack 2001:{}001", i + 1));
        sent += s.out().len();
    }
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!(info.snd_ssthresh, 5);
    assert!((4..=8).contains(&sent), "about every second acknowledgment sends: {sent}");
}

#[test]
fn rfc_3522_a_needless_timeout_is_undone() {
    let mut s = Script::with(&TcpConfig { timestamps: true, ..config() });
    let id = s.established("mss 1000 sackok ts 1 0");
    let echo = |s: &Script| s.last.timestamps.unwrap().value as i32;
    s.send(id, &[0; 5000]).unwrap();
    assert_eq!(s.out().len(), 6);
    let original = echo(&s);
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    let seen = s.wait_ms(2500);
    assert!(!seen.is_empty());
    s.inject(&format!(". 1:1(0) ack 989 ts 5 {original}"));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.ca_state, info.lost), (0, 0));
    assert!(info.snd_cwnd >= before, "{} < {before}", info.snd_cwnd);
    assert_eq!(s.counters.undos, 1);
}

#[test]
fn rfc_5681_4_1_an_idle_connection_starts_slowly_again() {
    let (mut s, id) = sending("mss 1000", 11);
    s.now += Duration::from_millis(20);
    let mut acked = 1001;
    for _ in 0..6 {
        acked += 10_000;
        s.inject(&format!(". 1:1(0) ack {}", acked.min(12_001)));
        s.send(id, &[0; 40_000]).unwrap();
        let n = s.out().len() as u32;
        s.now += Duration::from_millis(20);
        let _ = n;
        let info = s.tcp.info(id, s.now).unwrap();
        acked = 1 + info.bytes_acked as u32;
        let outstanding = info.unacked * 1000;
        s.inject(&format!(". 1:1(0) ack {}", acked + outstanding));
    }
    loop {
        s.out();
        let info = s.tcp.info(id, s.now).unwrap();
        if info.unacked == 0 {
            break;
        }
        s.now += Duration::from_millis(20);
        s.inject(&format!(
            ". 1:1(0) ack {}",
            1 + info.bytes_acked + u64::from(info.unacked) * 1000
        ));
    }
    assert!(s.tcp.info(id, s.now).unwrap().snd_cwnd > 20);
    s.now += Duration::from_secs(30);
    s.send(id, &[0; 100_000]).unwrap();
    assert_eq!(s.out().len(), 10);
}

#[test]
fn slow_start_doubles_per_round_trip() {
    let (mut s, id) = sending("mss 1000", 11);
    s.send(id, &[0; 100_000]).unwrap();
    s.out();
    let before = s.tcp.info(id, s.now).unwrap().snd_cwnd;
    s.now += Duration::from_millis(20);
    for i in 2..=12u32 {
        s.inject(&format!(". 1:1(0) ack {i}001"));
    }
    assert_eq!(s.tcp.info(id, s.now).unwrap().snd_cwnd, before * 2);
}
