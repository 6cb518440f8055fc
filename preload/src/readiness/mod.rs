//! select, poll and epoll on descriptors of both worlds together.
//!
//! A call that concerns no descriptor of ours goes to libc as it came.

mod epoll;
mod lists;
mod sets;

pub use epoll::{epoll_create, epoll_create1, epoll_ctl, epoll_pwait, epoll_pwait2, epoll_wait};
pub use lists::{__poll_chk, __ppoll_chk, poll, ppoll};
pub use sets::{pselect, select};

use crate::descriptors::{self, Entry, Open};
use crate::errno::Errno;
use crate::waiting;
use core::ffi::c_int;
use engine::{Engine, PollEntry, Wait};
use libc::{pollfd, timespec};
use stack::readiness::Readiness;
use stack::time::Duration;

/// A wait of `ms` milliseconds from now; for ever if negative.
fn wait_of_ms(engine: &Engine, ms: c_int) -> Wait {
    match u64::try_from(ms) {
        Ok(ms) => waiting::after(engine.now(), Duration::from_millis(ms)),
        Err(_) => Wait::Forever,
    }
}

/// A wait as a `timespec` says; for ever without one.
///
/// # Errors
/// `EINVAL` for what is no time.
fn wait_of_timespec(engine: &Engine, timeout: Option<&timespec>) -> Result<Wait, Errno> {
    let Some(timeout) = timeout else { return Ok(Wait::Forever) };
    let seconds = u64::try_from(timeout.tv_sec).map_err(|_| Errno::EINVAL)?;
    let nanos = u32::try_from(timeout.tv_nsec).map_err(|_| Errno::EINVAL)?;
    if nanos >= 1_000_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(waiting::after(engine.now(), Duration::new(seconds, nanos)))
}

/// Whether a wait on `fd` needs the engine.
fn concerns_us(fd: c_int) -> bool {
    match descriptors::get(fd) {
        Entry::Socket(_) => descriptors::socket(fd).is_some(),
        Entry::Epoll(_) => true,
        Entry::Kernel | Entry::PlainEpoll(_) => false,
    }
}

/// What a wait on several descriptors waits on. Each has an index that the caller chose.
#[derive(Default)]
struct Watched {
    stack: Vec<PollEntry>,
    stack_index: Vec<usize>,
    kernel: Vec<pollfd>,
    kernel_index: Vec<usize>,
}

impl Watched {
    /// Watches `fd` for `events` (of poll(2)).
    fn add(&mut self, engine: &Engine, index: usize, fd: c_int, events: i16) {
        let open = descriptors::socket(fd);
        if let Some(open) = &open {
            self.add_stack(index, open, events);
        }
        if let Entry::Epoll(set) = descriptors::get(fd) {
            // A set that cannot be watched reports its kernel descriptors, at least.
            let _ = engine.epoll_expose(set, fd);
        }
        if open.is_none_or(|open| open.is_dual()) {
            self.kernel.push(pollfd { fd, events, revents: 0 });
            self.kernel_index.push(index);
        }
    }

    fn add_stack(&mut self, index: usize, open: &Open, events: i16) {
        let interest = Readiness::from_bits_truncate(u32::from(events as u16));
        self.stack.push(PollEntry { file: open.id, interest, found: Readiness::empty() });
        self.stack_index.push(index);
    }

    /// Calls `each` with the index and what was found, for everything that is ready.
    fn for_each_ready(&self, mut each: impl FnMut(usize, i16)) {
        for (entry, index) in self.stack.iter().zip(&self.stack_index) {
            if !entry.found.is_empty() {
                each(*index, entry.found.bits() as u16 as i16);
            }
        }
        for (entry, index) in self.kernel.iter().zip(&self.kernel_index) {
            if entry.revents != 0 {
                each(*index, entry.revents);
            }
        }
    }
}
