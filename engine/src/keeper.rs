//! The keeper: a small process that holds the stack when the program does not.
//!
//! It learns of the deaths of the family's processes and closes or resets what they held, drives
//! the port while nobody else does, answers the control socket, finishes what is unsent after the
//! last process is gone, and then removes the device. The program never waits for it: it is made
//! by a clone without an exit signal, twice, in a session of its own.
//!
//! It has one thread and uses neither the program's heap nor stdio nor its descriptors.

mod card;

use crate::control_server::ControlServer;
use crate::engine::Engine;
use crate::fork::{CHILD, HELLO};
use crate::huge_pages::HugePages;
use crate::link::Gone;
use crate::process::{Ending, Stage};
use crate::report::Report;
use crate::rx_watch::{Arming, Interrupts, RxWatch};
use crate::shared::Shared;
use crate::{alloc, clock, fds, fork, region, setup, sys, thread};
use card::CABLE_TICK;
use control::message::EngineInfo;
use core::ffi::c_int;
use core::sync::atomic::Ordering;
use stack::time::{Duration, Instant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Nobody has polled for this long: the keeper does.
const IDLE: Duration = Duration::from_millis(10);
/// How often it looks while a leader sleeps, or others have polled for a while.
const WATCH: Duration = Duration::from_millis(50);
/// A leader that has slept for this long rings when it wakes: until then the keeper sleeps.
const LONG: Duration = Duration::from_millis(1_000);
/// How often it polls a port without a descriptor: with sockets, and without.
const TICK: Duration = Duration::from_millis(1);
const SLOW_TICK: Duration = Duration::from_millis(20);
/// How long what is unsent may take once a successor waits.
const LEAVE_PATIENCE: Duration = Duration::from_millis(1_500);
/// How often captured frames are moved.
const CAPTURE_TICK: Duration = Duration::from_millis(5);

/// The keeper's doorbell belongs to no slot.
const OWNER: u32 = crate::doorbell::NOBODY;

/// What the keeper is given.
pub(crate) struct Keeping {
    /// What it answers about the engine, but for what changes.
    pub(crate) info: EngineInfo,
    /// Files that the device made.
    pub(crate) paths: Vec<PathBuf>,
    /// Where the counters are added at the end.
    pub(crate) stats_file: Option<PathBuf>,
    /// The descriptor that holds the lease.
    pub(crate) lease: c_int,
    /// The control socket.
    pub(crate) server: ControlServer,
    /// The first process.
    pub(crate) program: u32,
    /// Readable when the card is to be taken out; -1 if there is none.
    pub(crate) removal: c_int,
    /// Whether tables that fill get huge pages.
    pub(crate) huge_pages: bool,
}

/// Starts the keeper.
///
/// # Errors
/// Those of socketpair(2) and clone(2).
pub(crate) fn spawn(engine: &Engine, keeping: Keeping) -> std::io::Result<()> {
    let shared = engine.shared;
    let lifeline = setup::first_lifeline()?;
    let (bell_fd, bell) = shared.doorbells.create(OWNER)?;
    shared.keeper.doorbell.store(bell, Ordering::Release);
    shared.keeper.alive.store(true, Ordering::Release);
    let server = setup::listener_of(&keeping.server);
    let mut kept = vec![lifeline, bell_fd, server, keeping.lease];
    kept.extend((keeping.removal >= 0).then_some(keeping.removal));
    let members = vec![Member { slot: engine.slot(), lifeline, pidfd: -1 }];
    let keep = kept_descriptors(&kept);
    let rx = engine.rx.again();
    // SAFETY: the child has this thread alone, calls neither libc's allocator nor stdio, and ends
    // without returning.
    let made = unsafe { sys::clone_unseen() };
    match made {
        Ok(0) => {
            // SAFETY: as above; this one only leaves its child to whoever adopts orphans.
            match unsafe { sys::clone_unseen() } {
                Ok(0) => {}
                Ok(pid) => {
                    shared.keeper.pid.store(pid, Ordering::Release);
                    sys::exit(0);
                }
                Err(_) => sys::exit(1),
            }
            become_keeper(&keep);
            let keeper = State::new(shared, rx, keeping, members, (bell_fd, bell));
            keeper.run();
        }
        Ok(pid) => {
            sys::wait_unseen(pid);
            sys::close(lifeline);
            fds::unprotect_fd(bell_fd);
            sys::close(bell_fd);
            if shared.keeper.pid.load(Ordering::Acquire) == 0 {
                return Err(std::io::Error::from_raw_os_error(libc::EAGAIN));
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The descriptors that stay, ascending: ours, the driver's, and those of `more`.
fn kept_descriptors(more: &[c_int]) -> Vec<c_int> {
    let mut keep: Vec<c_int> = dpdk::descriptors();
    keep.extend_from_slice(more);
    let mut at = 0;
    while let Some(fd) = fds::next_protected_fd(at) {
        if fd != fork::lifeline() {
            keep.push(fd);
        }
        at = fd + 1;
    }
    keep.sort_unstable();
    keep.dedup();
    keep
}

/// Makes the clone a process of its own.
fn become_keeper(keep: &[c_int]) {
    sys::set_signal_mask(sys::ALL_SIGNALS);
    for signal in 1..65 {
        sys::default_signal(signal);
    }
    thread::reset_after_fork();
    if alloc::become_keeper().is_err() {
        sys::exit(1);
    }
    // The hooks are in this process too: let every call through.
    core::mem::forget(thread::bypass());
    sys::setsid();
    sys::set_name(c"onwire-keeper");
    sys::chdir(c"/");
    let mut from = 0;
    for fd in keep {
        sys::close_between(from, fd - 1);
        from = fd + 1;
    }
    sys::close_between(from, c_int::MAX);
    if let Ok(null) = sys::open(c"/dev/null", libc::O_RDWR) {
        for standard in 0..3 {
            if standard != null {
                sys::dup_to(null, standard);
            }
        }
        if null > 2 {
            sys::close(null);
        }
    }
}

/// A process of the family, as the keeper knows it.
#[derive(Debug)]
struct Member {
    slot: u32,
    /// Its lifeline; -1 after it has ended.
    lifeline: c_int,
    /// Readable when the process has ended; -1 if there is none.
    pidfd: c_int,
}

/// Who drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Somebody else: look again after this time, or when rung.
    Watch(Option<Duration>),
    /// We: until something happens, or this time has passed.
    Lead(Option<Duration>),
}

struct State {
    shared: &'static Shared,
    rx: RxWatch,
    report: Report,
    server: Option<ControlServer>,
    paths: Vec<PathBuf>,
    stats_file: Option<PathBuf>,
    lease: c_int,
    members: Vec<Member>,
    bell_fd: c_int,
    bell: u32,
    /// When we polled last.
    own_poll: u64,
    /// How long it leaves the port to others before it looks again.
    patience: Duration,
    /// Readable when the card is to be taken out; -1 if there is none.
    removal: c_int,
    /// When we looked at the card's cable last.
    cable_seen: Instant,
    /// A successor waits: leave by then.
    leave_by: Option<Instant>,
    /// Those of the region.
    huge_pages: HugePages,
}

impl State {
    fn new(
        shared: &'static Shared,
        rx: RxWatch,
        keeping: Keeping,
        mut members: Vec<Member>,
        (bell_fd, bell): (c_int, u32),
    ) -> Self {
        if let Some(first) = members.first_mut() {
            first.pidfd = sys::pidfd_open(keeping.program).unwrap_or(-1);
        }
        let huge_pages = HugePages::new(region::used_range(), clock::now(), keeping.huge_pages);
        State {
            shared,
            report: Report::new(shared, keeping.info, rx.again()),
            huge_pages,
            rx,
            removal: keeping.removal,
            cable_seen: clock::now(),
            server: Some(keeping.server),
            paths: keeping.paths,
            stats_file: keeping.stats_file,
            lease: keeping.lease,
            members,
            bell_fd,
            bell,
            own_poll: 0,
            patience: IDLE,
            leave_by: None,
        }
    }

    fn run(mut self) -> ! {
        // After a panic whatever is left ends with the process.
        let _ = catch_unwind(AssertUnwindSafe(|| while self.turn() {}));
        self.shared.keeper.alive.store(false, Ordering::Release);
        self.shared.keeper.leads.store(false, Ordering::Release);
        self.leave();
        sys::exit(0)
    }

    /// Removes what the engine made. The control connections end last: their end says that the
    /// device is free.
    fn leave(&mut self) {
        if let Some(path) = &self.stats_file {
            // Nobody is left to be told that it cannot be written.
            let _ = self.report.append_stats(path);
        }
        if let Some(server) = &self.server
            && self.members.is_empty()
        {
            server.unlink();
        }
        if !self.members.is_empty() {
            return; // A failure: the program goes on with its device.
        }
        for path in &self.paths {
            // It may have been removed already.
            let _ = std::fs::remove_file(path);
        }
        self.stop_card();
        for fd in dpdk::descriptors() {
            sys::close(fd);
        }
        sys::close(self.lease);
    }

    /// Waits for something and deals with it; whether to go on.
    fn turn(&mut self) -> bool {
        let mode = self.mode();
        let rx = self.rx.get().filter(|_| matches!(mode, Mode::Lead(_)));
        let mut fds = self.interests(rx);
        let (Mode::Watch(timeout) | Mode::Lead(timeout)) = mode;
        let capturing = self.server.as_ref().is_some_and(ControlServer::is_capturing);
        let timeout = if capturing {
            Some(timeout.map_or(CAPTURE_TICK, |timeout| timeout.min(CAPTURE_TICK)))
        } else {
            timeout
        };
        let timeout = if self.rx.has_cable() {
            Some(timeout.map_or(CABLE_TICK, |timeout| timeout.min(CABLE_TICK)))
        } else {
            timeout
        };
        let armed = rx.is_none_or(|rx| self.arm(rx));
        let timeout = if armed { timeout } else { Some(Duration::ZERO) };
        let _ = sys::ppoll(&mut fds, timeout, None);
        if let Some(rx) = rx.filter(|_| self.rx.needs_arming())
            && let Ok(held) = self.shared.enter()
        {
            self.rx.disarm(rx, Arming::KEEPER, &held);
        }
        self.shared.keeper.sleeps.store(false, Ordering::SeqCst);
        self.shared.doorbells.hear(self.bell_fd, self.bell);
        self.hear_members();
        self.serve();
        if is_readable(self.removal) {
            self.lose_card(Gone::Removed);
        }
        if self.shared.link.is_reset() {
            self.lose_card(Gone::Reset);
        }
        self.look_at_cable();
        self.huge_pages.look(clock::now());
        self.report.huge_pages = self.huge_pages.count();
        if matches!(mode, Mode::Lead(_)) && !self.others_poll() {
            let frames = self.drive();
            let queues = rx.iter().flat_map(Interrupts::fds).count();
            let found = fds.iter().rev().take(queues).fold(0, |all, entry| all | entry.revents);
            self.rx.learn(found, frames);
        }
        !self.is_done()
    }

    /// Asks the port for an interrupt; whether it is safe to sleep.
    fn arm(&mut self, rx: Interrupts) -> bool {
        if !self.rx.needs_arming() {
            return true;
        }
        let Ok(held) = self.shared.enter() else { return true };
        if self.shared.sleepers.has_leader() && !self.members.is_empty() {
            return false; // Since we looked: it arms for itself.
        }
        let armed = self.rx.arm(rx, Arming::KEEPER, &held);
        drop(held);
        if !armed {
            return true;
        }
        // A frame may have come before the interrupt was armed.
        self.drive() == 0
    }

    fn others_poll(&self) -> bool {
        let last = self.shared.oldest_poll();
        let fresh = clock::now().saturating_since(Instant::from_nanos(last)) < IDLE;
        fresh && last != self.own_poll
    }

    fn mode(&mut self) -> Mode {
        let keeper = &self.shared.keeper;
        if self.members.is_empty() {
            return self.lead();
        }
        if self.shared.sleepers.has_leader() {
            keeper.leads.store(false, Ordering::SeqCst);
            let long = |since: Instant| clock::now().saturating_since(since) >= LONG;
            if self.shared.sleepers.leader_asleep().is_some_and(long) {
                keeper.sleeps.store(true, Ordering::SeqCst);
                // It may have woken in between, and not have seen that we sleep.
                if self.shared.sleepers.leader_asleep().is_some_and(long) {
                    return Mode::Watch(None);
                }
                keeper.sleeps.store(false, Ordering::SeqCst);
            }
            return Mode::Watch(Some(WATCH));
        }
        if self.others_poll() {
            keeper.leads.store(false, Ordering::SeqCst);
            // Each look costs who polls a turn on the processor, if it has the same.
            let patience = self.patience;
            self.patience = (patience * 2).min(WATCH);
            return Mode::Watch(Some(patience));
        }
        self.patience = IDLE;
        self.lead()
    }

    /// Drives, and says how long it can sleep then.
    fn lead(&mut self) -> Mode {
        self.shared.keeper.leads.store(true, Ordering::SeqCst);
        self.drive();
        let Ok(mut held) = self.shared.enter() else { return Mode::Watch(Some(WATCH)) };
        let next = Some(held.shards.next_timeout()).filter(|next| *next < Instant::FAR_FUTURE);
        let until = next.map_or(u64::MAX, Instant::as_nanos);
        self.shared.keeper.until.store(until, Ordering::SeqCst);
        let mut timeout = next.map(|next| next.saturating_since(held.now));
        let blind = self.rx.get().is_none() || self.rx.is_doubtful();
        if blind && !self.shared.link.is_gone() {
            let busy = self.shared.open_files.load(Ordering::Relaxed) > 0
                || held.occupancy().tcp.sockets > 0;
            let tick = if busy { TICK } else { SLOW_TICK };
            timeout = Some(timeout.map_or(tick, |timeout| timeout.min(tick)));
        }
        Mode::Lead(timeout)
    }

    fn drive(&mut self) -> usize {
        let Ok(mut held) = self.shared.enter() else { return 0 };
        let mut frames = 0;
        // A few turns at once: nobody waits for the lock, else they would drive.
        for _ in 0..8 {
            let handled = held.drive();
            frames += handled;
            if handled == 0 {
                break;
            }
        }
        self.own_poll = held.now.as_nanos();
        frames
    }

    fn interests(&self, rx: Option<Interrupts>) -> Vec<libc::pollfd> {
        let mut fds = Vec::with_capacity(2 * self.members.len() + 8);
        let mut add = |fd: c_int, events: i16| fds.push(libc::pollfd { fd, events, revents: 0 });
        add(self.bell_fd, libc::POLLIN);
        add(self.removal, libc::POLLIN);
        for member in &self.members {
            add(member.lifeline, libc::POLLIN);
            add(member.pidfd, libc::POLLIN);
        }
        if let Some(server) = &self.server {
            server.interests(&mut add);
        }
        if let Some(rx) = rx {
            // The last: see `turn`.
            rx.fds().for_each(|fd| add(fd, libc::POLLIN));
        }
        fds
    }

    fn serve(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.turn(&mut self.report);
        if server.is_leaving() && self.leave_by.is_none() {
            self.leave_by = Some(clock::now() + LEAVE_PATIENCE);
        }
        self.server = Some(server);
    }

    /// Whether nothing is left to do.
    fn is_done(&mut self) -> bool {
        if !self.members.is_empty() {
            return false;
        }
        let Ok(mut held) = self.shared.enter() else { return true };
        let occupancy = held.occupancy();
        let tcp = occupancy.tcp;
        let unfinished = tcp.sockets + tcp.openings + tcp.replies + occupancy.backlog;
        let done = match self.leave_by {
            // What is in TIME-WAIT is forgotten for a successor.
            Some(by) => unfinished == 0 || clock::now() >= by,
            None => unfinished + tcp.time_wait == 0,
        };
        if done && unfinished > 0 {
            held.change();
            let now = held.now;
            for lane in held.shards.range() {
                held.shards.at(lane).reset_all(now);
            }
        }
        done
    }

    /// Looks at every member's lifeline and end.
    fn hear_members(&mut self) {
        let mut at = 0;
        while at < self.members.len() {
            self.hear_lifeline(at);
            let member = &self.members[at];
            let ended = is_readable(member.pidfd);
            let lost = member.lifeline < 0 && member.pidfd < 0;
            if ended || (lost && !self.is_running(member.slot)) {
                let slot = member.slot;
                self.bury(slot);
                let member = self.members.swap_remove(at);
                sys::close(member.lifeline);
                sys::close(member.pidfd);
            } else {
                at += 1;
            }
        }
    }

    /// Reads what a process says; notes the end of its lifeline.
    fn hear_lifeline(&mut self, at: usize) {
        while self.members[at].lifeline >= 0 {
            let mut message = [0_u8; 8];
            let lifeline = self.members[at].lifeline;
            match sys::receive_descriptor(lifeline, &mut message) {
                Ok((5, Some(fd))) if message[0] == CHILD => {
                    let slot = u32::from_le_bytes([message[1], message[2], message[3], message[4]]);
                    self.members.push(Member { slot, lifeline: fd, pidfd: -1 });
                }
                Ok((1, None)) if message[0] == HELLO => self.greet(at),
                Ok((0, None)) | Err(sys::Errno(libc::ECONNRESET)) => {
                    sys::close(lifeline);
                    self.members[at].lifeline = -1;
                    self.on_lifeline_end(at);
                }
                Ok((_, fd)) => {
                    if let Some(fd) = fd {
                        sys::close(fd);
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn stage(&self, slot: u32) -> Option<(Stage, u32)> {
        let held = self.shared.enter().ok()?;
        held.world.processes.at(slot).map(|process| (process.stage, process.pid))
    }

    /// A child runs: watch for its end.
    fn greet(&mut self, at: usize) {
        if let Some((_, pid)) = self.stage(self.members[at].slot) {
            self.members[at].pidfd = sys::pidfd_open(pid).unwrap_or(-1);
        }
    }

    /// The process has ended, or exec has replaced it.
    fn on_lifeline_end(&mut self, at: usize) {
        let slot = self.members[at].slot;
        let Some((stage, _)) = self.stage(slot) else { return };
        if !matches!(stage, Stage::Executing) {
            return; // Its end is seen by the pidfd, or by its pid.
        }
        if is_readable(self.members[at].pidfd) {
            return; // It was killed in the middle.
        }
        if let Ok(mut held) = self.shared.enter() {
            held.drop_references(slot, Ending::Graceful, true);
            if let Some(process) = held.world.processes.at_mut(slot) {
                process.stage = Stage::Replaced;
            }
        }
    }

    fn is_running(&self, slot: u32) -> bool {
        self.stage(slot).is_some_and(|(_, pid)| pid != 0 && sys::exists(pid))
    }

    /// A process has ended: closes or resets what it held.
    fn bury(&mut self, slot: u32) {
        let Some((stage, pid)) = self.stage(slot) else { return };
        let ending = match stage {
            Stage::Exiting | Stage::Replaced => Ending::Graceful,
            Stage::Expected | Stage::Running | Stage::Executing => ending_of(pid),
        };
        if let Ok(mut held) = self.shared.enter() {
            held.end_process(slot, ending);
            held.drive();
        }
    }
}

fn is_readable(fd: c_int) -> bool {
    let mut poll = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
    fd >= 0 && sys::ppoll(&mut poll, Some(Duration::ZERO), None) == Ok(1)
}

/// How a process ended that did not say so. While nobody has waited for it /proc tells its status:
/// a program that a polite signal ended closes as it would on the kernel, all others are reset.
fn ending_of(pid: u32) -> Ending {
    match exit_status(pid) {
        Some(status) => match status & 0x7f {
            0 | libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGPIPE | libc::SIGALRM => {
                Ending::Graceful
            }
            _ => Ending::Killed,
        },
        None => Ending::Killed,
    }
}

/// The status of a process that has ended and has not been waited for: the last field but one…
/// the 52nd of proc_pid_stat(5).
fn exit_status(pid: u32) -> Option<c_int> {
    let path = std::ffi::CString::new(format!("/proc/{pid}/stat")).ok()?;
    let fd = sys::open(&path, libc::O_RDONLY).ok()?;
    let mut stat = [0_u8; 1_024];
    let len = sys::read(fd, &mut stat);
    sys::close(fd);
    let stat = core::str::from_utf8(&stat[..len.ok()?]).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    // The third field follows the name.
    fields.split_ascii_whitespace().nth(52 - 3)?.parse().ok()
}
