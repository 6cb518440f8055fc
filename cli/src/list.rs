//! `onwire list`: the engines that run.

use crate::arguments::ListArguments;
use crate::engines::{addresses, programs};
use crate::failure::Failure;
use crate::output::{Align, Table, print, print_json};
use control::message::EngineInfo;
use std::process::ExitCode;

/// Runs the subcommand. No engine at all is an empty list, not a failure.
pub fn list(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let engines = arguments.selection.live_engines();
    let infos: Vec<EngineInfo> = engines.into_iter().map(|engine| engine.info).collect();
    if arguments.json {
        print_json(&infos)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&render(&infos))?;
    Ok(ExitCode::SUCCESS)
}

fn render(infos: &[EngineInfo]) -> String {
    let mut table = Table::new(&[
        ("Engine", Align::Right),
        ("Device", Align::Left),
        ("Driver", Align::Left),
        ("Address", Align::Left),
        ("MAC", Align::Left),
        ("MTU", Align::Right),
        ("Also takes", Align::Left),
        ("Link", Align::Left),
        ("Wakes by", Align::Left),
        ("Profile", Align::Left),
        ("Up", Align::Right),
        ("Programs", Align::Left),
    ]);
    for info in infos {
        let device = match &info.interface {
            Some(interface) if !info.device.contains(interface) => {
                format!("{} ({interface})", info.device)
            }
            _ => info.device.clone(),
        };
        table.row(vec![
            info.id.to_string(),
            device,
            info.driver.clone(),
            addresses(info),
            info.mac.to_string(),
            info.mtu.to_string(),
            also_takes(info),
            known(&info.link),
            known(&info.wakes_by),
            info.profile.clone(),
            duration(info.uptime_ms / 1000),
            programs(info),
        ]);
    }
    table.render()
}

/// The frames that the device takes beside those for its own address and for everybody.
fn also_takes(info: &EngineInfo) -> String {
    const SHOWN: usize = 2;
    if info.promiscuous {
        return "everything".to_owned();
    }
    if info.allmulticast {
        return "every group".to_owned();
    }
    let groups = &info.multicast;
    let mut names: Vec<String> = groups.iter().take(SHOWN).map(ToString::to_string).collect();
    if groups.len() > SHOWN {
        names.push(format!("{} more", groups.len() - SHOWN));
    }
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// Engines of an older version do not say.
fn known(word: &str) -> String {
    if word.is_empty() { "-".to_owned() } else { word.to_owned() }
}

/// A time in its two largest units.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units() {
        assert_eq!(duration(5), "5s");
        assert_eq!(duration(65), "1m5s");
        assert_eq!(duration(7_300), "2h1m");
        assert_eq!(duration(90_000), "1d1h");
    }

    #[test]
    fn no_engine_is_a_table_without_rows() {
        assert_eq!(render(&[]).lines().count(), 1);
    }
}
