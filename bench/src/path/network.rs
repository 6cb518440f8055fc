//! The two namespaces of a worker, and the paths that it makes between them, one after another.

use super::{PATIENCE, Tcp, ip};
use crate::children::Program;
use crate::impair::Passed;
use crate::onwire::Onwire;
use crate::role::Ready;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As many frames as a router of that rate might queue.
pub const ROUTER_QUEUE: usize = 256;
/// The TAP's own queue must never be what is full.
const TAP_QUEUE: &str = "10000";

/// Two namespaces.
#[derive(Debug)]
pub struct Network {
    me: PathBuf,
    directory: PathBuf,
    names: [String; 2],
    /// The interface of the path at hand; each path's has a name of its own, since an engine's
    /// keeper may hold on to the last for a moment.
    interface: String,
    count: u32,
    realtime: bool,
}

impl Network {
    /// Makes them.
    pub fn create(worker: u32, realtime: bool) -> Result<Self> {
        let id = std::process::id();
        let directory = std::env::temp_dir().join(format!("onwire-path-{id}-{worker}"));
        std::fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let network = Network {
            me: std::env::current_exe().context("cannot find this program")?,
            directory,
            names: ["a", "b"].map(|side| format!("onwp{id}x{worker}{side}")),
            interface: String::new(),
            count: 0,
            realtime,
        };
        for name in &network.names {
            ip(&["netns", "add", name]).context("cannot make namespaces (are you root?)")?;
            // What the kernel learned from one transfer must not help or hurt the next.
            let command = "echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save";
            ip(&["netns", "exec", name, "sh", "-c", command])?;
        }
        Ok(network)
    }

    /// The address of the sender (0) or the receiver (1).
    pub fn address(side: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 97, 0, side as u8 + 1)
    }

    /// Where this worker's engines can be asked.
    pub fn run_directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the box between fresh interfaces, with the kernel's addresses where it is the one
    /// to speak.
    pub fn path(&mut self, options: &[String], ends: [Tcp; 2]) -> Result<Wire> {
        self.count += 1;
        self.interface = format!("path{}", self.count);
        let mut command = Command::new(&self.me);
        // Whatever else runs, a frame is on its way in time.
        command.args(["role", "launch", "--realtime", "--"]).arg(&self.me).arg("impair");
        command.args(self.names.iter().map(|name| format!("{name}:{}", self.interface)));
        command.args(options).arg("--child");
        let mut program = Program::start("the path", &mut command)?;
        let _: Ready = program.message(PATIENCE)?;
        for (side, tcp) in ends.into_iter().enumerate() {
            let (name, interface) = (self.names[side].as_str(), self.interface.as_str());
            // IPv6's greetings would be counted among the packets.
            ip(&["-n", name, "link", "set", interface, "addrgenmode", "none"])?;
            ip(&["-n", name, "link", "set", interface, "txqueuelen", TAP_QUEUE])?;
            if tcp == Tcp::Kernel {
                let address = format!("{}/24", Self::address(side));
                ip(&["-n", name, "addr", "add", &address, "dev", interface])?;
            }
            ip(&["-n", name, "link", "set", interface, "up"])?;
        }
        Ok(Wire(program))
    }

    /// Starts this program in a role at one end.
    pub fn start(
        &self,
        side: usize,
        tcp: Tcp,
        onwire: &Onwire,
        role: &[String],
    ) -> Result<Program> {
        let mut command = Command::new(&self.me);
        command.args(["role", "launch", "--netns", &self.names[side]]);
        command.args(self.realtime.then_some("--realtime")).arg("--");
        if tcp == Tcp::Onwire {
            command.arg(onwire.command()).args(["run", "--device"]);
            command.arg(format!("af_packet:{}", self.interface));
            command.args(["--address", &format!("{}/24", Self::address(side)), "--"]);
            command.env("ONWIRE_RUN_DIR", self.run_directory());
            command.env("ONWIRE_TCP_TIME_WAIT_MS", "100");
        }
        command.arg(&self.me).arg("role").args(role);
        Program::start(["the sender", "the receiver"][side], &mut command)
    }

    /// Starts tcpdump at both ends.
    pub fn capture(&self, directory: &Path, name: &str) -> Result<Vec<Program>> {
        let start = |side: usize| {
            let file = directory.join(format!("{name}-{}.pcap", ["a", "b"][side]));
            let mut command = Command::new(&self.me);
            command.args(["role", "launch", "--netns", &self.names[side], "--", "tcpdump"]);
            command.args(["-U", "-s", "120", "-B", "8192", "-i", &self.interface, "-w"]).arg(file);
            Program::start("tcpdump", &mut command)
        };
        let both = vec![start(0)?, start(1)?];
        std::thread::sleep(std::time::Duration::from_millis(300));
        Ok(both)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A path that is there until it is finished or dropped.
#[derive(Debug)]
pub struct Wire(Program);

impl Wire {
    /// Takes it down; what became of the frames.
    pub fn finish(&mut self) -> Result<Passed> {
        self.0.interrupt()?;
        self.0.message(PATIENCE)
    }
}
