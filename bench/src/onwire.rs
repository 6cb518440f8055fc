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
            ("--profile", wire.profile().to_owned()),
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
        bench.note(|| self.describe(bench, pid).ok());
        self.require_frames_in(&bench.run_directory(), pid, count)
    }

    /// The same for an engine whose control socket is in `run`.
    pub fn require_frames_in(&self, run: &Path, pid: u32, count: u64) -> Result<()> {
        let stats = self.stats(run, pid)?;
        for name in ["rx_frames", "tx_frames"] {
            let frames = counter(&stats, &format!("interface.{name}"));
            ensure!(
                frames >= count,
                "{name} is {frames} where at least {count} were expected: the messages took \
                 another path"
            );
        }
        Ok(())
    }

    /// Fails unless each of these counters of the stack of process `pid` has at least that value.
    pub fn require(&self, bench: &Bench, pid: u32, wanted: &[(&str, u64)]) -> Result<()> {
        let run = bench.run_directory();
        let stats = self.stats(&run, pid).or_else(|_| self.stats(&run, pid))?;
        bench.note(|| self.describe(bench, pid).ok());
        for &(name, least) in wanted {
            let value = counter(&stats, name);
            ensure!(
                value >= least,
                "{name} is {value} where at least {least} was expected: another path was taken"
            );
        }
        Ok(())
    }

    /// What the engine of process `pid` runs on: driver and offloads.
    pub fn describe(&self, bench: &Bench, pid: u32) -> Result<String> {
        let mut command = Command::new(&self.command);
        command.args(["list", "--json"]).env("ONWIRE_RUN_DIR", bench.run_directory());
        let engines: Value = serde_json::from_str(&output(&mut command)?)?;
        let engines = engines.as_array().context("no list of engines")?;
        let engine = engines.iter().find(|engine| engine["id"] == pid).context("no such engine")?;
        let offloads: Vec<&str> =
            engine["offloads"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let offloads = if offloads.is_empty() { "none".to_owned() } else { offloads.join(", ") };
        let driver = engine["driver"].as_str().unwrap_or("?");
        Ok(format!("driver {driver}, MTU {}, offloads used: {offloads}", engine["mtu"]))
    }

    /// The stack's counters of the process `pid`.
    fn stats(&self, run: &Path, pid: u32) -> Result<Value> {
        let mut command = Command::new(&self.command);
        command.args(["stats", "--json", "--pid", &pid.to_string()]);
        let text = output(command.env("ONWIRE_RUN_DIR", run))?;
        serde_json::from_str(&text).with_context(|| format!("onwire stats said {text:?}"))
    }
}

/// The counter `group.name`, over all engines that answered.
fn counter(stats: &Value, name: &str) -> u64 {
    let Some((group, name)) = name.split_once('.') else { return 0 };
    let engines = stats.as_array().into_iter().flatten();
    engines.filter_map(|engine| engine["stats"][group][name].as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_that_of_its_group_alone() {
        let stats = serde_json::json!([
            { "engine": 1, "stats": { "interface": { "rx_frames": 3 }, "port": { "rx_frames": 4 } } }
        ]);
        assert_eq!(counter(&stats, "interface.rx_frames"), 3);
        assert_eq!(counter(&stats, "tcp.rx_frames"), 0);
    }
}
