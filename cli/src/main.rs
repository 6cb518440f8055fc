//! The onwire command: starts programs on the stack and shows what the stack does.
//!
//! Every subcommand is one module with one function that returns the exit status or a [`Failure`],
//! which is one line on standard error. Nothing here touches the stack: `run` hands settings to the
//! library and execs, `bind` and `unbind` talk to sysfs, the others ask engines over their control
//! sockets.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod devices;
mod doctor;
mod engines;
mod failure;
mod frame;
mod library;
mod list;
mod network;
mod output;
mod run;
mod set;
mod settings;
mod ss;
mod stats;
mod symbols;
mod system;
mod tcpdump;
mod top;

use arguments::{Arguments, Command};
use clap::Parser;
use clap::error::ErrorKind;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => dispatch(arguments.command),
        Err(error) => explain(&error),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Ss(arguments) => ss::ss(&arguments),
        Command::Tcpdump(arguments) => tcpdump::tcpdump(&arguments),
        Command::Stats(arguments) => stats::stats(&arguments),
        Command::Top(arguments) => top::top(&arguments),
        Command::List(arguments) => list::list(&arguments),
        Command::Devices(arguments) => devices::devices(&arguments),
        Command::Bind(arguments) => devices::bind(&arguments),
        Command::Unbind(arguments) => devices::unbind(&arguments),
        Command::Route(arguments) => network::route(&arguments),
        Command::Neigh(arguments) => network::neigh(&arguments),
        Command::Set(arguments) => set::set(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Settings(arguments) => settings::settings(&arguments),
        Command::Symbols(arguments) => symbols::symbols(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
    }
}

/// Help and version go to standard output as they are; a mistake becomes one line.
fn explain(error: &clap::Error) -> Result<ExitCode, Failure> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::usage("say what to do; onwire --help shows how"))
        }
        _ => {
            // "error: …", then maybe a list, then a blank line, tips and the usage.
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.split_whitespace().skip(1).collect();
            let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
            let help = "onwire --help shows how".to_owned();
            let remedy = tip.map_or(help, |tip| tip.replace("  ", " "));
            Err(Failure::usage(format!("{}; {remedy}", words.join(" "))))
        }
    }
}
