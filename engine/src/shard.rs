//! The shard as the engine builds it: the stack over a queue pair that says when it changes
//! something.

use crate::handover::{Handover, HandoverCounters};
use crate::link::Link;
use core::sync::atomic::{AtomicBool, Ordering};
use dpdk::{Mbuf, Queue};
use stack::addr::MacAddr;
use stack::device::{Burst, Device, Offloads};
use stack::packet::{Allocator, Buffer};
use stack::steering::{Owner, owner};

pub use stack::shard::SocketId;

/// The stack over the engine's device.
pub type Shard = stack::shard::Shard<Nic>;

/// A queue pair. It marks the lock dirty when frames move, so that an owner who is killed while
/// polling an idle port leaves a shard that is known to be whole.
#[derive(Debug)]
pub struct Nic {
    queue: Queue,
    dirty: &'static AtomicBool,
    link: &'static Link,
    /// Where there are several shards: the ways to the others.
    handover: Option<&'static Handover>,
    handed: HandoverCounters,
}

impl Nic {
    pub(crate) fn new(
        queue: Queue,
        dirty: &'static AtomicBool,
        link: &'static Link,
        handover: Option<&'static Handover>,
    ) -> Self {
        Nic { queue, dirty, link, handover, handed: HandoverCounters::default() }
    }

    /// Frames that passed between the shards.
    pub(crate) fn handed(&self) -> HandoverCounters {
        self.handed
    }

    /// Gives away what belongs to other shards of the frames from `first` on, and takes what others
    /// have given.
    fn sort(&mut self, handover: &'static Handover, frames: &mut Burst<Mbuf>, first: usize) {
        let own = usize::from(self.queue.index());
        let shards = handover.shards();
        let mut at = first;
        while at < frames.len() {
            match owner(frames[at].data(), shards as u16) {
                Owner::Shard(shard) if usize::from(shard) != own => {
                    let frame = frames.remove(at);
                    handover.give(own, shard.into(), frame);
                    self.handed.given += 1;
                }
                Owner::Shard(_) => at += 1,
                Owner::Every => {
                    for shard in (0..shards).filter(|shard| *shard != own) {
                        self.give_copy(handover, shard, &frames[at]);
                    }
                    at += 1;
                }
            }
        }
        if frames.is_full() {
            return; // There is another turn.
        }
        let (queue, handed) = (&mut self.queue, &mut self.handed);
        handover.take(own, |stray| {
            match queue.take_in(&stray) {
                Some(frame) => {
                    handed.taken += 1;
                    frames.push(frame);
                }
                None => handed.no_buffer += 1,
            }
            !frames.is_full()
        });
    }

    fn give_copy(&mut self, handover: &Handover, shard: usize, frame: &Mbuf) {
        let copy = self.queue.allocate().filter(|copy| copy.tailroom() >= frame.data().len());
        let Some(mut copy) = copy else {
            self.handed.no_buffer += 1;
            return;
        };
        copy.append(frame.data().len()).copy_from_slice(frame.data());
        handover.give(usize::from(self.queue.index()), shard, copy);
        self.handed.given += 1;
    }

    /// The port's MTU has been changed.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.queue.set_mtu(mtu);
    }

    /// The port's Ethernet address has been changed.
    pub(crate) fn set_mac(&mut self, mac: MacAddr) {
        self.queue.set_mac(mac);
    }

    /// The queue pair.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Allocator for Nic {
    type Buffer = Mbuf;

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.queue.allocate()
    }

    #[inline]
    fn available(&self) -> usize {
        self.queue.available()
    }
}

impl Device for Nic {
    fn mac(&self) -> MacAddr {
        self.queue.mac()
    }

    fn mtu(&self) -> u16 {
        self.queue.mtu()
    }

    fn offloads(&self) -> Offloads {
        self.queue.offloads()
    }

    fn hand_over(&mut self, frame: Mbuf) {
        let Some(handover) = self.handover else { return };
        if let Owner::Shard(shard) = owner(frame.data(), handover.shards() as u16) {
            handover.give(usize::from(self.queue.index()), shard.into(), frame);
            self.handed.given += 1;
        }
    }

    #[inline]
    fn rx_burst(&mut self, frames: &mut Burst<Mbuf>) {
        if self.link.is_lost() {
            // With several shards others may be using the port: whoever holds all lets go of it.
            if self.handover.is_none() {
                self.link.let_go();
            }
            return;
        }
        let before = frames.len();
        self.queue.rx_burst(frames);
        if let Some(handover) = self.handover
            && (frames.len() != before || handover.has_frames_for(usize::from(self.queue.index())))
        {
            self.dirty.store(true, Ordering::Relaxed);
            self.sort(handover, frames, before);
        }
        if frames.len() != before {
            self.dirty.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) {
        if !frames.is_empty() {
            self.dirty.store(true, Ordering::Relaxed);
            if self.link.is_lost() {
                self.link.drop_frames(frames.len());
                frames.clear();
                return;
            }
        }
        self.queue.tx_burst(frames);
    }
}
