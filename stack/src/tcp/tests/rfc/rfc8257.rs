//! DCTCP (RFC 8257).

use crate::config::TcpConfig;
use crate::options::CongestionAlgorithm;
use crate::tcp::TcpId;
use crate::tcp::testing::Script;
use crate::time::Duration;

fn established() -> (Script, TcpId) {
    let congestion = CongestionAlgorithm::Dctcp;
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let listener = s.listener(80, 8);
    s.inject("SEW 0:0(0) mss 1000 sackok ect0");
    assert_eq!(s.out(), ["SE. 0:0(0) ack 1 ect0"], "every packet is ECN-capable");
    s.now += Duration::from_millis(20);
    s.inject(". 1:1(0) ack 1 ect0");
    let id = s.accept(listener).unwrap();
    s.close(listener);
    s.options(id, |o| {
        (o.send_buffer, o.send_buffer_locked, o.no_delay) = (1 << 20, true, true);
    });
    (s, id)
}

#[test]
fn rfc_8257_3_2_every_change_of_the_mark_is_echoed_at_once() {
    let (mut s, id) = established();
    // Let the acknowledgments be delayed ones.
    s.options(id, |o| o.quick_ack = false);
    let mut seq = 1;
    let mut data = |s: &mut Script, mark: &str| {
        s.inject(&format!(". {seq}:{}(1000) ack 1 {mark}", seq + 1000));
        seq += 1000;
        s.out()
    };
    for _ in 0..4 {
        data(&mut s, "ect0");
    }
    assert_eq!(data(&mut s, "ect0"), [""; 0], "every second is acknowledged");
    // That one arrived unmarked, the next marked: two acknowledgments.
    let seen = data(&mut s, "ce");
    assert_eq!(seen, [". 1:1(0) ack 5001 ect0", "E. 1:1(0) ack 6001 ect0"]);
    assert_eq!(data(&mut s, "ce"), [""; 0]);
    assert_eq!(data(&mut s, "ce"), ["E. 1:1(0) ack 8001 ect0"]);
    assert_eq!(data(&mut s, "ce"), [""; 0]);
    let seen = data(&mut s, "ect0");
    assert_eq!(seen, ["E. 1:1(0) ack 9001 ect0", ". 1:1(0) ack 10001 ect0"]);
}

#[test]
fn rfc_8257_3_3_few_marks_reduce_a_little() {
    let (mut s, id) = established();
    let mut acked = 1u32;
    let mut threshold = 0;
    s.send(id, &vec![0; 900_000]).unwrap();
    // The first marks halve; then one packet in every flight is marked.
    for round in 0..60 {
        let flight = s.out().len() as u32;
        s.now += Duration::from_millis(20);
        for n in 0..flight {
            acked += 1000;
            let flags = if n == 0 && round > 2 { "E." } else { "." };
            s.inject(&format!("{flags} 1:1(0) ack {acked} ect0"));
        }
        let info = s.tcp.info(id, s.now).unwrap();
        threshold = u64::from(info.snd_ssthresh) * 100 / u64::from(info.snd_cwnd.max(1));
        if info.unacked == 0 && info.notsent_bytes == 0 {
            s.send(id, &vec![0; 900_000]).unwrap();
        }
    }
    assert!(threshold >= 80, "not halved: {threshold} %");
}

#[test]
fn without_ecn_it_is_reno() {
    let congestion = CongestionAlgorithm::Dctcp;
    let mut s = Script::with(&TcpConfig { timestamps: false, congestion, ..TcpConfig::default() });
    let listener = s.listener(80, 8);
    s.inject("S 0:0(0) mss 1000 sackok");
    assert_eq!(s.out(), ["S. 0:0(0) ack 1 ect0"]);
    s.inject(". 1:1(0) ack 1");
    let id = s.accept(listener).unwrap();
    s.send(id, &[0; 100]).unwrap();
    assert_eq!(s.out(), ["P. 1:101(100) ack 1"]);
}
