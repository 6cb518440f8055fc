//! `onwire tcpdump`: frames of an engine, to a file, a pipe, or tcpdump(1).

use crate::arguments::TcpdumpArguments;
use crate::failure::Failure;
use crate::frame;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Runs the subcommand: until the count is reached, the engine is gone or the reader has left.
pub fn tcpdump(arguments: &TcpdumpArguments) -> Result<ExitCode, Failure> {
    let reader = find_tcpdump();
    if !arguments.tcpdump.is_empty() {
        if arguments.write.is_some() {
            return Err(Failure::usage(
                "tcpdump: options after -- do not go with -w; pipe -w - into tcpdump -r -",
            ));
        }
        if reader.is_none() {
            return Err(Failure::failed("tcpdump: options after -- need tcpdump(1); install it"));
        }
    }
    if arguments.write.as_deref() == Some(Path::new("-"))
        && io::IsTerminal::is_terminal(&io::stdout())
    {
        return Err(Failure::usage("tcpdump: -w - would write binary to the terminal; pipe it"));
    }
    let engine = arguments.selection.engine()?;
    let mut stream =
        engine.client.capture(arguments.snaplen, arguments.count, arguments.promiscuous)?;
    match (&arguments.write, reader) {
        (Some(path), _) if path == Path::new("-") => copy(&mut stream, &mut io::stdout().lock()),
        (Some(path), _) => {
            let file = File::create(path);
            let mut file =
                file.map_err(|error| Failure::failed(format!("-w {}: {error}", path.display())))?;
            copy(&mut stream, &mut file)
        }
        (None, Some(reader)) => show(&mut stream, &reader, arguments),
        (None, None) => frame::summarize(&mut stream, arguments.count),
    }
}

/// Lets tcpdump(1) print what arrives.
fn show(
    stream: &mut impl Read,
    reader: &Path,
    arguments: &TcpdumpArguments,
) -> Result<ExitCode, Failure> {
    let mut command = Command::new(reader);
    command.args(["-n", "-l", "-r", "-"]).args(&arguments.tcpdump).stdin(Stdio::piped());
    // Its note about the file's format is noise here; its complaints about a filter are not.
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        copy(stream, &mut stdin)?;
    }
    let status = child.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies without holding anything back, until either end is gone.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        };
        match to.write_all(&buffer[..length]).and_then(|()| to.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// tcpdump(1), where administrators' programs are, whatever PATH says.
fn find_tcpdump() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join("tcpdump")).find(|path| path.is_file())
}
