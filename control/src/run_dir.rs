//! The run directory: where engines leave their control sockets and leases.
//!
//! Owns the names of those files and the locking of leases. A lease is a file with a lock on it
//! (flock(2)) and a line that says who holds it; the kernel drops the lock with the last
//! descriptor, so a lease never outlives its holder whatever happens to him.

use crate::device::DeviceSpec;
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many default TAPs one run directory can lease.
pub const TAP_INDICES: std::ops::Range<u8> = 0..250;

/// The directory of one user's engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The directory these settings name, or the default one.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        RunDir(settings.run_dir.clone().unwrap_or_else(Self::default_path))
    }

    /// A directory of any name.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        RunDir(path.into())
    }

    /// `/run/onwire` for root, `$XDG_RUNTIME_DIR/onwire` or `/tmp/onwire-UID` for others.
    #[must_use]
    pub fn default_path() -> PathBuf {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return PathBuf::from("/run/onwire");
        }
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(dir) if dir.is_absolute() => dir.join("onwire"),
            _ => PathBuf::from(format!("/tmp/onwire-{}", uid.as_raw())),
        }
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory, for its owner only, unless it is there.
    ///
    /// # Errors
    /// It cannot be made, or what is there is no directory or belongs to somebody else (a trap
    /// laid in /tmp).
    pub fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let metadata = fs::symlink_metadata(&self.0)?;
        let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
        if ours {
            return Ok(());
        }
        let message = format!("{} is no directory of ours", self.0.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }

    /// The control socket of the engine whose first process is `pid`.
    #[must_use]
    pub fn control_socket(&self, pid: u32) -> PathBuf {
        self.0.join(format!("{pid}.sock"))
    }

    /// The lease of the default TAP `onwireN`.
    #[must_use]
    pub fn tap_lease(&self, index: u8) -> PathBuf {
        self.0.join(format!("tap{index}.lease"))
    }

    /// The lease of a device that only one engine can own; `None` for the default TAP. The same
    /// interface name in two network namespaces is two devices.
    #[must_use]
    pub fn device_lease(&self, device: &DeviceSpec) -> Option<PathBuf> {
        let name = device.lease_name()?;
        let in_namespace =
            device.kernel_interface().is_some() || matches!(device, DeviceSpec::Tap { .. });
        let namespace = if in_namespace { network_namespace() } else { String::new() };
        Some(self.0.join(format!("device-{name}{namespace}.lease")))
    }

    /// The control sockets that are there, with the process ids in their names, ascending. Some
    /// may be stale: connecting tells.
    #[must_use]
    pub fn control_sockets(&self) -> Vec<(u32, PathBuf)> {
        let mut sockets: Vec<(u32, PathBuf)> = self
            .entries()
            .filter_map(|path| {
                let pid = path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()?;
                Some((pid, path))
            })
            .collect();
        sockets.sort();
        sockets
    }

    /// The leases that are there, held or not.
    #[must_use]
    pub fn leases(&self) -> Vec<PathBuf> {
        let is_lease = |path: &PathBuf| path.extension().is_some_and(|end| end == "lease");
        let mut leases: Vec<PathBuf> = self.entries().filter(is_lease).collect();
        leases.sort();
        leases
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path()))
    }
}

/// The network namespace we are in, as the end of a file name; empty where /proc does not say.
fn network_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() { digits } else { format!("-net{digits}") }
}

/// Who holds a lease; the line in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// The first process of the engine; names its control socket.
    pub pid: u32,
    /// The program that process runs.
    pub program: String,
    /// The device, as [`DeviceSpec`] writes it.
    pub device: String,
    /// The addresses on it, as texts.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// A lease we hold. Dropping it gives it back and leaves the file, empty: removing a file that
/// somebody else may be about to lock would let two holders in.
#[derive(Debug)]
pub struct Lease {
    file: File,
}

/// Why a lease was not given.
#[derive(Debug)]
pub enum LeaseError {
    /// Somebody else has it; he has written his name, or not yet.
    Held(Option<LeaseHolder>),
    /// The file cannot be opened, locked or written.
    Io(io::Error),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Some(holder)) => write!(f, "held by {holder}"),
            Self::Held(None) => f.write_str("held by a program that is just starting"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LeaseError {}

impl From<io::Error> for LeaseError {
    fn from(error: io::Error) -> Self {
        LeaseError::Io(error)
    }
}

impl Lease {
    /// Takes the lease at `path` and writes `holder` into it; never waits.
    ///
    /// # Errors
    /// Somebody holds it, or the file cannot be used.
    pub fn acquire(path: &Path, holder: &LeaseHolder) -> Result<Lease, LeaseError> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LeaseError::Held(read_holder(&file))),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut lease = Lease { file };
        lease.write(holder)?;
        Ok(lease)
    }

    /// Replaces the line that says who holds the lease.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, holder: &LeaseHolder) -> io::Result<()> {
        let line = serde_json::to_string(holder)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(line.as_bytes())
    }

    /// Who holds the lease at `path` now; `None` if nobody does.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn holder(path: &Path) -> Result<Option<LeaseHolder>, LeaseError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => match read_holder(&file) {
                Some(holder) => Ok(Some(holder)),
                None => Err(LeaseError::Held(None)),
            },
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The locked file, for whoever keeps descriptors by number. The lease lasts until the last
    /// copy of the descriptor, in whatever process, is closed.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

fn read_holder(mut file: &File) -> Option<LeaseHolder> {
    let mut line = String::new();
    file.rewind().ok()?;
    file.take(4_096).read_to_string(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> LeaseHolder {
        LeaseHolder {
            pid,
            program: "redis-server".into(),
            device: "tap".into(),
            addresses: vec!["10.78.0.2/24".into()],
        }
    }

    #[test]
    fn a_lease_has_one_holder_and_says_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = RunDir::at(dir.path()).tap_lease(3);
        assert!(Lease::holder(&path).unwrap().is_none());
        let mut lease = Lease::acquire(&path, &holder(7)).unwrap();
        assert_eq!(Lease::holder(&path).unwrap(), Some(holder(7)));
        match Lease::acquire(&path, &holder(8)) {
            Err(LeaseError::Held(Some(other))) => assert_eq!(other.pid, 7),
            other => panic!("{other:?}"),
        }
        lease.write(&holder(77_777)).unwrap();
        assert_eq!(Lease::holder(&path).unwrap(), Some(holder(77_777)));
        let copy = lease.into_file().try_clone().unwrap();
        assert!(Lease::holder(&path).unwrap().is_some());
        drop(copy);
        assert!(Lease::holder(&path).unwrap().is_none());
        Lease::acquire(&path, &holder(8)).unwrap();
    }

    #[test]
    fn the_directory_is_private_and_lists_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::at(dir.path().join("a/onwire"));
        assert!(run_dir.control_sockets().is_empty());
        run_dir.create().unwrap();
        run_dir.create().unwrap();
        assert_eq!(fs::metadata(run_dir.path()).unwrap().mode() & 0o777, 0o700);
        for name in ["12.sock", "9.sock", "x.sock", "tap0.lease", "device-x.lease"] {
            File::create(run_dir.path().join(name)).unwrap();
        }
        let pids: Vec<u32> = run_dir.control_sockets().iter().map(|(pid, _)| *pid).collect();
        assert_eq!(pids, [9, 12]);
        assert_eq!(run_dir.leases().len(), 2);
    }

    #[test]
    fn a_file_in_the_directorys_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onwire");
        File::create(&path).unwrap();
        assert!(RunDir::at(&path).create().is_err());
    }
}
