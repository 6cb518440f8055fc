//! What an operator may change of an engine that runs: `onwire set`.

use crate::settings::SettingError;
use serde::{Deserialize, Serialize};

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The largest IP packet on the device, in octets.
    Mtu(u16),
    /// Whether the device takes frames for every address.
    Promiscuous(bool),
}

/// As the setting of the same name.
const MTU: core::ops::RangeInclusive<u16> = 576..=65_535;

impl Change {
    /// The names of what can be changed, and what their values are.
    pub const NAMES: &'static [(&'static str, &'static str)] =
        &[("mtu", "a number from 576 to 65535"), ("promiscuous", "on or off")];

    /// Reads a change as it is typed.
    ///
    /// # Errors
    /// There is no such name, or it has no such value.
    pub fn parse(name: &str, value: &str) -> Result<Self, SettingError> {
        let change = match (name, value) {
            ("mtu", number) => number.parse().ok().filter(|mtu| MTU.contains(mtu)).map(Self::Mtu),
            ("promiscuous", "on") => Some(Self::Promiscuous(true)),
            ("promiscuous", "off") => Some(Self::Promiscuous(false)),
            _ => None,
        };
        change.ok_or_else(|| match Self::NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                SettingError::new(name, value, "is not possible", &format!("give {values}"))
            }
            None => {
                let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                let remedy = format!(
                    "{} can be; for others start the program anew (onwire settings)",
                    names.join(" and ")
                );
                SettingError::new(name, value, "cannot be changed while an engine runs", &remedy)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_typed() {
        assert_eq!(Change::parse("mtu", "1400"), Ok(Change::Mtu(1400)));
        assert_eq!(Change::parse("promiscuous", "on"), Ok(Change::Promiscuous(true)));
        assert_eq!(Change::parse("promiscuous", "off"), Ok(Change::Promiscuous(false)));
        for (name, value) in
            [("mtu", "575"), ("mtu", "65536"), ("mtu", ""), ("promiscuous", "1"), ("gro", "off")]
        {
            let said = Change::parse(name, value).expect_err(name).to_string();
            assert!(said.contains(name) && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn every_name_can_be_changed() {
        for (name, values) in Change::NAMES {
            let one = if values.contains("number") { "1500" } else { "on" };
            assert!(Change::parse(name, one).is_ok(), "{name}");
        }
    }
}
