//! The C side: the struct that packetdrill fills through `packetdrill_interface_init`, and a
//! function for each of its pointers, which decodes, calls, encodes.

use crate::data::{self, one};
use crate::knobs::Flags;
use crate::options::{self, Given};
use crate::readiness;
use crate::sockets;
use crate::station::{Station, start};
use abi::errno::{Errno, answer};
use abi::memory;
use core::ffi::{CStr, c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void};
use libc::{epoll_event, iovec, msghdr, nfds_t, off64_t, pollfd, size_t, sockaddr, socklen_t};
use libc::{ssize_t, timeval};
use stack::time::Duration;

type Userdata = *mut c_void;

macro_rules! interface {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $answer:ty;)*) => {
        /// packetdrill's `struct packetdrill_interface`.
        ///
        /// fcntl and ioctl are variadic there. What packetdrill passes behind the fixed arguments
        /// is one number or one pointer, which the C ABIs of x86-64 and AArch64 Linux put where
        /// a fixed argument goes.
        #[repr(C)]
        #[derive(Debug)]
        #[allow(missing_docs)] // Each is the C function of its name.
        pub struct Interface {
            pub userdata: Userdata,
            $(pub $name: unsafe extern "C" fn(Userdata, $($arg: $kind),*) -> $answer,)*
        }

        /// The interface of this library; `userdata` is its station.
        pub fn interface(station: &'static Station) -> Interface {
            Interface {
                userdata: core::ptr::from_ref(station).cast_mut().cast(),
                $($name: c::$name,)*
            }
        }
    };
}

interface! {
    free() -> ();
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    listen(fd: c_int, backlog: c_int) -> c_int;
    accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t;
    readv(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t;
    recv(fd: c_int, buffer: *mut c_void, len: size_t, flags: c_int) -> ssize_t;
    recvfrom(fd: c_int, buffer: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr,
        address_len: *mut socklen_t) -> ssize_t;
    recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t;
    writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t;
    send(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int) -> ssize_t;
    sendto(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int, address: *const sockaddr,
        address_len: socklen_t) -> ssize_t;
    sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    fcntl(fd: c_int, command: c_int, value: usize) -> c_int;
    ioctl(fd: c_int, request: c_ulong, value: *mut c_int) -> c_int;
    close(fd: c_int) -> c_int;
    shutdown(fd: c_int, how: c_int) -> c_int;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t)
        -> c_int;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t)
        -> c_int;
    poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int;
    netdev_send(packet: *const c_void, len: size_t) -> c_int;
    netdev_receive(packet: *mut c_void, len: *mut size_t, time_usecs: *mut c_longlong) -> c_int;
    usleep(time: c_uint) -> c_int;
    gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int;
    epoll_create(size: c_int) -> c_int;
    epoll_ctl(set: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    epoll_wait(set: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int;
    pipe(ends: *mut c_int) -> c_int;
    splice(from: c_int, from_offset: *mut off64_t, to: c_int, to_offset: *mut off64_t,
        len: size_t, flags: c_uint) -> ssize_t;
}

/// What packetdrill looks up by name.
///
/// # Safety
/// `flags` is null or a C string; `interface` is packetdrill's struct, to be filled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, into: *mut Interface) {
    let text = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: as the caller says.
        unsafe { CStr::from_ptr(flags) }.to_string_lossy().into_owned()
    };
    let station = start(Flags::parse(&text));
    // SAFETY: as the caller says.
    unsafe { into.write(interface(station)) };
}

/// The functions behind the pointers. Each is as safe as the C function of its name, and is passed
/// the userdata of [`interface`].
#[allow(clippy::missing_safety_doc)] // As said just above.
mod c {
    use super::*;

    fn station<'a>(userdata: Userdata) -> &'a Station {
        // SAFETY: the userdata that `interface` gave, which is never freed.
        unsafe { &*userdata.cast::<Station>() }
    }

    fn size(answer: Result<usize, Errno>) -> Result<ssize_t, Errno> {
        answer.map(|n| n as ssize_t)
    }

    /// A message of several buffers and nothing else.
    fn many(buffers: *const iovec, count: c_int) -> msghdr {
        // SAFETY: numbers and pointers, for which zero is a value.
        let mut message: msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = buffers.cast_mut();
        message.msg_iovlen = count.max(0) as usize;
        message
    }

    pub unsafe extern "C" fn free(_: Userdata) {}

    pub unsafe extern "C" fn socket(u: Userdata, domain: c_int, kind: c_int, _: c_int) -> c_int {
        answer(|| sockets::socket(station(u), domain, kind))
    }

    pub unsafe extern "C" fn bind(
        u: Userdata,
        fd: c_int,
        address: *const sockaddr,
        len: socklen_t,
    ) -> c_int {
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| sockets::bind(station(u), fd, unsafe { sockets::decode(address, len) }?))
    }

    pub unsafe extern "C" fn listen(u: Userdata, fd: c_int, backlog: c_int) -> c_int {
        answer(|| sockets::listen(station(u), fd, backlog))
    }

    pub unsafe extern "C" fn accept(
        u: Userdata,
        fd: c_int,
        address: *mut sockaddr,
        len: *mut socklen_t,
    ) -> c_int {
        answer(|| {
            let (fd, peer) = sockets::accept(station(u), fd)?;
            // SAFETY: the caller's pointers are good for the C function of this name.
            unsafe { sockets::encode(peer, address, len) };
            Ok(fd)
        })
    }

    pub unsafe extern "C" fn connect(
        u: Userdata,
        fd: c_int,
        address: *const sockaddr,
        len: socklen_t,
    ) -> c_int {
        answer(|| {
            // SAFETY: the caller's pointers are good for the C function of this name.
            let remote = unsafe { sockets::decode(address, len) }?;
            let nonblocking = station(u).call(|world| world.socket(fd))?.nonblocking;
            sockets::connect(station(u), fd, remote, None, nonblocking).map(|_| 0)
        })
    }

    pub unsafe extern "C" fn read(
        u: Userdata,
        fd: c_int,
        buffer: *mut c_void,
        len: size_t,
    ) -> ssize_t {
        // SAFETY: the caller's pointers are good for the C function of this name.
        unsafe { recv(u, fd, buffer, len, 0) }
    }

    pub unsafe extern "C" fn readv(
        u: Userdata,
        fd: c_int,
        buffers: *const iovec,
        count: c_int,
    ) -> ssize_t {
        let mut message = many(buffers, count);
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| size(unsafe { data::receive(station(u), fd, &mut message, 0) }))
    }

    pub unsafe extern "C" fn recv(
        u: Userdata,
        fd: c_int,
        buffer: *mut c_void,
        len: size_t,
        flags: c_int,
    ) -> ssize_t {
        answer(|| {
            one(buffer, len, |message| {
                // SAFETY: the caller's pointers are good for the C function of this name.
                size(unsafe { data::receive(station(u), fd, message, flags) })
            })
        })
    }

    pub unsafe extern "C" fn recvfrom(
        u: Userdata,
        fd: c_int,
        buffer: *mut c_void,
        len: size_t,
        flags: c_int,
        address: *mut sockaddr,
        address_len: *mut socklen_t,
    ) -> ssize_t {
        answer(|| {
            one(buffer, len, |message| {
                if !address.is_null() && !address_len.is_null() {
                    message.msg_name = address.cast();
                    // SAFETY: the caller's pointers are good for the C function of this name.
                    message.msg_namelen = unsafe { *address_len };
                }
                // SAFETY: the caller's pointers are good for the C function of this name.
                let received = size(unsafe { data::receive(station(u), fd, message, flags) });
                if received.is_ok() && !address_len.is_null() {
                    // SAFETY: the caller's pointers are good for the C function of this name.
                    unsafe { *address_len = message.msg_namelen };
                }
                received
            })
        })
    }

    pub unsafe extern "C" fn recvmsg(
        u: Userdata,
        fd: c_int,
        message: *mut msghdr,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| size(unsafe { data::receive(station(u), fd, &mut *message, flags) }))
    }

    pub unsafe extern "C" fn write(
        u: Userdata,
        fd: c_int,
        buffer: *const c_void,
        len: size_t,
    ) -> ssize_t {
        // SAFETY: the caller's pointers are good for the C function of this name.
        unsafe { send(u, fd, buffer, len, 0) }
    }

    pub unsafe extern "C" fn writev(
        u: Userdata,
        fd: c_int,
        buffers: *const iovec,
        count: c_int,
    ) -> ssize_t {
        let message = many(buffers, count);
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| size(unsafe { data::send(station(u), fd, &message, 0) }))
    }

    pub unsafe extern "C" fn send(
        u: Userdata,
        fd: c_int,
        buffer: *const c_void,
        len: size_t,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's pointers are good for the C function of this name.
        unsafe { sendto(u, fd, buffer, len, flags, core::ptr::null(), 0) }
    }

    pub unsafe extern "C" fn sendto(
        u: Userdata,
        fd: c_int,
        buffer: *const c_void,
        len: size_t,
        flags: c_int,
        address: *const sockaddr,
        address_len: socklen_t,
    ) -> ssize_t {
        answer(|| {
            one(buffer, len, |message| {
                message.msg_name = address.cast_mut().cast();
                message.msg_namelen = address_len;
                // SAFETY: the caller's pointers are good for the C function of this name.
                size(unsafe { data::send(station(u), fd, message, flags) })
            })
        })
    }

    pub unsafe extern "C" fn sendmsg(
        u: Userdata,
        fd: c_int,
        message: *const msghdr,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| size(unsafe { data::send(station(u), fd, &*message, flags) }))
    }

    pub unsafe extern "C" fn fcntl(u: Userdata, fd: c_int, command: c_int, value: usize) -> c_int {
        answer(|| options::fcntl(station(u), fd, command, value))
    }

    pub unsafe extern "C" fn ioctl(
        u: Userdata,
        fd: c_int,
        request: c_ulong,
        value: *mut c_int,
    ) -> c_int {
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| unsafe { options::ioctl(station(u), fd, request, value) })
    }

    pub unsafe extern "C" fn close(u: Userdata, fd: c_int) -> c_int {
        sockets::close(Some(station(u)), fd)
    }

    pub unsafe extern "C" fn shutdown(u: Userdata, fd: c_int, how: c_int) -> c_int {
        answer(|| sockets::shutdown(station(u), fd, how))
    }

    pub unsafe extern "C" fn getsockopt(
        u: Userdata,
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut socklen_t,
    ) -> c_int {
        // SAFETY: the caller's pointers are good for the C function of this name.
        answer(|| unsafe {
            let Some(octets) = options::get(station(u), fd, level, name)? else {
                let from_kernel = options::kernel_getsockopt(fd, level, name, value, len);
                return abi::errno::check(from_kernel);
            };
            memory::writable(len, size_of::<socklen_t>())?;
            let copied = octets.len().min(*len as usize);
            memory::writable(value, copied)?;
            core::ptr::copy_nonoverlapping(octets.as_ptr(), value.cast(), copied);
            *len = copied as socklen_t;
            Ok(0)
        })
    }

    pub unsafe extern "C" fn setsockopt(
        u: Userdata,
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: socklen_t,
    ) -> c_int {
        answer(|| options::set(station(u), fd, Given { level, name, value, len }))
    }

    pub unsafe extern "C" fn poll(
        u: Userdata,
        fds: *mut pollfd,
        count: nfds_t,
        timeout: c_int,
    ) -> c_int {
        let fds = if count == 0 {
            &mut []
        } else {
            // SAFETY: the caller's pointers are good for the C function of this name.
            unsafe { core::slice::from_raw_parts_mut(fds, count as usize) }
        };
        answer(|| Ok(readiness::poll(station(u), fds, timeout)))
    }

    pub unsafe extern "C" fn netdev_send(u: Userdata, packet: *const c_void, len: size_t) -> c_int {
        // SAFETY: the caller's pointers are good for the C function of this name.
        station(u).arrive(unsafe { core::slice::from_raw_parts(packet.cast(), len) });
        0
    }

    pub unsafe extern "C" fn netdev_receive(
        u: Userdata,
        packet: *mut c_void,
        len: *mut size_t,
        time_usecs: *mut c_longlong,
    ) -> c_int {
        // SAFETY: the caller's pointers are good for the C function of this name.
        unsafe {
            let Some((octets, at)) = station(u).depart() else {
                *len = 0;
                return 0;
            };
            let copied = octets.len().min(*len);
            core::ptr::copy_nonoverlapping(octets.as_ptr(), packet.cast(), copied);
            *len = copied;
            *time_usecs = at.as_micros() as c_longlong;
        }
        0
    }

    pub unsafe extern "C" fn usleep(u: Userdata, time: c_uint) -> c_int {
        station(u).usleep(Duration::from_micros(u64::from(time)));
        0
    }

    pub unsafe extern "C" fn gettimeofday(
        u: Userdata,
        time: *mut timeval,
        _: *mut c_void,
    ) -> c_int {
        let micros = station(u).time().as_micros() as c_long;
        let now = timeval { tv_sec: micros / 1_000_000, tv_usec: micros % 1_000_000 };
        // SAFETY: the caller's pointers are good for the C function of this name.
        unsafe { time.write(now) };
        0
    }

    pub unsafe extern "C" fn epoll_create(u: Userdata, _: c_int) -> c_int {
        answer(|| readiness::epoll_create(station(u)))
    }

    pub unsafe extern "C" fn epoll_ctl(
        u: Userdata,
        set: c_int,
        operation: c_int,
        fd: c_int,
        event: *mut epoll_event,
    ) -> c_int {
        let none = epoll_event { events: 0, u64: 0 };
        // SAFETY: the caller's pointers are good for the C function of this name.
        let event = if event.is_null() { none } else { unsafe { event.read_unaligned() } };
        answer(|| readiness::epoll_ctl(station(u), set, operation, fd, event))
    }

    pub unsafe extern "C" fn epoll_wait(
        u: Userdata,
        set: c_int,
        events: *mut epoll_event,
        most: c_int,
        timeout: c_int,
    ) -> c_int {
        answer(|| {
            let most = usize::try_from(most).map_err(|_| Errno::EINVAL)?;
            let ready = readiness::epoll_wait(station(u), set, most, timeout)?;
            // SAFETY: the caller's pointers are good for the C function of this name.
            unsafe { core::ptr::copy_nonoverlapping(ready.as_ptr(), events, ready.len()) };
            Ok(ready.len() as c_int)
        })
    }

    pub unsafe extern "C" fn pipe(_: Userdata, ends: *mut c_int) -> c_int {
        // SAFETY: the caller's array of two.
        unsafe { libc::pipe(ends) }
    }

    pub unsafe extern "C" fn splice(
        u: Userdata,
        from: c_int,
        _: *mut off64_t,
        to: c_int,
        _: *mut off64_t,
        len: size_t,
        _: c_uint,
    ) -> ssize_t {
        answer(|| size(data::splice(station(u), from, to, len)))
    }
}
