//! getsockopt(2), setsockopt(2), ioctl(2), fcntl(2): by the option table that the preloaded library
//! goes by. The kernel's socket under the same number says what Linux accepts, clamps and doubles.

use crate::station::Station;
use crate::world::{Socket, World, is_ours};
use abi::errno::{self, Errno};
use abi::option_table::{Special, Treatment, treatment};
use abi::tcp_info;
use core::ffi::{c_int, c_long, c_void};
use libc::socklen_t;
use stack::config::FastOpenKey;
use stack::error::Error;
use stack::options::{CongestionAlgorithm, Linger, Options, Period, Timestamping};
use stack::tcp::State;

/// `SIOCOUTQNSD`: octets not yet sent.
const SIOCOUTQNSD: u64 = 0x894b;
/// `SIOCATMARK`.
const SIOCATMARK: u64 = 0x8905;
/// What `TCP_MAXSEG` says of a socket that has no connection.
const DEFAULT_SEGMENT: u32 = 536;

/// The kernel's getsockopt; libc's symbol is this library's own.
///
/// # Safety
/// As the C function.
pub unsafe fn kernel_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let (fd, level, name) = (c_long::from(fd), c_long::from(level), c_long::from(name));
    // SAFETY: as the caller says.
    unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, value, len) as c_int }
}

/// getsockopt(2): the value's octets, or `None` where the kernel answers.
///
/// # Errors
/// The stack's; `ENOPROTOOPT`.
pub fn get(
    station: &Station,
    fd: c_int,
    level: c_int,
    name: c_int,
) -> Result<Option<Vec<u8>>, Errno> {
    let int = |value: c_int| Some(value.to_ne_bytes().to_vec());
    station.call(|world| {
        let socket = world.socket(fd)?;
        let options = *world.shard.options(socket.id)?;
        Ok(match treatment(level, name) {
            Treatment::Flag { get, .. } => int(c_int::from(get(&options))),
            Treatment::Number { get, .. } => int(get(&options)),
            Treatment::Special(which) => special(world, &socket, &options, which)?,
            Treatment::Refuse(errno) => return Err(errno),
            Treatment::Kernel | Treatment::Multicast | Treatment::HandOver => None,
        })
    })
}

fn special(
    world: &mut World,
    socket: &Socket,
    options: &Options,
    which: Special,
) -> Result<Option<Vec<u8>>, Errno> {
    let int = |value: c_int| Ok(Some(value.to_ne_bytes().to_vec()));
    match which {
        Special::SendBuffer => int(world.shard.buffer_sizes(socket.id)?.0 as c_int),
        Special::ReceiveBuffer => int(world.shard.buffer_sizes(socket.id)?.1 as c_int),
        Special::FastOpenKey => {
            let key = world.shard.fast_open_key(socket.id)?;
            let backup = key.backup.as_ref().map_or(&[][..], |backup| &backup[..]);
            Ok(Some([&key.primary[..], backup].concat()))
        }
        Special::Error => {
            int(world.shard.take_error(socket.id).map_or(0, |error| Errno::from(error).0))
        }
        Special::ZeroCopy => int(c_int::from(options.zero_copy)),
        Special::FastOpenConnect => int(c_int::from(options.fast_open_connect)),
        Special::AcceptConn => int(c_int::from(listens(world, socket))),
        Special::MaxSegment => int(max_segment(world, socket, options)? as c_int),
        Special::Linger2 => int(options.linger2.map_or(-1, |time| time.as_secs() as c_int)),
        Special::Congestion => {
            let mut name = options.congestion.name().as_bytes().to_vec();
            name.resize(16, 0);
            Ok(Some(name))
        }
        Special::CongestionInfo => Ok(Some(Vec::new())),
        Special::Timestamping => {
            Ok(Some([options.timestamping.bits().to_ne_bytes(), [0; 4]].concat()))
        }
        Special::Info => match world.shard.info(world.now, socket.id) {
            Ok(info) => Ok(Some(tcp_info::encode(&info))),
            Err(Error::OperationNotSupported) => Err(Errno::ENOPROTOOPT),
            Err(error) => Err(error.into()),
        },
        _ => Ok(None),
    }
}

fn listens(world: &World, socket: &Socket) -> bool {
    world.shard.state(socket.id) == Some(State::Listen)
}

fn max_segment(world: &World, socket: &Socket, options: &Options) -> Result<u32, Errno> {
    let set = u32::from(options.max_segment);
    Ok(match world.shard.state(socket.id) {
        Some(State::Closed | State::Listen) if set > 0 => set,
        Some(State::Closed | State::Listen) | None => DEFAULT_SEGMENT,
        Some(_) => world.shard.info(world.now, socket.id)?.snd_mss,
    })
}

/// What is passed to setsockopt(2).
#[derive(Debug, Clone, Copy)]
pub struct Given {
    pub level: c_int,
    pub name: c_int,
    pub value: *const c_void,
    pub len: socklen_t,
}

impl Given {
    /// The kernel's socket takes it as well, if the kernel does.
    fn to_kernel(self, fd: c_int) -> Result<c_int, Errno> {
        // SAFETY: packetdrill's pointer, passed on.
        errno::check(unsafe { libc::setsockopt(fd, self.level, self.name, self.value, self.len) })
    }

    fn int(self) -> Result<c_int, Errno> {
        if (self.len as usize) < size_of::<c_int>() || self.value.is_null() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: packetdrill's value, long enough.
        Ok(unsafe { self.value.cast::<c_int>().read_unaligned() })
    }

    fn octets(&self) -> &[u8] {
        if self.value.is_null() {
            return &[];
        }
        // SAFETY: packetdrill's value, as long as it says.
        unsafe { core::slice::from_raw_parts(self.value.cast(), self.len as usize) }
    }

    /// What the kernel made of it.
    fn kept<const N: usize>(self, fd: c_int) -> Result<[c_int; N], Errno> {
        let mut value = [0; N];
        let mut len = size_of::<[c_int; N]>() as socklen_t;
        // SAFETY: room for that many numbers.
        errno::check(unsafe {
            kernel_getsockopt(fd, self.level, self.name, value.as_mut_ptr().cast(), &raw mut len)
        })?;
        Ok(value)
    }
}

/// setsockopt(2).
///
/// # Errors
/// The kernel's; `ENOPROTOOPT` for what only the kernel has.
pub fn set(station: &Station, fd: c_int, given: Given) -> Result<c_int, Errno> {
    station.call(|world| {
        let socket = world.socket(fd)?;
        match treatment(given.level, given.name) {
            Treatment::Flag { set, .. } => {
                let on = given.int()? != 0;
                update(world, &socket, |options| set(options, on))
            }
            Treatment::Number { set, .. } => {
                given.to_kernel(fd)?;
                let [kept] = given.kept(fd)?;
                update(world, &socket, |options| set(options, kept))
            }
            Treatment::Special(Special::Timestamping) => {
                let wanted = Timestamping::from_bits_retain(given.int()? as u32);
                world.shard.set_timestamping(socket.id, wanted)?;
                Ok(0)
            }
            Treatment::Special(which) => set_special(world, fd, &socket, which, given),
            Treatment::Kernel => given.to_kernel(fd),
            Treatment::Multicast => Err(Errno::ENODEV),
            Treatment::HandOver => Err(Errno::ENOPROTOOPT),
            Treatment::Refuse(errno) => Err(errno),
        }
    })
}

fn update(
    world: &mut World,
    socket: &Socket,
    change: impl FnOnce(&mut Options),
) -> Result<c_int, Errno> {
    world.shard.update_options(world.now, socket.id, change)?;
    Ok(0)
}

fn set_special(
    world: &mut World,
    fd: c_int,
    socket: &Socket,
    which: Special,
    given: Given,
) -> Result<c_int, Errno> {
    if which == Special::Congestion {
        let name = given.octets().split(|octet| *octet == 0).next().unwrap_or_default();
        let known = CongestionAlgorithm::ALL.iter().find(|known| known.name().as_bytes() == name);
        let wanted = *known.ok_or(Errno::ENOENT)?;
        return update(world, socket, |options| options.congestion = wanted);
    }
    if which == Special::FastOpenConnect {
        let on = given.int()? != 0;
        world.shard.set_fast_open_connect(socket.id, on)?;
        return Ok(0);
    }
    given.to_kernel(fd)?;
    match which {
        Special::SendBuffer => {
            let [kept] = given.kept(fd)?;
            update(world, socket, |options| {
                options.send_buffer = kept as u32;
                options.send_buffer_locked = true;
            })
        }
        Special::ReceiveBuffer => {
            let [kept] = given.kept(fd)?;
            update(world, socket, |options| {
                options.receive_buffer = kept as u32;
                options.receive_buffer_locked = true;
            })
        }
        Special::Linger => {
            let linger = match given.kept(fd)? {
                [0, _] => Linger::Background,
                [_, 0] => Linger::Reset,
                [_, seconds] => Linger::Wait(seconds as u32),
            };
            update(world, socket, |options| options.linger = linger)
        }
        Special::MaxSegment => {
            let segment = given.int()?;
            update(world, socket, |options| options.max_segment = segment as u16)
        }
        Special::FastOpenKey => {
            let (primary, rest) = given.octets().split_first_chunk().ok_or(Errno::EINVAL)?;
            let key = FastOpenKey { primary: *primary, backup: rest.first_chunk().copied() };
            world.shard.set_fast_open_key(socket.id, key)?;
            Ok(0)
        }
        Special::ZeroCopy => {
            let [on] = given.kept(fd)?;
            update(world, socket, |options| options.zero_copy = on != 0)
        }
        Special::MaxPacingRate => {
            let wide = given.octets().first_chunk().map(|rate| u64::from_ne_bytes(*rate));
            let int = given.int()? as u32;
            let narrow = if int == u32::MAX { u64::MAX } else { u64::from(int) };
            update(world, socket, |options| options.max_pacing_rate = wide.unwrap_or(narrow))
        }
        Special::Linger2 => {
            let [kept] = given.kept(fd)?;
            let time = u32::try_from(kept).ok().map(Period::from_secs);
            update(world, socket, |options| options.linger2 = time)
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// ioctl(2).
///
/// # Errors
/// The stack's; `EINVAL` for requests unknown here.
///
/// # Safety
/// `value` is what the request wants: here, an int to be written or read.
pub unsafe fn ioctl(
    station: &Station,
    fd: c_int,
    request: u64,
    value: *mut c_int,
) -> Result<c_int, Errno> {
    if !is_ours(fd) {
        // SAFETY: as the caller says.
        return errno::check(unsafe { libc::ioctl(fd, request, value) });
    }
    let answer = station.call(|world| {
        let socket = world.socket(fd)?;
        let shard = &world.shard;
        Ok::<_, Errno>(match request {
            libc::FIONREAD => shard.receive_available(socket.id)?,
            libc::TIOCOUTQ => shard.send_queued(socket.id)?,
            SIOCOUTQNSD => shard.send_unsent(socket.id)?,
            SIOCATMARK => u32::from(shard.at_urgent_mark(socket.id)?),
            _ => return Err(Errno::EINVAL),
        })
    })?;
    if !value.is_null() {
        // SAFETY: as the caller says.
        unsafe { value.write(answer as c_int) };
    }
    Ok(0)
}

/// fcntl(2): the kernel's, which knows the flags of the number; this library must know whether it
/// blocks.
///
/// # Errors
/// The kernel's.
pub fn fcntl(station: &Station, fd: c_int, command: c_int, value: usize) -> Result<c_int, Errno> {
    // SAFETY: packetdrill's commands take a number.
    let answer = errno::check(unsafe { libc::fcntl(fd, command, value) })?;
    if command == libc::F_SETFL && is_ours(fd) {
        station.call(|world| {
            if let Some(socket) = world.socket_mut(fd) {
                socket.nonblocking = value as c_int & libc::O_NONBLOCK != 0;
            }
        });
    }
    Ok(answer)
}
