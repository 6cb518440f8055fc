//! The shard as the engine builds it: the stack over a queue pair that says when it changes
//! something.

use crate::link::Link;
use core::sync::atomic::{AtomicBool, Ordering};
use dpdk::{Mbuf, Queue};
use stack::addr::MacAddr;
use stack::device::{Burst, Device, Offloads};
use stack::packet::Allocator;

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
}

impl Nic {
    pub(crate) fn new(queue: Queue, dirty: &'static AtomicBool, link: &'static Link) -> Self {
        Nic { queue, dirty, link }
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

    #[inline]
    fn rx_burst(&mut self, frames: &mut Burst<Mbuf>) {
        if self.link.is_lost() {
            self.link.let_go();
            return;
        }
        let before = frames.len();
        self.queue.rx_burst(frames);
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
