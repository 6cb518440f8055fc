//! The shared region: one mapping, made before the first fork, at the same address in every
//! process of the family. Memory is handed out by a bump pointer and never given back.
//!
//! `alloc` serves from it while a thread constructs ([`construct`]); nothing else allocates here.

use crate::sys::Errno;
use core::alloc::Layout;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
/// Private to each process, so only to be moved before the first fork: see [`construct`].
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CONSTRUCTING: Cell<u32> = const { Cell::new(0) };
}

/// Maps the region: `octets` of address space, or less where limits forbid it, but at least
/// `least`. Pages cost memory when they are touched. Returns its size.
///
/// # Errors
/// The errno of mmap(2).
pub fn map(octets: usize, least: usize) -> Result<usize, Errno> {
    let mut size = octets.max(least);
    loop {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping; it overlaps nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        if start != libc::MAP_FAILED {
            let start = start as usize;
            NEXT.store(start, Ordering::Relaxed);
            END.store(start + size, Ordering::Relaxed);
            START.store(start, Ordering::Release);
            return Ok(size);
        }
        let errno = Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM));
        if size == least {
            return Err(errno);
        }
        size = (size / 2).max(least);
    }
}

/// Whether `address` lies in the region.
#[inline]
#[must_use]
pub fn contains(address: *const u8) -> bool {
    let start = START.load(Ordering::Relaxed);
    start != 0 && (start..END.load(Ordering::Relaxed)).contains(&(address as usize))
}

/// Octets handed out so far.
#[must_use]
pub fn used() -> usize {
    NEXT.load(Ordering::Relaxed).saturating_sub(START.load(Ordering::Relaxed))
}

/// Runs `f` with this thread's allocations served from the region. Only before the first fork.
pub fn construct<R>(f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CONSTRUCTING.with(|depth| depth.set(depth.get() - 1));
        }
    }
    CONSTRUCTING.with(|depth| depth.set(depth.get() + 1));
    let _leave = Leave;
    f()
}

/// Whether this thread's allocations belong to the region.
#[inline]
#[must_use]
pub fn constructing() -> bool {
    CONSTRUCTING.try_with(|depth| depth.get() > 0).unwrap_or(false)
}

/// Memory from the region (zeroed: it is never used twice), null when it is exhausted.
#[must_use]
pub fn allocate(layout: Layout) -> *mut u8 {
    let align = layout.align().max(16);
    let end = END.load(Ordering::Relaxed);
    let mut next = NEXT.load(Ordering::Relaxed);
    loop {
        // Large blocks get lines of their own: tables of different owners share no cache line.
        let align = if layout.size() >= 64 { align.max(64) } else { align };
        let at = next.next_multiple_of(align);
        let Some(after) = at.checked_add(layout.size()) else { return ptr::null_mut() };
        if next == 0 || after > end {
            return ptr::null_mut();
        }
        match NEXT.compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return at as *mut u8,
            Err(other) => next = other,
        }
    }
}

/// A slice of `len` values that are valid when all zero, in the region and not touched.
///
/// # Safety
/// All-zero octets must be a valid `T`.
#[must_use]
pub unsafe fn zeroed_slice<T>(len: usize) -> Option<&'static mut [T]> {
    let layout = Layout::array::<T>(len).ok()?;
    let start = allocate(layout).cast::<T>();
    if start.is_null() {
        return None;
    }
    // SAFETY: fresh, zeroed, aligned memory of this length that is never given back; the caller
    // says that zero is a valid value.
    Some(unsafe { core::slice::from_raw_parts_mut(start, len) })
}
