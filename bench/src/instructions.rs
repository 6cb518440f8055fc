//! `onwire bench instructions`: how many instructions of user space an echo takes at one side, by
//! valgrind's callgrind, which counts them exactly: hooks, stack and driver. Beside it smoltcp, which its
//! program calls without sockets, over the same kind of device.

use crate::bench::{Bench, Common, Link, PATIENCE, find_on_path};
use crate::machine::Machine;
use crate::namespaces::Side;
use crate::onwire::Onwire;
use crate::page::Page;
use crate::role::{COUNTED_OCTETS, Echoed, Ready};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs::{read_dir, read_to_string};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

const PORT: u16 = 7011;
/// valgrind's program is started slowly.
const START: u32 = 6;

/// The options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Echoes that are counted
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
}

/// Counts and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    find_on_path("valgrind").context("apt-get install valgrind")?;
    let onwire = Onwire::find(args.common.onwire.as_deref())?;
    let machine = Machine::look();
    let bench = Bench::set_up(&args.common)?;
    let ours = count(&bench, &onwire, args.count, false).context("onwire")?;
    let smoltcps = count(&bench, &onwire, args.count, true).context("smoltcp")?;
    let page = Page {
        on: bench.on(),
        title: "onwire bench instructions".to_owned(),
        text: format!(
            "instructions of user space at one side for an echo of {COUNTED_OCTETS} octets by TCP, \
             vhost/virtio-user\n\nonwire, unmodified sockets {ours:>8}\nsmoltcp, its own calls     \
             {smoltcps:>8}\n"
        ),
        plots: Vec::new(),
        json: json!({
            "machine": machine, "on": bench.on(), "octets": COUNTED_OCTETS, "echoes": args.count,
            "onwire": ours, "smoltcp": smoltcps,
        }),
    };
    page.publish(&args.common, &machine)?;
    Ok(ExitCode::SUCCESS)
}

/// Instructions of one echo at the client.
fn count(bench: &Bench, onwire: &Onwire, echoes: u32, smoltcp: bool) -> Result<u64> {
    let name = if smoltcp { "smoltcp" } else { "onwire" };
    eprintln!("counting {name}'s");
    let wire = bench.wire(Link::Vhost);
    let stack = Some((onwire, &wire));
    let at = SocketAddr::new(Onwire::address(Side::Server).into(), PORT).to_string();
    let size = COUNTED_OCTETS.to_string();
    let words = bench.role(&["echo", "tcp", "block", &at, &size]);
    let mut server = bench.start_on("the server", stack, Side::Server, words)?;
    wire.wait_for(&mut server)?;
    let out = bench.directory().join(name);
    std::fs::create_dir(&out)?;
    let files = format!("--callgrind-out-file={}/%p", out.display());
    let mut words: Vec<String> =
        ["valgrind", "--quiet", "--tool=callgrind", &files, "--toggle-collect=*counted_exchange*"]
            .map(str::to_owned)
            .into();
    words.extend(bench.role(&["count-echo", &at, &echoes.to_string()]));
    let mut client = if smoltcp {
        let own = Onwire::address(Side::Client).to_string();
        words.extend(["--smoltcp".to_owned(), wire.device(Side::Client), own]);
        bench.start("the client", Side::Client, &words)?
    } else {
        bench.start_on("the client", stack, Side::Client, words)?
    };
    let _: Ready = client.message(START * PATIENCE)?;
    let _: Ready = server.message(PATIENCE)?;
    client.go_on()?;
    let Echoed { echoed } = client.message(START * PATIENCE)?;
    if !smoltcp {
        let frames = [("tcp.segments_in", echoed), ("tcp.segments_out", echoed)];
        onwire.require(bench, server.pid(), &frames).context("the server")?;
    }
    client.go_on()?;
    client.finish(START * PATIENCE)?;
    let Echoed { echoed: answered } = server.message(PATIENCE)?;
    ensure!(answered >= echoed, "{echoed} were sent, {answered} echoed");
    server.finish(PATIENCE)?;
    Ok(counted(&out)? / echoed.max(1))
}

/// What callgrind counted in the process that did most: helpers count nothing.
fn counted(directory: &Path) -> Result<u64> {
    let mut most = 0;
    for file in read_dir(directory)? {
        most = most.max(total(&read_to_string(file?.path())?).unwrap_or(0));
    }
    ensure!(most > 0, "callgrind has counted nothing");
    Ok(most)
}

fn total(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("summary: "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_own_words_are_read() {
        assert_eq!(total("events: Ir\nsummary: 18062434\n\nob=(1)"), Some(18_062_434));
        assert_eq!(total("events: Ir\n"), None);
    }
}
