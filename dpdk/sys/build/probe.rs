//! Finds the installed DPDK.

use crate::fail;
use std::path::PathBuf;
use std::process::Command;

/// The oldest release that works: `rte_eth_dev_get_supported_ptypes` and friends changed before.
const OLDEST: (u32, u32) = (22, 11);

/// Where DPDK is and how to compile against it.
pub struct Dpdk {
    /// Flags for the compiler: include paths, the forced header, the instruction set.
    pub cflags: Vec<String>,
    /// The folder with the static libraries.
    pub libdir: PathBuf,
}

/// Asks pkg-config; a missing or old DPDK ends the build with the remedy.
pub fn find() -> Dpdk {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let Some(version) = pkg_config(&["--modversion"]) else {
        fail(
            "DPDK was not found: `pkg-config libdpdk` has no answer.\n\
             Install it with\n    \
             apt install libdpdk-dev libclang-dev clang pkg-config gcc binutils\n\
             (any DPDK from 22.11 on; set PKG_CONFIG_PATH if it is installed elsewhere).",
        )
    };
    let mut numbers = version.trim().split('.').map(|n| n.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        fail(&format!("DPDK {} is too old: 22.11 or newer is needed", version.trim()));
    }
    let cflags = pkg_config(&["--cflags"]).unwrap_or_default();
    let libdir = pkg_config(&["--variable=libdir"]).unwrap_or_default();
    let libdir = PathBuf::from(libdir.trim());
    if !libdir.join("librte_eal.a").exists() {
        fail(&format!(
            "DPDK's static libraries are missing: no librte_eal.a in {}.\n\
             Install libdpdk-dev (or build DPDK with default_library=static or both).",
            libdir.display()
        ));
    }
    Dpdk { cflags: cflags.split_whitespace().map(String::from).collect(), libdir }
}

fn pkg_config(arguments: &[&str]) -> Option<String> {
    let output = Command::new("pkg-config").args(arguments).arg("libdpdk").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
