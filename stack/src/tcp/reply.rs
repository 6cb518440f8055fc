//! Answers that belong to no connection, or outlive it: RSTs, and the ACKs of TIME-WAIT.

use super::counters::TcpCounters;
use super::demux::Tuple;
use super::segment::{Flags, Header, Timestamps};
use super::seq::SeqNumber;
use crate::packet::{Allocator, Buffer, Transmit};
use std::collections::VecDeque;

/// Answers that may wait to be sent.
const CAPACITY: usize = 256;

/// A segment without payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    pub tuple: Tuple,
    pub seq: SeqNumber,
    pub ack: SeqNumber,
    pub flags: Flags,
    pub window: u16,
    pub timestamps: Option<Timestamps>,
    pub traffic_class: u8,
    pub hop_limit: u8,
    /// The options of a SYN-ACK that nothing else remembers.
    pub syn: Option<SynOptions>,
}

/// The options that only a SYN has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SynOptions {
    pub mss: u16,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
}

/// The queue of answers, bounded: when it is full the newest is dropped and counted.
#[derive(Debug)]
pub(crate) struct Replies {
    queue: VecDeque<Reply>,
}

impl Replies {
    pub fn new() -> Self {
        Replies { queue: VecDeque::with_capacity(CAPACITY) }
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn push(&mut self, reply: Reply, counters: &mut TcpCounters) {
        if self.queue.len() >= CAPACITY {
            counters.replies_dropped += 1;
            return;
        }
        if reply.flags.contains(Flags::RST) {
            counters.resets_out += 1;
        }
        self.queue.push_back(reply);
    }

    /// The next answer as a packet; `None` when there is none, or no buffer for it (it stays).
    pub fn poll_transmit<A: Allocator>(
        &mut self,
        allocator: &mut A,
    ) -> Option<Transmit<A::Buffer>> {
        self.queue.front()?;
        let buffer = allocator.allocate()?;
        let reply = self.queue.pop_front()?;
        let header = Header {
            source_port: reply.tuple.local_port,
            destination_port: reply.tuple.remote_port,
            seq: reply.seq,
            ack: reply.ack,
            flags: reply.flags,
            window: reply.window,
            timestamps: reply.timestamps,
            mss: reply.syn.map(|syn| syn.mss),
            window_scale: reply.syn.and_then(|syn| syn.window_scale),
            sack_permitted: reply.syn.is_some_and(|syn| syn.sack_permitted),
            ..Header::default()
        };
        Some(emit(&header, buffer, &reply.tuple, reply.traffic_class, reply.hop_limit, true))
    }
}

/// Puts `header` in front of `buffer`.
pub(crate) fn emit<B: Buffer>(
    header: &Header,
    mut buffer: B,
    tuple: &Tuple,
    traffic_class: u8,
    hop_limit: u8,
    dont_fragment: bool,
) -> Transmit<B> {
    let len = header.len();
    header.emit(buffer.prepend(len));
    Transmit {
        source: tuple.local,
        destination: tuple.remote,
        traffic_class,
        hop_limit,
        dont_fragment,
        packet: buffer,
        header_len: len as u8,
        segment_size: 0,
    }
}
