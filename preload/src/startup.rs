//! The library's beginning and end, and the engine's lazy start.
//!
//! Owns the ELF constructor and destructor. The constructor finds libc's functions and registers
//! the atfork handlers, nothing more: a program without inet sockets pays for no engine.

use crate::{guard, hook, process, signals};
use control::Settings;
use engine::Engine;
use std::ffi::CStr;
use std::sync::OnceLock;

/// What the linker puts among the functions that run before main.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = construct;

/// What the linker puts among the functions that run after exit's handlers.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destruct;

#[cfg_attr(test, allow(dead_code))]
extern "C" fn construct() {
    hook::find_all();
    process::init();
    signals::init();
}

#[cfg_attr(test, allow(dead_code))]
extern "C" fn destruct() {
    guard::hook(process::leaving);
}

unsafe extern "C" {
    /// The program's name as it was called, without its folder (glibc).
    static program_invocation_short_name: *const libc::c_char;
}

/// The program's name, for rules. It is copied before the program can overwrite its arguments.
pub fn program() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        // SAFETY: glibc sets the pointer to a C string before constructors run.
        let name = unsafe { program_invocation_short_name };
        if name.is_null() {
            return String::new();
        }
        // SAFETY: as above.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    })
}

/// The engine, started if it is not yet. If it cannot be, one line says why and the process ends:
/// a program that was to be accelerated must not silently use the kernel.
pub fn engine() -> &'static Engine {
    engine::get().unwrap_or_else(start)
}

#[cold]
fn start() -> &'static Engine {
    program();
    let settings = Settings::from_env().unwrap_or_else(|error| give_up(&error.to_string()));
    let engine = engine::start(&settings).unwrap_or_else(|error| give_up(&error.to_string()));
    signals::catch_faults();
    engine
}

fn give_up(why: &str) -> ! {
    guard::say(why);
    // SAFETY: ends the process; nothing of ours has begun, so nobody needs to be told.
    unsafe { libc::_exit(2) }
}
