//! `onwire symbols`: what the library exports, which is what it interposes.

use crate::arguments::SymbolsArguments;
use crate::failure::Failure;
use crate::{library, output};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, ReadCache};
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

/// Runs the subcommand.
pub fn symbols(arguments: &SymbolsArguments) -> Result<ExitCode, Failure> {
    let path = library::find(arguments.library.as_deref())?;
    let names = exported(&path)
        .map_err(|problem| Failure::failed(format!("library {}: {problem}", path.display())))?;
    output::print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// The functions that a library defines for others, sorted.
pub fn exported(path: &Path) -> Result<Vec<String>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let cache = ReadCache::new(file);
    let elf =
        ElfFile64::<object::Endianness, _>::parse(&cache).map_err(|error| error.to_string())?;
    let mut names: Vec<String> = elf
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_exports_socket() {
        let libc = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"];
        if let Some(path) = libc.iter().map(Path::new).find(|path| path.exists()) {
            let names = exported(path).unwrap();
            assert!(names.iter().any(|name| name == "socket"));
        }
        assert!(exported(Path::new("/etc/passwd")).is_err());
    }
}
