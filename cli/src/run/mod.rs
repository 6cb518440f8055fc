//! `onwire run`: checks, then becomes the program.
//!
//! Nothing is made here, so nothing can be left behind: devices, keepers and files are the
//! library's, in the program's process.

mod init;
mod preflight;
mod program;

use crate::arguments::{RunArguments, SettingFlags};
use crate::devices::record::Record;
use crate::failure::{Failure, STATUS_NOT_FOUND, STATUS_NOT_STARTED};
use crate::library;
use control::settings::SETTINGS_VARIABLE;
use control::{DeviceSpec, Layer, SettingError, Settings, settings::Banner};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs the subcommand; returns only if it cannot, or as PID 1 when all is over.
pub fn run(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let settings = settings(arguments)?;
    let [name, rest @ ..] = arguments.program.as_slice() else {
        return Err(Failure::usage("say which program; onwire run --help shows how"));
    };
    let path = program::find(name)?;
    program::check(&path)?;
    preflight::check(&settings)?;
    let library = library::find(arguments.library.as_deref())?;
    let mut command = Command::new(&path);
    // argv[0] is what the user wrote: some programs act by it.
    command.arg0(name).args(rest);
    command.env("LD_PRELOAD", preload(&library, std::env::var_os("LD_PRELOAD").as_deref()));
    command.env(SETTINGS_VARIABLE, settings.to_json());
    if std::process::id() == 1 {
        return init::supervise(command, &path);
    }
    let error = command.exec();
    Err(not_started(&path, &error))
}

fn settings(arguments: &RunArguments) -> Result<Settings, Failure> {
    let mut flags = arguments.settings.layer()?;
    if arguments.quiet {
        flags.set("banner", Banner::Off.name(), "--quiet");
    }
    if arguments.verbose > 0 {
        flags.set("verbose", &arguments.verbose.to_string(), "-v");
    }
    if arguments.inherit {
        let known = arguments.settings.gather(&flags)?;
        inherit(&known, &arguments.settings, &mut flags)?;
    }
    Ok(arguments.settings.load(&flags)?)
}

/// Adds what the kernel knew of the card, where no flag says otherwise.
fn inherit(known: &Settings, given: &SettingFlags, flags: &mut Layer) -> Result<(), SettingError> {
    const ORIGIN: &str = "--inherit";
    let device = &known.device;
    let bad = |problem, remedy| SettingError::new("device", &device.to_string(), problem, remedy);
    let DeviceSpec::Pci { address } = device else {
        return Err(bad(
            "has nothing to inherit",
            "use --inherit with a card: --device pci:ADDRESS",
        ));
    };
    let Some(record) = Record::load(address) else {
        return Err(bad("was not handed over by onwire bind", "say its --address"));
    };
    let v4 = record.addresses.iter().filter(|address| !address.contains(':'));
    if given.address.is_empty() {
        v4.for_each(|address| flags.set("address", address, ORIGIN));
    }
    if let (None, Some(gateway)) = (&given.gateway, record.gateway) {
        flags.set("gateway", &gateway.to_string(), ORIGIN);
    }
    if let (None, Some(mtu)) = (&given.mtu, record.mtu) {
        flags.set("mtu", &mtu.to_string(), ORIGIN);
    }
    if let (None, Some(mac)) = (known.mac, &record.mac) {
        flags.set("mac", mac, ORIGIN);
    }
    Ok(())
}

/// Ours first: its hooks must come before those of libraries preloaded beside it. And once: an
/// `onwire run` within another finds it there already.
fn preload(library: &Path, existing: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    let existing = existing.unwrap_or_default().as_bytes();
    for other in existing.split(|octet| b": ".contains(octet)) {
        if !other.is_empty() && other != library.as_os_str().as_bytes() {
            value.push(":");
            value.push(OsStr::from_bytes(other));
        }
    }
    value
}

fn not_started(path: &Path, error: &io::Error) -> Failure {
    let status = match error.kind() {
        io::ErrorKind::NotFound => STATUS_NOT_FOUND,
        _ => STATUS_NOT_STARTED,
    };
    Failure::new(status, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_before_what_is_preloaded_already() {
        let library = Path::new("/usr/lib/onwire/libonwire.so");
        assert_eq!(preload(library, None), "/usr/lib/onwire/libonwire.so");
        assert_eq!(preload(library, Some(OsStr::new(""))), "/usr/lib/onwire/libonwire.so");
        assert_eq!(
            preload(library, Some(OsStr::new("/a.so /b.so"))),
            "/usr/lib/onwire/libonwire.so:/a.so:/b.so"
        );
        let nested = "/a.so:/usr/lib/onwire/libonwire.so";
        assert_eq!(
            preload(library, Some(OsStr::new(nested))),
            "/usr/lib/onwire/libonwire.so:/a.so"
        );
    }
}
