//! The command line. Values of settings stay texts here: `control` judges them, so that a bad one
//! reads the same from a flag, a variable and a file.

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  onwire run -- redis-server --port 6379       on a TAP that onwire makes (10.78.0.2/24)
  redis-cli -h 10.78.0.2 ping                  the host reaches it there
  onwire ss -a                                 its sockets, and which path each took
  onwire tcpdump                               its frames
  onwire stats -z                              its counters
  onwire doctor                                what this machine lacks

Exit status: 0 done; 1 it failed; 2 bad usage or setting, or a program that cannot be hooked;
`run` exits as the program does, 126 if it cannot be started, 127 if it is not found.";

const RUN_EXAMPLES: &str = "\
Examples:
  onwire run -- redis-server --port 6379
      On the default device: a TAP onwireN with 10.78.N.1/24 on the host's side, and the program
      at 10.78.N.2.
  onwire run --device af_packet:eth1 --address 10.0.0.2/24 --gateway 10.0.0.1 -- nginx
      On a kernel interface.
  onwire run --device vhost:/tmp/link.sock --address 10.9.0.1/24 -- iperf3 -s
  onwire run --device virtio-user:/tmp/link.sock --address 10.9.0.2/24 -- iperf3 -c 10.9.0.1
      Two programs on one machine, over shared memory.
  onwire bind eth1 && onwire run --device pci:0000:00:03.0 --inherit --profile latency -- ./feed
      On a NIC of its own, spinning, with the address that the kernel had.
  onwire run --rule 'use kernel direction=connect port=53' -- curl http://10.78.0.1/
      Connections to port 53 stay with the kernel.
  onwire run --loopback stack -- python3 -m test test_socket
      127.0.0.0/8 inside the stack.
  onwire run --set tcp.rto_min_us=5000 -- ./server
      Any other setting; `onwire settings` lists them.

Every setting can also be given in the environment (--mtu is ONWIRE_MTU, tcp.rmem is
ONWIRE_TCP_RMEM) or in a TOML file (/etc/onwire.toml, --config, ONWIRE_CONFIG); flags win over the
environment, the environment over the file. Without `onwire run`, LD_PRELOAD=libonwire.so and
these do the same.

Exit status: the program's; 128+N if signal N killed it (as PID 1); 2 for a bad setting or a
program that cannot be hooked (static, Go, setuid), with nothing left behind; 126 or 127 if it
cannot be started or is not found.";

/// Runs unmodified programs on a TCP/IP stack of their own, and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "onwire", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a program on the stack
    Run(Box<RunArguments>),
    /// Show sockets, and which path each took and why
    Ss(SsArguments),
    /// Show or save the frames that the stack receives and sends
    Tcpdump(TcpdumpArguments),
    /// Show counters
    Stats(StatsArguments),
    /// Show the busiest sockets, again and again
    Top(TopArguments),
    /// Show the engines that run
    List(ListArguments),
    /// Show the network cards, and who has them
    Devices(ListArguments),
    /// Hand a network card over from the kernel to DPDK
    Bind(BindArguments),
    /// Give a network card back to the kernel
    Unbind(UnbindArguments),
    /// Show routes
    Route(ListArguments),
    /// Show neighbors
    Neigh(ListArguments),
    /// Change something of an engine that runs: mtu, mac, promiscuous, multicast, allmulticast
    Set(SetArguments),
    /// Check this machine: what works, what is missing, what to do
    Doctor(DoctorArguments),
    /// Show every setting, its value and its meaning
    Settings(SettingsArguments),
    /// Print the functions that the library interposes
    Symbols(SymbolsArguments),
    /// Measure (see onwire bench --help)
    Bench(BenchArguments),
}

/// Settings as flags.
#[derive(Debug, Args, Default)]
pub struct SettingFlags {
    /// The device: tap, tap:NAME, af_packet:IFACE, af_xdp:IFACE, memif:PATH[,role=server],
    /// vhost:PATH, virtio-user:PATH, pci:ADDRESS, vdev:ARGUMENTS [default: tap]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Our address with its prefix, such as 10.0.0.2/24; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub address: Vec<String>,
    /// The router of the default route
    #[arg(long, value_name = "IP")]
    pub gateway: Option<String>,
    /// The largest IP packet, in octets
    #[arg(long, value_name = "N")]
    pub mtu: Option<String>,
    /// Queue pairs of the device, each with a shard of the stack: for programs of many threads
    #[arg(long, value_name = "N")]
    pub queues: Option<String>,
    /// Whether work on packets is left to the device, or done for several at once: auto or off
    #[arg(long, value_name = "WHICH")]
    pub offloads: Option<String>,
    /// How waiting is done: balanced, latency (spin for ever) or throughput
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Whose 127.0.0.0/8 is: kernel or stack
    #[arg(long, value_name = "WHOSE")]
    pub loopback: Option<String>,
    /// use kernel|onwire [program=NAME] [direction=listen|connect] [address=NETWORK]
    /// [port=N|N-M]; may be repeated, the first that matches decides
    #[arg(long, value_name = "RULE")]
    pub rule: Vec<String>,
    /// Any other setting; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Read settings from this file instead of /etc/onwire.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `onwire run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArguments {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
    /// Use this library instead of the libonwire.so that comes with the command
    #[arg(long, value_name = "PATH")]
    pub library: Option<PathBuf>,
    /// Address, router and MTU as the kernel had them before `onwire bind` took the card
    #[arg(long)]
    pub inherit: bool,
    /// Do not announce the device and address
    #[arg(long, short)]
    pub quiet: bool,
    /// Say more on standard error; twice: everything
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// Which engines a question goes to.
#[derive(Debug, Args, Default)]
pub struct Selection {
    /// Only this engine (see onwire list)
    #[arg(long, value_name = "ID")]
    pub engine: Option<u32>,
    /// Only the engine of this process
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Look for engines in this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub run_dir: Option<PathBuf>,
}

/// `onwire ss`.
#[derive(Debug, Args, Default)]
#[command(after_help = "\
Examples:
  onwire ss            connections
  onwire ss -ltn       listeners
  onwire ss -ati       everything TCP, with cwnd, rtt, rto, retransmissions
  onwire ss -to        which timer of each connection runs out next
  onwire ss -a --json | jq '.[].sockets[] | select(.path == \"kernel\")'

Path says whose network a socket uses: stack, kernel, both (a wildcard listener accepts from
both), or undecided; Why says what decided.")]
pub struct SsArguments {
    /// TCP sockets
    #[arg(short, long)]
    pub tcp: bool,
    /// UDP sockets
    #[arg(short, long)]
    pub udp: bool,
    /// Only listening sockets
    #[arg(short, long)]
    pub listening: bool,
    /// Listening sockets and connections
    #[arg(short, long)]
    pub all: bool,
    /// Addresses and ports as numbers (they always are)
    #[arg(short, long)]
    pub numeric: bool,
    /// TCP's inner state
    #[arg(short, long)]
    pub info: bool,
    /// TCP's timers: which runs out next, when, and how often it did already
    #[arg(short, long)]
    pub options: bool,
    /// The processes that hold each socket
    #[arg(short, long)]
    pub processes: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Which engines.
    #[command(flatten)]
    pub selection: Selection,
}

/// `onwire tcpdump`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onwire tcpdump                          frames as they come
  onwire tcpdump -- -e port 6379          with options and a filter of tcpdump(1)
  onwire tcpdump -w trace.pcapng -c 1000  to a file
  onwire tcpdump -w - | wireshark -k -i -")]
pub struct TcpdumpArguments {
    /// Write pcapng to a file, or to standard output as -
    #[arg(short = 'w', value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// End after this many frames
    #[arg(short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Keep at most this many octets of a frame; 0 keeps all
    #[arg(short = 's', value_name = "SNAPLEN", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=262_144))]
    pub snaplen: u32,
    /// Have the device take frames for other stations too, meanwhile
    #[arg(long)]
    pub promiscuous: bool,
    /// Which engine.
    #[command(flatten)]
    pub selection: Selection,
    /// Options and filter for tcpdump(1), after --
    #[arg(last = true, value_name = "TCPDUMP")]
    pub tcpdump: Vec<OsString>,
}

/// `onwire stats`.
#[derive(Debug, Args, Default)]
#[command(after_help = "\
Examples:
  onwire stats -z          counters that have counted
  onwire stats --watch 1   what changes, every second
  onwire stats --json | jq '.[0].stats.tcp'")]
pub struct StatsArguments {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Show what changed, every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub watch: Option<u64>,
    /// Only counters that are not zero
    #[arg(short = 'z', long)]
    pub nonzero: bool,
    /// Which engines.
    #[command(flatten)]
    pub selection: Selection,
}

/// `onwire top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Seconds between two looks
    #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub interval: u64,
    /// End after this many looks
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Which engines.
    #[command(flatten)]
    pub selection: Selection,
}

/// `onwire list`, `onwire devices`, `onwire route`, `onwire neigh`.
#[derive(Debug, Args, Default)]
pub struct ListArguments {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Which engines.
    #[command(flatten)]
    pub selection: Selection,
}

/// `onwire set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onwire set mtu 1400                         the device's, the routes' and the connections'
  onwire set mac 02:00:00:00:00:01            as ip link set dev X address; it is announced
  onwire set promiscuous on                   take frames for every address
  onwire set multicast add 01:00:5e:01:02:03  and those of a group of the link, as ip maddr add
  onwire set multicast del 01:00:5e:01:02:03  not any more
  onwire set allmulticast on                  and those of every group

onwire list shows what the device takes, onwire tcpdump what comes. A change is refused, and all is as
it was, where the driver cannot make it while it runs.")]
pub struct SetArguments {
    /// What: mtu, mac, promiscuous, multicast or allmulticast
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How: a number of octets; an Ethernet address; on or off; add or del and a group
    #[arg(value_name = "VALUE", required = true, num_args = 1..=2)]
    pub value: Vec<String>,
    /// Which engine.
    #[command(flatten)]
    pub selection: Selection,
}

/// `onwire bind`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onwire devices            which cards there are
  onwire bind eth1          by its interface
  onwire bind 0000:03:00.0  by its address

The kernel forgets the card: its interface vanishes, and connections through it end. What carries
the default route or your login session is refused. Addresses, router and MTU are remembered: for
`onwire run --inherit`, and for `onwire unbind`, which restores them.")]
pub struct BindArguments {
    /// The card: its address on the bus, or its interface
    #[arg(value_name = "CARD")]
    pub card: String,
    /// The driver that hands it to programs
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,
    /// Even if it carries the default route or your login session
    #[arg(long)]
    pub force: bool,
}

/// `onwire unbind`.
#[derive(Debug, Args)]
pub struct UnbindArguments {
    /// The card: its address on the bus
    #[arg(value_name = "CARD")]
    pub card: String,
}

/// `onwire doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 if the default device works here, 1 if something blocks it. Each line that begins
with ✘ says what to do; lines with – are about devices other than the default.")]
pub struct DoctorArguments {
    /// Check this library
    #[arg(long, value_name = "PATH")]
    pub library: Option<PathBuf>,
}

/// `onwire settings`.
#[derive(Debug, Args)]
pub struct SettingsArguments {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
    /// As a commented TOML file
    #[arg(long)]
    pub toml: bool,
}

/// `onwire symbols`.
#[derive(Debug, Args)]
pub struct SymbolsArguments {
    /// Read this library
    #[arg(long, value_name = "PATH")]
    pub library: Option<PathBuf>,
}

/// `onwire bench`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct BenchArguments {
    /// Handed to onwire-bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_programs_options_are_its_own() {
        for line in [
            &["onwire", "run", "--mtu", "1400", "--", "redis-server", "--port", "1", "-v"][..],
            &["onwire", "run", "--mtu", "1400", "redis-server", "--port", "1", "-v"][..],
        ] {
            let Command::Run(run) = Arguments::try_parse_from(line).unwrap().command else {
                panic!("not run")
            };
            assert_eq!(run.settings.mtu.as_deref(), Some("1400"));
            assert_eq!(run.program, ["redis-server", "--port", "1", "-v"]);
            assert_eq!(run.verbose, 0);
        }
    }

    #[test]
    fn short_flags_join_as_in_ss() {
        let line = ["onwire", "ss", "-tulnap"];
        let Command::Ss(ss) = Arguments::try_parse_from(line).unwrap().command else {
            panic!("not ss")
        };
        assert!(ss.tcp && ss.udp && ss.listening && ss.numeric && ss.all && ss.processes);
    }
}
