//! The global allocator of the library.
//!
//! * While a thread constructs ([`crate::region::construct`]) it gets memory of the shared region.
//! * In the keeper memory comes from a private arena: the program's heap may have been locked by
//!   some thread at the moment of the clone.
//! * Otherwise it is the program's malloc.
//!
//! Freeing is decided by the address: the region's memory is never given back, and the keeper
//! leaves alone what it inherited. Debug builds abort on an allocation by a thread that holds a
//! shard's lock: nothing in the stack allocates after its start.

use crate::{region, sys, thread};
use core::cell::{Cell, UnsafeCell};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::alloc::{GlobalAlloc, Layout, System};

/// Install it in the cdylib: `#[global_allocator] static A: engine::alloc::Allocator =
/// engine::alloc::Allocator;`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// Address space of the keeper's arena, in octets.
const ARENA_OCTETS: usize = 256 << 20;

static IN_KEEPER: AtomicBool = AtomicBool::new(false);
static ARENA_START: AtomicUsize = AtomicUsize::new(0);
static ARENA_NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOWED: Cell<u32> = const { Cell::new(0) };
}

struct Arena(UnsafeCell<dlmalloc::Dlmalloc<Pages>>);

// SAFETY: only the keeper uses it, and the keeper has one thread.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new(dlmalloc::Dlmalloc::new_with_allocator(Pages)));

/// Where the arena's pages come from: one mapping, so that an address tells whose it is.
struct Pages;

// SAFETY: hands out distinct parts of one mapping and never takes one back.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let size = size.next_multiple_of(self.page_size());
        let at = ARENA_NEXT.load(Ordering::Relaxed);
        if at + size > ARENA_START.load(Ordering::Relaxed) + ARENA_OCTETS {
            return (ptr::null_mut(), 0, 0);
        }
        ARENA_NEXT.store(at + size, Ordering::Relaxed);
        (at as *mut u8, size, 0)
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }
    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        false
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        4_096
    }
}

/// From now on this process, which is the keeper and has one thread, allocates from its arena.
///
/// # Errors
/// The arena cannot be mapped.
pub(crate) fn become_keeper() -> sys::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping; it overlaps nothing.
    let start = unsafe { libc::mmap(ptr::null_mut(), ARENA_OCTETS, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(sys::Errno(libc::ENOMEM));
    }
    ARENA_START.store(start as usize, Ordering::Relaxed);
    ARENA_NEXT.store(start as usize, Ordering::Relaxed);
    IN_KEEPER.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether this process is a keeper.
pub(crate) fn in_keeper() -> bool {
    IN_KEEPER.load(Ordering::Relaxed)
}

/// Permits allocation under a shard's lock: for listings that the keeper makes.
pub(crate) fn allow<R>(f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            ALLOWED.with(|depth| depth.set(depth.get() - 1));
        }
    }
    ALLOWED.with(|depth| depth.set(depth.get() + 1));
    let _leave = Leave;
    f()
}

fn in_arena(address: *mut u8) -> bool {
    let start = ARENA_START.load(Ordering::Relaxed);
    start != 0 && (start..start + ARENA_OCTETS).contains(&(address as usize))
}

#[cold]
#[inline(never)]
fn forbidden(layout: Layout) -> ! {
    // No formatting: it would allocate.
    sys::complain("onwire: allocation under a shard's lock");
    let mut digits = [0_u8; 20];
    let mut rest = layout.size();
    let mut at = digits.len();
    while at > 0 && (rest > 0 || at == digits.len()) {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let _ = sys::write(2, &digits[at..]);
    sys::complain(" octets");
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

#[inline]
fn check(layout: Layout) {
    if cfg!(debug_assertions)
        && thread::inside()
        && ALLOWED.try_with(Cell::get).unwrap_or(1) == 0
        && !std::thread::panicking()
    {
        forbidden(layout);
    }
}

// SAFETY: every block comes from exactly one of three disjoint sources, and its address tells
// which when it is given back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if region::constructing() {
            return region::allocate(layout);
        }
        check(layout);
        if in_keeper() {
            // SAFETY: the keeper has one thread.
            return unsafe { (*ARENA.0.get()).malloc(layout.size(), layout.align()) };
        }
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if region::constructing() {
            return region::allocate(layout);
        }
        check(layout);
        if in_keeper() {
            // SAFETY: the keeper has one thread.
            return unsafe { (*ARENA.0.get()).calloc(layout.size(), layout.align()) };
        }
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if region::contains(ptr) {
            return;
        }
        if in_keeper() {
            if in_arena(ptr) {
                // SAFETY: the block is the arena's; the keeper has one thread.
                unsafe { (*ARENA.0.get()).free(ptr, layout.size(), layout.align()) };
            }
            return;
        }
        // SAFETY: the block is the system's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !region::constructing() && !region::contains(ptr) && !in_keeper() {
            check(layout);
            // SAFETY: the block is the system's and stays so.
            return unsafe { System.realloc(ptr, layout, new_size) };
        }
        // SAFETY: the new layout's size is the caller's, its alignment was valid before.
        let new =
            unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are valid for the lesser size and distinct.
            unsafe {
                ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
        }
        new
    }
}
