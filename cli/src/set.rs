//! `onwire set`: changes something of an engine that runs. Like ip(8) it says nothing when it is done.

use crate::arguments::SetArguments;
use crate::failure::Failure;
use control::Change;
use std::process::ExitCode;

/// Runs the subcommand.
pub fn set(arguments: &SetArguments) -> Result<ExitCode, Failure> {
    let change = Change::parse(&arguments.name, &arguments.value)?;
    let mut engine = arguments.selection.engine()?;
    engine.client.change(change)?;
    Ok(ExitCode::SUCCESS)
}
