//! How a subcommand ends when it cannot do what was asked: a status and one line.

use control::{ClientError, SettingError};
use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// Something failed, or something asked about is not so.
pub const STATUS_FAILED: u8 = 1;
/// The command line or a setting is wrong, or the program cannot be hooked; nothing was started.
pub const STATUS_USAGE: u8 = 2;
/// The program was found and cannot be started, as in env(1).
pub const STATUS_NOT_STARTED: u8 = 126;
/// The program was not found, as in env(1).
pub const STATUS_NOT_FOUND: u8 = 127;

/// The end of a subcommand that could not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// One line.
    pub message: String,
}

impl Failure {
    /// A failure with a status.
    pub fn new(status: u8, message: impl Display) -> Self {
        Failure { status, message: message.to_string() }
    }

    /// Something went wrong while doing it.
    pub fn failed(message: impl Display) -> Self {
        Self::new(STATUS_FAILED, message)
    }

    /// What was asked cannot be meant.
    pub fn usage(message: impl Display) -> Self {
        Self::new(STATUS_USAGE, message)
    }

    /// Writes the line and gives the status.
    pub fn report(&self) -> ExitCode {
        eprintln!("onwire: {}", self.message.replace(['\n', '\r'], " "));
        ExitCode::from(self.status)
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        Failure::usage(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::failed(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::failed(error)
    }
}
