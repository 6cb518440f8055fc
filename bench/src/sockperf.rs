//! sockperf, unmodified, on the kernel and on onwire: the same measurement by somebody else.

use crate::bench::{Bench, PATIENCE};
use crate::histogram::Histogram;
use crate::latency::{Effort, Measured, Stack, address};
use crate::namespaces::Side;
use crate::role::Waiting;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

const PORT: &str = "7008";

/// One run of `sockperf ping-pong --tcp`.
pub fn measure(
    bench: &Bench,
    stack: Stack<'_>,
    (waiting, size): (Waiting, u32),
    effort: Effort,
) -> Result<Measured> {
    let at = address(stack, Side::Server).to_string();
    // It leaves out the first 400 ms and the last 50.
    let seconds = (effort.time.as_secs_f64() + 0.5).ceil().to_string();
    let size = size.to_string();
    let log = bench.directory().join("sockperf.csv").display().to_string();
    let mut serve = vec!["sockperf", "server", "--tcp", "-i", &at, "-p", PORT];
    let mut ping = vec![
        "sockperf",
        "ping-pong",
        "--tcp",
        "-m",
        &size,
        "-i",
        &at,
        "-p",
        PORT,
        "-t",
        &seconds,
        "--full-rtt",
        "--full-log",
        &log,
    ];
    if waiting == Waiting::Spin {
        serve.push("--nonblocked");
        ping.push("--nonblocked");
    }
    let own = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    let mut server = bench.start_on("sockperf server", stack, Side::Server, own(serve))?;
    if let Some((_, wire)) = stack {
        wire.wait_for(&mut server)?;
    }
    let said = ask_until_it_listens(bench, stack, &own(ping), PATIENCE + effort.time)?;
    let times = read_log(&log).with_context(|| said.join("\n"))?;
    if let Some((onwire, _)) = stack {
        onwire.require_frames(bench, server.pid(), times.count()).context("the server")?;
    }
    let _ = std::fs::remove_file(&log);
    server.end();
    Ok(Measured { times, lost: 0, on: None })
}

/// The server buffers what it says while it writes to a pipe, so that nothing tells when it
/// listens: a client that is refused is started again.
fn ask_until_it_listens(
    bench: &Bench,
    stack: Stack<'_>,
    ping: &[String],
    within: Duration,
) -> Result<Vec<String>> {
    let mut attempts_left = 10;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let mut client = bench.start_on("sockperf", stack, Side::Client, ping.to_vec())?;
        let said = client.remaining_lines(within)?;
        attempts_left -= 1;
        match client.finish(PATIENCE) {
            Ok(()) => return Ok(said),
            Err(error) if attempts_left == 0 => return Err(error.context(said.join("\n"))),
            Err(_) => {}
        }
    }
}

/// The log has a line per message: its number, when it was sent and when its reply came, in
/// seconds, and the difference.
fn read_log(path: &str) -> Result<Histogram> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let mut times = Histogram::new()?;
    for row in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let mut fields = row.split(',').skip(1).map(nanoseconds);
        let (Some(Some(sent)), Some(Some(received))) = (fields.next(), fields.next()) else {
            bail!("sockperf's log has the line {row:?}");
        };
        times.record(received.saturating_sub(sent));
    }
    ensure!(times.count() > 0, "sockperf logged nothing");
    Ok(times)
}

/// `12.345678901` seconds as nanoseconds, without the rounding of a float.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.trim().split_once('.')?;
    let digits = fraction.get(..fraction.len().min(9))?;
    let scale = 10u64.pow(9 - u32::try_from(digits.len()).ok()?);
    let seconds: u64 = seconds.parse().ok()?;
    Some(seconds * 1_000_000_000 + digits.parse::<u64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn the_log_s_seconds_become_nanoseconds_exactly() {
        assert_eq!(nanoseconds("1700000000.000000001"), Some(1_700_000_000_000_000_001));
        assert_eq!(nanoseconds("0.123456"), Some(123_456_000));
        assert_eq!(nanoseconds("x"), None);
    }
}
