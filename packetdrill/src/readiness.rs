//! poll(2) and epoll(7).

use crate::station::Station;
use crate::world::{File, World, is_ours};
use abi::errno::{self, Errno};
use core::ffi::c_int;
use libc::{epoll_event, pollfd};
use stack::time::Duration;
use std::collections::{HashMap, VecDeque};

/// Bits of `events` that are no events.
const MODES: u32 =
    (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP) as u32;
/// Reported whether asked for or not.
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// A descriptor in a set.
#[derive(Debug, Clone, Copy)]
struct Member {
    events: u32,
    data: u64,
}

impl Member {
    /// What it is told of; nothing once a one-shot has fired.
    fn mask(&self) -> u32 {
        let wanted = self.events & !MODES;
        if self.events & !MODES == 0 && self.events & libc::EPOLLONESHOT as u32 != 0 {
            return 0;
        }
        wanted | ALWAYS
    }
}

/// An epoll set.
#[derive(Debug, Default)]
pub struct Set {
    members: HashMap<c_int, Member>,
    /// Those that may be ready, in the order of their events.
    ready: VecDeque<c_int>,
}

impl Set {
    /// `fd` became readier.
    pub fn on_event(&mut self, fd: c_int, readiness: u32) {
        let Some(member) = self.members.get(&fd) else { return };
        if readiness & member.mask() != 0 && !self.ready.contains(&fd) {
            self.ready.push_back(fd);
        }
    }

    /// `fd` was closed or taken out.
    pub fn remove(&mut self, fd: c_int) -> bool {
        self.ready.retain(|ready| *ready != fd);
        self.members.remove(&fd).is_some()
    }
}

/// epoll_create(2).
///
/// # Errors
/// The kernel's.
pub fn epoll_create(station: &Station) -> Result<c_int, Errno> {
    // SAFETY: no pointers.
    let fd = errno::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    station.call(|world| world.insert(fd, File::Epoll(Set::default())));
    Ok(fd)
}

/// epoll_ctl(2).
///
/// # Errors
/// `EBADF`, `EEXIST`, `ENOENT`, `EINVAL`.
pub fn epoll_ctl(
    station: &Station,
    set: c_int,
    operation: c_int,
    fd: c_int,
    event: epoll_event,
) -> Result<c_int, Errno> {
    station.call(|world| {
        world.socket(fd)?;
        let readiness = world.readiness(fd).unwrap_or(0);
        let set = world.set(set).ok_or(Errno::EINVAL)?;
        let known = set.members.contains_key(&fd);
        match operation {
            libc::EPOLL_CTL_ADD if known => return Err(Errno::EEXIST),
            libc::EPOLL_CTL_ADD => {}
            _ if !known => return Err(Errno::ENOENT),
            libc::EPOLL_CTL_MOD => {}
            libc::EPOLL_CTL_DEL => {
                set.remove(fd);
                return Ok(0);
            }
            _ => return Err(Errno::EINVAL),
        }
        set.members.insert(fd, Member { events: event.events, data: event.u64 });
        set.on_event(fd, readiness);
        Ok(0)
    })
}

/// epoll_wait(2): what is ready, at most `most`.
///
/// # Errors
/// `EINVAL`.
pub fn epoll_wait(
    station: &Station,
    set: c_int,
    most: usize,
    timeout: c_int,
) -> Result<Vec<epoll_event>, Errno> {
    let events = station.wait(limit(timeout), |world| match harvest(world, set, most) {
        Ok(events) if events.is_empty() => None,
        other => Some(other),
    });
    events.unwrap_or_else(|| Ok(Vec::new()))
}

fn limit(timeout_ms: c_int) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
}

fn harvest(world: &mut World, set: c_int, most: usize) -> Result<Vec<epoll_event>, Errno> {
    let mut events = Vec::new();
    let waiting = world.set(set).ok_or(Errno::EINVAL)?.ready.len();
    for _ in 0..waiting {
        if events.len() == most {
            break;
        }
        let Some(fd) = world.set(set).and_then(|set| set.ready.pop_front()) else { break };
        let readiness = world.readiness(fd).unwrap_or(0);
        let Some(set) = world.set(set) else { break };
        let Some(member) = set.members.get_mut(&fd) else { continue };
        let told = readiness & member.mask();
        if told == 0 {
            continue;
        }
        events.push(epoll_event { events: told, u64: member.data });
        if member.events & libc::EPOLLONESHOT as u32 != 0 {
            member.events &= MODES;
        } else if member.events & libc::EPOLLET as u32 == 0 {
            set.ready.push_back(fd); // Level-triggered: it is looked at again.
        }
    }
    Ok(events)
}

/// poll(2).
pub fn poll(station: &Station, fds: &mut [pollfd], timeout: c_int) -> c_int {
    let count = station.wait(limit(timeout), |world| {
        let mut count = 0;
        for entry in &mut *fds {
            let always = (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) as u16;
            let ready = match world.readiness(entry.fd) {
                Some(readiness) => readiness as u16,
                None => kernel_readiness(entry),
            };
            entry.revents = (ready & (entry.events as u16 | always)) as i16;
            count += c_int::from(entry.revents != 0);
        }
        (count > 0).then_some(count)
    });
    count.unwrap_or(0)
}

/// What the kernel says of a descriptor that is not ours.
fn kernel_readiness(entry: &pollfd) -> u16 {
    if is_ours(entry.fd) {
        return 0;
    }
    let mut entry = pollfd { revents: 0, ..*entry };
    // SAFETY: one entry, ours.
    unsafe { libc::poll(&raw mut entry, 1, 0) };
    entry.revents as u16
}
