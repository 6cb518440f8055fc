//! Doorbells: what any process of the family rings to wake a thread that sleeps in ppoll(2), or an
//! epfd that the kernel watches.
//!
//! A doorbell is a datagram socket with an abstract name that is made of the engine's and its own
//! number; ringing is one octet sent there. Its place in the shared table says whether it has been
//! rung already, so that ringing twice costs one datagram.

use crate::sys;
use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Doorbells in all processes together.
pub(crate) const DOORBELLS: usize = 16_384;

/// The owner of doorbells that belong to an epoll set: no process.
pub(crate) const NOBODY: u32 = u32::MAX - 1;

/// A doorbell's shared part. All-zero is free.
#[derive(Debug)]
pub(crate) struct Doorbell {
    /// 0 free, else the owner's process slot + 1.
    owner: AtomicU32,
    /// Counts the uses of this place: part of the name.
    generation: AtomicU32,
    rung: AtomicU32,
}

/// The table of doorbells, in the region.
#[derive(Debug)]
pub(crate) struct Doorbells {
    bells: &'static [Doorbell],
    engine: u64,
    /// Places above were never used.
    watermark: AtomicU32,
    /// Where the search for a free place begins.
    hint: AtomicU32,
}

/// The socket from which this process and its descendants ring.
static SENDER: AtomicI32 = AtomicI32::new(-1);

impl Doorbells {
    /// A table of free doorbells for the engine with this number.
    pub(crate) fn new(bells: &'static [Doorbell], engine: u64) -> Self {
        Doorbells { bells, engine, watermark: AtomicU32::new(0), hint: AtomicU32::new(0) }
    }

    /// Makes the socket for ringing, inherited by every process of the family.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn open_sender() -> sys::Result<()> {
        let fd = sys::move_high(sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM)?);
        crate::fds::protect_fd(fd);
        SENDER.store(fd, Ordering::Release);
        Ok(())
    }

    fn name(&self, index: u32) -> [u8; 22] {
        let mut name = *b"onwire................";
        name[6..14].copy_from_slice(&self.engine.to_le_bytes());
        name[14..18].copy_from_slice(&index.to_le_bytes());
        let generation = self.bells[index as usize].generation.load(Ordering::Acquire);
        name[18..].copy_from_slice(&generation.to_le_bytes());
        name
    }

    /// A new doorbell for the process in slot `owner`: its socket and number.
    ///
    /// # Errors
    /// No descriptor or no place is left.
    pub(crate) fn create(&self, owner: u32) -> sys::Result<(c_int, u32)> {
        let index = self.reserve(owner).ok_or(sys::Errno(libc::ENFILE))?;
        let socket = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM).and_then(|fd| {
            let fd = sys::move_high(fd);
            sys::bind_abstract(fd, &self.name(index)).map(|()| fd).inspect_err(|_| sys::close(fd))
        });
        match socket {
            Ok(fd) => {
                crate::fds::protect_fd(fd);
                Ok((fd, index))
            }
            Err(errno) => {
                self.free(index);
                Err(errno)
            }
        }
    }

    fn reserve(&self, owner: u32) -> Option<u32> {
        let count = self.bells.len() as u32;
        let first = self.hint.load(Ordering::Relaxed);
        for step in 0..count {
            let index = (first + step) % count;
            let bell = &self.bells[index as usize];
            let free = bell.owner.load(Ordering::Relaxed) == 0;
            if free
                && bell
                    .owner
                    .compare_exchange(0, owner + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                bell.generation.fetch_add(1, Ordering::AcqRel);
                bell.rung.store(0, Ordering::Release);
                self.watermark.fetch_max(index + 1, Ordering::Relaxed);
                self.hint.store((index + 1) % count.min(64), Ordering::Relaxed);
                return Some(index);
            }
        }
        None
    }

    /// Gives the place back; the socket is the caller's to close.
    pub(crate) fn free(&self, index: u32) {
        self.bells[index as usize].owner.store(0, Ordering::Release);
    }

    /// Gives back what a process that is gone owned.
    pub(crate) fn free_of(&self, owner: u32) {
        for bell in &self.bells[..self.watermark.load(Ordering::Relaxed) as usize] {
            let _ = bell.owner.compare_exchange(owner + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Rings, unless it has been rung and not heard yet.
    pub(crate) fn ring(&self, index: u32) {
        if self.bells[index as usize].rung.swap(1, Ordering::SeqCst) == 0 {
            // An owner that is gone does not hear it, and need not.
            let _ = sys::send_to_abstract(SENDER.load(Ordering::Acquire), &self.name(index));
        }
    }

    /// Whether it has been rung and not heard.
    pub(crate) fn is_rung(&self, index: u32) -> bool {
        self.bells[index as usize].rung.load(Ordering::SeqCst) != 0
    }

    /// Takes note of the ringing. What it was about is to be looked at afterwards.
    pub(crate) fn hear(&self, fd: c_int, index: u32) {
        if self.is_rung(index) {
            while sys::receive_now(fd, &mut [0; 8]).is_ok() {}
            self.bells[index as usize].rung.store(0, Ordering::SeqCst);
        }
    }
}

/// Doorbells that this process has and that no thread sleeps on: descriptor + 1 and number.
static POOL: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// A doorbell that this thread has for a while.
#[derive(Debug)]
pub(crate) struct Borrowed<'a> {
    bells: &'a Doorbells,
    pub(crate) fd: c_int,
    pub(crate) index: u32,
}

impl<'a> Borrowed<'a> {
    /// One from the process's pool, or a new one; `None` when descriptors are short.
    pub(crate) fn take(bells: &'a Doorbells, owner: u32) -> Option<Self> {
        for place in &POOL {
            let packed = place.load(Ordering::Relaxed);
            if packed != 0
                && place.compare_exchange(packed, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                let (fd, index) = ((packed >> 32) as c_int - 1, packed as u32);
                return Some(Borrowed { bells, fd, index });
            }
        }
        let (fd, index) = bells.create(owner).ok()?;
        Some(Borrowed { bells, fd, index })
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.bells.hear(self.fd, self.index);
        let packed = (self.fd as u64 + 1) << 32 | u64::from(self.index);
        for place in &POOL {
            if place.compare_exchange(0, packed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        crate::fds::unprotect_fd(self.fd);
        sys::close(self.fd);
        self.bells.free(self.index);
    }
}

/// In the child after a fork: the pooled doorbells are the parent's.
pub(crate) fn forget_pool() {
    for place in &POOL {
        let packed = place.swap(0, Ordering::AcqRel);
        if packed != 0 {
            let fd = (packed >> 32) as c_int - 1;
            crate::fds::unprotect_fd(fd);
            sys::close(fd);
        }
    }
}

/// The sockets of exposed epoll sets that this process has: fork copies this with the descriptors.
/// Doorbell number, a part of its generation, descriptor + 1.
static EXPOSED: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

impl Doorbells {
    fn pack(&self, fd: c_int, index: u32) -> u64 {
        let generation = self.bells[index as usize].generation.load(Ordering::Acquire);
        u64::from(index) << 44
            | u64::from(generation & 0xff_ffff) << 20
            | (fd as u64 + 1) & 0xf_ffff
    }

    /// This process has the socket of an exposed set's doorbell; false when too many are exposed.
    pub(crate) fn remember(&self, fd: c_int, index: u32) -> bool {
        let packed = self.pack(fd, index);
        EXPOSED.iter().any(|place| {
            let known = place.load(Ordering::Acquire);
            let stale = known != 0 && !self.is_current(known);
            if stale {
                forget(place, known);
            }
            (known == 0 || stale)
                && place.compare_exchange(0, packed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    fn is_current(&self, packed: u64) -> bool {
        let index = (packed >> 44) as u32;
        self.pack((packed & 0xf_ffff) as c_int - 1, index) == packed
            && self.bells[index as usize].owner.load(Ordering::Acquire) != 0
    }

    fn exposed_place(&self, index: u32) -> Option<(&'static AtomicU64, u64)> {
        EXPOSED.iter().find_map(|place| {
            let packed = place.load(Ordering::Acquire);
            let ours = packed != 0 && (packed >> 44) as u32 == index && self.is_current(packed);
            ours.then_some((place, packed))
        })
    }

    /// As [`Doorbells::hear`] for an exposed set's doorbell, if this process has its socket.
    pub(crate) fn hear_exposed(&self, index: u32) {
        if let Some((_, packed)) = self.exposed_place(index) {
            self.hear((packed & 0xf_ffff) as c_int - 1, index);
        }
    }

    /// The set is gone: closes its doorbell's socket, if this process has it, and frees the place.
    pub(crate) fn forget_exposed(&self, index: u32) {
        if let Some((place, packed)) = self.exposed_place(index) {
            forget(place, packed);
        }
        self.free(index);
    }
}

fn forget(place: &AtomicU64, packed: u64) {
    if place.compare_exchange(packed, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        let fd = (packed & 0xf_ffff) as c_int - 1;
        crate::fds::unprotect_fd(fd);
        sys::close(fd);
    }
}
