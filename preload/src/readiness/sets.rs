//! select(2) and pselect(2).

use super::{Watched, concerns_us, wait_of_timespec};
use crate::errno::{self, Errno};
use crate::hook::real;
use core::ffi::c_int;
use engine::{Engine, Wait};
use libc::{fd_set, sigset_t, timespec, timeval};

/// What makes a descriptor ready in each of the sets (Linux's fs/select.c).
const SETS: [(i16, i16); 3] = [
    (libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND, libc::POLLHUP | libc::POLLERR),
    (libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND, libc::POLLERR),
    (libc::POLLPRI, 0),
];

/// The three sets of a call: arrays of bits, as long as the count says.
struct Sets {
    sets: [*mut u64; 3],
    count: usize,
}

impl Sets {
    /// # Safety
    /// Each set is null or has bits for `count` descriptors.
    unsafe fn new(count: c_int, sets: [*mut fd_set; 3]) -> Option<Self> {
        let count = usize::try_from(count).ok()?;
        Some(Sets { sets: sets.map(<*mut fd_set>::cast), count })
    }

    fn contains(&self, set: usize, fd: usize) -> bool {
        let words = self.sets[set];
        // SAFETY: the set is not null and has a bit for every `fd` below `count`.
        !words.is_null() && unsafe { *words.add(fd / 64) } >> (fd % 64) & 1 == 1
    }

    /// What poll(2) would be asked about `fd`.
    fn events(&self, fd: usize) -> i16 {
        (0..3).filter(|set| self.contains(*set, fd)).fold(0, |events, set| events | SETS[set].0)
    }

    fn descriptors(&self) -> impl Iterator<Item = (usize, i16)> {
        (0..self.count).map(|fd| (fd, self.events(fd))).filter(|(_, events)| *events != 0)
    }

    fn clear(&mut self) {
        for words in self.sets.into_iter().filter(|words| !words.is_null()) {
            // SAFETY: as in `contains`; Linux clears whole words as well.
            unsafe { core::ptr::write_bytes(words, 0, self.count.div_ceil(64)) };
        }
    }

    fn insert(&mut self, set: usize, fd: usize) {
        // SAFETY: the caller has seen the bit, so the set is not null and long enough.
        unsafe { *self.sets[set].add(fd / 64) |= 1 << (fd % 64) };
    }
}

/// select(2).
///
/// # Safety
/// As the C function.
pub unsafe fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the program's sets and pointer, null or valid.
    unsafe {
        let Some((engine, sets)) = concerned(count, [read, write, except]) else {
            return real::select(count, read, write, except, timeout);
        };
        errno::answer(|| {
            let limit = timeout.as_ref().map(normal).transpose()?;
            let wait = wait_of_timespec(engine, limit.as_ref())?;
            let answer = wait_on(engine, sets, wait, None);
            if let (Some(timeout), Wait::Until(end)) = (timeout.as_mut(), wait) {
                // Linux, unlike others, tells what is left.
                let left = end.saturating_since(engine.now());
                timeout.tv_sec = left.as_secs() as i64;
                timeout.tv_usec = i64::from(left.subsec_micros());
            }
            answer
        })
    }
}

/// A `timeval` as Linux reads it: microseconds beyond a second carry over.
fn normal(timeout: &timeval) -> Result<timespec, Errno> {
    if timeout.tv_sec < 0 || timeout.tv_usec < 0 {
        return Err(Errno::EINVAL);
    }
    let tv_sec = timeout.tv_sec.saturating_add(timeout.tv_usec / 1_000_000);
    Ok(timespec { tv_sec, tv_nsec: timeout.tv_usec % 1_000_000 * 1_000 })
}

/// pselect(2).
///
/// # Safety
/// As the C function.
pub unsafe fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's sets and pointers, null or valid.
    unsafe {
        let Some((engine, sets)) = concerned(count, [read, write, except]) else {
            return real::pselect(count, read, write, except, timeout, mask);
        };
        errno::answer(|| {
            let wait = wait_of_timespec(engine, timeout.as_ref())?;
            wait_on(engine, sets, wait, mask.as_ref())
        })
    }
}

/// The engine and the sets, if one of the descriptors concerns it.
///
/// # Safety
/// As [`Sets::new`].
unsafe fn concerned(count: c_int, sets: [*mut fd_set; 3]) -> Option<(&'static Engine, Sets)> {
    let engine = engine::get()?;
    // SAFETY: as the caller says.
    let sets = unsafe { Sets::new(count, sets) }?;
    let concerned = sets.descriptors().any(|(fd, _)| concerns_us(fd as c_int));
    concerned.then_some((engine, sets))
}

fn wait_on(
    engine: &Engine,
    mut sets: Sets,
    wait: Wait,
    mask: Option<&sigset_t>,
) -> Result<c_int, Errno> {
    let mut watched = Watched::default();
    for (fd, events) in sets.descriptors() {
        watched.add(engine, fd, fd as c_int, events);
    }
    engine.poll(&mut watched.stack, &mut watched.kernel, wait, mask)?;
    let mut ready: Vec<(usize, usize)> = Vec::new();
    let mut invalid = false;
    watched.for_each_ready(|fd, found| {
        invalid |= found & libc::POLLNVAL != 0;
        for (set, (events, always)) in SETS.iter().enumerate() {
            if found & (events | always) != 0
                && sets.contains(set, fd)
                && !ready.contains(&(set, fd))
            {
                ready.push((set, fd));
            }
        }
    });
    if invalid {
        return Err(Errno::EBADF);
    }
    sets.clear();
    ready.iter().for_each(|(set, fd)| sets.insert(*set, *fd));
    Ok(ready.len() as c_int)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_set_and_cleared() {
        let mut read = [0u64; 2];
        let mut write = [0u64; 2];
        read[1] = 1 << 5;
        write[0] = 1 << 3;
        let pointers = [read.as_mut_ptr().cast(), write.as_mut_ptr().cast(), core::ptr::null_mut()];
        // SAFETY: two words have bits for 70 descriptors.
        let mut sets = unsafe { Sets::new(70, pointers) }.unwrap();
        let found: Vec<_> = sets.descriptors().collect();
        assert_eq!(found, [(3, SETS[1].0), (69, SETS[0].0)]);
        sets.clear();
        assert_eq!(sets.descriptors().count(), 0);
        sets.insert(0, 69);
        assert!(sets.contains(0, 69) && !sets.contains(2, 69));
        // SAFETY: null sets need no bits.
        assert!(unsafe { Sets::new(-1, [core::ptr::null_mut(); 3]) }.is_none());
    }

    #[test]
    fn microseconds_carry_over_and_negative_times_are_invalid() {
        let time = |tv_sec, tv_usec| normal(&timeval { tv_sec, tv_usec });
        let carried = time(1, 2_500_000).unwrap();
        assert_eq!((carried.tv_sec, carried.tv_nsec), (3, 500_000_000));
        assert!(time(-1, 0).is_err() && time(0, -1).is_err());
    }
}
