//! `onwire set`: changes something of an engine that runs. Like ip(8) it says nothing when it is done,
//! unless it was done otherwise than one would think.

use crate::arguments::SetArguments;
use crate::failure::Failure;
use control::Change;
use std::process::ExitCode;

/// Runs the subcommand.
pub fn set(arguments: &SetArguments) -> Result<ExitCode, Failure> {
    let change = Change::parse(&arguments.name, &arguments.value.join(" "))?;
    let mut engine = arguments.selection.engine()?;
    if let Some(note) = engine.client.change(change)? {
        eprintln!("onwire: {}", note.replace(['\n', '\r'], " "));
    }
    Ok(ExitCode::SUCCESS)
}
