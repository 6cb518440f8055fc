//! `onwire settings`: every setting with its value and meaning; and the flags as a layer.

use crate::arguments::{SettingFlags, SettingsArguments};
use crate::failure::Failure;
use crate::output::{Align, Table, print};
use control::{Layer, SettingError, Settings};
use std::fmt::Write;
use std::process::ExitCode;

impl SettingFlags {
    /// The flags as the strongest source of settings.
    ///
    /// # Errors
    /// A `--set` without its `=`.
    pub fn layer(&self) -> Result<Layer, SettingError> {
        let mut layer = Layer::new();
        let single = [
            ("device", &self.device),
            ("gateway", &self.gateway),
            ("mtu", &self.mtu),
            ("queues", &self.queues),
            ("offloads", &self.offloads),
            ("profile", &self.profile),
            ("loopback", &self.loopback),
        ];
        for (name, value) in single {
            if let Some(value) = value {
                layer.set(name, value, &format!("--{name}"));
            }
        }
        for (name, values) in [("address", &self.address), ("rule", &self.rule)] {
            for value in values {
                layer.set(name, value, &format!("--{name}"));
            }
        }
        for setting in &self.set {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                let remedy = "write --set NAME=VALUE, such as --set tcp.sack=off";
                SettingError::new("set", setting, "has no =", remedy).from_origin("--set")
            })?;
            layer.set(name.trim(), value, "--set");
        }
        Ok(layer)
    }

    /// Every source merged.
    ///
    /// # Errors
    /// The first setting that cannot be honoured.
    pub fn load(&self, flags: &Layer) -> Result<Settings, SettingError> {
        Settings::load(self.config.as_deref(), std::env::vars_os(), flags)
    }

    /// As `load`, before the settings are complete.
    ///
    /// # Errors
    /// As `load`.
    pub fn gather(&self, flags: &Layer) -> Result<Settings, SettingError> {
        Settings::gather(self.config.as_deref(), std::env::vars_os(), flags)
    }
}

/// Runs the subcommand.
pub fn settings(arguments: &SettingsArguments) -> Result<ExitCode, Failure> {
    let settings = arguments.settings.load(&arguments.settings.layer()?)?;
    print(&if arguments.toml { toml(&settings) } else { table(&settings) })?;
    Ok(ExitCode::SUCCESS)
}

fn table(settings: &Settings) -> String {
    let defaults = Settings::default();
    let mut table =
        Table::new(&[("Setting", Align::Left), ("Value", Align::Left), ("Meaning", Align::Left)]);
    for key in Settings::KEYS {
        let value = key.value(settings);
        let changed = if value == key.value(&defaults) { "" } else { " (set)" };
        table.row(vec![key.name.into(), format!("{value}{changed}"), key.meaning.into()]);
    }
    table.render()
}

/// A file that says what the settings are; the defaults are comments.
fn toml(settings: &Settings) -> String {
    let defaults = Settings::default();
    let mut text = String::new();
    let mut section = "";
    for key in Settings::KEYS {
        let (own, name) = key.name.split_once('.').unwrap_or(("", key.name));
        // Writing to a String cannot fail.
        if own != section {
            let _ = writeln!(text, "\n[{own}]");
            section = own;
        }
        let value = key.value(settings);
        let comment = if value == key.value(&defaults) { "# " } else { "" };
        let quoted = serde_json::Value::String(value);
        let _ = writeln!(text, "# {}\n{comment}{name} = {quoted}", key.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_printed_reads_back_as_the_same_settings() {
        let mut settings = Settings::default();
        let mut layer = Layer::new();
        layer.set("mtu", "1400", "");
        layer.set("rule", "use kernel port=1;use onwire", "");
        layer.set("tcp.rmem", "4096 8192 16384", "");
        settings.apply(&layer).unwrap();
        let mut read = Settings::default();
        read.apply(&Layer::from_toml(&toml(&settings), "x").unwrap()).unwrap();
        assert_eq!(read, settings);
        // The defaults that stand there as comments are settings as well.
        let all = toml(&settings)
            .lines()
            .map(|line| {
                let line =
                    line.strip_prefix("# ").filter(|rest| rest.contains(" = \"")).unwrap_or(line);
                format!("{line}\n")
            })
            .collect::<String>();
        let mut read = Settings::default();
        read.apply(&Layer::from_toml(&all, "x").unwrap()).unwrap();
        assert_eq!(read, settings);
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let flags = SettingFlags {
            device: Some("vhost:/tmp/v".into()),
            address: vec!["10.0.0.2/24".into(), "10.0.1.2/24".into()],
            gateway: Some("10.0.0.1".into()),
            mtu: Some("1400".into()),
            queues: Some("2".into()),
            offloads: Some("off".into()),
            profile: Some("latency".into()),
            loopback: Some("stack".into()),
            rule: vec!["use kernel port=1".into(), "use kernel port=2".into()],
            set: vec!["tcp.sack=off".into()],
            config: None,
        };
        let mut settings = Settings::default();
        settings.apply(&flags.layer().unwrap()).unwrap();
        let changed = settings.to_json();
        for name in [
            "device", "address", "gateway", "mtu", "queues", "offloads", "profile", "loopback",
            "rule",
        ] {
            assert!(changed.contains(&format!("\"{name}\"")), "{changed}");
        }
        assert_eq!(settings.addresses.len(), 2);
        assert_eq!(settings.rules.0.len(), 2);
        assert!(!settings.tcp.sack);
    }
}
