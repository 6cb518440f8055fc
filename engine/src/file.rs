//! Open file descriptions: what several descriptors of several processes can share.
//!
//! A [`File`] is the part that is read without the lock; who holds it, which epoll entries it has
//! and who waits for it is in [`crate::world`].

use crate::shard::SocketId;
use core::num::NonZeroU64;
use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
};
use stack::collections::Handle;
use stack::readiness::Readiness;
use stack::socket::Family;
use stack::tcp::TcpId;
use stack::udp::UdpId;

/// Names an open file description; generation-checked, the same in every process. Fits in a
/// `u64`, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(NonZeroU64);

impl FileId {
    /// As a number, for tables of atomics.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// From [`FileId::to_bits`]; `None` for zero.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(FileId(bits)),
            None => None,
        }
    }

    pub(crate) const fn handle(self) -> Handle {
        handle_of(self.0.get())
    }

    pub(crate) const fn from_handle(handle: Handle) -> Option<Self> {
        Self::from_bits(bits_of(handle))
    }

    pub(crate) const fn index(self) -> u32 {
        self.0.get() as u32
    }
}

/// A handle as a number; not zero, because generations count from 1.
pub(crate) const fn bits_of(handle: Handle) -> u64 {
    (handle.generation() as u64) << 32 | handle.index() as u64
}

/// The inverse of [`bits_of`].
pub(crate) const fn handle_of(bits: u64) -> Handle {
    Handle::from_parts(bits as u32, (bits >> 32) as u32)
}

/// What kind of socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `SOCK_STREAM`, TCP.
    Tcp,
    /// `SOCK_DGRAM`, UDP.
    Udp,
}

/// Which stack carries the socket's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Path {
    /// Neither bound, connected nor listening: both could still take it.
    Undecided,
    /// Ours.
    Stack,
    /// The kernel's.
    Kernel,
    /// Both: a wildcard listener or datagram socket.
    Both,
}

impl Path {
    pub(crate) const ALL: [Path; 4] = [Path::Undecided, Path::Stack, Path::Kernel, Path::Both];
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// Why a socket took its path, as `onwire ss` says it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];
            /// The text that listings show.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Nothing was decided yet.
    None = "",
    /// The destination is reached over the stack's device.
    Routed = "routed by the stack",
    /// A wildcard address: both worlds.
    Wildcard = "wildcard address",
    /// A rule of the settings said so.
    Rule = "rule",
    /// A loopback address, and loopback stays with the kernel.
    Loopback = "loopback address",
    /// The address is one of the host's, not of the stack.
    HostAddress = "address of the host",
    /// The stack has no route to the destination.
    NoRoute = "no route in the stack",
    /// The stack does not speak the address family.
    Family = "address family",
    /// The program asked for an option that only the kernel has.
    Option = "option of the kernel",
    /// The descriptor was passed to another program.
    Passed = "descriptor passed on",
    /// The stack's tables are full.
    TableFull = "table full",
    /// The engine failed or is not running.
    EngineDown = "engine down",
}

/// One open file description. Shared by every process; its fields are atomics. All-zero is an
/// entry that was never used.
#[derive(Debug)]
#[repr(align(32))]
pub struct File {
    /// Equal to the handle's while the description lives; 0 otherwise.
    generation: AtomicU32,
    /// [`UDP`], [`V6`] and [`PASSED`].
    nature: AtomicU8,
    path: AtomicU8,
    reason: AtomicU8,
    nonblocking: AtomicBool,
    /// The socket's place and generation; 0 means none.
    socket: AtomicU64,
    /// Counts the events of the socket, for those who spin.
    events: AtomicU32,
    /// For the caller's own use (shared by all descriptors in all processes), zero at first.
    pub caller_flags: AtomicU32,
    /// Whom `SIGIO` and `SIGURG` are for, as `F_SETOWN` says it: a process, a group if negative,
    /// nobody if zero.
    owner: AtomicI32,
    /// See [`Notice`].
    notice: AtomicU32,
}

/// What is kept of a description where there are several shards. All-zero is nothing.
#[derive(Debug)]
pub(crate) struct Spread {
    /// What the socket is ready for.
    ready: AtomicU32,
    /// A bit for each shard in which connections wait to be accepted.
    acceptable: AtomicU32,
    /// Its place in the table of replicas, as index + 1; 0: it has none.
    replicas: AtomicU16,
    /// It listens, in every shard.
    listening: AtomicBool,
}

/// It is a datagram socket.
const UDP: u8 = 1;
/// It was created as an IPv6 one.
const V6: u8 = 2;
/// Descriptors of it were passed on: there is something in its [`Passing`].
const PASSED: u8 = 4;

/// What is on its way to other processes (`SCM_RIGHTS`), beside its description: few ever are, and
/// the memory of others is not touched. All-zero is nothing.
#[derive(Debug)]
pub(crate) struct Passing {
    /// The name under which descriptors were passed on; 0 means none was.
    tag: AtomicU64,
    /// How many of those nobody has taken yet.
    in_flight: AtomicU32,
    /// The slot of the process that holds them meanwhile.
    passer: AtomicU32,
}

/// What the owner of a description is told, packed: the signal in the lowest octet (0: `SIGIO`),
/// then whether `O_ASYNC` is on, whether the owner is a thread, and the descriptor's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notice(u32);

impl Notice {
    const ASYNC: u32 = 1 << 8;
    const THREAD: u32 = 1 << 9;
    const FD_SHIFT: u32 = 10;

    /// `F_SETSIG`'s signal.
    pub(crate) const fn signal(self) -> i32 {
        (self.0 & 0xff) as i32
    }

    /// `O_ASYNC`.
    pub(crate) const fn is_async(self) -> bool {
        self.0 & Self::ASYNC != 0
    }

    /// The owner is a thread (`F_OWNER_TID`).
    pub(crate) const fn to_thread(self) -> bool {
        self.0 & Self::THREAD != 0
    }

    /// The descriptor for which `O_ASYNC` was set.
    pub(crate) const fn fd(self) -> i32 {
        (self.0 >> Self::FD_SHIFT) as i32
    }
}

impl Spread {
    /// A description begins.
    pub(crate) fn begin(&self) {
        self.ready.store(0, Ordering::Relaxed);
        self.set_listening(false);
        self.set_replicas(None);
    }

    /// Its place in the table of replicas, if it has any.
    pub(crate) fn replicas(&self) -> Option<usize> {
        usize::from(self.replicas.load(Ordering::Acquire)).checked_sub(1)
    }

    pub(crate) fn set_replicas(&self, place: Option<u16>) {
        self.replicas.store(place.map_or(0, |place| place + 1), Ordering::Release);
    }

    /// Whether it listens; known where there are several shards.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    pub(crate) fn set_listening(&self, listening: bool) {
        self.acceptable.store(0, Ordering::Relaxed);
        self.listening.store(listening, Ordering::Release);
    }

    /// What its socket, or its replica, in `lane` is ready for; under the lock of that shard.
    pub(crate) fn note_readiness(&self, file: &File, lane: usize, readiness: Readiness) {
        let mut own = readiness;
        if self.is_listening() {
            own -= ACCEPTABLE;
            let bit = 1 << lane;
            if readiness.contains(Readiness::READABLE) {
                self.acceptable.fetch_or(bit, Ordering::AcqRel);
            } else {
                self.acceptable.fetch_and(!bit, Ordering::AcqRel);
            }
            if file.place().is_some_and(|(primary, _)| primary != lane) {
                return;
            }
        }
        self.ready.store(own.bits(), Ordering::Release);
    }

    /// The shards in which connections wait to be accepted.
    pub(crate) fn acceptable(&self) -> u32 {
        self.acceptable.load(Ordering::Acquire)
    }

    /// What it is ready for, as noted last.
    pub(crate) fn noted_readiness(&self) -> Readiness {
        let own = Readiness::from_bits_retain(self.ready.load(Ordering::Acquire));
        if self.acceptable() == 0 { own } else { own | ACCEPTABLE }
    }
}

/// What a listener with connections to accept is ready for.
const ACCEPTABLE: Readiness = Readiness::READABLE.union(Readiness::READ_NORMAL);

/// Where the shard's number lies in the index of a socket: tables are smaller.
const LANE_AT: u32 = 28;

/// A socket of a shard as a number; 0 is none's (generations begin at 1).
pub(crate) fn bits_of_place(lane: usize, socket: SocketId) -> u64 {
    let (index, generation) = match socket {
        SocketId::Tcp(id) => id.to_parts(),
        SocketId::Udp(id) => id.to_parts(),
    };
    u64::from(generation) << 32 | (lane as u64) << LANE_AT | u64::from(index)
}

/// The inverse of [`bits_of_place`].
#[inline]
pub(crate) fn place_of(kind: Kind, bits: u64) -> Option<(usize, SocketId)> {
    let (index, generation) = (bits as u32 & ((1 << LANE_AT) - 1), (bits >> 32) as u32);
    let lane = (bits as u32 >> LANE_AT) as usize;
    (bits != 0).then(|| {
        let socket = match kind {
            Kind::Tcp => SocketId::Tcp(TcpId::from_parts(index, generation)),
            Kind::Udp => SocketId::Udp(UdpId::from_parts(index, generation)),
        };
        (lane, socket)
    })
}

impl File {
    /// What it was created as.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.nature.load(Ordering::Relaxed) & UDP != 0 { Kind::Udp } else { Kind::Tcp }
    }

    /// What it was created as.
    #[must_use]
    pub fn family(&self) -> Family {
        if self.nature.load(Ordering::Relaxed) & V6 != 0 { Family::V6 } else { Family::V4 }
    }

    /// Its socket; `None` once [`crate::Engine::surrender`] gave it to the kernel.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        self.place().map(|(_, socket)| socket)
    }

    /// Its shard and its socket there.
    #[inline]
    pub(crate) fn place(&self) -> Option<(usize, SocketId)> {
        place_of(self.kind(), self.socket.load(Ordering::Acquire))
    }

    /// `O_NONBLOCK`.
    #[must_use]
    pub fn nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    /// Sets `O_NONBLOCK`.
    pub fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    /// Who carries its traffic.
    #[must_use]
    pub fn path(&self) -> Path {
        let path = usize::from(self.path.load(Ordering::Acquire));
        Path::ALL.get(path).copied().unwrap_or(Path::Undecided)
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let reason = usize::from(self.reason.load(Ordering::Relaxed));
        Reason::ALL.get(reason).copied().unwrap_or(Reason::None)
    }

    /// Decides the path, for everybody who shares the description.
    pub fn set_path(&self, path: Path, reason: Reason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.path.store(path as u8, Ordering::Release);
    }

    /// `F_SETOWN`, `F_SETOWN_EX`: a process, a thread or, if negative, a group.
    pub fn set_owner(&self, owner: i32, is_thread: bool) {
        self.change_notice(Notice::THREAD, if is_thread { Notice::THREAD } else { 0 });
        self.owner.store(owner, Ordering::Release);
    }

    /// `F_SETSIG`: the signal instead of `SIGIO`; 0 for that one.
    pub fn set_signal(&self, signal: u8) {
        self.change_notice(0xff, signal.into());
    }

    /// `O_ASYNC`, set through the descriptor `fd`.
    pub fn set_async(&self, on: bool, fd: i32) {
        let fd = (fd as u32) << Notice::FD_SHIFT;
        let mask = Notice::ASYNC | u32::MAX << Notice::FD_SHIFT;
        self.change_notice(mask, if on { Notice::ASYNC | fd } else { 0 });
    }

    fn change_notice(&self, mask: u32, value: u32) {
        let change = |notice| Some(notice & !mask | value);
        // Never fails: the closure always has an answer.
        let _ = self.notice.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// Who is told of events, if anybody, and how.
    #[inline]
    pub(crate) fn owner(&self) -> Option<(i32, Notice)> {
        let owner = self.owner.load(Ordering::Relaxed);
        (owner != 0).then(|| (owner, Notice(self.notice.load(Ordering::Relaxed))))
    }

    /// Begins a description; `publish` makes it visible.
    pub(crate) fn begin(
        &self,
        passing: &Passing,
        kind: Kind,
        family: Family,
        place: (usize, SocketId),
    ) {
        if self.nature.load(Ordering::Relaxed) & PASSED != 0 {
            passing.tag.store(0, Ordering::Relaxed);
            passing.in_flight.store(0, Ordering::Relaxed);
        }
        let nature = if kind == Kind::Udp { UDP } else { 0 };
        let nature = nature | if family == Family::V6 { V6 } else { 0 };
        self.nature.store(nature, Ordering::Relaxed);
        self.nonblocking.store(false, Ordering::Relaxed);
        self.events.store(0, Ordering::Relaxed);
        self.caller_flags.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
        self.notice.store(0, Ordering::Relaxed);
        self.set_path(Path::Undecided, Reason::None);
        self.set_place(Some(place));
    }

    pub(crate) fn publish(&self, generation: u32) {
        self.generation.store(generation, Ordering::Release);
    }

    pub(crate) fn is_live(&self, generation: u32) -> bool {
        self.generation.load(Ordering::Acquire) == generation
    }

    pub(crate) fn set_place(&self, place: Option<(usize, SocketId)>) {
        let bits = place.map_or(0, |(lane, socket)| bits_of_place(lane, socket));
        self.socket.store(bits, Ordering::Release);
    }

    /// One more descriptor is on its way, held by `passer`.
    pub(crate) fn pass(&self, passing: &Passing, tag: u64, passer: u32) {
        self.nature.fetch_or(PASSED, Ordering::Relaxed);
        passing.tag.store(tag, Ordering::Relaxed);
        passing.passer.store(passer, Ordering::Relaxed);
        passing.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it was passed on under this name.
    pub(crate) fn was_passed_as(&self, passing: &Passing, tag: u64) -> bool {
        tag != 0
            && self.nature.load(Ordering::Relaxed) & PASSED != 0
            && passing.tag.load(Ordering::Relaxed) == tag
    }

    /// A descriptor has arrived: whose hold on it ends.
    /// Under the lock: nobody else counts at the same time.
    #[inline]
    pub(crate) fn count_event(&self) {
        let events = self.events.load(Ordering::Relaxed);
        self.events.store(events.wrapping_add(1), Ordering::Release);
    }

    pub(crate) fn events(&self) -> u32 {
        self.events.load(Ordering::Acquire)
    }
}

impl Passing {
    /// A descriptor has arrived: whose hold on it ends.
    pub(crate) fn take(&self) -> Option<u32> {
        let flying = self.in_flight.load(Ordering::Relaxed);
        self.in_flight.store(flying.saturating_sub(1), Ordering::Relaxed);
        (flying > 0).then(|| self.passer.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::zeroed;

    #[test]
    fn what_was_passed_on_is_forgotten_by_the_next_description() {
        // SAFETY: all-zero is a description that was never used, and nothing on its way.
        let (file, passing): (File, Passing) = unsafe { core::mem::zeroed() };
        let socket = |n| SocketId::Udp(UdpId::from_parts(n, 1));
        file.begin(&passing, Kind::Udp, Family::V6, (0, socket(1)));
        assert!(file.kind() == Kind::Udp && file.family() == Family::V6);
        file.pass(&passing, 7, 3);
        assert!(file.was_passed_as(&passing, 7) && !file.was_passed_as(&passing, 0));
        assert_eq!((passing.take(), passing.take()), (Some(3), None));
        file.pass(&passing, 7, 3);
        file.begin(&passing, Kind::Tcp, Family::V4, (0, socket(2)));
        assert!(file.kind() == Kind::Tcp && file.family() == Family::V4);
        assert!(!file.was_passed_as(&passing, 7));
        assert_eq!(passing.take(), None);
    }

    #[test]
    fn a_place_names_shard_and_socket() {
        for (lane, index) in [(0, 0), (3, 4_194_303), (15, 7)] {
            let socket = SocketId::Tcp(TcpId::from_parts(index, 9));
            let bits = bits_of_place(lane, socket);
            assert_eq!(place_of(Kind::Tcp, bits), Some((lane, socket)));
        }
        assert_eq!(place_of(Kind::Tcp, 0), None);
    }

    #[test]
    fn a_listener_is_readable_while_connections_wait_in_any_shard() {
        // SAFETY: all-zero is a description that was never used, and nothing known of it.
        let (file, spread): (File, Spread) = unsafe { (zeroed(), zeroed()) };
        file.set_place(Some((1, SocketId::Tcp(TcpId::from_parts(5, 1)))));
        spread.begin();
        spread.note_readiness(&file, 1, Readiness::WRITABLE);
        assert_eq!(spread.noted_readiness(), Readiness::WRITABLE);
        spread.set_listening(true);
        spread.note_readiness(&file, 1, Readiness::empty());
        spread.note_readiness(&file, 0, ACCEPTABLE);
        spread.note_readiness(&file, 2, ACCEPTABLE);
        assert_eq!((spread.acceptable(), spread.noted_readiness()), (0b101, ACCEPTABLE));
        spread.note_readiness(&file, 0, Readiness::empty());
        spread.note_readiness(&file, 2, Readiness::empty());
        assert_eq!((spread.acceptable(), spread.noted_readiness()), (0, Readiness::empty()));
    }

    #[test]
    fn the_owner_of_a_description_is_one_cache_line_away() {
        assert_eq!(size_of::<File>(), 32);
        // SAFETY: all-zero is a description that was never used.
        let file: File = unsafe { core::mem::zeroed() };
        assert_eq!(file.owner(), None);
        file.set_async(true, 1_000_000);
        file.set_signal(40);
        file.set_owner(-7, false);
        let (owner, notice) = file.owner().unwrap();
        assert_eq!((owner, notice.signal(), notice.fd()), (-7, 40, 1_000_000));
        assert!(notice.is_async() && !notice.to_thread());
        file.set_owner(9, true);
        file.set_async(false, 3);
        let (owner, notice) = file.owner().unwrap();
        assert!(owner == 9 && notice.to_thread() && !notice.is_async() && notice.signal() == 40);
    }
}
