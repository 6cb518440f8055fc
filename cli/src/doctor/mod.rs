//! `onwire doctor`: what this machine has, what it lacks, what to do.

mod checks;

use crate::arguments::DoctorArguments;
use crate::failure::Failure;
use crate::output::{Colour, paint, print};
use std::process::ExitCode;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Good,
    /// Something works less well, or some device cannot be used; the default works.
    Note,
    /// The default device cannot work.
    Blocked,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was checked, and what was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Good, text: text.into(), remedy: None }
    }

    fn note(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Note, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn blocked(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Blocked, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn render(&self) -> String {
        let mark = match self.verdict {
            Verdict::Good => paint("✔", Colour::Green),
            Verdict::Note => paint("–", Colour::Yellow),
            Verdict::Blocked => paint("✘", Colour::Red),
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!(" → {remedy}"));
        format!("{mark} {}{}\n", self.text, remedy.unwrap_or_default())
    }
}

/// Runs the subcommand: status 1 when the default device cannot work here.
pub fn doctor(arguments: &DoctorArguments) -> Result<ExitCode, Failure> {
    let findings = checks::all(arguments);
    print(&findings.iter().map(Finding::render).collect::<String>())?;
    let blocked = findings.iter().filter(|one| one.verdict == Verdict::Blocked).count();
    if blocked == 0 {
        print("\nThe default device works here: onwire run -- PROGRAM\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("\n{blocked} of these must be put right first (✘)\n"))?;
    Ok(ExitCode::FAILURE)
}
