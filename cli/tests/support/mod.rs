//! What the tests of the command share.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use control::message::{self, LONGEST_REQUEST, Request, Response};
use std::io::{BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

/// The command, with nothing of ours in its environment but an own run directory and a library
/// that is there.
pub fn onwire(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onwire"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONWIRE_") {
            command.env_remove(name);
        }
    }
    let library = dir.join("libonwire.so");
    if !library.exists() {
        // Any library will do for the loader.
        let known = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"];
        let content = known.iter().find_map(|path| std::fs::read(path).ok());
        std::fs::write(&library, content.unwrap_or_default()).unwrap();
    }
    command.env("ONWIRE_RUN_DIR", dir.join("run")).env("ONWIRE_LIBRARY", library);
    command.env_remove("LD_PRELOAD").current_dir(dir);
    command
}

/// Runs it with these arguments.
pub fn output(dir: &Path, arguments: &[&str]) -> Output {
    onwire(dir).args(arguments).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An executable file.
pub fn program(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// An engine that answers as `answer` says, until the test is over.
pub fn fake_engine(
    dir: &Path,
    pid: u32,
    answer: impl Fn(&Request, &mut UnixStream) + Send + Sync + Clone + 'static,
) {
    let run = dir.join("run");
    std::fs::create_dir_all(&run).unwrap();
    let listener = UnixListener::bind(run.join(format!("{pid}.sock"))).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let answer = answer.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Ok(Some(request)) = message::read_line(&mut reader, LONGEST_REQUEST) {
                    answer(&request, &mut stream);
                    if matches!(request, Request::Tcpdump { .. }) {
                        return;
                    }
                }
            });
        }
    });
}

/// Writes a response; the command may have left already.
pub fn send(stream: &mut UnixStream, response: &Response) {
    let _ = stream.write_all(&response.to_line());
}
