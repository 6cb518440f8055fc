//! The ways in which a measured program's sockets are carried, side by side in one run.

use crate::bench::{Bench, Common, Link, Wire};
use crate::distance::in_one_place;
use crate::latency::Stack;
use crate::onwire::Onwire;
use crate::role::Waiting;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The kernel over a veth pair, blocking calls
    KernelBlocking,
    /// The kernel over a veth pair, calls repeated on nonblocking sockets
    KernelSpinning,
    /// onwire over the link, blocking calls (its library spins, profile latency)
    Onwire,
    /// The same by onwire's default profile, which sleeps: for more threads than cores
    OnwireBalanced,
}

impl Way {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Way::KernelBlocking => "kernel, blocking",
            Way::KernelSpinning => "kernel, spinning",
            Way::Onwire => "onwire",
            Way::OnwireBalanced => "onwire, balanced",
        }
    }

    /// Onwire's profile, if onwire carries it.
    pub fn profile(self) -> Option<&'static str> {
        match self {
            Way::KernelBlocking | Way::KernelSpinning => None,
            Way::Onwire => Some("latency"),
            Way::OnwireBalanced => Some("balanced"),
        }
    }

    /// How the program waits.
    pub fn waiting(self) -> Waiting {
        if self == Way::KernelSpinning { Waiting::Spin } else { Waiting::Block }
    }
}

/// The options of measurements that compare ways.
#[derive(Debug, clap::Args)]
pub struct Ways {
    /// Which ways to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kernel-blocking,kernel-spinning,onwire"
    )]
    pub only: Vec<Way>,
    /// The link of onwire's two ends
    #[arg(long, value_enum, default_value = "vhost")]
    pub link: Link,
}

impl Ways {
    /// Onwire's command, if it is measured.
    pub fn onwire(&self, common: &Common) -> Result<Option<Onwire>> {
        let wanted = self.only.iter().any(|way| way.profile().is_some());
        wanted.then(|| Onwire::find(common.onwire.as_deref())).transpose()
    }
}

/// Measures every mode once in each round, in turns, and says which. What counts is recorded: see
/// [`in_one_place`].
pub fn in_turns<M, R>(
    bench: &Bench,
    rounds: u32,
    modes: &[M],
    name: impl Fn(&M) -> String,
    mut measure: impl FnMut(&M) -> Result<R>,
    mut record: impl FnMut(&M, R) -> Result<()>,
) -> Result<()> {
    for round in 1..=rounds {
        for mode in modes {
            let name = name(mode);
            eprintln!("round {round} of {rounds}: {name}");
            let measured = in_one_place(bench, || measure(mode));
            record(mode, measured.with_context(|| format!("{name}, round {round}"))?)?;
        }
    }
    Ok(())
}

/// Calls `f` with a fresh wire if the way needs one.
pub fn with_stack<R>(
    bench: &Bench,
    onwire: Option<&Onwire>,
    (way, link): (Way, Link),
    f: impl FnOnce(Stack<'_>) -> Result<R>,
) -> Result<R> {
    let wire: Option<Wire> = way.profile().map(|profile| bench.wire(link).with_profile(profile));
    f(onwire.zip(wire.as_ref()))
}
