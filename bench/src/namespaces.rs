//! Two network namespaces, joined by veth pairs, that disappear with the value that stands for
//! them.

use crate::bench::find_on_path;
use crate::children::output;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::process::Command;

/// Which of the two ends of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that echoes or receives.
    Server,
    /// The end that asks or sends.
    Client,
}

/// The interface that carries the kernel's own TCP and UDP, in both namespaces.
const KERNEL_INTERFACE: &str = "kernel0";
/// The interface without addresses that carries frames of `af_packet` devices.
pub const FRAME_INTERFACE: &str = "frames0";

/// Two namespaces and the links between them.
#[derive(Debug)]
pub struct Namespaces {
    server: String,
    client: String,
}

impl Namespaces {
    /// Makes them (needs `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`).
    pub fn create() -> Result<Self> {
        let id = std::process::id();
        let pair = Namespaces { server: format!("onwb{id}s"), client: format!("onwb{id}c") };
        pair.build().context("cannot make network namespaces (are you root?)")?;
        Ok(pair)
    }

    /// The kernel's address on that side.
    pub fn address(side: Side) -> Ipv4Addr {
        match side {
            Side::Server => Ipv4Addr::new(10, 99, 0, 1),
            Side::Client => Ipv4Addr::new(10, 99, 0, 2),
        }
    }

    /// The name of that side's namespace, below `/run/netns`.
    pub fn name(&self, side: Side) -> &str {
        match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        }
    }

    /// The kernel's interface takes one segment at a time and joins none. (`gso_max_segs 1` of ip(8)
    /// makes its TCP twenty times slower.)
    pub fn end_segmentation(&self) -> Result<()> {
        find_on_path("ethtool").context("apt-get install ethtool")?;
        for side in [Side::Server, Side::Client] {
            let ethtool = ["netns", "exec", self.name(side), "ethtool", "-K", KERNEL_INTERFACE];
            ip(&[&ethtool[..], &["tso", "off", "gso", "off", "gro", "off"]].concat())?;
        }
        Ok(())
    }

    fn build(&self) -> Result<()> {
        for side in [Side::Server, Side::Client] {
            ip(&["netns", "add", self.name(side)])?;
        }
        for interface in [KERNEL_INTERFACE, FRAME_INTERFACE] {
            ip(&[
                "link",
                "add",
                interface,
                "netns",
                &self.server,
                "type",
                "veth",
                "peer",
                "name",
                interface,
                "netns",
                &self.client,
            ])?;
        }
        for side in [Side::Server, Side::Client] {
            let name = self.name(side);
            let address = format!("{}/24", Self::address(side));
            ip(&["-n", name, "addr", "add", &address, "dev", KERNEL_INTERFACE])?;
            // Without this the kernel would send its IPv6 greetings among the measured frames.
            ip(&["-n", name, "link", "set", FRAME_INTERFACE, "addrgenmode", "none"])?;
            for interface in ["lo", KERNEL_INTERFACE, FRAME_INTERFACE] {
                ip(&["-n", name, "link", "set", interface, "up"])?;
            }
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// ip(8).
pub fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(drop)
}
