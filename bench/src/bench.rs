//! What all measurements share: cores, namespaces, a directory for sockets, and how a measured
//! program is started in them.

use crate::children::{Program, check_interrupted, end_cleanly_on_signals};
use crate::distance::Apart;
use crate::latency::Stack;
use crate::namespaces::{self, FRAME_INTERFACE, Namespaces, Side};
use crate::onwire::Onwire;
use crate::role::Ready;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a program may take to say that it is ready, or to end after it was told to.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Options of every measurement.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// The cores of the server and of the client [default: the first and the last allowed]
    #[arg(long, value_name = "SERVER,CLIENT", value_parser = parse_cores)]
    pub cores: Option<(usize, usize)>,
    /// Rounds; in each, every mode is measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How often a measurement is made again while a hypervisor keeps moving the two cores
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=100))]
    pub repeats: u32,
    /// Run the measured programs with the real-time policy SCHED_RR (for busy machines)
    #[arg(long)]
    pub realtime: bool,
    /// The onwire command [default: the one beside this program, or on the PATH]
    #[arg(long, value_name = "PATH")]
    pub onwire: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Also write one self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn parse_cores(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed.ok_or_else(|| "two core numbers with a comma between them are expected".to_owned())
}

/// The wire between the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Link {
    /// vhost on one end, virtio-user on the other: a virtio ring in shared memory
    #[value(name = "vhost")]
    #[serde(rename = "vhost/virtio-user")]
    Vhost,
    /// A memif in shared memory
    #[value(name = "memif")]
    #[serde(rename = "memif")]
    Memif,
    /// `AF_PACKET` sockets on the two ends of a veth pair
    #[value(name = "af_packet")]
    #[serde(rename = "af_packet/veth")]
    AfPacket,
    /// The default device: a TAP, at whose other end is the kernel, where the client stays
    #[value(name = "tap")]
    #[serde(rename = "tap/kernel")]
    Tap,
}

impl Link {
    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Link::Vhost => "vhost/virtio-user",
            Link::Memif => "memif",
            Link::AfPacket => "af_packet/veth",
            Link::Tap => "tap/kernel",
        }
    }
}

/// A fresh instance of a link: each pair of programs gets its own.
#[derive(Debug)]
pub struct Wire {
    link: Link,
    path: PathBuf,
    /// Of a TAP: its name, and the namespace in which it appears.
    tap: (String, String),
    /// How onwire waits.
    profile: &'static str,
}

impl Wire {
    /// The device string of one end.
    pub fn device(&self, side: Side) -> String {
        let path = self.path.display();
        match (self.link, side) {
            (Link::Vhost, Side::Server) => format!("vhost:{path}"),
            (Link::Vhost, Side::Client) => format!("virtio-user:{path}"),
            (Link::Memif, Side::Server) => format!("memif:{path},role=server"),
            (Link::Memif, Side::Client) => format!("memif:{path},role=client"),
            (Link::AfPacket, _) => format!("af_packet:{FRAME_INTERFACE}"),
            (Link::Tap, _) => format!("tap:{}", self.tap.0),
        }
    }

    /// The same wire, whose ends wait by another of onwire's profiles.
    pub fn with_profile(self, profile: &'static str) -> Self {
        Wire { profile, ..self }
    }

    /// How onwire waits.
    pub fn profile(&self) -> &'static str {
        self.profile
    }

    /// Whether only the server is on onwire.
    pub fn has_kernel_client(&self) -> bool {
        self.link == Link::Tap
    }

    /// Waits for the socket, or the TAP, that the server's end makes and the client's end needs.
    pub fn wait_for(&self, server: &mut Program) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_there() {
            check_interrupted()?;
            if !server.is_running() {
                server.line(Duration::ZERO)?; // The error says why it ended.
            }
            ensure!(Instant::now() < deadline, "nobody makes {}", self.device(Side::Server));
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.link == Link::Tap {
            let (name, namespace) = &self.tap;
            let address = format!("{}/24", Onwire::address(Side::Client));
            namespaces::ip(&["-n", namespace, "addr", "replace", &address, "dev", name])?;
            namespaces::ip(&["-n", namespace, "link", "set", name, "up"])?;
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        let (name, namespace) = &self.tap;
        match self.link {
            Link::Vhost | Link::Memif => self.path.exists(),
            Link::AfPacket => true,
            Link::Tap => namespaces::ip(&["-n", namespace, "link", "show", name]).is_ok(),
        }
    }
}

/// A run of the harness.
#[derive(Debug)]
pub struct Bench {
    me: PathBuf,
    directory: Directory,
    namespaces: Namespaces,
    server_core: usize,
    client_core: usize,
    realtime: bool,
    wires: Cell<u32>,
    settings: Vec<(String, String)>,
    on: RefCell<Option<String>>,
    apart: RefCell<Apart>,
    repeats: u32,
}

impl Bench {
    /// Looks for cores and makes the namespaces.
    pub fn set_up(common: &Common) -> Result<Self> {
        end_cleanly_on_signals()?;
        let (server_core, client_core) = choose_cores(common.cores)?;
        Ok(Bench {
            me: std::env::current_exe().context("cannot find this program")?,
            directory: Directory::create()?,
            namespaces: Namespaces::create()?,
            server_core,
            client_core,
            realtime: common.realtime,
            wires: Cell::new(0),
            settings: Vec::new(),
            on: RefCell::default(),
            apart: RefCell::default(),
            repeats: common.repeats,
        })
    }

    /// From now on programs run with this setting of onwire, given as its variable.
    pub fn set(&mut self, variable: &str, value: impl ToString) {
        self.settings.push((variable.to_owned(), value.to_string()));
    }

    /// From now on TCP segments leave one by one and are not joined, the kernel's and onwire's.
    pub fn end_segmentation(&mut self) -> Result<()> {
        self.set("ONWIRE_TSO", "off");
        self.set("ONWIRE_GRO", "off");
        self.namespaces.end_segmentation()
    }

    /// Notes what onwire's engines run on, once.
    pub fn note(&self, describe: impl FnOnce() -> Option<String>) {
        let mut on = self.on.borrow_mut();
        if on.is_none() {
            *on = describe();
        }
    }

    /// What onwire's engines run on, if one was asked.
    pub fn on(&self) -> Option<String> {
        self.on.borrow().clone()
    }

    /// How far apart the cores were while something was measured.
    pub fn apart(&self) -> &RefCell<Apart> {
        &self.apart
    }

    /// How often a measurement is made again.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// The core of one end.
    pub fn core(&self, side: Side) -> usize {
        match side {
            Side::Server => self.server_core,
            Side::Client => self.client_core,
        }
    }

    /// A link that nobody uses yet.
    pub fn wire(&self, link: Link) -> Wire {
        let number = self.wires.get() + 1;
        self.wires.set(number);
        let tap = (format!("bench{number}"), self.namespaces.name(Side::Server).to_owned());
        let path = self.directory.0.join(format!("wire{number}"));
        Wire { link, path, tap, profile: "latency" }
    }

    /// Starts `words` on its side's core, in its side's namespace, on the stack that carries them.
    pub fn start_on(
        &self,
        name: &str,
        stack: Stack<'_>,
        side: Side,
        words: Vec<String>,
    ) -> Result<Program> {
        match stack {
            None => self.start(name, side, &words),
            Some((_, wire)) if side == Side::Client && wire.has_kernel_client() => {
                self.start_in(name, (side, Side::Server), &words)
            }
            Some((onwire, wire)) => self.start(name, side, &onwire.run(wire, side, &words)),
        }
    }

    /// Starts `words` on its side's core, in its side's namespace.
    pub fn start(&self, name: &str, side: Side, words: &[String]) -> Result<Program> {
        self.start_in(name, (side, side), words)
    }

    fn start_in(
        &self,
        name: &str,
        (side, namespace): (Side, Side),
        words: &[String],
    ) -> Result<Program> {
        let mut command = Command::new(&self.me);
        command.args(["role", "launch", "--netns", self.namespaces.name(namespace), "--core"]);
        command.arg(self.core(side).to_string());
        if self.realtime {
            command.arg("--realtime");
        }
        command.env("ONWIRE_RUN_DIR", self.run_directory());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        Program::start(name, command.arg("--").args(words))
    }

    /// A client that ends its connections itself has 28,000 ports, and each would rest for a minute:
    /// onwire is through with them in a second. (The kernel's clients here hear of the end first.)
    pub fn end_time_wait_soon(&mut self) {
        self.set("ONWIRE_TCP_TIME_WAIT_MS", 100);
    }

    /// Starts the two ends of a measurement of this program's own sockets and lets them go when
    /// both are there.
    pub fn start_pair(
        &self,
        stack: Stack<'_>,
        server: &[&str],
        client: &[&str],
    ) -> Result<(Program, Program)> {
        let mut server = self.start_on("the server", stack, Side::Server, self.role(server))?;
        if let Some((_, wire)) = stack {
            wire.wait_for(&mut server)?;
        }
        let mut client = self.start_on("the client", stack, Side::Client, self.role(client))?;
        let _: Ready = client.message(PATIENCE)?;
        let _: Ready = server.message(PATIENCE)?;
        client.go_on()?;
        Ok((server, client))
    }

    /// The words that start this program in a role.
    pub fn role(&self, words: &[&str]) -> Vec<String> {
        let me = self.me.display().to_string();
        [me.as_str(), "role"].iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    /// Where the engines of this run find each other, apart from all others.
    pub fn run_directory(&self) -> PathBuf {
        self.directory.0.join("run")
    }

    /// A place for files of this run.
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }
}

/// A directory that disappears with this value.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self> {
        // Short, because the path of a Unix socket has at most 107 octets.
        let path = std::env::temp_dir().join(format!("onwire-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn choose_cores(wanted: Option<(usize, usize)>) -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for my cores")?;
    let allowed: Vec<usize> =
        (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect();
    let (server, client) = match (wanted, allowed.first(), allowed.last()) {
        (Some(cores), _, _) => cores,
        (None, Some(&first), Some(&last)) => (first, last),
        _ => bail!("no core is allowed"),
    };
    ensure!(server != client, "two cores are needed, one for each end; only core {server} is here");
    for core in [server, client] {
        ensure!(allowed.contains(&core), "--cores: core {core} is not among {allowed:?}");
    }
    Ok((server, client))
}

/// Finds a program on the `PATH`.
pub fn find_on_path(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| anyhow!("{name} is not installed"))
}
