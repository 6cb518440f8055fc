//! Bindings of the installed DPDK (22.11 or newer), generated when this crate is built, with the
//! drivers linked statically.
//!
//! Who depends on this crate links all of DPDK's code as one object. Nothing of it runs before
//! [`onwire_dpdk_run_constructors`] is called, its references to libc go through `glue/libc.c`,
//! and libraries that only one driver needs (libpcap, libibverbs, libmlx5, libnuma) are loaded
//! when that driver is asked for. Only the `dpdk` crate calls this one.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// The drivers that were found when this crate was built, by their library's name without
/// `librte_` (`net_tap`, `bus_pci`, ...).
pub const DRIVERS: &[&str] = &include!(concat!(env!("OUT_DIR"), "/drivers.rs"));
