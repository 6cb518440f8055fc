//! RFC 6675: recovery by SACK.

use super::super::recovery::sending;
use crate::time::Duration;

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
