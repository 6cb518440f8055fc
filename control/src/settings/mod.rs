//! Everything a user can choose.
//!
//! [`Settings`] owns the values, `keys` the one table of their names, `sources` the merging of
//! defaults, file, environment and command line. The engine reads the fields; nothing else does.

mod keys;
mod sources;

pub use keys::Key;
pub(crate) use keys::parse_mac;
pub use sources::{CONFIG_FILE, CONFIG_VARIABLE, Layer, SETTINGS_VARIABLE};

use crate::device::DeviceSpec;
use crate::rules::Rules;
use stack::addr::{Cidr, MacAddr};
use stack::config::{Capacity, Config, Route, TcpConfig};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Declares an enum whose values have one written name each.
macro_rules! choice {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// Every value, in the order they are offered.
            pub const ALL: &'static [Self] = &[$(Self::$value,)*];

            /// The name as users write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|value| value.name()).collect();
                    format!("is not known; use one of {}", names.join(", "))
                })
            }
        }
    };
}

choice! {
    /// How waiting is done.
    Profile {
        /// Spin briefly, then sleep.
        #[default]
        Balanced = "balanced",
        /// Spin for ever: the least latency, a core per waiting thread.
        Latency = "latency",
        /// Sleep soon, work in large batches.
        Throughput = "throughput",
    }
}

choice! {
    /// Whose 127.0.0.0/8 is.
    Loopback {
        /// The kernel's.
        #[default]
        Kernel = "kernel",
        /// Carried inside the stack, between threads and between processes related by fork.
        Stack = "stack",
    }
}

choice! {
    /// Whether the engine says at its start what it runs on.
    Banner {
        /// One line on standard error when that is a terminal or `onwire run` started us.
        #[default]
        On = "on",
        /// Nothing but errors.
        Off = "off",
    }
}

choice! {
    /// Whether work on packets is left to the device, or done for several at once.
    Offload {
        /// Where it pays.
        #[default]
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}

/// Which of them are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloading {
    /// Any at all.
    pub all: Offload,
    /// Checksums by the device, both ways.
    pub checksum: Offload,
    /// TCP sends units that the device cuts into segments, or that are cut just before it.
    pub tso: Offload,
    /// Received segments are joined, by the device or within a burst.
    pub gro: Offload,
}

impl Offloading {
    /// Whether checksums, segmentation and joining may be left to others.
    #[must_use]
    pub fn wanted(self) -> (bool, bool, bool) {
        let on = |one: Offload| self.all == Offload::Auto && one == Offload::Auto;
        (on(self.checksum), on(self.tso), on(self.gro))
    }
}

choice! {
    /// Whether DPDK's memory comes from hugepages, and tables that have filled get transparent ones.
    Hugepages {
        /// When there are enough of them.
        #[default]
        Auto = "auto",
        /// Not even when there are.
        Never = "never",
        /// A start without them fails.
        Require = "require",
    }
}

/// Sizes of what is reserved at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Packet buffers of a shard.
    pub mbufs: u32,
    /// Largest packet data that one buffer holds, in octets.
    pub mbuf_octets: u32,
    /// Address space of the shared region, in octets; untouched pages cost nothing.
    pub region_octets: u64,
    /// Descriptors of a receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue.
    pub tx_descriptors: u16,
    /// Whether hugepages are used.
    pub hugepages: Hugepages,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            mbufs: 16_384,
            mbuf_octets: 2_048,
            region_octets: 4 << 30,
            rx_descriptors: 1_024,
            tx_descriptors: 1_024,
            hugepages: Hugepages::Auto,
        }
    }
}

/// Buffers beside the reserve and those that wait in the queues, with which sending never starves:
/// what the stack keeps for itself and a few bursts.
const LEAST_FREE_MBUFS: u32 = 224;

impl Memory {
    /// Buffers that only reception may take.
    #[must_use]
    pub fn receive_reserve(&self) -> u32 {
        (self.mbufs / 16).max(64)
    }

    /// The fewest buffers for queues of these lengths.
    #[must_use]
    pub fn least_mbufs(&self) -> u32 {
        let queued = u32::from(self.rx_descriptors) + u32::from(self.tx_descriptors);
        let wanted = queued + LEAST_FREE_MBUFS;
        (wanted + 64).max((wanted * 16).div_ceil(15))
    }
}

/// Every setting, with a value. [`Settings::KEYS`] is the table of their names and meanings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The device that carries our frames.
    pub device: DeviceSpec,
    /// Our addresses on the link; empty: the default TAP's leased one.
    pub addresses: Vec<Cidr>,
    /// The router of the default route.
    pub gateway: Option<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// The largest IP packet, in octets; `None`: the device's.
    pub mtu: Option<u16>,
    /// Our Ethernet address; `None`: the device's.
    pub mac: Option<MacAddr>,
    /// Queue pairs of the device, each with a shard of the stack.
    pub queues: u16,
    /// What is left to the device or done for several packets at once.
    pub offloads: Offloading,
    /// How waiting is done.
    pub profile: Profile,
    /// How long a waiting thread spins before it sleeps; `None`: as the profile says.
    pub spin: Option<Duration>,
    /// Whose loopback addresses are.
    pub loopback: Loopback,
    /// Which sockets the stack takes.
    pub rules: Rules,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// Ephemeral ports, inclusive (`ip_local_port_range`).
    pub ephemeral_ports: (u16, u16),
    /// Octets a UDP socket queues at most (`rmem_default`).
    pub udp_receive_buffer: u32,
    /// Largest value `SO_RCVBUF` can set before doubling (`rmem_max`).
    pub max_receive_buffer: u32,
    /// Largest value `SO_SNDBUF` can set before doubling (`wmem_max`).
    pub max_send_buffer: u32,
    /// Table sizes.
    pub capacity: Capacity,
    /// Sizes of what is reserved at the start.
    pub memory: Memory,
    /// Whether the start is announced.
    pub banner: Banner,
    /// How much is said on standard error: 0 errors, 1 decisions, 2 everything.
    pub verbose: u8,
    /// Where control sockets and leases are; `None`: [`RunDir::default_path`](crate::RunDir).
    pub run_dir: Option<PathBuf>,
    /// Where the counters are added when the engine ends.
    pub stats_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let stack = Config::default();
        Settings {
            device: DeviceSpec::default(),
            addresses: Vec::new(),
            gateway: None,
            routes: Vec::new(),
            mtu: None,
            mac: None,
            queues: 1,
            offloads: Offloading::default(),
            profile: Profile::default(),
            spin: None,
            loopback: Loopback::default(),
            rules: Rules::default(),
            tcp: stack.tcp,
            ephemeral_ports: stack.ephemeral_ports,
            udp_receive_buffer: stack.udp_receive_buffer,
            max_receive_buffer: stack.max_receive_buffer,
            max_send_buffer: stack.max_send_buffer,
            capacity: stack.capacity,
            memory: Memory::default(),
            banner: Banner::default(),
            verbose: 0,
            run_dir: None,
            stats_file: None,
        }
    }
}

impl Settings {
    /// Every setting by its name, in the order in which they are documented.
    pub const KEYS: &'static [Key] = keys::KEYS;

    /// The configuration of a shard that these settings ask for. An `mtu` that was not set
    /// becomes 1500 and absent addresses stay absent: the engine, which knows the device, fills
    /// both in.
    #[must_use]
    #[allow(clippy::needless_update)] // A field the stack gains later keeps its default.
    pub fn to_stack_config(&self) -> Config {
        let (_, segment, coalesce) = self.offloads.wanted();
        Config {
            segment,
            coalesce,
            addresses: self.addresses.clone(),
            routes: self.gateway_route().into_iter().chain(self.routes.iter().copied()).collect(),
            mtu: self.mtu.unwrap_or(1500),
            loopback: self.loopback == Loopback::Stack,
            ephemeral_ports: self.ephemeral_ports,
            udp_receive_buffer: self.udp_receive_buffer,
            max_receive_buffer: self.max_receive_buffer,
            max_send_buffer: self.max_send_buffer,
            tcp: self.tcp,
            capacity: self.capacity,
            ..Config::default()
        }
    }

    fn gateway_route(&self) -> Option<Route> {
        let gateway = self.gateway?;
        let unspecified = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Some(Route { destination: Cidr::new(unspecified, 0)?, gateway: Some(gateway) })
    }

    /// Checks what no single setting can: that they fit each other.
    ///
    /// # Errors
    /// The first setting that contradicts another.
    pub fn validate(&self) -> Result<(), SettingError> {
        self.validate_addresses()?;
        if let Some(gateway) = self.gateway {
            let on_link = self.addresses.iter().any(|network| network.contains(gateway));
            if !self.addresses.is_empty() && !on_link {
                return Err(SettingError::new(
                    "gateway",
                    &gateway.to_string(),
                    "lies in the network of none of our addresses",
                    &format!("give a router within {}", self.addresses[0]),
                ));
            }
            if self.addresses.iter().any(|network| network.address() == gateway) {
                let remedy = "give the router's address";
                let value = gateway.to_string();
                return Err(SettingError::new("gateway", &value, "is our own address", remedy));
            }
        }
        self.validate_memory()?;
        let needs_address = !matches!(self.device, DeviceSpec::Tap { name: None });
        if needs_address && self.addresses.is_empty() {
            return Err(SettingError::new(
                "address",
                "",
                &format!("is not set, and the device {} has no default", self.device),
                "give --address ADDRESS/PREFIX, such as 10.0.0.2/24",
            ));
        }
        Ok(())
    }

    fn validate_memory(&self) -> Result<(), SettingError> {
        let (mbufs, least) = (self.memory.mbufs, self.memory.least_mbufs());
        if mbufs >= least {
            return Ok(());
        }
        Err(SettingError::new(
            "memory.mbufs",
            &mbufs.to_string(),
            "is too few for the queues: sending would starve",
            &format!("give at least {least}, or shorten memory.rx_descriptors or .tx_descriptors"),
        ))
    }

    fn validate_addresses(&self) -> Result<(), SettingError> {
        for (at, network) in self.addresses.iter().enumerate() {
            if self.addresses[..at].iter().any(|other| other.address() == network.address()) {
                let remedy = "give each address once";
                let value = network.to_string();
                return Err(SettingError::new("address", &value, "is given twice", remedy));
            }
        }
        Ok(())
    }
}

/// A setting that cannot be honoured: one line that names it, its value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The setting's name, as in [`Settings::KEYS`].
    pub setting: String,
    /// The value as it was given; empty if there was none.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// Which source the value came from, such as `--mtu` or a file's path.
    pub origin: Option<String>,
}

impl SettingError {
    /// An error of unknown origin.
    #[must_use]
    pub fn new(setting: &str, value: &str, problem: &str, remedy: &str) -> Self {
        SettingError {
            setting: setting.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
            origin: None,
        }
    }

    /// The same error, with where the value came from.
    #[must_use]
    pub fn from_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin.get_or_insert(origin.into());
        self
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.setting.clone();
        if !self.value.is_empty() {
            // Debug's escapes keep whatever was given on one line.
            line.push_str(&format!(" {:?}", self.value));
        }
        if let Some(origin) = &self.origin {
            line.push_str(&format!(" (from {origin})"));
        }
        line.push_str(&format!(" {}", self.problem));
        if !self.remedy.is_empty() {
            line.push_str(&format!("; {}", self.remedy));
        }
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for SettingError {}

#[cfg(test)]
mod tests;
