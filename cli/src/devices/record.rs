//! What the kernel knew of an interface before its card was handed over: to give it back, and for
//! `onwire run --inherit`.

use super::pci::{Bus, Card};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Where records are, unless the environment says otherwise: they outlive a restart of programs,
/// not one of the machine, after which the kernel has its cards again.
const DIRECTORY: &str = "/run/onwire-cards";
/// Another directory.
pub const DIRECTORY_VARIABLE: &str = "ONWIRE_CARDS_DIR";

/// An interface as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The card.
    pub address: String,
    /// The driver that had it.
    pub driver: Option<String>,
    /// The interface's name.
    pub interface: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<String>,
    /// Its largest packet, in octets.
    pub mtu: Option<u32>,
    /// Its addresses, with prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The router of the default route through it.
    pub gateway: Option<Ipv4Addr>,
}

impl Record {
    /// What there is to know of a card's first interface.
    pub fn of(bus: &Bus, card: &Card) -> Self {
        let mut record = Record {
            address: card.address.clone(),
            driver: card.driver.clone(),
            ..Record::default()
        };
        if let Some(interface) = card.interfaces.first() {
            record.mac = bus.interface_attribute(interface, "address");
            record.mtu = bus.interface_attribute(interface, "mtu").and_then(|n| n.parse().ok());
            record.addresses = addresses(interface);
            let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
            record.gateway = default_route(&routes, interface).flatten();
            record.interface = Some(interface.clone());
        }
        record
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let path = path(&self.address);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, serde_json::to_vec_pretty(self)?)
    }

    /// The record of a card, if there is one that can be read.
    pub fn load(address: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(address)).ok()?).ok()
    }

    /// Forgets it.
    pub fn remove(&self) {
        let _ = fs::remove_file(path(&self.address));
    }

    /// The arguments of ip(8) that make the interface what it was, once its driver has it again.
    pub fn commands(&self, interface: &str) -> Vec<Vec<String>> {
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut commands: Vec<Vec<String>> = Vec::new();
        if let Some(mtu) = self.mtu {
            commands.push(line(&["link", "set", interface, "mtu", &mtu.to_string()]));
        }
        for address in &self.addresses {
            commands.push(line(&["address", "replace", address, "dev", interface]));
        }
        if !self.addresses.is_empty() {
            commands.push(line(&["link", "set", interface, "up"]));
        }
        if let Some(gateway) = self.gateway {
            let gateway = gateway.to_string();
            commands
                .push(line(&["route", "replace", "default", "via", &gateway, "dev", interface]));
        }
        commands
    }
}

fn path(address: &str) -> PathBuf {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).unwrap_or_else(|| DIRECTORY.into());
    PathBuf::from(directory).join(format!("{address}.json"))
}

fn addresses(interface: &str) -> Vec<String> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter(|one| one.interface_name == interface)
        .filter_map(|one| {
            let (address, mask) = (one.address?, one.netmask?);
            let v4 = address.as_sockaddr_in().zip(mask.as_sockaddr_in());
            if let Some((address, mask)) = v4 {
                let prefix = u32::from(mask.ip()).leading_ones();
                return Some(format!("{}/{prefix}", address.ip()));
            }
            let (address, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
            // Link-local ones come by themselves.
            let kept = !address.ip().is_unicast_link_local();
            let prefix = u128::from(mask.ip()).leading_ones();
            kept.then(|| format!("{}/{prefix}", address.ip()))
        })
        .collect()
}

/// Whether the kernel's default route leads through an interface, and which router it names:
/// /proc/net/route, proc(5).
pub fn default_route(table: &str, interface: &str) -> Option<Option<Ipv4Addr>> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, destination, gateway, .., mask, _, _, _] = words.as_slice() else { return None };
        if *name != interface || *destination != "00000000" || *mask != "00000000" {
            return None;
        }
        // In the order of the machine's octets.
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
        Some(Some(gateway).filter(|gateway| !gateway.is_unspecified()))
    })
}

/// The address at which the login session of this process reached the machine (sshd(8)).
pub fn session_address() -> Option<IpAddr> {
    let variable = std::env::var("SSH_CONNECTION").ok()?;
    variable.split(' ').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t0000010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    fn the_default_route_is_the_one_to_everywhere() {
        assert_eq!(default_route(ROUTES, "eth0"), Some(Some(Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(default_route(ROUTES, "eth1"), None);
        assert_eq!(default_route("", "eth0"), None);
    }

    #[test]
    fn what_was_configured_is_restored_in_order() {
        let record = Record {
            mtu: Some(1_400),
            addresses: vec!["10.0.0.2/24".into()],
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ..Record::default()
        };
        let lines: Vec<String> = record.commands("eth0").iter().map(|c| c.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "link set eth0 mtu 1400",
                "address replace 10.0.0.2/24 dev eth0",
                "link set eth0 up",
                "route replace default via 10.0.0.1 dev eth0",
            ]
        );
    }

    #[test]
    fn loopback_has_an_address_with_its_prefix() {
        assert!(addresses("lo").contains(&"127.0.0.1/8".to_owned()));
    }
}
