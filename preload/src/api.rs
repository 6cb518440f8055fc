//! The C interface of the library, for programs that want to know (`include/onwire.h`, which
//! cbindgen makes from this file).
//!
//! A program links nothing: it looks the functions up (`dlsym(RTLD_DEFAULT, "onwire_version")`) or
//! declares them weak, and finds them when it runs under onwire.

use crate::descriptors;
use crate::guard;
use core::ffi::{c_char, c_int};
use engine::{Kind, Path};
use std::io::Write;

/// The socket is neither bound, connected nor listening: either network could still take it.
pub const ONWIRE_PATH_UNDECIDED: c_int = 0;
/// The socket's traffic is carried by onwire.
pub const ONWIRE_PATH_STACK: c_int = 1;
/// The socket's traffic is carried by the kernel.
pub const ONWIRE_PATH_KERNEL: c_int = 2;
/// The socket lives in both networks: a listener or datagram socket on a wildcard address.
pub const ONWIRE_PATH_BOTH: c_int = 3;

/// One counter of the stack.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OnwireStat {
    /// Layer and name, such as "tcp.segments_in"; ends in a NUL.
    pub name: [c_char; 56],
    /// Its value, which wraps after 2^64.
    pub value: u64,
}

/// What onwire knows of a socket. Texts end in a NUL and are empty where there is nothing to say.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OnwireSocketInfo {
    /// One of the `ONWIRE_PATH_` values.
    pub path: c_int,
    /// `SOCK_STREAM` or `SOCK_DGRAM`.
    pub kind: c_int,
    /// Why it took its path.
    pub reason: [c_char; 48],
    /// TCP's state as ss(8) names it.
    pub state: [c_char; 16],
    /// The local address and port.
    pub local: [c_char; 64],
    /// The peer's address and port.
    pub remote: [c_char; 64],
}

/// The version of the library: a static string such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn onwire_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Whether onwire carries the traffic of a descriptor: 1 if it does (alone or beside the kernel),
/// 0 if not.
#[unsafe(no_mangle)]
pub extern "C" fn onwire_is_stack_fd(fd: c_int) -> c_int {
    guard::hook(|| {
        let open = descriptors::socket(fd);
        c_int::from(open.is_some_and(|open| matches!(open.file.path(), Path::Stack | Path::Both)))
    })
}

/// Copies up to `count` counters of the stack into `into` and returns how many there are, which may
/// be more; 0 if the stack has not been started. `into` may be null if `count` is 0.
///
/// # Safety
/// `into` has room for `count` counters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onwire_stats(into: *mut OnwireStat, count: usize) -> usize {
    let found: isize = guard::hook(|| {
        let counters = engine::get().and_then(|engine| engine.counters().ok());
        let Some(counters) = counters else { return 0 };
        let mut at = 0;
        counters.for_each(|layer, name, value| {
            if at < count && !into.is_null() {
                let mut stat = OnwireStat { name: [0; 56], value };
                put(&mut stat.name, format_args!("{layer}.{name}"));
                // SAFETY: `at` is within the room that the caller promised.
                unsafe { into.add(at).write(stat) };
            }
            at += 1;
        });
        at as isize
    });
    usize::try_from(found).unwrap_or(0)
}

/// Says what onwire knows of a descriptor. Returns 0, or -1 if it is no socket that onwire has
/// seen.
///
/// # Safety
/// `into` is null or has room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onwire_socket_info(fd: c_int, into: *mut OnwireSocketInfo) -> c_int {
    guard::hook(|| {
        let Some(open) = descriptors::any_socket(fd) else { return -1 };
        if into.is_null() {
            return -1;
        }
        let mut info = OnwireSocketInfo {
            path: match open.file.path() {
                Path::Undecided => ONWIRE_PATH_UNDECIDED,
                Path::Stack => ONWIRE_PATH_STACK,
                Path::Kernel => ONWIRE_PATH_KERNEL,
                Path::Both => ONWIRE_PATH_BOTH,
            },
            kind: match open.file.kind() {
                Kind::Tcp => libc::SOCK_STREAM,
                Kind::Udp => libc::SOCK_DGRAM,
            },
            reason: [0; 48],
            state: [0; 16],
            local: [0; 64],
            remote: [0; 64],
        };
        put(&mut info.reason, format_args!("{}", open.file.reason().text()));
        let seen = open.engine.with(open.id, |shard, socket, _| {
            let ends = (shard.local_address(socket), shard.remote_address(socket));
            Ok((shard.state(socket), ends.0.ok(), ends.1.ok()))
        });
        let (state, local, remote) = seen.unwrap_or((None, None, None));
        if let Some(state) = state {
            put(&mut info.state, format_args!("{}", state.ss_name()));
        }
        if let Some(local) = local {
            put(&mut info.local, format_args!("{local}"));
        }
        if let Some(remote) = remote {
            put(&mut info.remote, format_args!("{remote}"));
        }
        // SAFETY: not null, and the caller promised room.
        unsafe { into.write(info) };
        0
    })
}

/// Writes a text, cut to the room less one, into a field of zeroes.
fn put(field: &mut [c_char], text: core::fmt::Arguments<'_>) {
    let room = field.len() - 1;
    // SAFETY: a c_char is an octet.
    let octets = unsafe { core::slice::from_raw_parts_mut(field.as_mut_ptr().cast::<u8>(), room) };
    // What does not fit is cut.
    let _ = (&mut &mut *octets).write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ffi::CStr;

    /// `ONWIRE_BLESS=1 cargo test -p onwire-preload the_header` writes it anew.
    #[test]
    fn the_header_is_what_cbindgen_makes_of_this_file() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
        let source = root.join("src/api.rs");
        let made = cbindgen::Builder::new().with_config(config).with_src(source).generate();
        let mut text = Vec::new();
        made.unwrap().write(&mut text);
        let header = root.join("../include/onwire.h");
        if std::env::var_os("ONWIRE_BLESS").is_some() {
            std::fs::write(&header, &text).unwrap();
        }
        let kept = std::fs::read(&header).unwrap();
        assert!(text == kept, "include/onwire.h is stale: see this test's comment");
    }

    #[test]
    fn texts_are_cut_and_end_in_a_nul() {
        let mut field = [0 as c_char; 4];
        put(&mut field, format_args!("{}", "abcdef"));
        assert_eq!(field.map(|c| c as u8), *b"abc\0");
    }

    #[test]
    fn the_version_is_a_c_string() {
        // SAFETY: a static C string.
        let version = unsafe { CStr::from_ptr(onwire_version()) };
        assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn what_is_not_ours_is_said_to_be_the_kernels() {
        assert_eq!(onwire_is_stack_fd(0), 0);
        assert_eq!(onwire_is_stack_fd(-1), 0);
        // SAFETY: null is allowed.
        unsafe {
            assert_eq!(onwire_socket_info(0, core::ptr::null_mut()), -1);
            assert_eq!(onwire_stats(core::ptr::null_mut(), 0), 0);
        }
    }
}
