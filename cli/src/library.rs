//! Where libonwire.so is.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

const NAME: &str = "libonwire.so";
const VARIABLE: &str = "ONWIRE_LIBRARY";

/// Finds the library: the flag's, the environment's, or beside the command or where packages put
/// it. The path is absolute, and one that LD_PRELOAD can carry.
pub fn find(flag: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = flag {
        return named(path, "--library");
    }
    if let Some(path) = std::env::var_os(VARIABLE) {
        return named(Path::new(&path), VARIABLE);
    }
    let candidates = candidates();
    let found = candidates.iter().find(|path| path.is_file());
    match found {
        Some(path) => preloadable(path, "beside the command"),
        None => Err(Failure::usage(format!(
            "library: {NAME} was found nowhere; build it (cargo build --release), or name it with \
             --library PATH or {VARIABLE}"
        ))),
    }
}

fn named(path: &Path, origin: &str) -> Result<PathBuf, Failure> {
    if path.is_file() {
        return preloadable(path, origin);
    }
    Err(Failure::usage(format!(
        "library {:?} (from {origin}) is no file; give the path of {NAME}",
        path.display().to_string()
    )))
}

/// ld.so splits LD_PRELOAD at spaces and colons, and a relative path would follow chdir.
fn preloadable(path: &Path, origin: &str) -> Result<PathBuf, Failure> {
    let path = path.canonicalize()?;
    let text = path.to_string_lossy();
    if text.contains([' ', ':', '\t', '\n']) {
        return Err(Failure::usage(format!(
            "library {text:?} (from {origin}) has a space or colon in its path, which LD_PRELOAD \
             cannot carry; move it"
        )));
    }
    Ok(path)
}

fn candidates() -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    // /proc/self/exe resolves links, so a link in /usr/bin finds what lies beside its target.
    if let Ok(executable) = std::env::current_exe()
        && let Some(dir) = executable.parent()
    {
        candidates.push(dir.join(NAME));
        candidates.push(dir.join("../lib/onwire").join(NAME));
        candidates.push(dir.join("../lib").join(NAME));
    }
    candidates.push(Path::new("/usr/lib/onwire").join(NAME));
    candidates.push(Path::new("/usr/local/lib/onwire").join(NAME));
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_must_be_there_and_fit_ld_preload() {
        let dir = tempfile::tempdir().unwrap();
        let missing = find(Some(&dir.path().join("x.so"))).unwrap_err();
        assert!(missing.message.contains("--library") && missing.status == 2);
        let spaced = dir.path().join("a b.so");
        std::fs::write(&spaced, "").unwrap();
        assert!(find(Some(&spaced)).unwrap_err().message.contains("space"));
        let good = dir.path().join("a.so");
        std::fs::write(&good, "").unwrap();
        assert_eq!(find(Some(&good)).unwrap(), good.canonicalize().unwrap());
    }
}
