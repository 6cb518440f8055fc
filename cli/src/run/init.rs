//! `onwire run` as PID 1 of its namespace: stays as init, because the kernel kills everything,
//! keepers included, when PID 1 is gone.

use super::not_started;
use crate::failure::Failure;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::consts::signal::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// What is passed on to the program.
const FORWARDED: &[i32] =
    &[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGALRM];

/// What the thread name of a keeper is.
const KEEPER: &str = "onwire-keeper";

/// Starts the program, passes signals on, reaps whatever is orphaned, and when the program has
/// ended waits for keepers to finish its connections. The status is the program's.
pub fn supervise(mut command: Command, path: &Path) -> Result<ExitCode, Failure> {
    // Before the program starts: a signal that comes in between must not be lost.
    let mut signals = Signals::new(FORWARDED.iter().copied().chain([SIGCHLD]))?;
    let child = command.spawn().map_err(|error| not_started(path, &error))?;
    let main = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let main = main.ok_or_else(|| Failure::failed("the program has no process id"))?;
    let mut family = Family { main, status: None, asked_to_end: 0 };
    loop {
        let arrived: Vec<i32> = match family.status {
            // Whether a keeper is left is only seen by looking, once orphans stop arriving.
            Some(_) => {
                std::thread::sleep(Duration::from_millis(20));
                signals.pending().collect()
            }
            None => signals.wait().collect(),
        };
        for signal in arrived.into_iter().filter(|signal| *signal != SIGCHLD) {
            family.pass_on(signal);
        }
        family.reap();
        if let Some(status) = family.status.filter(|_| family.is_over()) {
            return Ok(ExitCode::from(status));
        }
    }
}

struct Family {
    main: Pid,
    /// The main program's exit status, once it has ended.
    status: Option<u8>,
    asked_to_end: u32,
}

impl Family {
    fn pass_on(&mut self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else { return };
        if self.status.is_none() {
            // It may have ended a moment ago; then there is nobody to tell.
            let _ = kill_process(self.main, signal);
        } else if [SIGTERM, SIGINT, SIGQUIT].contains(&number) {
            self.asked_to_end += 1;
            // Whoever the program left behind; never ourselves (kill(2)).
            let everybody = nix::unistd::Pid::from_raw(-1);
            let _ = nix::sys::signal::kill(everybody, nix::sys::signal::Signal::SIGTERM);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.main {
                self.status = Some(exit_status(status));
            }
        }
    }

    /// Whether nothing is left that is worth waiting for.
    fn is_over(&self) -> bool {
        self.asked_to_end > 1 || !keeper_lives()
    }
}

/// The status a shell would give.
fn exit_status(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// Whether a keeper lives in this namespace. Where /proc is not this namespace's, every child
/// counts as one.
fn keeper_lives() -> bool {
    let own_proc = fs::read_link("/proc/self").is_ok_and(|link| link == Path::new("1"));
    if !own_proc {
        return has_children();
    }
    let Ok(entries) = fs::read_dir("/proc") else { return has_children() };
    entries.filter_map(Result::ok).any(|entry| {
        let is_process = entry.file_name().to_string_lossy().bytes().all(|c| c.is_ascii_digit());
        is_process
            && fs::read_to_string(entry.path().join("comm"))
                .is_ok_and(|name| name.trim_end() == KEEPER)
    })
}

fn has_children() -> bool {
    // Not reaped here: Family::reap does that.
    let options = rustix::process::WaitIdOptions::EXITED
        | rustix::process::WaitIdOptions::NOHANG
        | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::All, options).is_ok()
}
