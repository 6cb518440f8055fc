//! getsockopt(2) and setsockopt(2).
//!
//! An option is done, refused with Linux's errno, or hands the socket to the kernel visibly; never
//! accepted and ignored. `option_table.rs` says which. The kernel's socket is the oracle of what
//! Linux accepts, and holds what a socket takes along if it goes to the kernel.

use crate::descriptors::{self, Open};
use crate::errno::{self, Errno};
use crate::hook::real;
use crate::option_table::{Special, Treatment, treatment};
use crate::policy::{self, TIMESTAMP_NS};
use crate::stamps;
use crate::tcp_info;
use crate::{memory, spares};
use core::ffi::{c_int, c_void};
use engine::{Kind, Path, Reason};
use libc::{socklen_t, timeval};
use stack::config::FastOpenKey;
use stack::options::{CongestionAlgorithm, Linger, Options, Period, Timestamping};
use stack::tcp::State;
use stack::time::Duration;

/// `TCP_CA_NAME_MAX`.
const CONGESTION_NAME: usize = 16;
/// What `TCP_MAXSEG` says of a socket that has no connection (`TCP_MSS_DEFAULT`).
const DEFAULT_SEGMENT: u32 = 536;

/// getsockopt(2).
///
/// # Safety
/// As the C function; likewise for every function here.
pub unsafe fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::getsockopt(fd, level, name, value, len) };
    };
    // SAFETY: the program's pointers.
    unsafe {
        let out = Out { value, len, level };
        match treatment_for(&open, level, name) {
            Treatment::Flag { get, .. } => {
                errno::answer(|| out.int(c_int::from(read(&open, get)?)))
            }
            Treatment::Number { get, .. } => errno::answer(|| out.int(read(&open, get)?)),
            Treatment::Special(which) => {
                get_special(&open, which, &out).unwrap_or_else(|| out.ask_kernel(fd, name))
            }
            Treatment::Refuse(errno) => errno::answer(|| Err(errno)),
            Treatment::Kernel | Treatment::Multicast | Treatment::HandOver => {
                out.ask_kernel(fd, name)
            }
        }
    }
}

/// What an option is to this socket: those of another protocol are the kernel's to refuse.
fn treatment_for(open: &Open, level: c_int, name: c_int) -> Treatment {
    match (level, open.file.kind()) {
        (libc::IPPROTO_TCP, Kind::Udp) | (libc::IPPROTO_UDP, Kind::Tcp) => Treatment::Kernel,
        (libc::IPPROTO_IPV6, _) if !open.is_mapped() => Treatment::Kernel,
        (_, kind) => match treatment(level, name) {
            // A stream's octets arrive without their times.
            Treatment::Special(Special::Timestamp | Special::TimestampNs) if kind == Kind::Tcp => {
                Treatment::HandOver
            }
            // So far only a stream numbers its sends, and reports how far they have come.
            Treatment::Special(Special::ZeroCopy | Special::Timestamping) if kind == Kind::Udp => {
                Treatment::HandOver
            }
            known => known,
        },
    }
}

/// Reads the stack's options. `what` runs under the shard's lock, so it must not allocate.
fn read<T>(open: &Open, what: impl FnOnce(&Options) -> T) -> Result<T, Errno> {
    Ok(open.engine.with(open.id, |shard, socket, _| shard.options(socket).map(what))?)
}

/// Changes the stack's options.
fn update(open: &Open, change: impl FnOnce(&mut Options)) -> Result<c_int, Errno> {
    open.engine.with(open.id, |shard, socket, now| shard.update_options(now, socket, change))?;
    Ok(0)
}

/// Where a program wants an option's value, and the level, on which the form depends.
struct Out {
    value: *mut c_void,
    len: *mut socklen_t,
    level: c_int,
}

impl Out {
    /// How much the program takes.
    ///
    /// # Safety
    /// As [`Out::octets`].
    unsafe fn room(&self) -> Result<usize, Errno> {
        memory::writable(self.len, size_of::<socklen_t>())?;
        // SAFETY: it can be read.
        let room = unsafe { *self.len } as c_int;
        usize::try_from(room).map_err(|_| Errno::EINVAL)
    }

    /// Writes octets, cut to the room there is.
    ///
    /// # Safety
    /// The pointers are the program's.
    unsafe fn octets(&self, data: &[u8]) -> Result<c_int, Errno> {
        // SAFETY: it can be read.
        let room = unsafe { self.room() }?;
        let copied = room.min(data.len());
        memory::writable(self.value, copied)?;
        // SAFETY: both can be written.
        unsafe {
            core::ptr::copy_nonoverlapping(data.as_ptr(), self.value.cast(), copied);
            *self.len = copied as socklen_t;
        }
        Ok(0)
    }

    /// Writes a number. At the level of IP one octet is enough for a small one (ip_sockglue.c).
    ///
    /// # Safety
    /// As [`Out::octets`].
    unsafe fn int(&self, value: c_int) -> Result<c_int, Errno> {
        memory::writable(self.len, size_of::<socklen_t>())?;
        // SAFETY: it can be read.
        let room = unsafe { *self.len } as c_int;
        let small = u8::try_from(value).ok().filter(|_| (1..4).contains(&room));
        // SAFETY: as the caller says.
        unsafe {
            match small.filter(|_| self.level == libc::IPPROTO_IP) {
                Some(octet) => self.octets(&[octet]),
                None => self.octets(&value.to_ne_bytes()),
            }
        }
    }

    /// # Safety
    /// As [`Out::octets`].
    unsafe fn ask_kernel(&self, fd: c_int, name: c_int) -> c_int {
        // SAFETY: passed on.
        unsafe { real::getsockopt(fd, self.level, name, self.value, self.len) }
    }
}

/// `None` if the kernel's answer is the right one.
///
/// # Safety
/// `out` holds the program's pointers.
unsafe fn get_special(open: &Open, which: Special, out: &Out) -> Option<c_int> {
    let number = |value: Result<c_int, Errno>| {
        // SAFETY: as the caller says.
        Some(errno::answer(|| unsafe { out.int(value?) }))
    };
    let octets = |value: Result<Vec<u8>, Errno>| {
        // SAFETY: as the caller says.
        Some(errno::answer(|| unsafe { out.octets(&value?) }))
    };
    match which {
        Special::SendBuffer => number(buffers(open).map(|(send, _)| send as c_int)),
        Special::ReceiveBuffer => number(buffers(open).map(|(_, receive)| receive as c_int)),
        Special::Error => number(take_error(open)),
        Special::AcceptConn => number(listens(open).map(c_int::from)),
        Special::MaxSegment => number(max_segment(open)),
        Special::Mtu => number(path_mtu(open)),
        Special::Timestamp => number(timestamps(open, false).map(c_int::from)),
        Special::TimestampNs => number(timestamps(open, true).map(c_int::from)),
        Special::Linger2 => number(read(open, linger2)),
        Special::Linger => octets(read(open, |options| options.linger).map(linger_octets)),
        Special::SendTimeout => octets(read(open, |options| options.send_timeout).map(time_octets)),
        Special::ReceiveTimeout => {
            octets(read(open, |options| options.receive_timeout).map(time_octets))
        }
        Special::Congestion => octets(read(open, |options| options.congestion).map(name_octets)),
        Special::MaxPacingRate => {
            let rate = read(open, |options| options.max_pacing_rate);
            // SAFETY: as the caller says.
            octets(rate.and_then(|rate| Ok(rate_octets(rate, unsafe { out.room() }?))))
        }
        Special::Info => octets(info(open)),
        Special::CongestionInfo => octets(Ok(Vec::new())),
        Special::ZeroCopy => number(read(open, |options| c_int::from(options.zero_copy))),
        Special::Ulp => None,
        Special::Timestamping => octets(stamps::value(open)),
        Special::FastOpenKey => octets(fast_open_key(open)),
        Special::FastOpenConnect => {
            number(read(open, |options| c_int::from(options.fast_open_connect)))
        }
    }
}

/// `SO_ERROR`: what the stack's half has to report, else the kernel's.
fn take_error(open: &Open) -> Result<c_int, Errno> {
    let error = open.engine.with(open.id, |shard, socket, _| Ok(shard.take_error(socket)))?;
    match error {
        Some(error) => Ok(Errno::from(error).0),
        None if open.is_dual() => kernel_int(open.fd, libc::SOL_SOCKET, libc::SO_ERROR),
        None => Ok(0),
    }
}

/// `TCP_INFO`; UDP has none.
fn info(open: &Open) -> Result<Vec<u8>, Errno> {
    match open.engine.with(open.id, |shard, socket, now| shard.info(now, socket)) {
        Ok(info) => Ok(tcp_info::encode(&info)),
        Err(stack::error::Error::OperationNotSupported) => Err(Errno::ENOPROTOOPT),
        Err(error) => Err(error.into()),
    }
}

fn listens(open: &Open) -> Result<bool, Errno> {
    let state = open.engine.with(open.id, |shard, socket, _| Ok(shard.state(socket)))?;
    Ok(state == Some(State::Listen))
}

fn max_segment(open: &Open) -> Result<c_int, Errno> {
    let segment = open.engine.with(open.id, |shard, socket, now| {
        let set = u32::from(shard.options(socket)?.max_segment);
        Ok(match shard.state(socket) {
            Some(State::Closed | State::Listen) if set > 0 => set,
            Some(State::Closed | State::Listen) | None => DEFAULT_SEGMENT,
            Some(_) => shard.info(now, socket)?.snd_mss,
        })
    })?;
    Ok(segment as c_int)
}

/// `SO_SNDBUF` and `SO_RCVBUF` as automatic tuning has made them.
fn buffers(open: &Open) -> Result<(u32, u32), Errno> {
    Ok(open.engine.with(open.id, |shard, socket, _| shard.buffer_sizes(socket))?)
}

/// `TCP_FASTOPEN_KEY`: one key, or two.
fn fast_open_key(open: &Open) -> Result<Vec<u8>, Errno> {
    let key = open.engine.with(open.id, |shard, socket, _| shard.fast_open_key(socket))?;
    Ok([&key.primary[..], key.backup.as_ref().map_or(&[], |backup| &backup[..])].concat())
}

/// `IP_MTU`: of the route to the peer.
fn path_mtu(open: &Open) -> Result<c_int, Errno> {
    let mtu = open.engine.with(open.id, |shard, socket, now| {
        let peer = shard.remote_address(socket)?.ip();
        Ok(shard.path_mtu(now, peer))
    })?;
    mtu.map(c_int::from).ok_or(Errno::ENOTCONN)
}

fn timestamps(open: &Open, nanoseconds: bool) -> Result<bool, Errno> {
    Ok(read(open, |options| options.receive_timestamp)? && open.has(TIMESTAMP_NS) == nanoseconds)
}

fn linger2(options: &Options) -> c_int {
    options.linger2.map_or(-1, |time| time.as_secs() as c_int)
}

fn linger_octets(linger: Linger) -> Vec<u8> {
    let (on, seconds): (c_int, c_int) = match linger {
        Linger::Background => (0, 0),
        Linger::Reset => (1, 0),
        Linger::Wait(seconds) => (1, c_int::try_from(seconds).unwrap_or(c_int::MAX)),
    };
    [on.to_ne_bytes(), seconds.to_ne_bytes()].concat()
}

fn time_octets(timeout: Option<Period>) -> Vec<u8> {
    let timeout = timeout.unwrap_or_default().get();
    let parts = [timeout.as_secs() as i64, i64::from(timeout.subsec_micros())];
    parts.map(i64::to_ne_bytes).concat()
}

/// `SO_MAX_PACING_RATE` has two forms: an int, which cannot say much, and a long.
fn rate_octets(rate: u64, room: usize) -> Vec<u8> {
    if room >= size_of::<u64>() {
        return rate.to_ne_bytes().to_vec();
    }
    u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes().to_vec()
}

fn name_octets(congestion: CongestionAlgorithm) -> Vec<u8> {
    let mut name = [0u8; CONGESTION_NAME];
    let text = congestion.name().as_bytes();
    name[..text.len()].copy_from_slice(text);
    name.to_vec()
}

/// setsockopt(2).
///
/// # Safety
/// As the C function.
pub unsafe fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::setsockopt(fd, level, name, value, len) };
    };
    let given = Given { level, name, value, len };
    // SAFETY: the program's pointer.
    errno::answer(|| unsafe {
        match treatment_for(&open, level, name) {
            Treatment::Flag { set, .. } => set_flag(&open, &given, set),
            Treatment::Number { set, .. } => {
                given.to_kernel(fd)?;
                let kept = kernel_int(fd, level, name)?;
                update(&open, |options| set(options, kept))
            }
            Treatment::Special(which) => set_special(&open, which, &given),
            Treatment::Kernel => given.to_kernel(fd),
            Treatment::Multicast if open.file.path() == Path::Stack => Err(Errno::ENODEV),
            Treatment::Multicast => given.to_kernel(fd),
            Treatment::HandOver => hand_over(&open, &given),
            Treatment::Refuse(errno) => Err(errno),
        }
    })
}

/// What a program passes to setsockopt(2).
struct Given {
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
}

impl Given {
    /// # Safety
    /// The pointer is the program's.
    unsafe fn to_kernel(&self, fd: c_int) -> Result<c_int, Errno> {
        spares::touch(fd);
        // SAFETY: passed on.
        errno::check(unsafe { real::setsockopt(fd, self.level, self.name, self.value, self.len) })
    }

    /// The value as octets.
    ///
    /// # Safety
    /// The pointer is the program's.
    unsafe fn octets(&self) -> Result<&[u8], Errno> {
        let len = self.len as usize;
        memory::readable(self.value, len)?;
        // SAFETY: it can be read.
        Ok(unsafe { core::slice::from_raw_parts(self.value.cast(), len) })
    }

    /// The value as an int; at the level of IP one octet will do.
    ///
    /// # Safety
    /// The pointer is the program's.
    unsafe fn int(&self) -> Result<c_int, Errno> {
        let short = self.level == libc::IPPROTO_IP && (1..4).contains(&self.len);
        if !short && (self.len as usize) < size_of::<c_int>() {
            return Err(Errno::EINVAL);
        }
        memory::readable(self.value, if short { 1 } else { size_of::<c_int>() })?;
        // SAFETY: it can be read.
        unsafe {
            if short {
                return Ok(c_int::from(*self.value.cast::<u8>()));
            }
            Ok(self.value.cast::<c_int>().read_unaligned())
        }
    }
}

/// An option of the kernel's half that is a number.
fn kernel_int(fd: c_int, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as socklen_t;
    // SAFETY: room for an int.
    errno::check(unsafe {
        real::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// An option of the kernel's half that is two numbers of the given width.
fn kernel_pair<T: Copy + Default>(fd: c_int, level: c_int, name: c_int) -> Result<[T; 2], Errno> {
    let mut value = [T::default(); 2];
    let mut len = size_of::<[T; 2]>() as socklen_t;
    // SAFETY: room for both numbers.
    errno::check(unsafe {
        real::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len)
    })?;
    Ok(value)
}

/// # Safety
/// `given` holds the program's pointer.
unsafe fn set_flag(
    open: &Open,
    given: &Given,
    set: fn(&mut Options, bool),
) -> Result<c_int, Errno> {
    // SAFETY: as the caller says.
    let on = unsafe {
        // Servers switch some of these for every request: a decided socket asks no oracle.
        if open.file.path() != Path::Stack {
            given.to_kernel(open.fd)?;
        }
        given.int()? != 0
    };
    update(open, |options| set(options, on))
}

/// # Safety
/// `given` holds the program's pointer.
unsafe fn hand_over(open: &Open, given: &Given) -> Result<c_int, Errno> {
    if open.file.path() != Path::Undecided {
        return Err(Errno::ENOPROTOOPT);
    }
    // SAFETY: as the caller says. If the kernel refuses, nothing changes hands.
    unsafe { given.to_kernel(open.fd) }?;
    Ok(policy::hand_over(open, Reason::Option, || 0))
}

/// # Safety
/// `given` holds the program's pointer.
unsafe fn set_special(open: &Open, which: Special, given: &Given) -> Result<c_int, Errno> {
    let fd = open.fd;
    match which {
        Special::Congestion => {
            // SAFETY: as the caller says.
            let wanted = unsafe { congestion(given) }?;
            return update(open, |options| options.congestion = wanted);
        }
        Special::FastOpenConnect => {
            // SAFETY: as the caller says.
            return unsafe { set_fast_open_connect(open, given) };
        }
        Special::Timestamping => {
            // SAFETY: as the caller says.
            let wanted = Timestamping::from_bits_retain(unsafe { given.int() }? as u32);
            if !wanted.contains(Timestamping::OPT_STATS) {
                return stamps::set(open, wanted);
            }
            // SAFETY: as the caller says.
            return unsafe { hand_over(open, given) };
        }
        // As a kernel without the module.
        Special::Ulp => return Err(Errno::ENOENT),
        // These are only read, says the kernel; or they have no form that it would refuse.
        _ => {}
    }
    // SAFETY: as the caller says.
    unsafe { given.to_kernel(fd) }?;
    // SAFETY: as the caller says.
    unsafe { take_from_kernel(open, which, given) }
}

/// The kernel has taken the value, and refused what it refuses: the stack takes over what it kept.
///
/// # Safety
/// As [`set_special`].
unsafe fn take_from_kernel(open: &Open, which: Special, given: &Given) -> Result<c_int, Errno> {
    let fd = open.fd;
    match which {
        Special::SendBuffer => {
            let kept = kernel_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUF)?;
            update(open, |options| {
                options.send_buffer = kept as u32;
                options.send_buffer_locked = true;
            })
        }
        Special::ReceiveBuffer => {
            let kept = kernel_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF)?;
            update(open, |options| {
                options.receive_buffer = kept as u32;
                options.receive_buffer_locked = true;
            })
        }
        Special::Linger => {
            let [on, seconds] = kernel_pair::<c_int>(fd, given.level, given.name)?;
            let linger = match (on, seconds) {
                (0, _) => Linger::Background,
                (_, 0) => Linger::Reset,
                (_, seconds) => Linger::Wait(seconds as u32),
            };
            crate::lifecycle::note_linger();
            update(open, |options| options.linger = linger)
        }
        Special::SendTimeout => {
            let timeout = kernel_timeout(fd, libc::SO_SNDTIMEO)?;
            update(open, |options| options.send_timeout = timeout.map(Period::from))
        }
        Special::ReceiveTimeout => {
            let timeout = kernel_timeout(fd, libc::SO_RCVTIMEO)?;
            update(open, |options| options.receive_timeout = timeout.map(Period::from))
        }
        Special::Timestamp | Special::TimestampNs => {
            // SAFETY: as the caller says.
            let on = unsafe { given.int() }? != 0;
            if which == Special::TimestampNs {
                open.mark(TIMESTAMP_NS);
            } else {
                open.unmark(TIMESTAMP_NS);
            }
            update(open, |options| options.receive_timestamp = on)
        }
        Special::MaxSegment => {
            // SAFETY: as the caller says.
            let segment = unsafe { given.int() }?;
            update(open, |options| options.max_segment = segment as u16)
        }
        Special::ZeroCopy => {
            let on = kernel_int(fd, given.level, given.name)? != 0;
            update(open, |options| options.zero_copy = on)
        }
        Special::MaxPacingRate => {
            let rate = kernel_rate(fd)?;
            update(open, |options| options.max_pacing_rate = rate)
        }
        Special::Linger2 => {
            let kept = kernel_int(fd, given.level, given.name)?;
            let time = u32::try_from(kept).ok().map(Period::from_secs);
            update(open, |options| options.linger2 = time)
        }
        Special::Error
        | Special::AcceptConn
        | Special::Mtu
        | Special::Info
        | Special::Congestion
        | Special::CongestionInfo
        | Special::FastOpenConnect
        | Special::Timestamping
        | Special::Ulp => Ok(0),
        Special::FastOpenKey => {
            // SAFETY: as the caller says; the kernel has read it, and found its length good.
            let octets = unsafe { given.octets() }?;
            let (primary, rest) = octets.split_first_chunk::<16>().ok_or(Errno::EINVAL)?;
            let key = FastOpenKey { primary: *primary, backup: rest.first_chunk().copied() };
            open.engine.with(open.id, |shard, socket, _| shard.set_fast_open_key(socket, key))?;
            Ok(0)
        }
    }
}

/// `TCP_FASTOPEN_CONNECT`: the kernel's half goes by the kernel's settings, the stack's by its own.
///
/// # Safety
/// `given` holds the program's pointer.
unsafe fn set_fast_open_connect(open: &Open, given: &Given) -> Result<c_int, Errno> {
    // SAFETY: as the caller says.
    let on = match unsafe { given.int() }? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL),
    };
    if open.file.path() != Path::Stack {
        // SAFETY: as the caller says.
        unsafe { given.to_kernel(open.fd) }?;
    }
    open.engine.with(open.id, |shard, socket, _| shard.set_fast_open_connect(socket, on))?;
    Ok(0)
}

/// `SO_MAX_PACING_RATE` as the kernel's half has it.
fn kernel_rate(fd: c_int) -> Result<u64, Errno> {
    let mut rate: u64 = 0;
    let mut len = size_of::<u64>() as socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE);
    // SAFETY: room for the number.
    errno::check(unsafe {
        real::getsockopt(fd, level, name, (&raw mut rate).cast(), &raw mut len)
    })?;
    Ok(rate)
}

fn kernel_timeout(fd: c_int, name: c_int) -> Result<Option<Duration>, Errno> {
    let [seconds, micros] = kernel_pair::<i64>(fd, libc::SOL_SOCKET, name)?;
    const _: () = assert!(size_of::<timeval>() == size_of::<[i64; 2]>());
    let timeout = Duration::new(seconds.max(0) as u64, micros.clamp(0, 999_999) as u32 * 1_000);
    Ok((!timeout.is_zero()).then_some(timeout))
}

/// # Safety
/// `given` holds the program's pointer.
unsafe fn congestion(given: &Given) -> Result<CongestionAlgorithm, Errno> {
    if given.len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = (given.len as usize).min(CONGESTION_NAME - 1);
    memory::readable(given.value, len)?;
    // SAFETY: it can be read.
    let name = unsafe { core::slice::from_raw_parts(given.value.cast::<u8>(), len) };
    let name = name.split(|octet| *octet == 0).next().unwrap_or_default();
    let known = CongestionAlgorithm::ALL.iter().find(|known| known.name().as_bytes() == name);
    known.copied().ok_or(Errno::ENOENT)
}

/// sockatmark(3).
///
/// # Safety
/// None beyond the C function's.
pub unsafe fn sockatmark(fd: c_int) -> c_int {
    let Some(open) = descriptors::socket(fd) else {
        // SAFETY: passed on.
        return unsafe { real::sockatmark(fd) };
    };
    errno::answer(|| {
        let at = open.engine.with(open.id, |shard, socket, _| shard.at_urgent_mark(socket))?;
        Ok(c_int::from(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(level: c_int, value: &[u8]) -> Given {
        Given { level, name: 0, value: value.as_ptr().cast(), len: value.len() as socklen_t }
    }

    #[test]
    fn one_octet_is_enough_at_the_level_of_ip_alone() {
        // SAFETY: the values are as long as they say.
        unsafe {
            assert_eq!(given(libc::IPPROTO_IP, &[7]).int(), Ok(7));
            assert_eq!(given(libc::IPPROTO_TCP, &[7]).int(), Err(Errno::EINVAL));
            assert_eq!(given(libc::IPPROTO_TCP, &9i32.to_ne_bytes()).int(), Ok(9));
        }
    }

    #[test]
    fn values_are_cut_to_the_room_and_the_length_told() {
        let mut room = [0xffu8; 8];
        let mut len: socklen_t = 2;
        let mut out =
            Out { value: room.as_mut_ptr().cast(), len: &raw mut len, level: libc::SOL_SOCKET };
        // SAFETY: the room is longer than the length says.
        unsafe {
            assert_eq!(out.int(0x0102), Ok(0));
            assert_eq!((room, len), ([2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 2));
            out.level = libc::IPPROTO_IP;
            len = 3;
            assert_eq!(out.int(64), Ok(0));
            assert_eq!((room[0], len), (64, 1));
            *out.len = u32::MAX;
            assert_eq!(out.int(64), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn congestion_control_goes_by_name() {
        // SAFETY: the values are as long as they say.
        unsafe {
            assert_eq!(congestion(&given(6, b"reno\0")), Ok(CongestionAlgorithm::Reno));
            assert_eq!(congestion(&given(6, b"cubic")), Ok(CongestionAlgorithm::Cubic));
            assert_eq!(congestion(&given(6, b"bbr\0")), Ok(CongestionAlgorithm::Bbr));
            assert_eq!(congestion(&given(6, b"dctcp")), Ok(CongestionAlgorithm::Dctcp));
            assert_eq!(congestion(&given(6, b"vegas")), Err(Errno::ENOENT));
            assert_eq!(congestion(&given(6, b"")), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn a_rate_is_an_int_or_a_long() {
        assert_eq!(rate_octets(1 << 33, 8), (1u64 << 33).to_ne_bytes());
        assert_eq!(rate_octets(1 << 33, 4), u32::MAX.to_ne_bytes());
        assert_eq!(rate_octets(u64::MAX, 4), u32::MAX.to_ne_bytes());
        assert_eq!(rate_octets(5, 7), 5u32.to_ne_bytes());
    }

    #[test]
    fn lingering_has_linuxs_layout() {
        assert_eq!(linger_octets(Linger::Wait(3)), [1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(
            time_octets(Some(Duration::from_millis(1_500).into()))[..10],
            [1, 0, 0, 0, 0, 0, 0, 0, 0x20, 0xa1]
        );
    }
}
