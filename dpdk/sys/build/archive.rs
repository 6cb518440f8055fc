//! Makes `libonwire_dpdk.a`: one object with the drivers, DPDK's libraries and the glue.

use crate::fail;
use crate::lazy;
use crate::probe::Dpdk;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Symbol names.
pub type Symbols = BTreeSet<String>;

/// The drivers that a user meets; those that the installed DPDK lacks are left out.
const DRIVERS: &[&str] = &[
    "bus_pci",
    "bus_vdev",
    "bus_vmbus",
    "bus_auxiliary",
    "mempool_ring",
    "mempool_stack",
    "common_iavf",
    "common_mlx5",
    "net_af_packet",
    "net_af_xdp",
    "net_bond",
    "net_e1000",
    "net_ena",
    "net_failsafe",
    "net_gve",
    "net_i40e",
    "net_iavf",
    "net_ice",
    "net_igc",
    "net_ixgbe",
    "net_memif",
    "net_mlx5",
    "net_netvsc",
    "net_null",
    "net_pcap",
    "net_ring",
    "net_tap",
    "net_vdev_netvsc",
    "net_vhost",
    "net_virtio",
    "net_vmxnet3",
];

/// Drivers bound to lazily loaded libraries, and the development files they need now.
const LAZY_NEEDS: &[(&str, &[&str])] = &[
    ("net_af_xdp", &["xdp", "bpf"]),
    ("net_pcap", &["pcap"]),
    ("common_mlx5", &["ibverbs", "mlx5"]),
    ("net_mlx5", &["ibverbs", "mlx5"]),
];

/// Libraries of DPDK whose every object is wanted: they register things in constructors.
const CORE: &[&str] =
    &["eal", "kvargs", "telemetry", "ring", "mempool", "mbuf", "net", "meter", "ethdev", "pci"];

/// Prefixes of libraries that are drivers, hence never pulled in to satisfy a reference.
const DRIVER_PREFIXES: &[&str] = &[
    "net_",
    "bus_",
    "common_",
    "mempool_",
    "raw_",
    "crypto_",
    "dma_",
    "event_",
    "baseband_",
    "compress_",
    "regex_",
    "vdpa_",
    "ml_",
    "gpu_",
];

/// Builds the archive and tells cargo to link it.
pub fn build(dpdk: &Dpdk, wrappers: &Path, out: &Path) {
    let drivers = available_drivers(&dpdk.libdir);
    let list = drivers.iter().map(|d| format!("{d:?}")).collect::<Vec<_>>().join(", ");
    write(&out.join("drivers.rs"), &format!("[{list}]"));

    let merged = out.join("dpdk-merged.o");
    merge(dpdk, &drivers, &merged);
    let undefined = undefined_symbols(&merged);
    let lazy = lazy::find(&undefined, &dpdk.libdir);
    let replaced = replaced_libc(&undefined);
    let renamed = out.join("dpdk-renamed.o");
    rename(&merged, &lazy, &replaced, &renamed, out);

    let lazy_source = out.join("lazy.c");
    write(&lazy_source, &lazy::source(&lazy));
    let mut objects = vec![renamed];
    objects.extend(compile(dpdk, wrappers, &lazy_source));
    let whole = out.join("dpdk-whole.o");
    join(&objects, &whole, out);
    let object = out.join("onwire_dpdk.o");
    hide(&whole, &object);

    let archive = out.join("libonwire_dpdk.a");
    let _ = fs::remove_file(&archive);
    tool("ar", &["rcs".as_ref(), archive.as_os_str(), object.as_os_str()]);
    for leftover in [&merged, &objects[0], &whole, &object] {
        let _ = fs::remove_file(leftover);
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=onwire_dpdk");
}

fn available_drivers(libdir: &Path) -> Vec<&'static str> {
    let has = |name: &str, suffix: &str| libdir.join(format!("lib{name}.{suffix}")).exists();
    let wanted = |driver: &&str| -> bool {
        let needs = LAZY_NEEDS.iter().find(|(name, _)| name == driver).map_or(&[][..], |n| n.1);
        has(&format!("rte_{driver}"), "a") && needs.iter().all(|name| has(name, "so"))
    };
    let (found, missing): (Vec<&str>, Vec<&str>) = DRIVERS.iter().copied().partition(wanted);
    if !missing.is_empty() {
        println!("cargo:warning=drivers left out (not installed): {}", missing.join(" "));
    }
    found
}

/// All drivers and libraries in one relocatable object.
fn merge(dpdk: &Dpdk, drivers: &[&str], into: &Path) {
    let archive = |name: &str| dpdk.libdir.join(format!("lib{name}.a"));
    let mut linker = Command::new("ld");
    linker.args(["-r", "-o"]).arg(into).arg("--whole-archive");
    linker.args(drivers.iter().chain(CORE).map(|name| archive(&format!("rte_{name}"))));
    linker.args(["--no-whole-archive", "--start-group"]);
    linker.args(libraries(&dpdk.libdir));
    run(linker.arg("--end-group"));
}

fn libraries(libdir: &Path) -> Vec<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
        name.strip_prefix("librte_")
            .and_then(|name| name.strip_suffix(".a"))
            .is_some_and(|name| !DRIVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
    };
    let entries = fs::read_dir(libdir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_library).collect();
    paths.sort();
    paths
}

fn undefined_symbols(object: &Path) -> Symbols {
    tool("nm", &["-u".as_ref(), object.as_os_str()])
        .lines()
        .filter_map(|line| line.split_whitespace().next_back())
        .map(str::to_owned)
        .collect()
}

/// The functions that glue/libc.c and glue/control.c stand in for, as far as DPDK refers to them.
fn replaced_libc(undefined: &Symbols) -> Vec<String> {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let source = text("glue/libc.c") + &text("glue/control.c");
    let mut names: Vec<String> = source
        .split("onwire_dpdk_libc_")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .filter(|name| undefined.contains(*name))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn rename(from: &Path, lazy: &[lazy::Function], replaced: &[String], into: &Path, out: &Path) {
    let mut renames = String::new();
    for function in lazy {
        let _ = writeln!(renames, "{0} {1}{0}", function.name, lazy::PREFIX);
    }
    for name in replaced {
        let _ = writeln!(renames, "{name} onwire_dpdk_libc_{name}");
    }
    let list = out.join("renames");
    write(&list, &renames);
    let mut objcopy = Command::new("objcopy");
    objcopy.arg(format!("--redefine-syms={}", list.display()));
    // Destructors: there are two, of libraries that a program's end makes superfluous.
    objcopy.args(["--remove-section=.fini_array", "--remove-section=.rela.fini_array"]);
    run(objcopy.arg(from).arg(into));
}

fn compile(dpdk: &Dpdk, wrappers: &Path, lazy: &Path) -> Vec<PathBuf> {
    let mut build = cc::Build::new();
    build.files(["glue/glue.c", "glue/libc.c", "glue/control.c"]).file(lazy).file(wrappers);
    build.include("glue").include(".").opt_level(3).pic(true).debug(false).warnings(false);
    for flag in &dpdk.cflags {
        build.flag(flag);
    }
    build.compile_intermediates()
}

/// One object of all, with the constructors as a plain table between two symbols.
fn join(objects: &[PathBuf], into: &Path, out: &Path) {
    let script = out.join("constructors.ld");
    write(
        &script,
        "SECTIONS\n{\n  .data.rel.ro.onwire_dpdk_init 0 :\n  {\n    \
         onwire_dpdk_init_begin = .;\n    \
         *(SORT_BY_INIT_PRIORITY(.init_array.*))\n    *(.init_array)\n    \
         onwire_dpdk_init_end = .;\n  }\n}\n",
    );
    let mut linker = Command::new("ld");
    linker.args(["-r", "-o"]).arg(into).arg("-T").arg(&script).args(objects);
    run(&mut linker);
}

/// Keeps the names that the bindings refer to; the rest can collide with nothing.
fn hide(from: &Path, into: &Path) {
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--wildcard", "--keep-global-symbol=rte_*"]);
    objcopy.args(["--keep-global-symbol=onwire_*", "--keep-global-symbol=*__onwire_inline"]);
    run(objcopy.args(["--strip-debug"]).arg(from).arg(into));
}

/// Runs a program of binutils and returns what it prints.
pub fn tool(program: &str, arguments: &[&OsStr]) -> String {
    run(Command::new(program).args(arguments))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        fail(&format!("cannot run {:?} (install binutils): {error}", command.get_program()))
    });
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = stderr.lines().rev().take(20).collect();
        fail(&format!("{command:?} failed:\n{}", tail.join("\n")));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text)
        .unwrap_or_else(|error| fail(&format!("cannot write {}: {error}", path.display())));
}
