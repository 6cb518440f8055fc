//! `TCP_INFO`: its fields as Linux fills them.

use crate::tcp::State;
use crate::tcp::testing::{PEER, PEER_PORT, Script};
use core::net::SocketAddr;
use core::time::Duration;

#[test]
fn sockets_without_a_connection_say_what_linux_says() {
    let mut s = Script::new();
    let idle = s.socket();
    let listener = s.listener(80, 7);
    for (id, state, queue) in [(idle, State::Closed, 0), (listener, State::Listen, 7)] {
        let info = s.tcp.info(id, s.now).unwrap();
        assert_eq!((info.state, info.snd_cwnd, info.reordering), (state as u8, 10, 3));
        assert_eq!((info.unacked, info.sacked), (0, queue));
        assert_eq!(info.max_pacing_rate, u64::MAX);
    }
}

#[test]
fn a_connect_under_way_counts_its_syns() {
    let mut s = Script::new();
    let id = s.connecting();
    s.wait(Duration::from_millis(3_500));
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.state, info.unacked, info.segs_out), (State::SynSent as u8, 1, 3));
    assert_eq!((info.retransmits, info.backoff, info.total_retrans), (2, 2, 2));
    assert_eq!((info.rto, info.snd_mss, info.pmtu), (4_000_000, 536, 1_500));
    assert_eq!(info.last_data_sent_ms, 3_500);
}

#[test]
fn an_idle_connection_counts_from_its_handshake() {
    let mut s = Script::new();
    let id = s.established("mss 1460 sackok ts 1 0 wscale 7");
    s.wait_ms(2_000);
    let info = s.tcp.info(id, s.now).unwrap();
    let ages = (info.last_data_sent_ms, info.last_data_recv_ms, info.last_ack_recv_ms);
    assert_eq!((ages, info.last_ack_sent_ms), ((2_000, 2_000, 2_000), 0));
    assert_eq!((info.rcv_wnd, info.snd_wnd), (65_160, 65_535 << 7));
}

#[test]
fn octets_and_segments_are_counted() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[7; 2500]).unwrap();
    s.out();
    s.inject("P. 1:301(300) ack 1001");
    s.inject("P. 901:1001(100) ack 1001");
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.bytes_sent, info.bytes_acked, info.bytes_received), (2_500, 1_000, 300));
    assert_eq!((info.data_segs_out, info.data_segs_in, info.rcv_ooopack), (3, 2, 1));
    assert_eq!((info.unacked, info.notsent_bytes), (2, 0));
    s.out();
    assert_eq!(s.tcp.info(id, s.now).unwrap().rcv_wnd, u32::from(s.last.window));
}

#[test]
fn timeouts_are_counted_by_number_episode_and_time() {
    let mut s = Script::plain();
    let id = s.established("mss 1000");
    s.send(id, &[7; 1000]).unwrap();
    s.out();
    assert_eq!(s.wait_ms(700).len(), 2);
    let info = s.tcp.info(id, s.now).unwrap();
    assert_eq!((info.total_rto, info.total_rto_recoveries, info.total_rto_time_ms), (2, 1, 0));
    assert_eq!((info.bytes_sent, info.bytes_retrans, info.retransmits), (3_000, 2_000, 2));
    let first = s.now;
    s.inject(". 1:1(0) ack 1001");
    let info = s.tcp.info(id, first).unwrap();
    assert_eq!((info.total_rto, info.total_rto_recoveries, info.retransmits), (2, 1, 0));
    assert!((1..=700).contains(&info.total_rto_time_ms), "{}", info.total_rto_time_ms);
}

#[test]
fn buffers_read_back_as_tuned() {
    let mut s = Script::plain();
    let id = s.socket();
    assert_eq!(s.tcp.buffer_sizes(id), Ok((16_384, 131_072)));
    s.connect(id, SocketAddr::new(PEER, PEER_PORT)).unwrap();
    s.port = s.tcp.local_address(id).unwrap().port();
    s.out();
    s.inject("S. 0:0(0) ack 1 mss 1460");
    let (send, receive) = s.tcp.buffer_sizes(id).unwrap();
    assert!(send > 16_384 && receive == 131_072, "{send} {receive}");
    s.options(id, |o| (o.send_buffer, o.send_buffer_locked) = (4_608, true));
    assert_eq!(s.tcp.buffer_sizes(id).unwrap().0, 4_608);
}
