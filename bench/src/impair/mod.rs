//! `onwire bench impair`: a path with delay, loss, reordering, duplication, corruption, a rate and
//! a queue, between two TAP interfaces that it makes. What befalls each packet follows from the
//! seed, so that any two stacks can be put on the same path.

mod line;
mod tap;

use crate::children::{check_interrupted, end_cleanly_on_signals};
use crate::role::{Ready, say};
use anyhow::{Context, Result};
use line::Line;
pub use line::{Fates, Impairments, duration};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_pdeathsig, set_timerslack};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tap::Tap;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The interface of one end, as NAME or NAMESPACE:NAME
    a: String,
    /// The interface of the other end
    b: String,
    #[command(flatten)]
    impairments: Impairments,
    /// End with the program that started this one
    #[arg(long, hide = true)]
    child: bool,
}

/// What the box says at its end.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Passed {
    /// The way from the first interface to the second.
    pub forth: Fates,
    /// The way back.
    pub back: Fates,
}

/// Makes the two interfaces and carries frames between them until a signal ends it.
pub fn run(args: &Args) -> Result<ExitCode> {
    end_cleanly_on_signals()?;
    args.impairments.check()?;
    if args.child {
        set_pdeathsig(Signal::SIGTERM).context("cannot ask to end with the harness")?;
    }
    // Waits end when they should, not up to 50 µs later.
    set_timerslack(1).context("cannot ask for exact timers")?;
    let mut taps = [make(&args.a)?, make(&args.b)?];
    say(&Ready { ready: format!("{} and {}", args.a, args.b) })?;
    let mut lines = [Line::new(&args.impairments, 0), Line::new(&args.impairments, 1)];
    carry(&mut taps, &mut lines)?;
    let [forth, back] = lines.map(|line| line.fates());
    say(&Passed { forth, back })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an interface where `place` says, and comes back.
fn make(place: &str) -> Result<Tap> {
    let Some((namespace, name)) = place.rsplit_once(':') else { return Tap::create(place) };
    let own = File::open("/proc/thread-self/ns/net").context("cannot open my namespace")?;
    let path = Path::new("/run/netns").join(namespace);
    let other = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    setns(other, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the namespace {namespace}"))?;
    let made = Tap::create(name);
    setns(own, CloneFlags::CLONE_NEWNET).context("cannot come back to my namespace")?;
    made
}

fn carry(taps: &mut [Tap; 2], lines: &mut [Line; 2]) -> Result<()> {
    /// Frames taken from one end before those that are due are looked at again.
    const BURST: usize = 64;
    let began = Instant::now();
    while check_interrupted().is_ok() {
        let mut idle = true;
        for from in 0..2 {
            for _ in 0..BURST {
                let Some(frame) = taps[from].read()? else { break };
                lines[from].enter(began.elapsed(), frame);
                idle = false;
            }
            let now = began.elapsed();
            while let Some(frame) = lines[from].leave(now) {
                taps[1 - from].write(&frame);
                idle = false;
            }
        }
        if idle {
            let next = lines.iter().filter_map(Line::next).min();
            let wait = next.map(|at| at.saturating_sub(began.elapsed()));
            sleep(taps, wait)?;
        }
    }
    Ok(())
}

/// Until a frame comes or `wait` is over. A signal that comes before the wait begins is seen at
/// the end of a second at most.
fn sleep(taps: &[Tap; 2], wait: Option<Duration>) -> Result<()> {
    const LONGEST: Duration = Duration::from_secs(1);
    let wait = TimeSpec::from_duration(wait.unwrap_or(LONGEST).min(LONGEST));
    let mut fds = taps.each_ref().map(|tap| PollFd::new(tap.fd(), PollFlags::POLLIN));
    match ppoll(&mut fds, Some(wait), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e).context("cannot wait for frames"),
    }
}
