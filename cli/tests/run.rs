//! `onwire run` becomes the program, with the library and the settings in its environment.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use support::{onwire, output, stdout};

#[test]
fn the_program_gets_the_library_the_settings_and_its_own_arguments() {
    if !can_use_tap() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "echo \"$LD_PRELOAD\"; echo \"$ONWIRE_SETTINGS\"; echo \"$0 $*\"; exit 7";
    let line = ["run", "--mtu", "1400", "-q", "--", "sh", "-c", script, "name", "-v", "--mtu"];
    let output = onwire(dir.path()).args(line).env("LD_PRELOAD", "").output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    let library = dir.path().join("libonwire.so").canonicalize().unwrap();
    assert_eq!(lines[0], library.to_str().unwrap());
    let settings = control::Settings::from_json(lines[1]).unwrap();
    assert_eq!(settings.mtu, Some(1400));
    assert_eq!(settings.banner, control::settings::Banner::Off);
    assert_eq!(lines[2], "name -v --mtu");
}

#[test]
fn the_program_keeps_the_process_id() {
    if !can_use_tap() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let child = onwire(dir.path())
        .args(["run", "sh", "-c", "echo $$"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output).trim(), pid);
}

#[test]
fn as_pid_1_it_forwards_signals_reaps_and_exits_as_the_program_does() {
    if !can_use_tap() || !can_unshare() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A signal: the program's handler runs and chooses the status. An orphan is left as well.
    let script = "trap 'exit 5' TERM; (sleep 0.1 &) ; echo ready; while :; do sleep 0.05; done";
    let mut command = in_pid_namespace(onwire(dir.path()).args(["run", "--", "sh", "-c", script]));
    command.stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    // PID 1 of the namespace is the one child of unshare.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let init = std::fs::read_to_string(children).unwrap();
    assert!(Command::new("kill").args(["-TERM", init.trim()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn as_pid_1_it_lets_a_keeper_finish_and_nobody_else() {
    if !can_use_tap() || !can_unshare() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A process of the keeper's name, and one that would sleep for ever.
    let script = "cp $(command -v sleep) onwire-keeper; (setsid ./onwire-keeper 0.3 &); \
        (setsid sleep 60 </dev/null >/dev/null 2>&1 &); \
        until grep -q onwire-keeper /proc/[0-9]*/comm; do sleep 0.01; done; exit 3";
    let started = std::time::Instant::now();
    let mut command = in_pid_namespace(onwire(dir.path()).args(["run", "--", "sh", "-c", script]));
    assert_eq!(command.status().unwrap().code(), Some(3));
    let took = started.elapsed().as_millis();
    assert!((290..10_000).contains(&took), "{took} ms");
}

#[test]
fn help_teaches_with_examples() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["ss", "--help"],
        &["tcpdump", "--help"],
        &["stats", "--help"],
    ] {
        let output = output(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("Examples:\n  onwire "), "{arguments:?}");
    }
    let version = output(dir.path(), &["--version"]);
    assert_eq!(stdout(&version).trim(), format!("onwire {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_settings_are_listed_with_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let text = stdout(&output(dir.path(), &["settings", "--mtu", "1400"]));
    assert!(text.lines().any(|line| line.starts_with("mtu") && line.contains("1400 (set)")));
    let text = stdout(&output(dir.path(), &["settings", "--mtu", "1400", "--toml"]));
    assert!(text.contains("\nmtu = \"1400\"\n") && text.contains("\n[tcp]\n"));
}

/// The default device's check must pass for the program to be started.
fn can_use_tap() -> bool {
    let usable = std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    usable && rustix::process::geteuid().is_root()
}

fn can_unshare() -> bool {
    let line = ["--pid", "--fork", "--mount-proc", "true"];
    Command::new("unshare").args(line).status().is_ok_and(|status| status.success())
}

/// The same command as PID 1 of a namespace of its own.
fn in_pid_namespace(inner: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = inner.get_current_dir() {
        command.current_dir(dir);
    }
    command
}
