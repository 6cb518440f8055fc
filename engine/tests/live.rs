//! The engine on a real TAP with the kernel as its peer.
//!
//! Every scenario runs in a process of its own, in a network namespace of its own and with a run
//! directory of its own; afterwards nothing of it may be left: no keeper, no TAP, no file. Needs
//! the right to make namespaces and TAPs; without it the scenarios are reported as not run.

mod scenarios;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// As in the library: the region's memory comes through this.
#[global_allocator]
static ALLOCATOR: engine::alloc::Allocator = engine::alloc::Allocator;

/// How long one scenario may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    if let Ok(name) = std::env::var("ONWIRE_SCENARIO") {
        return scenarios::run(&name);
    }
    let filter = arguments.next().unwrap_or_default();
    if !namespaces_work() {
        println!("live: not run: this needs the right to make network namespaces and TAPs");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for name in scenarios::NAMES.iter().filter(|name| name.contains(&filter)) {
        let begun = Instant::now();
        let outcome = run_scenario(name);
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("live {name} ... {verdict} ({:.2} s)", begun.elapsed().as_secs_f64());
        if let Err(reason) = outcome {
            println!("    {reason}");
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn namespaces_work() -> bool {
    let tun = Path::new("/dev/net/tun").exists();
    tun && Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|s| s.success())
}

fn run_scenario(name: &str) -> Result<(), String> {
    let run_dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new("unshare")
        .arg("-n")
        .arg(own)
        .env("ONWIRE_SCENARIO", name)
        .env("ONWIRE_TEST_RUN_DIR", run_dir.path())
        .spawn()
        .map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err("it did not end".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        return Err(format!("{status}"));
    }
    nothing_is_left(run_dir.path())
}

/// The keeper goes soon after the program (TIME-WAIT is short in the scenarios); leases stay as
/// empty files that nobody has locked, sockets do not.
fn nothing_is_left(run_dir: &Path) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<String> = std::fs::read_dir(run_dir)
            .map_err(|error| error.to_string())?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".sock"))
            .collect();
        let dir = control::RunDir::at(run_dir);
        let held =
            dir.leases().iter().any(|path| !matches!(control::Lease::holder(path), Ok(None)));
        if left.is_empty() && !held {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("left behind: {left:?}, lease held: {held}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
