//! The descriptor table: what each descriptor number of this process means to us.
//!
//! Owns one array of atomics in private memory, reserved whole and touched as used, so that a hook
//! learns in a few nanoseconds that a descriptor is none of ours. Called by every hook that takes a
//! descriptor. A fork copies it; the engine's counts of references are copied at the same moment,
//! which is why every change happens inside [`change`] and a fork waits for the changes under way.
//! Never calls the kernel about a descriptor.

use crate::guard;
use core::cell::Cell;
use core::ffi::c_int;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use engine::{Engine, EpollId, File, FileId, Path};

/// Descriptors that can be ours: the kernel's default `nr_open`. Sockets above it stay with the
/// kernel.
pub const CAPACITY: usize = 1 << 20;

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The kernel's, or not open.
    Kernel,
    /// A socket that the engine knows.
    Socket(FileId),
    /// An epoll set with a part in the engine.
    Epoll(EpollId),
    /// An epoll set of the kernel's alone, and how many threads wait in it.
    PlainEpoll(u32),
}

/// The two highest bits say what the rest is.
const TAG_SHIFT: u32 = 62;
const VALUE: u64 = (1 << TAG_SHIFT) - 1;
/// Bits of the engine's identifiers that name a place in a table; the upper half is the generation.
const INDEX_BITS: u32 = TAG_SHIFT - 32;

/// The engine's identifiers have a place in the lower half and a generation in the upper; squeezed
/// together they leave room for the tag. No table has 2^30 places.
const fn squeeze(bits: u64) -> u64 {
    (bits >> 32) << INDEX_BITS | bits & ((1 << INDEX_BITS) - 1)
}

/// The inverse of [`squeeze`].
const fn unsqueeze(value: u64) -> u64 {
    (value >> INDEX_BITS) << 32 | value & ((1 << INDEX_BITS) - 1)
}

impl Entry {
    fn to_bits(self) -> u64 {
        match self {
            Entry::Kernel => 0,
            Entry::Socket(id) => 1 << TAG_SHIFT | squeeze(id.to_bits()),
            Entry::Epoll(id) => 2 << TAG_SHIFT | squeeze(id.to_bits()),
            Entry::PlainEpoll(waiters) => 3 << TAG_SHIFT | u64::from(waiters),
        }
    }

    fn from_bits(bits: u64) -> Entry {
        let value = bits & VALUE;
        match bits >> TAG_SHIFT {
            1 => FileId::from_bits(unsqueeze(value)).map_or(Entry::Kernel, Entry::Socket),
            2 => EpollId::from_bits(unsqueeze(value)).map_or(Entry::Kernel, Entry::Epoll),
            3 => Entry::PlainEpoll(value as u32),
            _ => Entry::Kernel,
        }
    }
}

static TABLE: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
/// One more than the highest descriptor that ever had an entry.
static HIGH_WATER: AtomicU32 = AtomicU32::new(0);

#[inline]
fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    let table = TABLE.load(Ordering::Acquire);
    // A negative descriptor becomes a large number here.
    if table.is_null() || fd as u32 as usize >= CAPACITY {
        return None;
    }
    // SAFETY: the table has CAPACITY entries and is never unmapped.
    Some(unsafe { &*table.add(fd as usize) })
}

/// The slot, with the table made if there is none yet.
fn slot_made(fd: c_int) -> Option<&'static AtomicU64> {
    if TABLE.load(Ordering::Acquire).is_null() {
        make_table();
    }
    slot(fd)
}

#[cold]
fn make_table() {
    // SAFETY: a fresh private mapping of zeroes, which is what an array of atomics needs.
    let mapping = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            CAPACITY * size_of::<AtomicU64>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if mapping == libc::MAP_FAILED {
        return; // Every descriptor stays the kernel's; socket() says so.
    }
    let made = mapping.cast::<AtomicU64>();
    let none = core::ptr::null_mut();
    if TABLE.compare_exchange(none, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: another thread was first; nobody has seen this mapping.
        unsafe { libc::munmap(mapping, CAPACITY * size_of::<AtomicU64>()) };
    }
}

/// What `fd` is.
#[inline]
#[must_use]
pub fn get(fd: c_int) -> Entry {
    match slot(fd).map(|slot| slot.load(Ordering::Acquire)) {
        None | Some(0) => Entry::Kernel,
        Some(bits) => Entry::from_bits(bits),
    }
}

/// Makes `fd` mean `entry` and returns what it meant; `None` if the table cannot hold it.
pub fn replace(fd: c_int, entry: Entry) -> Option<Entry> {
    let slot = if entry == Entry::Kernel { slot(fd) } else { slot_made(fd) };
    let Some(slot) = slot else { return (entry == Entry::Kernel).then_some(Entry::Kernel) };
    if entry != Entry::Kernel {
        HIGH_WATER.fetch_max(fd as u32 + 1, Ordering::AcqRel);
    }
    Some(Entry::from_bits(slot.swap(entry.to_bits(), Ordering::AcqRel)))
}

/// Makes `fd` mean `new` if it still means `old`.
pub fn exchange(fd: c_int, old: Entry, new: Entry) -> bool {
    let Some(slot) = slot_made(fd) else { return false };
    HIGH_WATER.fetch_max(fd as u32 + 1, Ordering::AcqRel);
    let (old, new) = (old.to_bits(), new.to_bits());
    slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Every descriptor at or above `first` that is ours, in order.
pub fn ours_from(first: c_int) -> impl Iterator<Item = (c_int, Entry)> {
    let end = HIGH_WATER.load(Ordering::Acquire) as c_int;
    (first.max(0)..end).map(|fd| (fd, get(fd))).filter(|(_, entry)| *entry != Entry::Kernel)
}

/// A descriptor whose traffic is, or may become, the stack's.
#[derive(Clone, Copy)]
pub struct Open {
    /// The descriptor, which is a kernel socket as well.
    pub fd: c_int,
    /// The open file description.
    pub id: FileId,
    /// The same, to be looked at.
    pub file: &'static File,
    /// Who carries it.
    pub engine: &'static Engine,
}

/// The socket behind `fd` if its calls are ours to answer: not the kernel's, and the caller is the
/// program.
#[inline]
#[must_use]
pub fn socket(fd: c_int) -> Option<Open> {
    match get(fd) {
        Entry::Socket(id) => open(fd, id).filter(|open| open.file.path() != Path::Kernel),
        _ => None,
    }
}

/// The socket behind `fd` whoever carries it, for calls that concern the description itself.
#[must_use]
pub fn any_socket(fd: c_int) -> Option<Open> {
    match get(fd) {
        Entry::Socket(id) => open(fd, id),
        _ => None,
    }
}

fn open(fd: c_int, id: FileId) -> Option<Open> {
    if !guard::ours() {
        return None;
    }
    let engine = engine::get()?;
    let file = engine.file(id)?;
    Some(Open { fd, id, file, engine })
}

/// Changes under way in all threads, and a mark that a fork wants none.
static CHANGES: AtomicU32 = AtomicU32::new(0);
static FORKING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Changes under way in this thread: one, unless a signal handler interrupted one with another.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f`, which changes the table or the engine's counts of references, so that no fork sees it
/// half done.
pub fn change<R>(f: impl FnOnce() -> R) -> R {
    /// Ends the change when `f` unwinds, too.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
            CHANGES.fetch_sub(1, Ordering::SeqCst);
        }
    }
    begin_change();
    let _end = End;
    f()
}

fn begin_change() {
    loop {
        CHANGES.fetch_add(1, Ordering::SeqCst);
        // The forking thread's own changes (a signal handler's, an atfork handler's) go on.
        let forking = FORKING.load(Ordering::SeqCst);
        if forking == 0 || DEPTH.get() > 0 || forking == thread_number() {
            DEPTH.set(DEPTH.get() + 1);
            return;
        }
        CHANGES.fetch_sub(1, Ordering::SeqCst);
        std::thread::yield_now();
    }
}

fn thread_number() -> u32 {
    // SAFETY: gettid has no conditions.
    unsafe { libc::gettid() as u32 }
}

/// Waits for the changes under way and holds new ones back, until [`end_fork`].
pub fn begin_fork() {
    let me = thread_number();
    while FORKING.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        std::thread::yield_now();
    }
    while CHANGES.load(Ordering::SeqCst) > DEPTH.get() {
        std::thread::yield_now();
    }
}

/// Lets changes happen again, in the parent.
pub fn end_fork() {
    FORKING.store(0, Ordering::SeqCst);
}

/// In a fork's child: the threads that waited in epoll sets are the parent's.
pub fn forget_waiters() {
    for (fd, entry) in ours_from(0) {
        if let Entry::PlainEpoll(_) = entry {
            replace(fd, Entry::Kernel);
        }
    }
}

/// As [`end_fork`] in the child, in which no other thread exists.
pub fn end_fork_in_child() {
    CHANGES.store(DEPTH.get(), Ordering::SeqCst);
    end_fork();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_encoding() {
        let file = FileId::from_bits(0xffff_ffff_0abc_def0).unwrap();
        let set = EpollId::from_bits(77).unwrap();
        for entry in [
            Entry::Kernel,
            Entry::Socket(file),
            Entry::Epoll(set),
            Entry::PlainEpoll(0),
            Entry::PlainEpoll(9),
        ] {
            assert_eq!(Entry::from_bits(entry.to_bits()), entry);
        }
    }

    #[test]
    fn descriptors_out_of_range_are_the_kernels() {
        let file = FileId::from_bits(1).unwrap();
        assert_eq!(get(-1), Entry::Kernel);
        assert_eq!(get(c_int::MAX), Entry::Kernel);
        assert_eq!(replace(-1, Entry::Socket(file)), None);
        assert_eq!(replace(c_int::MAX, Entry::Kernel), Some(Entry::Kernel));
    }

    #[test]
    fn replacing_tells_what_was_there() {
        let set = EpollId::from_bits(5).unwrap();
        let fd = CAPACITY as c_int - 1;
        assert_eq!(replace(fd, Entry::Epoll(set)), Some(Entry::Kernel));
        assert!(ours_from(fd).eq([(fd, Entry::Epoll(set))]));
        assert!(!exchange(fd, Entry::Kernel, Entry::PlainEpoll(1)));
        assert_eq!(replace(fd, Entry::Kernel), Some(Entry::Epoll(set)));
        assert_eq!(get(fd), Entry::Kernel);
    }

    #[test]
    fn a_fork_waits_for_changes_of_other_threads_but_not_for_its_own() {
        change(|| {
            begin_fork();
            change(|| ());
            end_fork();
        });
        assert_eq!(CHANGES.load(Ordering::SeqCst), 0);
    }
}
