//! The cache on a hand-moved clock.

use super::*;
use core::net::Ipv4Addr;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

struct Bench {
    cache: Neighbors<u32>,
    rng: Rng,
    counters: NeighborCounters,
    now: Instant,
}

fn host(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

impl Bench {
    fn new(capacity: usize) -> Self {
        let mut rng = Rng::new([1; 32]);
        let cache = Neighbors::new(capacity, 8, &mut rng);
        Bench { cache, rng, counters: NeighborCounters::default(), now: Instant::from_millis(1) }
    }
    fn send(&mut self, to: IpAddr, packet: u32) -> Option<MacAddr> {
        match self.cache.send(self.now, to, packet, &mut self.counters) {
            Resolution::Ready(mac, sent) => {
                assert_eq!(sent, packet);
                Some(mac)
            }
            Resolution::Waiting | Resolution::Dropped(_) => None,
        }
    }
    fn claim(&mut self, of: IpAddr, mac: MacAddr, claim: Claim) {
        self.cache.on_claim(self.now, of, mac, claim, &mut self.rng, &mut self.counters);
    }
    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.cache.on_timeouts(self.now, &mut self.counters);
    }
    fn state(&self, of: IpAddr) -> Option<State> {
        self.cache.iter(self.now).find(|n| n.address == of).map(|n| n.state)
    }
    fn released(&mut self) -> Vec<(Option<MacAddr>, u32)> {
        core::iter::from_fn(|| self.cache.poll_released())
            .map(|released| match released {
                Released::Ready(mac, packet) => (Some(mac), packet),
                Released::Failed(packet) => (None, packet),
            })
            .collect()
    }
}

#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let mut b = Bench::new(4);
    assert_eq!(b.send(host(1), 7), None);
    assert_eq!(b.send(host(1), 8), None);
    assert_eq!(b.cache.poll_solicit(), Some(Solicit { target: host(1), known: None }));
    assert_eq!(b.cache.poll_solicit(), None);
    b.claim(host(1), MAC, Claim::Answer);
    assert_eq!(b.released(), [(Some(MAC), 7), (Some(MAC), 8)]);
    assert_eq!(b.state(host(1)), Some(State::Reachable));
    assert_eq!(b.send(host(1), 9), Some(MAC));
    assert_eq!(b.cache.occupancy(), (1, 0));
}

#[test]
fn a_silent_neighbor_is_asked_three_times_and_then_fails_its_packets() {
    let mut b = Bench::new(4);
    b.send(host(1), 7);
    for _ in 0..3 {
        assert!(b.cache.poll_solicit().is_some());
        assert!(b.released().is_empty());
        b.advance(RETRANS_TIMER + Duration::from_millis(1));
    }
    assert_eq!(b.cache.poll_solicit(), None);
    assert_eq!(b.released(), [(None, 7)]);
    assert_eq!((b.state(host(1)), b.counters.resolution_failures), (Some(State::Failed), 1));
    assert_eq!(b.send(host(1), 8), None, "the next packet asks anew");
    assert!(b.cache.poll_solicit().is_some());
}

#[test]
fn a_stale_neighbor_is_used_then_probed_where_it_was_then_failed() {
    let mut b = Bench::new(4);
    b.send(host(1), 7);
    b.cache.poll_solicit();
    b.claim(host(1), MAC, Claim::Answer);
    b.released();
    b.advance(Duration::from_secs(46));
    assert_eq!(b.state(host(1)), Some(State::Stale));
    assert_eq!(b.send(host(1), 8), Some(MAC));
    assert_eq!(b.state(host(1)), Some(State::Delay));
    b.advance(DELAY_FIRST_PROBE_TIME + Duration::from_millis(1));
    assert_eq!(b.cache.poll_solicit(), Some(Solicit { target: host(1), known: Some(MAC) }));
    b.claim(host(1), MAC, Claim::Answer);
    assert_eq!(b.state(host(1)), Some(State::Reachable));
    b.advance(Duration::from_secs(46));
    b.send(host(1), 9);
    b.advance(DELAY_FIRST_PROBE_TIME + Duration::from_millis(1));
    for _ in 0..3 {
        b.advance(RETRANS_TIMER + Duration::from_millis(1));
    }
    assert_eq!(b.state(host(1)), Some(State::Failed));
    assert_eq!(b.cache.next_timeout(), Some(Instant::ZERO), "only the announcement is left");
}

#[test]
fn strangers_create_nothing_unless_they_ask_for_us() {
    let mut b = Bench::new(4);
    b.claim(host(1), MAC, Claim::Overheard);
    b.claim(host(1), MAC, Claim::Answer);
    assert_eq!(b.state(host(1)), None);
    b.claim(host(1), MAC, Claim::AsksUs);
    assert_eq!(b.state(host(1)), Some(State::Stale));
}

#[test]
fn the_first_answer_wins_for_a_second() {
    let mut b = Bench::new(4);
    b.send(host(1), 7);
    b.claim(host(1), MAC, Claim::Answer);
    b.claim(host(1), OTHER, Claim::Answer);
    assert_eq!(b.send(host(1), 8), Some(MAC));
    b.advance(Duration::from_secs(2));
    b.claim(host(1), OTHER, Claim::Overheard);
    assert_eq!(b.send(host(1), 9), Some(OTHER));
    assert_eq!(b.state(host(1)), Some(State::Delay));
}

#[test]
fn who_announces_that_he_has_moved_need_not_wait() {
    let mut b = Bench::new(4);
    b.claim(host(1), MAC, Claim::Announced);
    assert_eq!(b.state(host(1)), None, "strangers are not kept for it");
    b.send(host(1), 7);
    b.claim(host(1), MAC, Claim::Answer);
    b.claim(host(1), OTHER, Claim::Overheard);
    assert_eq!(b.send(host(1), 8), Some(MAC));
    b.claim(host(1), OTHER, Claim::Announced);
    assert_eq!(b.state(host(1)), Some(State::Stale));
    assert_eq!(b.send(host(1), 9), Some(OTHER));
}

#[test]
fn what_is_announced_anew_is_announced_as_at_the_start() {
    let mut b = Bench::new(4);
    let announced = |b: &mut Bench| {
        let mut at = Vec::new();
        for second in 0..6 {
            at.extend(b.cache.poll_announcement(b.now).then_some(second));
            b.advance(Duration::from_secs(1));
        }
        at
    };
    assert_eq!(announced(&mut b), [0, 2]);
    assert_eq!(b.cache.next_timeout(), None);
    b.cache.announce_anew(b.now);
    assert_eq!(b.cache.next_timeout(), Some(b.now));
    assert_eq!(announced(&mut b), [0, 2]);
}

#[test]
fn a_full_table_forgets_the_least_lately_used_but_none_with_packets_waiting() {
    let mut b = Bench::new(2);
    b.send(host(1), 1);
    b.claim(host(1), MAC, Claim::Answer);
    b.released();
    b.send(host(2), 2);
    b.advance(Duration::from_millis(1));
    assert_eq!(b.send(host(3), 3), None);
    assert_eq!(b.state(host(1)), None);
    b.send(host(4), 4);
    assert_eq!((b.counters.evictions, b.counters.dropped_table_full), (1, 1));
}

#[test]
fn the_queue_is_bounded() {
    let mut b = Bench::new(2);
    for packet in 0..12 {
        b.send(host(1), packet);
    }
    assert_eq!(b.counters.dropped_queue_full, 4);
    assert_eq!(b.cache.occupancy(), (1, 8));
}

#[test]
fn announcements_are_two_and_defences_rare() {
    let mut b = Bench::new(2);
    assert!(b.cache.poll_announcement(b.now));
    assert!(!b.cache.poll_announcement(b.now));
    b.advance(ANNOUNCE_INTERVAL);
    assert!(b.cache.poll_announcement(b.now));
    b.advance(ANNOUNCE_INTERVAL);
    assert!(!b.cache.poll_announcement(b.now));
    assert!(b.cache.on_conflict(b.now, &mut b.counters));
    assert!(!b.cache.on_conflict(b.now, &mut b.counters));
    b.advance(DEFEND_INTERVAL);
    assert!(b.cache.on_conflict(b.now, &mut b.counters));
}
