//! What an idle established connection takes of the memory that is there for all: every octet, by
//! what it is for. Tables are reserved and only what is used of them is touched, so this is what
//! one more connection costs.
//!
//! Not in it, for an idle connection has none: segments, what is lent to those that something
//! befell (`Rare`), and option values, which sockets share (`option_sets`).

use super::demux::Demux;
use super::socket::Socket;
use crate::collections::{IndexBuckets, IndexList, Slab, TimerWheel};

/// Octets of an idle connection, part by part.
pub const IDLE_CONNECTION: [(&str, usize); 6] = [
    ("the socket with its connection", Slab::<Socket>::ENTRY),
    ("its place in the demultiplexing table", Demux::EACH),
    ("its timer", TimerWheel::EACH),
    ("its turn to send", IndexList::EACH),
    ("its events", IndexList::EACH),
    ("its place among the sockets of its port", IndexBuckets::EACH),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lookup_reads_of_a_connection_is_no_longer_than_a_line() {
        assert!(Socket::KEY.len() <= 64, "{:?}", Socket::KEY);
        assert!(Socket::KEY.end <= size_of::<Socket>());
    }

    /// The engine's records come on top: its test holds the sum to a kibibyte.
    #[test]
    fn an_idle_connection_costs_the_stack_at_most_864_octets() {
        let sum: usize = IDLE_CONNECTION.iter().map(|(_, octets)| octets).sum();
        assert!(sum <= 864, "{sum}: {IDLE_CONNECTION:#?}");
    }
}
