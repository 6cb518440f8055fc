//! Fork, exec and exit: who holds what is settled before it happens, so that there is no moment in
//! which a process holds sockets that nobody knows of.
//!
//! Every process has a lifeline to the keeper: a socket whose end tells that the process is gone or
//! has been replaced by exec. The child's is made, and its keeper's end sent, before the fork.

use crate::engine::Engine;
use crate::file::FileId;
use crate::lock::SharedLock;
use crate::process::{Ending, Process, Stage};
use crate::shared::Shared;
use crate::{doorbell, fds, setup, sys, thread};
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// This process's end of its lifeline.
static LIFELINE: AtomicI32 = AtomicI32::new(-1);
/// One fork at a time: another child must not inherit this one's lifeline.
static FORKING: SharedLock = SharedLock::new();
static KEEPER_MISSED: AtomicBool = AtomicBool::new(false);

/// A child was announced: its slot follows, and the keeper's end of its lifeline comes with it.
pub(crate) const CHILD: u8 = b'C';
/// The process has told its id.
pub(crate) const HELLO: u8 = b'H';

/// The slot of a process that has none: it holds nothing and can hold nothing.
const NO_SLOT: u32 = u32::MAX;

/// What [`prepare_fork`] prepared.
#[derive(Debug)]
#[must_use]
pub struct ForkToken {
    child: Option<Child>,
}

#[derive(Debug)]
struct Child {
    slot: u32,
    lifeline: c_int,
}

/// Before a fork: a slot for the child with a copy of this process's references, and its lifeline
/// to the keeper. Works before [`crate::start`] too (then it waits for a start under way in another
/// thread).
pub fn prepare_fork() -> ForkToken {
    setup::START.lock_quietly(thread::tid());
    FORKING.lock_quietly(thread::tid());
    let child = crate::get()
        .map(|engine| prepare_child(engine).unwrap_or(Child { slot: NO_SLOT, lifeline: -1 }));
    ForkToken { child }
}

fn prepare_child(engine: &Engine) -> Option<Child> {
    let [ours, keepers] = sys::packet_pair().ok()?;
    let lifeline = sys::move_high(ours);
    let slot = engine.shared.enter().and_then(|mut held| {
        let slot = held.add_process(Process::new(0, Stage::Expected))?;
        match held.copy_references(engine.slot(), slot) {
            Ok(()) => Ok(slot),
            Err(error) => {
                held.end_process(slot, Ending::Graceful);
                Err(error)
            }
        }
    });
    let Ok(slot) = slot else {
        sys::close(lifeline);
        sys::close(keepers);
        return None;
    };
    let mut message = [CHILD; 5];
    message[1..].copy_from_slice(&slot.to_le_bytes());
    tell_keeper(engine.shared, |fd| sys::send_descriptor(fd, &message, keepers));
    sys::close(keepers);
    fds::protect_fd(lifeline);
    Some(Child { slot, lifeline })
}

/// Says something on the lifeline; a keeper that is gone is noticed, once.
fn tell_keeper(shared: &Shared, say: impl Fn(c_int) -> sys::Result<()>) {
    if !shared.keeper.alive.load(Ordering::Acquire) {
        return;
    }
    for _ in 0..1_000 {
        match say(LIFELINE.load(Ordering::Relaxed)) {
            Err(sys::Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ETOOMANYREFS)) => {
                sys::yield_now();
            }
            Ok(()) => return,
            Err(_) => break,
        }
    }
    miss_keeper(shared);
}

/// The keeper is gone: the family goes on without it.
pub(crate) fn miss_keeper(shared: &Shared) {
    shared.keeper.alive.store(false, Ordering::Release);
    shared.keeper.leads.store(false, Ordering::Release);
    if !KEEPER_MISSED.swap(true, Ordering::Relaxed) {
        sys::complain(
            "onwire: the keeper is gone: what is unsent when this program ends will be lost",
        );
    }
}

/// The lifeline, to be watched by whoever leads; -1 if there is none.
pub(crate) fn lifeline() -> c_int {
    LIFELINE.load(Ordering::Relaxed)
}

/// Whether the lifeline has ended; takes note of it.
pub(crate) fn check_lifeline(shared: &Shared) {
    if matches!(sys::receive_now(lifeline(), &mut [0; 1]), Ok(0)) {
        miss_keeper(shared);
    }
}

/// The first process's lifeline.
pub(crate) fn set_lifeline(fd: c_int) {
    fds::protect_fd(fd);
    LIFELINE.store(fd, Ordering::Relaxed);
}

/// In the parent after a fork: the child's pid, or `None` if it failed. (An atfork handler, which
/// does not learn the outcome, says `Some(0)`.)
pub fn fork_parent(token: ForkToken, child: Option<libc::pid_t>) {
    if let Some(prepared) = token.child
        && prepared.slot != NO_SLOT
    {
        fds::unprotect_fd(prepared.lifeline);
        sys::close(prepared.lifeline);
        // The keeper sees the end of the lifeline of a child that never was; without it, nobody.
        if let (None, Some(engine)) = (child, crate::get())
            && !engine.shared.keeper.alive.load(Ordering::Acquire)
            && let Ok(mut held) = engine.shared.enter()
        {
            held.end_process(prepared.slot, Ending::Graceful);
        }
    }
    FORKING.unlock();
    setup::START.unlock();
}

/// In the child after a fork.
pub fn fork_child(token: ForkToken) {
    thread::reset_after_fork();
    crate::lane::leave_home();
    crate::clock::reset_after_fork();
    FORKING.unlock();
    setup::START.unlock();
    let (Some(engine), Some(child)) = (crate::get(), token.child) else { return };
    let parents = LIFELINE.swap(child.lifeline, Ordering::Relaxed);
    fds::unprotect_fd(parents);
    sys::close(parents);
    doorbell::forget_pool();
    Engine::set_slot(child.slot);
    if child.slot == NO_SLOT {
        return;
    }
    if let Ok(mut held) = engine.shared.enter() {
        held.change();
        if let Some(process) = held.world.processes.at_mut(child.slot) {
            process.pid = sys::getpid();
            process.stage = Stage::Running;
        }
    }
    tell_keeper(engine.shared, |fd| sys::send_now(fd, &[HELLO]).map(drop));
}

/// The process is leaving by exit or _exit: what it holds is closed gracefully once it is gone,
/// and the keeper sends what is unsent. Cheap; call it as late as possible.
pub fn exiting() {
    let Some(engine) = crate::get() else { return };
    let Ok(mut held) = engine.shared.enter() else { return };
    held.change();
    let slot = engine.slot();
    if engine.shared.keeper.alive.load(Ordering::Acquire) {
        if let Some(process) = held.world.processes.at_mut(slot) {
            process.stage = Stage::Exiting;
        }
    } else {
        held.end_process(slot, Ending::Graceful);
        Engine::set_slot(NO_SLOT);
    }
}

/// The process is about to exec; `kept` are the descriptions behind descriptors without
/// `FD_CLOEXEC` (they stay open until this process ends; the others are closed by the exec).
pub fn exec_begin(kept: &[FileId]) {
    let Some(engine) = crate::get() else { return };
    let Ok(mut held) = engine.shared.enter() else { return };
    held.mark_kept(engine.slot(), kept);
    set_stage(&mut held, engine.slot(), Stage::Executing);
}

/// The exec failed: nothing changed.
pub fn exec_failed() {
    let Some(engine) = crate::get() else { return };
    let Ok(mut held) = engine.shared.enter() else { return };
    set_stage(&mut held, engine.slot(), Stage::Running);
}

fn set_stage(held: &mut crate::shared::Held<'_>, slot: u32, stage: Stage) {
    held.change();
    if let Some(process) = held.world.processes.at_mut(slot) {
        process.stage = stage;
    }
}
