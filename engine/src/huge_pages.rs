//! Huge pages for the region, without asking the administrator for any.
//!
//! The region's tables are reserved and fill as connections come. Once two mebibytes of it are in
//! use, the keeper has the kernel put one huge page in place of their 512 small ones
//! (`MADV_COLLAPSE`, Linux 6.1), in all processes of the family. A lookup among a million
//! connections misses the translation caches otherwise at every step, which costs as much as the
//! memory itself, and twice that in a virtual machine.
//!
//! Hardly any memory is taken that is not used: what is less than full stays as it is. Nobody but
//! the keeper waits, except who touches those two mebibytes in the 1 to 5 ms in which they move.

use crate::sys::{self, Errno};
use core::ops::Range;
use stack::time::{Duration, Instant};

/// Octets of a huge page, here and on every machine with pages of 4 KiB.
pub(crate) const HUGE: usize = 2 << 20;
const PAGE: usize = 4_096;
/// Of the 512 pages of a huge one, as many must be in use.
const FULL: usize = 480;
/// How long between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long after the kernel had no huge page to give, or the control group no memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pages that one look makes at most: a keeper that drives must acknowledge meanwhile.
const BUDGET: usize = 4;

/// Those of one range of memory.
#[derive(Debug)]
pub(crate) struct HugePages {
    start: usize,
    /// Which two mebibytes have become a huge page.
    joined: Vec<bool>,
    /// Not before: `None` if never, for the kernel cannot, or must not.
    next_look: Option<Instant>,
}

impl HugePages {
    /// For what lies whole in `range`, from `now` on; `wanted`: at all.
    pub(crate) fn new(range: Range<usize>, now: Instant, wanted: bool) -> Self {
        let start = range.start.next_multiple_of(HUGE);
        let count = range.end.saturating_sub(start) / HUGE;
        HugePages { start, joined: vec![false; count], next_look: wanted.then_some(now) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.joined.iter().filter(|joined| **joined).count() as u64
    }

    /// Makes some of what has filled since the last look, if it is time for one.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.next_look.is_none_or(|next| now < next) {
            return;
        }
        self.next_look = Some(now + INTERVAL);
        let mut budget = BUDGET;
        for (index, joined) in self.joined.iter_mut().enumerate() {
            let at = self.start + index * HUGE;
            if *joined || !is_full(at) {
                continue;
            }
            match sys::join_pages(at, HUGE) {
                Ok(()) => *joined = true,
                // Somebody had one of the pages in hands: the next look finds it free.
                Err(Errno(libc::EAGAIN)) => {}
                Err(Errno(libc::ENOMEM | libc::EBUSY)) => {
                    return self.next_look = Some(now + PATIENCE);
                }
                Err(_) => return self.next_look = None,
            }
            budget -= 1;
            if budget == 0 {
                return;
            }
        }
    }
}

/// Whether nearly all pages of the huge one at `at` are in use. Tables fill from their beginning,
/// so the last page says in one short call that most are not.
fn is_full(at: usize) -> bool {
    let mut pages = [0_u8; HUGE / PAGE];
    let in_use = |pages: &[u8]| pages.iter().filter(|page| **page & 1 != 0).count();
    let last = &mut pages[..1];
    if sys::pages_in_use(at + HUGE - PAGE, last).is_err() || in_use(last) == 0 {
        return false;
    }
    sys::pages_in_use(at, &mut pages).is_ok() && in_use(&pages) >= FULL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region;

    /// Shared memory as the region's, `count` huge pages of it.
    fn memory(count: usize) -> &'static mut [u8] {
        let at = region::map_aligned(count * HUGE).expect("address space");
        // SAFETY: fresh memory that nobody else knows.
        unsafe { core::slice::from_raw_parts_mut(at as *mut u8, count * HUGE) }
    }

    fn range(memory: &[u8]) -> Range<usize> {
        let at = memory.as_ptr() as usize;
        at..at + memory.len()
    }

    /// Whether this machine's kernel has transparent huge pages for shared memory, and may use
    /// them: not asked of the code under test, which would then excuse its own failure.
    fn kernel_can() -> bool {
        std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
            .is_ok_and(|choices| !choices.contains("[deny]"))
    }

    /// KiB of huge pages in the mapping at `at`, as the kernel says.
    fn huge_kib(at: usize) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("/proc");
        let (_, mapping) = maps.split_once(&format!("{at:x}-")).expect("the mapping");
        let (_, rest) = mapping.split_once("ShmemPmdMapped:").expect("a line for huge pages");
        rest.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    #[test]
    fn what_is_full_becomes_huge_and_keeps_its_content() {
        let memory = memory(3);
        for (index, octet) in memory[..2 * HUGE + PAGE].iter_mut().enumerate() {
            *octet = (index % 251) as u8;
        }
        let now = Instant::from_millis(1);
        let mut pages = HugePages::new(range(memory), now, true);
        pages.look(now);
        if !kernel_can() {
            eprintln!("this kernel joins no pages of shared memory");
            assert_eq!((pages.count(), pages.next_look), (0, None));
            return;
        }
        assert_eq!(pages.count(), 2);
        assert_eq!(huge_kib(range(memory).start), 4_096);
        let same = memory[..2 * HUGE + PAGE].iter().enumerate().all(|(i, o)| *o == (i % 251) as u8);
        assert!(same);

        memory[2 * HUGE..].fill(7);
        pages.look(now);
        assert_eq!(pages.count(), 2, "it looks again after a while");
        pages.look(now + INTERVAL);
        assert_eq!(pages.count(), 3);
    }

    #[test]
    fn what_is_half_empty_stays_as_it_is() {
        let memory = memory(1);
        memory[HUGE / 2..].fill(1);
        let now = Instant::from_millis(1);
        let mut pages = HugePages::new(range(memory), now, true);
        pages.look(now);
        assert_eq!((pages.count(), huge_kib(range(memory).start)), (0, 0));
    }

    #[test]
    fn none_where_none_are_wanted() {
        let memory = memory(1);
        memory.fill(1);
        let now = Instant::from_millis(1);
        let mut pages = HugePages::new(range(memory), now, false);
        pages.look(now);
        assert_eq!(pages.count(), 0);
    }
}
