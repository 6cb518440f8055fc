//! The layering rule: arrows point down. This reads the sources and fails with the rule.

use std::fs;
use std::path::{Path, PathBuf};

/// L0: the vocabulary.
const VOCABULARY: &[&str] = &[
    "addr",
    "collections",
    "config",
    "device",
    "error",
    "options",
    "packet",
    "readiness",
    "rng",
    "socket",
    "stats",
    "steering",
    "testing",
    "time",
    "wire",
];
/// L1: the protocols, strangers to each other.
const PROTOCOLS: &[&str] = &["capture", "icmp", "ip", "neighbor", "tcp", "udp"];
/// L2: the only code that knows two protocols.
const SHARD: &[&str] = &["shard"];

/// What the stack must not do by itself: time, randomness, memory and the world are arguments.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::time", "time is an argument: use crate::time"),
    ("SystemTime", "time is an argument: use crate::time"),
    ("std::net", "no sockets here; addresses are core::net's"),
    ("std::sync", "no locks: whoever holds the shard's lock calls us"),
    ("std::thread", "no threads: whoever calls, drives"),
    ("std::process", "no processes: the engine knows those"),
    ("std::env", "configuration is an argument"),
    ("std::fs", "no files"),
    ("println!", "nothing prints: count, or return it"),
    ("eprint", "nothing prints: count, or return it"),
    ("dbg!", "nothing prints: count, or return it"),
    ("todo!", "nothing is left out silently"),
    ("unimplemented!", "nothing is left out silently"),
];

fn layer(module: &str) -> Option<usize> {
    [VOCABULARY, PROTOCOLS, SHARD].iter().position(|layer| layer.contains(&module))
}

fn sources(under: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source with the module of the crate's root that it belongs to.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("it is below the root");
            let first = relative.components().next().expect("it has a name");
            let first = first.as_os_str().to_string_lossy();
            let module = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
            let text = fs::read_to_string(&path).expect("the source can be read");
            (module, path, text)
        })
        .collect()
}

/// Code lines with their numbers; a `use` of several lines is one. Comments do not count.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with("//") {
            continue;
        }
        match lines.last_mut().filter(|_| open) {
            Some((_, statement)) => statement.push_str(&format!(" {trimmed}")),
            None => lines.push((at + 1, line.to_owned())),
        }
        let begins = trimmed.starts_with("use ") || trimmed.starts_with("pub use ");
        open = (open || begins) && !trimmed.ends_with(';');
    }
    lines
}

/// The root modules that a line names as `crate::module`, also within `use crate::{a, b}`.
fn named(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let parts: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split([',', '{']).map(str::trim).collect(),
            None => vec![rest],
        };
        for part in parts {
            let name: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if layer(&name).is_some() {
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn every_module_has_a_layer() {
    for (module, path, _) in modules() {
        assert!(
            module == "lib" || layer(&module).is_some(),
            "{}: give `{module}` a layer in this test and in lib.rs",
            path.display()
        );
    }
}

#[test]
fn arrows_point_down_and_protocols_are_strangers() {
    let mut wrong = Vec::new();
    for (module, path, text) in modules() {
        let Some(from) = layer(&module) else { continue };
        for (at, line) in code(&text) {
            for other in named(&line).into_iter().filter(|other| *other != module) {
                let to = layer(&other).unwrap_or(0);
                let rule = if to > from {
                    "arrows point down only (L2 shard, L1 protocols, L0 vocabulary)"
                } else if to == from && from == 1 {
                    "protocols do not import each other: what both need is vocabulary, what \
                     joins them is shard"
                } else {
                    continue;
                };
                wrong.push(format!("{}:{at}: `{module}` names `{other}`: {rule}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_stack_keeps_its_hands_off_the_world() {
    let mut wrong = Vec::new();
    for (_, path, text) in modules() {
        for (at, line) in code(&text) {
            for (word, rule) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
                wrong.push(format!("{}:{at}: `{word}`: {rule}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_test_itself_sees_what_it_should() {
    assert_eq!(named("use crate::{tcp, udp::{Udp, UdpId}};"), ["tcp", "udp"]);
    let several = "use crate::{\n    // why\n    addr,\n    tcp::Tcp,\n};\nlet x = 1;";
    let lines = code(several);
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].0, named(&lines[0].1)), (1, vec!["addr".into(), "tcp".into()]));
    assert_eq!(named("    let x = crate::ip::Ip::new();"), ["ip"]);
    assert_eq!(named("use crate::unknown::Thing;"), Vec::<String>::new());
}
