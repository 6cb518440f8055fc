//! How libonwire.so is linked.
//!
//! rustc writes a version script of its own for a cdylib: it exports the `#[no_mangle]` functions
//! (the hooks and `onwire_*`) and makes everything else local. What is left to say is that the
//! symbols of the static archives (DPDK's drivers, libstd's C parts) stay hidden too, and that the
//! library cannot be unloaded: atfork handlers and signal handlers point into it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for argument in ["-Wl,--exclude-libs,ALL", "-Wl,-z,nodelete", "-Wl,-z,now"] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libonwire.so");
}
