//! `onwire stats`: counters, once or as they change.

use crate::arguments::StatsArguments;
use crate::engines::{Engine, heading};
use crate::failure::Failure;
use crate::output::{Align, Table, print, print_json};
use control::message::Stats;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

/// Runs the subcommand.
pub fn stats(arguments: &StatsArguments) -> Result<ExitCode, Failure> {
    let mut engines = arguments.selection.engines()?;
    if let Some(seconds) = arguments.watch {
        return watch(arguments, &mut engines, Duration::from_secs(seconds));
    }
    let several = engines.len() > 1;
    let mut documents = Vec::new();
    let mut text = String::new();
    for engine in &mut engines {
        let stats = engine.client.stats()?;
        if arguments.json {
            documents.push(stats.document(engine.info.id, arguments.nonzero));
            continue;
        }
        if several {
            text.push_str(&heading(&engine.info));
        }
        text.push_str(&render(&stats, arguments.nonzero));
    }
    if arguments.json {
        print_json(&documents)?
    } else {
        print(&text)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what changed, every interval, until the engines are gone.
fn watch(
    arguments: &StatsArguments,
    engines: &mut [Engine],
    interval: Duration,
) -> Result<ExitCode, Failure> {
    let several = engines.len() > 1;
    let mut before = Vec::new();
    for engine in engines.iter_mut() {
        before.push(engine.client.stats()?);
    }
    loop {
        sleep(interval);
        for (engine, before) in engines.iter_mut().zip(&mut before) {
            let now = engine.client.stats()?;
            let change = difference(&now, before);
            *before = now;
            if arguments.json {
                // One line per interval, for programs that follow.
                print(&format!("{}\n", change.document(engine.info.id, true)))?;
            } else {
                let heading = if several { heading(&engine.info) } else { String::new() };
                print(&format!("{heading}{}\n", render(&change, true)))?;
            }
        }
    }
}

fn difference(now: &Stats, before: &Stats) -> Stats {
    let mut change = Stats::default();
    for group in &now.groups {
        for counter in &group.counters {
            let earlier = before.get(&group.name, &counter.name).unwrap_or(0);
            let value = counter.value.wrapping_sub(earlier);
            change.add(&group.name, &counter.name, value, &counter.help);
        }
    }
    change
}

fn render(stats: &Stats, nonzero: bool) -> String {
    let mut table =
        Table::new(&[("Counter", Align::Left), ("Value", Align::Right), ("Meaning", Align::Left)]);
    for group in &stats.groups {
        for counter in &group.counters {
            if nonzero && counter.value == 0 {
                continue;
            }
            table.row(vec![
                format!("{}.{}", group.name, counter.name),
                counter.value.to_string(),
                counter.help.clone(),
            ]);
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(sent: u64, lost: u64) -> Stats {
        let mut stats = Stats::default();
        stats.add("tcp", "sent", sent, "Segments sent.");
        stats.add("tcp", "lost", lost, "Segments lost.");
        stats
    }

    #[test]
    fn counters_that_wrap_still_differ_rightly() {
        let change = difference(&stats(1, 5), &stats(u64::MAX, 5));
        assert_eq!(change.get("tcp", "sent"), Some(2));
        assert_eq!(change.get("tcp", "lost"), Some(0));
    }

    #[test]
    fn zeros_can_be_left_out() {
        assert_eq!(render(&stats(1, 0), true).lines().count(), 2);
        assert_eq!(render(&stats(1, 0), false).lines().count(), 3);
        assert!(render(&stats(1, 0), true).contains("tcp.sent      1  Segments sent."));
    }
}
