//! The onwire command: how a program is put on the stack, and proof that it was.

use crate::bench::{Bench, Wire, find_on_path};
use crate::children::output;
use crate::namespaces::Side;
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The installed command and library.
#[derive(Debug)]
pub struct Onwire {
    command: PathBuf,
}

impl Onwire {
    /// Finds the command: `wanted`, or beside this program, or on the `PATH`.
    pub fn find(wanted: Option<&Path>) -> Result<Self> {
        if let Some(path) = wanted {
            ensure!(path.is_file(), "--onwire: {} is not a file", path.display());
            return Ok(Onwire { command: path.to_owned() });
        }
        let me = std::env::current_exe().context("cannot find this program")?;
        let beside = me.with_file_name("onwire");
        let command = if beside.is_file() { beside } else { find_on_path("onwire")? };
        Ok(Onwire { command })
    }

    /// The stack's address on one side of a measured link.
    pub fn address(side: Side) -> Ipv4Addr {
        match side {
            Side::Server => Ipv4Addr::new(10, 98, 0, 1),
            Side::Client => Ipv4Addr::new(10, 98, 0, 2),
        }
    }

    /// The command itself.
    pub fn command(&self) -> &Path {
        &self.command
    }

    /// The words that run `program` on the stack at one end of `wire`.
    pub fn run(&self, wire: &Wire, side: Side, program: &[String]) -> Vec<String> {
        let mut words = vec![self.command.display().to_string(), "run".to_owned()];
        let options = [
            ("--device", wire.device(side)),
            ("--address", format!("{}/24", Self::address(side))),
            ("--profile", "latency".to_owned()),
        ];
        for (option, value) in options {
            words.extend([option.to_owned(), value]);
        }
        words.push("--".to_owned());
        words.extend_from_slice(program);
        words
    }

    /// The library, for what loads it without the command.
    pub fn library(&self) -> Result<PathBuf> {
        let beside = self.command.with_file_name("libonwire.so");
        let installed = self.command.parent().and_then(Path::parent);
        let installed = installed.map(|prefix| prefix.join("lib/onwire/libonwire.so"));
        [Some(beside), installed]
            .into_iter()
            .flatten()
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| anyhow!("libonwire.so is not beside {}", self.command.display()))
    }

    /// Fails unless the stack of process `pid` has received and sent at least `count` frames.
    pub fn require_frames(&self, bench: &Bench, pid: u32, count: u64) -> Result<()> {
        self.require_frames_in(&bench.run_directory(), pid, count)
    }

    /// The same for an engine whose control socket is in `run`.
    pub fn require_frames_in(&self, run: &Path, pid: u32, count: u64) -> Result<()> {
        let stats = self.stats(run, pid)?;
        for name in ["rx_frames", "tx_frames"] {
            let frames = sum_of(&stats, name);
            ensure!(
                frames >= count,
                "{name} is {frames} where at least {count} were expected: the messages took \
                 another path"
            );
        }
        Ok(())
    }

    /// The stack's counters of the process `pid`.
    fn stats(&self, run: &Path, pid: u32) -> Result<Value> {
        let mut command = Command::new(&self.command);
        command.args(["stats", "--json", "--pid", &pid.to_string()]);
        let text = output(command.env("ONWIRE_RUN_DIR", run))?;
        serde_json::from_str(&text).with_context(|| format!("onwire stats said {text:?}"))
    }
}

/// The sum of the numbers called `name` anywhere in `value`.
fn sum_of(value: &Value, name: &str) -> u64 {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, inner)| match inner.as_u64() {
                Some(number) if key == name => number,
                _ => sum_of(inner, name),
            })
            .sum(),
        Value::Array(items) => items.iter().map(|item| sum_of(item, name)).sum(),
        _ => 0,
    }
}
