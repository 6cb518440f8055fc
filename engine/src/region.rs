//! The shared region: one mapping, made before the first fork, at the same address in every
//! process of the family. Memory is handed out by a bump pointer and never given back.
//!
//! `alloc` serves from it while a thread constructs ([`construct`]); nothing else allocates here.

use crate::huge_pages::HUGE;
use crate::sys::Errno;
use core::alloc::Layout;
use core::cell::Cell;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 4_096;

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
        match map_aligned(size) {
            Ok(start) => {
                NEXT.store(start, Ordering::Relaxed);
                END.store(start + size, Ordering::Relaxed);
                START.store(start, Ordering::Release);
                return Ok(size);
            }
            Err(errno) if size == least => return Err(errno),
            Err(_) => size = (size / 2).max(least),
        }
    }
}

/// Maps shared memory where huge pages may begin, and returns its address.
pub(crate) fn map_aligned(octets: usize) -> Result<usize, Errno> {
    let map = |at: usize, octets, protection, flags| {
        let flags = libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags;
        // SAFETY: a fresh anonymous mapping, in a place of the kernel's choice or in one that was
        // reserved for it; it overlaps nothing else.
        let at = unsafe { libc::mmap(at as *mut _, octets, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            let errno = std::io::Error::last_os_error().raw_os_error();
            return Err(Errno(errno.unwrap_or(libc::ENOMEM)));
        }
        Ok(at as usize)
    };
    let reserved = map(0, octets + HUGE, libc::PROT_NONE, libc::MAP_PRIVATE)?;
    let start = reserved.next_multiple_of(HUGE);
    let end = (start + octets).next_multiple_of(PAGE);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let mapped = map(start, octets, protection, libc::MAP_SHARED | libc::MAP_FIXED);
    let rest = match mapped {
        Ok(_) => [reserved..start, end..reserved + octets + HUGE],
        Err(_) => [reserved..reserved + octets + HUGE, 0..0],
    };
    for Range { start, end } in rest.into_iter().filter(|rest| !rest.is_empty()) {
        // SAFETY: of what was reserved above, the part that nothing is mapped over.
        unsafe { libc::munmap(start as *mut _, end - start) };
    }
    mapped
}

/// Whether `address` lies in the region.
#[inline]
#[must_use]
pub fn contains(address: *const u8) -> bool {
    let start = START.load(Ordering::Relaxed);
    start != 0 && (start..END.load(Ordering::Relaxed)).contains(&(address as usize))
}

/// Where what was handed out so far lies.
#[must_use]
pub fn used_range() -> Range<usize> {
    START.load(Ordering::Relaxed)..NEXT.load(Ordering::Relaxed)
}

/// Octets handed out so far.
#[must_use]
pub fn used() -> usize {
    used_range().len()
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
