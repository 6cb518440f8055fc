//! What an operator may change of an engine that runs: `onwire set`.

use crate::message::mac_text;
use crate::settings::{SettingError, parse_mac};
use core::net::Ipv4Addr;
use serde::{Deserialize, Serialize};
use stack::addr::MacAddr;
use stack::wire::ethernet::multicast_v4;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The largest IP packet on the device, in octets.
    Mtu(u16),
    /// Our Ethernet address.
    Mac(#[serde(with = "mac_text")] MacAddr),
    /// Whether the device takes frames for every address.
    Promiscuous(bool),
    /// Whether the device takes frames for a group of the link.
    Multicast {
        /// It shall, or need not any more.
        membership: Membership,
        /// The group.
        #[serde(with = "mac_text")]
        group: MacAddr,
    },
    /// Whether the device takes frames for every group.
    #[serde(rename = "allmulticast")]
    AllMulticast(bool),
}

/// What becomes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// Its frames are wanted.
    Add,
    /// They are not wanted any more.
    Del,
}

/// As the setting of the same name.
const MTU: core::ops::RangeInclusive<u16> = 576..=65_535;

impl Change {
    /// The names of what can be changed, and what their values are.
    pub const NAMES: &'static [(&'static str, &'static str)] = &[
        ("mtu", "a number from 576 to 65535"),
        ("mac", "the address of one station, such as 02:00:00:00:00:01"),
        ("promiscuous", "on or off"),
        ("multicast", "add or del and a group's Ethernet address, such as: add 01:00:5e:01:02:03"),
        ("allmulticast", "on or off"),
    ];

    /// Reads a change as it is typed.
    ///
    /// # Errors
    /// There is no such name, or it has no such value.
    pub fn parse(name: &str, value: &str) -> Result<Self, SettingError> {
        let Some((_, values)) = Self::NAMES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            let remedy = format!(
                "these can be: {}; for others start the program anew (onwire settings)",
                names.join(", ")
            );
            let problem = "cannot be changed while an engine runs";
            return Err(SettingError::new(name, value, problem, &remedy));
        };
        let change = match name {
            "mtu" => number(value).map(Self::Mtu),
            "mac" => station(value).map(Self::Mac),
            "promiscuous" => switch(value).map(Self::Promiscuous),
            "multicast" => group(value),
            _ => switch(value).map(Self::AllMulticast),
        };
        change
            .map_err(|problem| SettingError::new(name, value, &problem, &format!("give {values}")))
    }
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|mtu| MTU.contains(mtu)).ok_or_else(|| "is not possible".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is not possible".to_owned()),
    }
}

/// As the kernel judges it (`EADDRNOTAVAIL`).
fn station(text: &str) -> Result<MacAddr, String> {
    match parse_mac(text) {
        None => Err("is no Ethernet address".to_owned()),
        Some(mac) if mac.is_unicast() => Ok(mac),
        Some(mac) => {
            let whose = if mac.is_multicast() { "a group's, not a station's" } else { "nobody's" };
            Err(format!("cannot be assigned: it is {whose}"))
        }
    }
}

fn group(text: &str) -> Result<Change, String> {
    let (membership, address) = match text.split_once(' ') {
        Some(("add", address)) => (Membership::Add, address.trim()),
        Some(("del", address)) => (Membership::Del, address.trim()),
        _ => return Err("is not possible".to_owned()),
    };
    if let Ok(ip) = address.parse::<Ipv4Addr>()
        && ip.is_multicast()
    {
        return Err(format!("names an IP group, which is {} on the link", multicast_v4(ip)));
    }
    match parse_mac(address) {
        None => Err("has no Ethernet address".to_owned()),
        Some(group) if group.is_broadcast() => Err("is not needed: it always arrives".to_owned()),
        Some(group) if group.is_multicast() => Ok(Change::Multicast { membership, group }),
        Some(_) => Err("names a station, not a group (its first octet is even)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_typed() {
        let mac = MacAddr([2, 0, 0, 0, 0, 0xab]);
        let group = MacAddr([1, 0, 0x5e, 1, 2, 3]);
        let of = |membership| Change::Multicast { membership, group };
        for (name, value, change) in [
            ("mtu", "1400", Change::Mtu(1400)),
            ("mac", "02:00:00:00:00:AB", Change::Mac(mac)),
            ("promiscuous", "on", Change::Promiscuous(true)),
            ("promiscuous", "off", Change::Promiscuous(false)),
            ("multicast", "add 01:00:5e:01:02:03", of(Membership::Add)),
            ("multicast", "del 01:00:5e:01:02:03", of(Membership::Del)),
            ("allmulticast", "on", Change::AllMulticast(true)),
            ("allmulticast", "off", Change::AllMulticast(false)),
        ] {
            assert_eq!(Change::parse(name, value), Ok(change));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_a_line_that_says_why() {
        for (name, value, said) in [
            ("mtu", "575", "576 to 65535"),
            ("mtu", "65536", "576 to 65535"),
            ("mtu", "", "576 to 65535"),
            ("mac", "02:00:00:00:00", "no Ethernet address"),
            ("mac", "01:00:5e:00:00:01", "cannot be assigned: it is a group's"),
            ("mac", "ff:ff:ff:ff:ff:ff", "cannot be assigned: it is a group's"),
            ("mac", "00:00:00:00:00:00", "cannot be assigned: it is nobody's"),
            ("promiscuous", "1", "on or off"),
            ("multicast", "01:00:5e:01:02:03", "give add or del and"),
            ("multicast", "join 01:00:5e:01:02:03", "give add or del and"),
            ("multicast", "add 239.129.2.3", "01:00:5e:01:02:03 on the link"),
            ("multicast", "add 02:00:00:00:00:01", "a station, not a group"),
            ("multicast", "add ff:ff:ff:ff:ff:ff", "it always arrives"),
            ("multicast", "add all", "no Ethernet address"),
            ("allmulticast", "", "on or off"),
            ("gro", "off", "these can be: mtu, mac, promiscuous, multicast, allmulticast"),
        ] {
            let line = Change::parse(name, value).expect_err(name).to_string();
            assert!(line.contains(name) && line.contains(said) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn every_name_can_be_changed() {
        let values = ["1500", "02:00:00:00:00:01", "on", "add 01:00:5e:01:02:03", "off"];
        assert_eq!(values.len(), Change::NAMES.len());
        for ((name, _), value) in Change::NAMES.iter().zip(values) {
            assert!(Change::parse(name, value).is_ok(), "{name}");
        }
    }
}
