//! Bad input: exit status 2, one line on standard error that names the setting, nothing on
//! standard output, nothing left behind, and the program is not started.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use support::{onwire, output, program, stderr, stdout};

/// Checks what every refusal has in common.
fn assert_refused(dir: &Path, output: &Output, parts: &[&str]) {
    let line = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("onwire: "), "{line}");
    assert_eq!(stdout(output), "");
    for part in parts {
        assert!(line.contains(part), "{line:?} lacks {part:?}");
    }
    assert!(!dir.join("run").exists(), "something was left behind");
    assert!(!dir.join("started").exists(), "the program was started");
}

fn refused(arguments: &[&str], parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let line: Vec<&str> =
        ["run"].iter().chain(arguments).chain(&["--", "touch", "started"]).copied().collect();
    assert_refused(dir.path(), &output(dir.path(), &line), parts);
}

#[test]
fn devices_that_are_none() {
    refused(&["--device", "floppy:0"], &["device", "floppy:0", "use one of tap"]);
    refused(&["--device", "af_packet:"], &["device", "af_packet:IFACE"]);
    refused(
        &["--device", "af_packet:nosuch0", "--address", "10.0.0.2/24"],
        &["device", "nosuch0", "does not exist", "use one of"],
    );
    refused(
        &["--device", "vhost:/no/such/dir/v.sock", "--address", "10.0.0.2/24"],
        &["device", "mkdir -p /no/such/dir"],
    );
    refused(
        &["--device", "virtio-user:/tmp/no-such.sock", "--address", "10.0.0.2/24"],
        &["device", "start the other side first"],
    );
    refused(
        &["--device", "pci:ffff:ff:1f.7", "--address", "10.0.0.2/24"],
        &["device", "does not exist"],
    );
}

#[test]
fn values_that_are_malformed_or_out_of_range() {
    refused(&["--mtu", "99999"], &["mtu", "99999", "576 to 65535", "--mtu"]);
    refused(&["--mtu", "many"], &["mtu", "many", "not a number"]);
    refused(&["--address", "10.0.0.2"], &["address", "10.0.0.2", "10.0.0.2/24"]);
    refused(&["--address", "10.0.0.300/24"], &["address", "10.0.0.300/24"]);
    refused(&["--gateway", "home"], &["gateway", "home", "10.0.0.1"]);
    refused(&["--profile", "fast"], &["profile", "fast", "balanced"]);
    refused(&["--loopback", "none"], &["loopback", "none", "kernel, stack"]);
    refused(&["--rule", "use nothing"], &["rule", "use nothing", "write use kernel|onwire"]);
    refused(&["--rule", "use kernel port=70000"], &["rule", "70000"]);
    refused(&["--set", "tcp.sack=maybe"], &["tcp.sack", "maybe", "on or off"]);
    refused(&["--set", "tcp.sock=on"], &["tcp.sock", "tcp.sack"]);
    refused(&["--set", "tcp.sack"], &["set", "NAME=VALUE"]);
    refused(&["--config", "/no/such.toml"], &["config", "/no/such.toml", "cannot be read"]);
    refused(&["--library", "/no/such.so"], &["library", "/no/such.so", "--library"]);
    refused(&["--device", "vhost:/tmp/v"], &["address", "not set", "--address"]);
}

#[test]
fn the_environment_and_the_file_are_judged_alike() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, value: &str| {
        onwire(dir.path()).args(["run", "touch", "started"]).env(name, value).output().unwrap()
    };
    assert_refused(dir.path(), &run("ONWIRE_MTU", "1"), &["mtu", "ONWIRE_MTU", "576"]);
    assert_refused(dir.path(), &run("ONWIRE_MUT", "1"), &["ONWIRE_MUT", "ONWIRE_MTU"]);
    let file = dir.path().join("onwire.toml");
    fs::write(&file, "[tcp]\nrmem = [1, 2, 3]\n").unwrap();
    let file = file.to_str().unwrap();
    assert_refused(dir.path(), &run("ONWIRE_CONFIG", file), &["tcp.rmem", "1 2 3", file]);
}

#[test]
fn usage() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, parts) in [
        (&["run"][..], &["PROGRAM"][..]),
        (&["run", "--colour", "red", "true"], &["--colour"]),
        (&[], &["onwire --help"]),
        (&["sss"], &["sss"]),
        (&["tcpdump", "-c", "0"], &["-c", "0"]),
    ] {
        assert_refused(dir.path(), &output(dir.path(), arguments), parts);
    }
}

#[test]
fn programs_that_cannot_be_hooked() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |path: &Path, parts: &[&str]| {
        let output = output(dir.path(), &["run", "--", path.to_str().unwrap()]);
        assert_refused(dir.path(), &output, parts);
    };
    let setuid = program(dir.path(), "setuid", b"#!/bin/sh\ntouch started\n");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    refuse(&setuid, &["setuid", "LD_PRELOAD"]);
    let own = fs::read(env!("CARGO_BIN_EXE_onwire")).unwrap();
    let fixed = |change: fn(u32) -> u32| {
        let mut elf = own.clone();
        let headers = usize::from(u16::from_le_bytes([elf[56], elf[57]]));
        for header in (0..headers).map(|index| 64 + 56 * index) {
            let kind = u32::from_le_bytes(elf[header..header + 4].try_into().unwrap());
            elf[header..header + 4].copy_from_slice(&change(kind).to_le_bytes());
        }
        elf
    };
    // The same program without its PT_INTERP header is a static one.
    let fixed_elf = fixed(|kind| if kind == 3 { 0 } else { kind });
    refuse(&program(dir.path(), "static", &fixed_elf), &["statically linked"]);
    let script =
        program(dir.path(), "script", format!("#!{}/static\n", dir.path().display()).as_bytes());
    refuse(&script, &["interpreter", "statically linked"]);
    // Go's linker names a section .note.go.buildid; renaming any section has the effect.
    let mut go = own.clone();
    let name = b".note.gnu.build-id\0";
    let at = go.windows(name.len()).position(|window| window == name).unwrap();
    go[at..at + 18].copy_from_slice(b".note.go.buildid\0\0");
    refuse(&program(dir.path(), "go", &go), &["Go program"]);
}

#[test]
fn programs_that_are_not_there_are_told_apart_as_env_does() {
    let dir = tempfile::tempdir().unwrap();
    let status = |name: &str| output(dir.path(), &["run", "--", name]).status.code();
    assert_eq!(status("no-such-program"), Some(127));
    assert_eq!(status("/etc"), Some(126));
    assert_eq!(status("/etc/passwd"), Some(126));
}

#[test]
fn addresses_and_sockets_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let device = format!("vhost:{}", path.display());
    let line = ["run", "--device", &device, "--address", "10.0.0.2/24", "touch", "started"];
    assert_refused(dir.path(), &output(dir.path(), &line), &["device", "in use"]);
}
