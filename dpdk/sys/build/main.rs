//! Builds the one object that holds DPDK, and the bindings.
//!
//! Steps: find libdpdk by pkg-config; merge the drivers and what they need into one relocatable
//! object; rename its references to libc (see glue/libc.c) and to libraries that are bound lazily;
//! take its constructors out of the init array; add the glue; hide everything else; archive it.

mod archive;
mod bindings;
mod lazy;
mod probe;

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=glue");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        fail(
            "dpdk-sys knows only x86-64 so far: its system call and lazy-binding glue is assembly",
        );
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let dpdk = probe::find();
    let wrappers = bindings::generate(&dpdk, &out);
    archive::build(&dpdk, &wrappers, &out);
}

/// Ends the build with one message that says what to do.
fn fail(message: &str) -> ! {
    eprintln!("\n{message}\n");
    std::process::exit(1);
}
