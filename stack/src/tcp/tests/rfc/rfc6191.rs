//! RFC 6191: a new connection takes the place of one in TIME-WAIT.

use super::super::state::time_wait::in_time_wait;
use crate::tcp::State;
use crate::tcp::testing::Script;

impl Script {
    /// A listener on a port that TIME-WAIT still holds.
    fn listener_reusing(&mut self, port: u16) -> crate::tcp::TcpId {
        let id = self.socket();
        self.options(id, |o| o.reuse_port = true);
        self.bind(id, port).unwrap();
        self.listen(id, 8).unwrap();
        id
    }
}

#[test]
fn rfc_6191_a_new_syn_takes_its_place() {
    let mut s = Script::plain();
    in_time_wait(&mut s, "mss 1000", "");
    let listener = s.listener_reusing(80);
    s.inject("S 1000:1000(0) mss 1000");
    let old = s.iss;
    assert_eq!(s.out(), ["S. 0:0(0) ack 1001"]);
    assert!(s.iss.after(old), "above the old incarnation");
    s.inject(". 1001:1001(0) ack 1");
    let id = s.accept(listener).unwrap();
    assert_eq!(s.state(id), State::Established);
    assert_eq!(s.tcp.occupancy().time_wait, 0);
}

#[test]
fn rfc_6191_an_old_syn_does_not() {
    let mut s = Script::plain();
    in_time_wait(&mut s, "mss 1000", "");
    s.listener_reusing(80);
    s.inject("S -500:-500(0) mss 1000");
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.tcp.occupancy().time_wait, 1);
}

#[test]
fn rfc_6191_a_newer_timestamp_is_proof_enough() {
    let mut s = Script::new();
    in_time_wait(&mut s, "mss 1000 ts 100 0", "ts 101 1");
    s.listener_reusing(80);
    s.inject("S -500:-500(0) mss 1000 ts 50 0");
    assert_eq!(s.out(), [". 2:2(0) ack 2"]);
    s.inject("S -500:-500(0) mss 1000 ts 200 0");
    assert_eq!(s.out(), ["S. 0:0(0) ack -499"].map(|t| t.replace("-499", "4294966797")));
}

#[test]
fn rfc_6191_2_without_timestamps_only_a_greater_number_will_do() {
    for (seq, taken) in [(1_i64, false), (2, false), (3, true), (5_000, true), (-1, false)] {
        let mut s = Script::plain();
        in_time_wait(&mut s, "mss 1000", "");
        s.listener_reusing(80);
        s.inject(&format!("S {seq}:{seq}(0) mss 1000"));
        s.out();
        assert_eq!(s.tcp.occupancy().time_wait, usize::from(!taken), "{seq}");
    }
}
