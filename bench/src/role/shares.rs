//! Processes that hold a share each of what one process may not hold alone (`RLIMIT_NOFILE`).

#![allow(unsafe_code)] // fork(2), by a process of one thread.

use anyhow::{Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::io::{PipeWriter, Read, Write, pipe};
use std::ops::Range;
use std::process::exit;

/// Descriptors that a process needs besides.
const OTHERS: usize = 1_024;

/// What this process holds, and those that hold the rest.
pub struct Shares<T> {
    own: Vec<T>,
    children: Vec<Pid>,
    /// They end when it is closed.
    stay: PipeWriter,
}

/// Opens `count` things with descriptors, in order.
///
/// # Errors
/// `open`'s, here or in a child.
pub fn hold<T>(count: usize, open: impl Fn(usize) -> Result<T>) -> Result<Shares<T>> {
    let each = descriptors(count + OTHERS)?.saturating_sub(OTHERS);
    ensure!(each > 0 || count == 0, "too few descriptors");
    let (until, stay) = pipe()?;
    let mut shares = Shares { own: Vec::new(), children: Vec::new(), stay };
    let mut first = 0;
    while count - first > each {
        let share = first..first + each;
        first = share.end;
        let (mut told, tell) = pipe()?;
        // SAFETY: the roles have one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                drop(tell);
                shares.children.push(child);
                ensure!(told.read(&mut [0])? == 1, "a process that holds a share has ended");
            }
            ForkResult::Child => {
                drop(shares);
                exit(match hold_share(share, &open, tell, until) {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("{error:#}");
                        1
                    }
                })
            }
        }
    }
    shares.own = (first..count).map(open).collect::<Result<_>>()?;
    Ok(shares)
}

fn hold_share<T>(
    share: Range<usize>,
    open: impl Fn(usize) -> Result<T>,
    mut tell: PipeWriter,
    mut until: impl Read,
) -> Result<()> {
    let held = share.map(open).collect::<Result<Vec<T>>>()?;
    tell.write_all(&[1])?;
    until.read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

impl<T> Shares<T> {
    /// Closes all of it.
    ///
    /// # Errors
    /// A child failed.
    pub fn end(self) -> Result<()> {
        drop((self.own, self.stay));
        for child in self.children {
            let ended = waitpid(child, None)?;
            if ended != nix::sys::wait::WaitStatus::Exited(child, 0) {
                bail!("a process that holds a share: {ended:?}");
            }
        }
        Ok(())
    }
}

/// How many of `wanted` descriptors this process may have.
fn descriptors(wanted: usize) -> Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = wanted as u64;
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0.min(wanted) as usize)
}
