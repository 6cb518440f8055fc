//! Finding the program, and refusing what cannot be hooked.
//!
//! The library interposes libc's functions through the dynamic loader. What does not load libc
//! dynamically, or calls the kernel past it, or makes the loader ignore LD_PRELOAD, would run on
//! the kernel's stack in silence; better to say so and not start it.

use crate::failure::{Failure, STATUS_NOT_FOUND, STATUS_NOT_STARTED};
use object::elf::{self, PT_INTERP, PT_NOTE};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ReadCache, ReadRef};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How many interpreters deep scripts can go; Linux's own limit (BINPRM_RECURSION is 5).
const DEEPEST: u32 = 5;

/// What `name` means, as execvp(3) would find it.
pub fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                Err(Failure::new(STATUS_NOT_STARTED, format!("{shown} is a directory")))
            }
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Err(Failure::new(
                STATUS_NOT_STARTED,
                format!("{shown} is not executable; make it so with chmod +x"),
            )),
            Ok(_) => Ok(path),
            Err(error) => Err(Failure::new(STATUS_NOT_FOUND, format!("{shown}: {error}"))),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    search(name, &path).ok_or_else(|| {
        Failure::new(STATUS_NOT_FOUND, format!("{shown} was found in no directory of PATH"))
    })
}

fn search(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let candidates = std::env::split_paths(path).map(|dir| dir.join(name));
    let executable = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(|candidate| !name.is_empty() && executable(candidate))
}

/// Refuses, in one line, a program that the library cannot hook.
pub fn check(path: &Path) -> Result<(), Failure> {
    check_file(path, DEEPEST).map_err(|reason| {
        Failure::usage(format!("{} cannot run on onwire: {reason}", path.display()))
    })
}

fn check_file(path: &Path, depth: u32) -> Result<(), String> {
    check_privilege(path)?;
    let Ok(mut file) = File::open(path) else {
        // Executable but not readable: nothing can be said, and the kernel will start it.
        return Ok(());
    };
    let mut start = [0; 256];
    let length = read_start(&mut file, &mut start);
    let start = &start[..length];
    if let Some(line) = start.strip_prefix(b"#!") {
        return check_interpreter(line, depth);
    }
    if start.starts_with(b"\x7fELF") {
        return check_elf(start, file);
    }
    // execvp(3) gives anything else to the shell.
    Ok(())
}

fn read_start(file: &mut File, into: &mut [u8]) -> usize {
    let mut length = 0;
    while let Ok(more @ 1..) = file.read(&mut into[length..]) {
        length += more;
    }
    length
}

/// A program that changes its identity is started in secure mode (AT_SECURE in ld.so(8)).
fn check_privilege(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.mode();
    let set = match (mode & 0o4000 != 0, mode & 0o2010 == 0o2010) {
        (true, _) => Some("setuid"),
        (_, true) => Some("setgid"),
        _ => None,
    };
    if let Some(set) = set {
        return Err(format!(
            "it is {set}, and such programs drop LD_PRELOAD or the environment; start what it \
             starts, with setpriv or runuser"
        ));
    }
    let mut value = [0; 64];
    let capabilities = rustix::fs::getxattr(path, "security.capability", &mut value).is_ok();
    // The kernel ignores file capabilities when root starts the program.
    if capabilities && !rustix::process::getuid().is_root() {
        return Err(
            "it has file capabilities, for which the loader drops LD_PRELOAD; copy it without \
             them, or run it as root"
                .to_owned(),
        );
    }
    Ok(())
}

/// Checks what a `#!` line starts.
fn check_interpreter(line: &[u8], depth: u32) -> Result<(), String> {
    let line = line.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(|octet| *octet == b' ' || *octet == b'\t')
        .filter(|word| !word.is_empty())
        .map(|word| PathBuf::from(OsString::from_vec(word.to_vec())));
    let Some(interpreter) = words.next() else { return Ok(()) };
    if depth == 0 {
        return Err("its interpreters are nested too deeply".to_owned());
    }
    let of = |path: &Path, reason: String| format!("its interpreter {}: {reason}", path.display());
    check_file(&interpreter, depth - 1).map_err(|reason| of(&interpreter, reason))?;
    if interpreter.file_name() != Some(OsStr::new("env")) {
        return Ok(());
    }
    // #!/usr/bin/env [-S] [NAME=VALUE]… PROGRAM
    let is_argument = |word: &PathBuf| {
        !word.as_os_str().as_bytes().starts_with(b"-")
            && !word.as_os_str().as_bytes().contains(&b'=')
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    match words.find(is_argument).and_then(|name| search(name.as_os_str(), &path)) {
        Some(program) => check_file(&program, depth - 1).map_err(|reason| of(&program, reason)),
        None => Ok(()),
    }
}

fn check_elf(start: &[u8], file: File) -> Result<(), String> {
    const WRONG: &str = "it is for another kind of machine; use a build for this one";
    // e_ident[EI_CLASS], e_ident[EI_DATA], e_machine
    let native = start.get(4) == Some(&2) && start.get(5) == Some(&NATIVE_DATA);
    let machine = start.get(18..20).map(|octets| u16::from_ne_bytes([octets[0], octets[1]]));
    if !native || machine.is_some_and(|machine| Some(elf::Machine(machine)) != native_machine()) {
        return Err(WRONG.to_owned());
    }
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<Endianness, _>::parse(&cache)
        .map_err(|error| format!("it is a damaged ELF file ({error})"))?;
    if is_go(&elf) {
        return Err("it is a Go program, which enters the kernel without libc, so there is \
                    nothing to hook; Go programs need the kernel's stack"
            .to_owned());
    }
    match interpreter(&elf, &cache) {
        None => Err("it is statically linked, so there is no loader to hook it; use a \
                     dynamically linked build"
            .to_owned()),
        Some(loader) if loader.contains("ld-musl") => {
            Err("it is linked with musl, and libonwire.so needs glibc; use a glibc build"
                .to_owned())
        }
        Some(_) => Ok(()),
    }
}

#[cfg(target_endian = "little")]
const NATIVE_DATA: u8 = 1;
#[cfg(target_endian = "big")]
const NATIVE_DATA: u8 = 2;

/// The e_machine of programs that this machine runs beside this command.
fn native_machine() -> Option<elf::Machine> {
    match std::env::consts::ARCH {
        "x86_64" => Some(elf::EM_X86_64),
        "aarch64" => Some(elf::EM_AARCH64),
        "riscv64" => Some(elf::EM_RISCV),
        "powerpc64" => Some(elf::EM_PPC64),
        _ => None,
    }
}

/// The dynamic loader that the file asks for (PT_INTERP).
fn interpreter<'data, R: ReadRef<'data>>(
    elf: &ElfFile64<'data, Endianness, R>,
    data: R,
) -> Option<String> {
    let endian = elf.endian();
    let header =
        elf.elf_program_headers().iter().find(|header| header.p_type(endian) == PT_INTERP)?;
    let path = header.data(endian, data).ok()?;
    Some(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned())
}

/// Whether Go's linker made the file. `strip` may take the section names, not the notes.
fn is_go<'data, R: ReadRef<'data>>(elf: &ElfFile64<'data, Endianness, R>) -> bool {
    const SECTIONS: &[&str] = &[".go.buildinfo", ".note.go.buildid", ".gopclntab", ".gosymtab"];
    let by_section =
        elf.sections().any(|section| section.name().is_ok_and(|name| SECTIONS.contains(&name)));
    let endian = elf.endian();
    let by_note = || {
        elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_NOTE).any(
            |header| {
                let Ok(Some(mut notes)) = header.notes(endian, elf.data()) else { return false };
                while let Ok(Some(note)) = notes.next() {
                    if note.name() == b"Go" {
                        return true;
                    }
                }
                false
            },
        )
    };
    by_section || by_note()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn ordinary_programs_and_scripts_pass() {
        let dir = tempfile::tempdir().unwrap();
        check(Path::new("/bin/sh")).unwrap();
        for (name, content) in [
            ("sh", "#!/bin/sh\n"),
            ("spaced", "#! /bin/sh -e\n"),
            ("env", "#!/usr/bin/env sh\n"),
            ("env-s", "#!/usr/bin/env -S X=1 sh -e\n"),
            ("plain", "echo\n"),
            ("empty", ""),
        ] {
            check(&write(dir.path(), name, content.as_bytes())).unwrap();
        }
    }

    #[test]
    fn privileged_programs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, word) in [(0o4755, "setuid"), (0o2755, "setgid")] {
            let path = write(dir.path(), word, b"#!/bin/sh\n");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let failure = check(&path).unwrap_err();
            assert_eq!(failure.status, 2);
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }

    #[test]
    fn foreign_damaged_and_looping_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut elf = own[..1 << 12].to_vec();
        elf[18] = 3; // e_machine: i386
        let foreign = write(dir.path(), "foreign", &elf);
        assert!(check(&foreign).unwrap_err().message.contains("another kind of machine"));
        let damaged = write(dir.path(), "damaged", &[&elf[..18], &own[18..20], b"short"].concat());
        assert!(check(&damaged).unwrap_err().message.contains("damaged"));
        let script = dir.path().join("loop");
        let text = format!("#!{}\n", script.display());
        write(dir.path(), "loop", text.as_bytes());
        assert!(check(&script).unwrap_err().message.contains("too deeply"));
    }

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        assert!(find(OsStr::new("sh")).unwrap().is_absolute());
        assert_eq!(find(OsStr::new("no-such-program")).unwrap_err().status, 127);
        assert_eq!(find(OsStr::new("/no/such/program")).unwrap_err().status, 127);
        assert_eq!(find(OsStr::new("/etc")).unwrap_err().status, 126);
        assert_eq!(find(OsStr::new("/etc/passwd")).unwrap_err().status, 126);
        assert_eq!(find(OsStr::new("")).unwrap_err().status, 127);
    }
}
