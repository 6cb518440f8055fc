//! When octets left and when they were acknowledged, for programs that ask (`SO_TIMESTAMPING`).
//!
//! Few sockets ask. What theirs wait for, and what their programs have not read yet, is in a table
//! beside them, and for others nothing of it is looked at: `data` notes the last octet of a send,
//! `settle` looks after each change how far the connection has come. Everything is bounded: a send
//! too many takes the place of the one before, as if both were one packet of Linux's, and a report
//! too many is dropped and counted, as Linux drops it when the error queue is full.

use super::counters::TcpCounters;
use super::queue::Pool;
use super::seq::SeqNumber;
use super::socket::{Kind, Socket};
use super::state::State;
use super::{Tcp, TcpId};
use crate::collections::Slab;
use crate::error::Error;
use crate::options::Timestamping;
use crate::packet::Buffer;
use crate::time::Instant;
use arrayvec::ArrayVec;

/// Sockets that can ask at the same time.
const MOST: usize = 1_024;
/// Sends of a socket that wait for something.
const MARKS: usize = 32;
/// Reports that nobody has read.
const REPORTS: usize = 128;
/// Arrivals that are told apart.
const ARRIVALS: usize = 32;

/// How far an octet has come. The numbers are Linux's (`SCM_TSTAMP_SND` and its like).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It left for the device.
    Sent = 0,
    /// It left for the queue before the device, which the stack does not have: at the same time.
    Scheduled = 1,
    /// The peer has acknowledged it, and all before it.
    Acknowledged = 2,
}

/// A report about the last octet of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendStamp {
    /// What happened to it.
    pub stage: Stage,
    /// Which octet it is, counted from when the program asked; 0 if it did not ask for numbers.
    pub key: u32,
    /// When that was.
    pub at: Instant,
}

/// What a socket has to do with timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamping {
    /// Nothing.
    Off,
    /// It has a record.
    On,
    /// There are reports in it.
    Unread,
}

/// A send that is to be reported.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Behind its last octet.
    end: SeqNumber,
    asked: Timestamping,
    sent: bool,
}

/// What one socket waits for.
#[derive(Debug)]
struct Record {
    /// The octet that has number 0.
    first: SeqNumber,
    marks: ArrayVec<Mark, MARKS>,
    reports: ArrayVec<SendStamp, REPORTS>,
    /// RCV.NXT after an arrival, and when that was.
    arrivals: ArrayVec<(SeqNumber, Instant), ARRIVALS>,
    /// When the last octet that the program read had come.
    read_at: Option<Instant>,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy)]
struct Progress {
    una: SeqNumber,
    nxt: SeqNumber,
    received: SeqNumber,
}

/// The records of all sockets.
#[derive(Debug)]
pub(crate) struct Stamps {
    /// Where in the table a socket's record is, + 1; memory of sockets without is not touched.
    places: Vec<u16>,
    table: Slab<Record>,
}

impl Stamps {
    pub fn new(sockets: usize) -> Self {
        Stamps { places: vec![0; sockets], table: Slab::new(sockets.min(MOST)) }
    }

    fn get(&mut self, index: u32) -> Option<&mut Record> {
        let place = self.places.get(index as usize)?.checked_sub(1)?;
        self.table.at_mut(u32::from(place))
    }

    /// The record of the socket at `index`, a new one if it has none. `None`: no room.
    fn open(&mut self, index: u32) -> Option<&mut Record> {
        let place = self.places.get_mut(index as usize)?;
        if *place == 0 {
            let handle = self.table.insert(Record {
                first: SeqNumber(0),
                marks: ArrayVec::new(),
                reports: ArrayVec::new(),
                arrivals: ArrayVec::new(),
                read_at: None,
            });
            *place = handle.ok()?.index() as u16 + 1;
        }
        self.get(index)
    }

    /// The socket at `index` came in by a listener with these options.
    pub fn inherit(&mut self, index: u32, options: Timestamping) -> Stamping {
        let wanted = !options.is_empty() && self.open(index).is_some();
        if wanted { Stamping::On } else { Stamping::Off }
    }

    /// The socket at `index` is gone.
    pub fn forget(&mut self, index: u32) {
        if let Some(place) = self.places.get_mut(index as usize)
            && let Some(place) = core::mem::take(place).checked_sub(1)
        {
            self.table.remove_at(u32::from(place));
        }
    }

    /// A send has ended before `end`; its last segment, not sent yet, begins at `tail`.
    pub fn mark(&mut self, index: u32, end: SeqNumber, tail: SeqNumber, asked: Timestamping) {
        let Some(record) = self.get(index) else { return };
        // One packet has one number, that of what was put into it last (as on Linux).
        let joined = record.marks.last().is_some_and(|last| !last.sent && last.end.after(tail));
        let full = record.marks.is_full();
        let before = if joined || full { record.marks.pop() } else { None };
        let asked = asked | before.map_or(Timestamping::empty(), |mark| mark.asked);
        record.marks.push(Mark { end, asked, sent: false });
    }

    /// The program has read up to `copied`.
    pub fn note_read(&mut self, index: u32, copied: SeqNumber) {
        let Some(record) = self.get(index) else { return };
        record.arrivals.retain(|(end, _)| end.at_or_after(copied));
        record.read_at = record.arrivals.first().map(|(_, at)| *at);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.table.len()
    }
}

impl Record {
    fn report(&mut self, mark: Mark, stage: Stage, options: Timestamping, now: Instant) -> bool {
        let numbered = options.contains(Timestamping::OPT_ID);
        let key = if numbered { mark.end.since(self.first).wrapping_sub(1) } else { 0 };
        self.reports.try_push(SendStamp { stage, key, at: now }).is_ok()
    }

    /// Reports what `progress` means for the sends; returns how many reports were dropped.
    fn advance(&mut self, progress: &Progress, options: Timestamping, now: Instant) -> u64 {
        let mut dropped = 0;
        for at in 0..self.marks.len() {
            let Some(mark) = self.marks.get_mut(at) else { break };
            let left = !mark.sent && mark.end.at_or_before(progress.nxt);
            mark.sent |= left;
            let mark = *mark;
            let arrived = mark.end.at_or_before(progress.una);
            for (happened, asked, stage) in [
                (left, Timestamping::TX_SCHED, Stage::Scheduled),
                (left, Timestamping::TX_SOFTWARE, Stage::Sent),
                (arrived, Timestamping::TX_ACK, Stage::Acknowledged),
            ] {
                if happened && mark.asked.contains(asked) {
                    dropped += u64::from(!self.report(mark, stage, options, now));
                }
            }
        }
        self.marks.retain(|mark| mark.end.after(progress.una));
        dropped
    }

    /// Takes note of when what came last came.
    fn note_arrival(&mut self, received: SeqNumber, now: Instant) {
        if self.arrivals.last().is_some_and(|(end, _)| *end == received) {
            return;
        }
        if self.arrivals.is_full() {
            self.arrivals.pop();
        }
        self.arrivals.push((received, now));
    }
}

impl Socket {
    /// A send that is to be reported has taken octets.
    #[cold]
    pub fn mark_send<B>(
        &self,
        stamps: &mut Stamps,
        pool: &Pool<B>,
        index: u32,
        asked: Timestamping,
    ) {
        let Some(send) = self.connection().map(|c| &c.send) else { return };
        let tail = pool.at(send.queue.tail).map_or(send.end, |chunk| chunk.seq);
        stamps.mark(index, send.end, tail, asked);
    }

    /// Something may have happened to what is to be reported.
    #[cold]
    pub fn look_at_stamps(
        &mut self,
        stamps: &mut Stamps,
        index: u32,
        options: Timestamping,
        now: Instant,
        counters: &mut TcpCounters,
    ) {
        let (Kind::Connected(c), Some(record)) = (&mut self.kind, stamps.get(index)) else {
            return;
        };
        let progress = Progress { una: c.send.una, nxt: c.send.nxt, received: c.receive.nxt };
        // What an error took out of the queue has not been acknowledged.
        let failed = self.error.is_some() || c.error.is_some();
        if !failed {
            let before = record.reports.len();
            counters.stamps_dropped += record.advance(&progress, options, now);
            if record.reports.len() > before {
                self.stamping = Stamping::Unread;
                c.edges |= crate::readiness::Readiness::ERROR;
            }
        }
        if matches!(c.state, State::TimeWait | State::Closed) {
            record.marks.clear();
        }
        if options.contains(Timestamping::RX_SOFTWARE) {
            record.note_arrival(progress.received, now);
        }
    }
}

impl<B: Buffer> Tcp<B> {
    /// `SO_TIMESTAMPING`.
    ///
    /// # Errors
    /// `InvalidArgument` for numbers (`OPT_ID`) before there is a connection, as on Linux;
    /// `NoBufferSpace` when too many sockets ask.
    pub fn set_timestamping(&mut self, id: TcpId, wanted: Timestamping) -> Result<(), Error> {
        let index = id.0.index();
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        let before = self.option_sets.get(socket.options).timestamping;
        let fresh = wanted.contains(Timestamping::OPT_ID) && !before.contains(Timestamping::OPT_ID);
        let written = wanted.contains(Timestamping::OPT_ID_TCP);
        let first = match &socket.kind {
            _ if !fresh => None,
            // Before its SYN is acknowledged SND.UNA is the SYN's own number.
            Kind::Opening(opening) => Some(opening.iss + u32::from(written)),
            Kind::Connected(c) if c.state != State::Closed => {
                Some(if written { c.send.end } else { c.send.una })
            }
            _ => return Err(Error::InvalidArgument),
        };
        if !wanted.is_empty() {
            let record = self.stamps.open(index).ok_or(Error::NoBufferSpace)?;
            record.first = first.unwrap_or(record.first);
            if socket.stamping == Stamping::Off {
                socket.stamping = Stamping::On;
            }
        }
        let change = |options: &mut crate::options::Options| options.timestamping = wanted;
        socket.options = self.option_sets.change(socket.options, change);
        Ok(())
    }

    /// The next report about what was sent.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn receive_stamp(&mut self, id: TcpId) -> Result<SendStamp, Error> {
        let socket = self.sockets.get_mut(id.0).ok_or(Error::BadDescriptor)?;
        if socket.stamping != Stamping::Unread {
            return Err(Error::WouldBlock);
        }
        let reports = self.stamps.get(id.0.index()).map(|record| &mut record.reports);
        let Some(reports) = reports.filter(|reports| !reports.is_empty()) else {
            return Err(Error::WouldBlock);
        };
        let stamp = reports.remove(0);
        if reports.is_empty() {
            socket.stamping = Stamping::On;
        }
        Ok(stamp)
    }

    /// When the last octet that was read had come, if the program asked for it in time.
    pub fn received_at(&mut self, id: TcpId) -> Option<Instant> {
        let socket = self.sockets.get(id.0)?;
        let options = self.option_sets.get(socket.options).timestamping;
        if socket.stamping == Stamping::Off || !options.contains(Timestamping::RX_SOFTWARE) {
            return None;
        }
        self.stamps.get(id.0.index())?.read_at
    }
}
