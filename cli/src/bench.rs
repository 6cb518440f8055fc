//! `onwire bench`: hands over to onwire-bench, which links DPDK; this command does not.

use crate::arguments::BenchArguments;
use crate::failure::{Failure, STATUS_NOT_FOUND};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Runs the subcommand; returns only if it cannot.
pub fn bench(arguments: &BenchArguments) -> Result<ExitCode, Failure> {
    let beside = std::env::current_exe()?.with_file_name("onwire-bench");
    let program = if beside.is_file() { beside } else { PathBuf::from("onwire-bench") };
    let error = Command::new(program).args(&arguments.arguments).exec();
    Err(Failure::new(
        STATUS_NOT_FOUND,
        format!("onwire-bench cannot be started ({error}); install it beside this command"),
    ))
}
