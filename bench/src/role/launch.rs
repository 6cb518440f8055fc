//! The step before a measured program: core, namespace and scheduling class are set, then the
//! program takes this process over, so that its identity and its parent stay plain.

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Where the program runs, and the program.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The one core it may use [default: any].
    #[arg(long)]
    core: Option<usize>,
    /// The network namespace it runs in.
    #[arg(long)]
    netns: Option<String>,
    /// Run it with the real-time policy, so that no other program delays it.
    #[arg(long)]
    realtime: bool,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

/// Becomes the program; returns only on failure.
pub fn run(args: &Args) -> Result<()> {
    set_pdeathsig(Signal::SIGTERM).context("cannot ask to end with the harness")?;
    if let Some(name) = &args.netns {
        let path = Path::new("/run/netns").join(name);
        let namespace = File::open(&path).with_context(|| format!("cannot open {path:?}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the namespace {name}"))?;
    }
    if let Some(core) = args.core {
        let mut cores = CpuSet::new();
        cores
            .set(core)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
            .with_context(|| format!("cannot pin to core {core}"))?;
    }
    let mut words = args.command.iter();
    let mut command = if args.realtime {
        // util-linux has the system call that std and nix lack.
        let mut chrt = Command::new("chrt");
        // Round robin: a thread of the program that spins must let its other threads run.
        chrt.args(["-r", "10"]);
        chrt
    } else {
        Command::new(words.next().context("no program")?)
    };
    let error = command.args(words).exec();
    Err(error).with_context(|| format!("cannot become {:?}", args.command))
}
