//! What the lock guards: the stack, and what each descriptor of a script is.

use crate::device::Tape;
use crate::knobs::{self, Flags};
use crate::readiness::Set;
use abi::errno::Errno;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering};
use stack::error::Error;
use stack::options::Options;
use stack::readiness::Readiness;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::Family;
use stack::time::{Duration, Instant};
use std::collections::HashMap;

/// When virtual time begins: late enough that no moment is taken for "never".
const BEGINNING: Instant = Instant::from_millis(1_000_000);
/// Descriptors that can be ours.
const DESCRIPTORS: usize = 1024;

/// Which descriptors are ours, to be looked at without the lock.
static OURS: [AtomicBool; DESCRIPTORS] = [const { AtomicBool::new(false) }; DESCRIPTORS];

/// Whether `fd` is a socket or an epoll set of this library.
pub fn is_ours(fd: c_int) -> bool {
    let slot = usize::try_from(fd).ok().and_then(|fd| OURS.get(fd));
    slot.is_some_and(|slot| slot.load(Ordering::Acquire))
}

fn mark(fd: c_int, ours: bool) {
    if let Some(slot) = usize::try_from(fd).ok().and_then(|fd| OURS.get(fd)) {
        slot.store(ours, Ordering::Release);
    }
}

/// A socket of the script. The kernel socket under its number knows what Linux would say of an
/// option, and is never used.
#[derive(Debug, Clone, Copy)]
pub struct Socket {
    pub id: SocketId,
    pub kind: SocketKind,
    pub nonblocking: bool,
    /// A connect has begun, and no call has told its end.
    pub connecting: bool,
}

/// What a descriptor is.
#[derive(Debug)]
pub enum File {
    Socket(Socket),
    Epoll(Set),
}

/// The stack and its program.
#[derive(Debug)]
pub struct World {
    pub shard: Shard<Tape>,
    pub now: Instant,
    flags: Flags,
    files: HashMap<c_int, File>,
}

impl World {
    pub fn new(flags: Flags) -> Self {
        let mut shard = Shard::new(&flags.config(), Tape::new(flags.mtu), [7; 32]);
        shard.device_mut().now = BEGINNING;
        World { shard, now: BEGINNING, flags, files: HashMap::new() }
    }

    /// Takes the settings as they are now.
    pub fn reread_settings(&mut self) {
        if self.flags.sysctl {
            self.shard.set_tcp_config(&self.flags.tcp());
        }
        if knobs::take_flush() {
            self.shard.forget_servers();
        }
    }

    /// Lets the stack do what is to be done now.
    pub fn turn(&mut self) {
        self.shard.device_mut().now = self.now;
        while self.shard.poll(self.now) > 0 {}
        while let Some(event) = self.shard.poll_event() {
            let Ok(fd) = c_int::try_from(event.owner) else { continue };
            self.wake_sets(fd, event.readiness);
        }
    }

    /// Moves the clock, not backwards.
    pub fn set_time(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.turn();
    }

    /// When the stack's next timer is due: later than now, for what is due now has been done.
    pub fn next_timeout(&self) -> Option<Instant> {
        let soon = self.now + Duration::from_micros(1);
        self.shard.next_timeout().map(|at| at.max(soon))
    }

    /// Puts a file under the descriptor `fd`.
    pub fn insert(&mut self, fd: c_int, file: File) {
        if let File::Socket(socket) = &file {
            self.shard.set_owner(socket.id, fd as u64);
        }
        self.files.insert(fd, file);
        mark(fd, true);
    }

    /// Forgets the descriptor; the caller closes what is under its number.
    pub fn close(&mut self, fd: c_int) -> bool {
        mark(fd, false);
        let Some(file) = self.files.remove(&fd) else { return false };
        for set in self.sets() {
            set.remove(fd);
        }
        if let File::Socket(socket) = file {
            self.shard.close(self.now, socket.id);
        }
        true
    }

    /// The socket under `fd`.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    pub fn socket(&self, fd: c_int) -> Result<Socket, Errno> {
        match self.files.get(&fd) {
            Some(File::Socket(socket)) => Ok(*socket),
            Some(File::Epoll(_)) => Err(Errno(libc::ENOTSOCK)),
            None => Err(Errno::EBADF),
        }
    }

    pub fn socket_mut(&mut self, fd: c_int) -> Option<&mut Socket> {
        match self.files.get_mut(&fd) {
            Some(File::Socket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// The epoll set under `fd`.
    pub fn set(&mut self, fd: c_int) -> Option<&mut Set> {
        match self.files.get_mut(&fd) {
            Some(File::Epoll(set)) => Some(set),
            _ => None,
        }
    }

    fn sets(&mut self) -> impl Iterator<Item = &mut Set> {
        self.files.values_mut().filter_map(|file| match file {
            File::Epoll(set) => Some(set),
            File::Socket(_) => None,
        })
    }

    fn wake_sets(&mut self, fd: c_int, readiness: Readiness) {
        for set in self.sets() {
            set.on_event(fd, readiness.bits());
        }
    }

    /// What poll(2) says of `fd`.
    pub fn readiness(&mut self, fd: c_int) -> Option<u32> {
        let socket = self.socket(fd).ok()?;
        Some(self.shard.readiness(socket.id).bits())
    }

    /// A socket of the stack.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn create(&mut self, kind: SocketKind) -> Result<SocketId, Error> {
        let id = self.shard.socket(kind, Family::V4)?;
        if knobs::link_paces() {
            let paced = |options: &mut Options| options.max_pacing_rate = u64::MAX - 1;
            self.shard.update_options(self.now, id, paced)?;
        }
        Ok(id)
    }
}
