//! `onwire top`: the busiest sockets, again and again.

use crate::arguments::TopArguments;
use crate::engines::{Engine, heading};
use crate::failure::Failure;
use crate::output::{self, Align, Table, print};
use control::message::{Protocol, SocketInfo};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Sockets shown of each engine.
const SHOWN: usize = 20;

/// What tells a socket from the others of its engine between two looks.
type Identity = (Protocol, SocketAddr, Option<SocketAddr>);

/// What each socket had carried when last looked at: octets in, octets out.
type Totals = HashMap<Identity, (u64, u64)>;

/// One look at an engine.
struct Look {
    sockets: Vec<SocketInfo>,
    totals: Totals,
    /// Frames of the device.
    frames_in: u64,
    frames_out: u64,
}

/// Runs the subcommand, until the count is reached or the engines are gone.
pub fn top(arguments: &TopArguments) -> Result<ExitCode, Failure> {
    let mut engines = arguments.selection.engines()?;
    let interval = Duration::from_secs(arguments.interval);
    let mut before: Vec<Look> = Vec::new();
    for engine in &mut engines {
        before.push(look(engine)?);
    }
    let mut looked = Instant::now();
    let mut shown = 0;
    loop {
        sleep(interval);
        let seconds = looked.elapsed().as_secs_f64();
        looked = Instant::now();
        let mut text = String::new();
        for (engine, before) in engines.iter_mut().zip(&mut before) {
            let now = look(engine)?;
            text.push_str(&heading(&engine.info));
            let frames = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            text.push_str(&format!(
                "{} sockets, {:.0} frames/s in, {:.0} frames/s out\n",
                now.sockets.len(),
                frames(now.frames_in, before.frames_in),
                frames(now.frames_out, before.frames_out)
            ));
            text.push_str(&render(&now.sockets, &before.totals, seconds));
            *before = now;
        }
        if output::wants_colour() {
            // Home, and clear what is below: no flicker.
            text.insert_str(0, "\x1b[H\x1b[J");
        }
        print(&text)?;
        shown += 1;
        if arguments.count == Some(shown) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn look(engine: &mut Engine) -> Result<Look, Failure> {
    let sockets = engine.client.sockets()?;
    let totals = sockets.iter().map(|socket| (identity(socket), totals(socket))).collect();
    let stats = engine.client.stats()?;
    let counter = |name: &str| {
        let all = stats.groups.iter().flat_map(|group| &group.counters);
        all.filter(|counter| counter.name == name).map(|counter| counter.value).sum()
    };
    let (frames_in, frames_out) = (counter("rx_frames"), counter("tx_frames"));
    Ok(Look { sockets, totals, frames_in, frames_out })
}

fn identity(socket: &SocketInfo) -> Identity {
    (socket.protocol, socket.local, socket.remote)
}

fn totals(socket: &SocketInfo) -> (u64, u64) {
    socket.tcp.as_ref().map_or((0, 0), |tcp| (tcp.bytes_received, tcp.bytes_acked))
}

fn render(sockets: &[SocketInfo], before: &Totals, seconds: f64) -> String {
    let mut rates: Vec<(u64, u64, &SocketInfo)> = sockets
        .iter()
        .map(|socket| {
            let (received, sent) = totals(socket);
            let (received_before, sent_before) =
                before.get(&identity(socket)).copied().unwrap_or((0, 0));
            let rate =
                |now: u64, before: u64| (now.saturating_sub(before) as f64 * 8.0 / seconds) as u64;
            (rate(received, received_before), rate(sent, sent_before), socket)
        })
        .collect();
    rates.sort_by_key(|(received, sent, _)| std::cmp::Reverse(received + sent));
    let mut table = Table::new(&[
        ("In", Align::Right),
        ("Out", Align::Right),
        ("RTT ms", Align::Right),
        ("Cwnd", Align::Right),
        ("Retrans", Align::Right),
        ("State", Align::Left),
        ("Local", Align::Right),
        ("Peer", Align::Right),
        ("Path", Align::Left),
        ("Process", Align::Left),
    ]);
    for (received, sent, socket) in rates.into_iter().take(SHOWN) {
        let tcp = |value: fn(&control::message::TcpInfo) -> String| {
            socket.tcp.as_ref().map_or("-".to_owned(), value)
        };
        table.row(vec![
            format!("{}bps", crate::ss::scaled(received)),
            format!("{}bps", crate::ss::scaled(sent)),
            tcp(|tcp| crate::ss::millis(tcp.rtt_us)),
            tcp(|tcp| tcp.snd_cwnd.to_string()),
            tcp(|tcp| tcp.total_retrans.to_string()),
            socket.state.clone(),
            crate::ss::end(Some(socket.local)),
            crate::ss::end(socket.remote),
            socket.path.name().to_owned(),
            socket.holders.first().map_or("-".to_owned(), |holder| {
                format!("{} ({})", holder.program.name, holder.program.pid)
            }),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::message::{SocketPath, TcpInfo};

    #[test]
    fn the_busiest_socket_comes_first() {
        let socket = |port: u16, bytes_received: u64| SocketInfo {
            protocol: Protocol::Tcp,
            state: "ESTAB".into(),
            local: ([10, 0, 0, 2], port).into(),
            remote: Some(([10, 0, 0, 1], 9).into()),
            receive_queue: 0,
            send_queue: 0,
            path: SocketPath::Stack,
            reason: String::new(),
            holders: vec![],
            timer: None,
            tcp: Some(TcpInfo { bytes_received, ..TcpInfo::default() }),
        };
        let sockets = [socket(1, 1_000), socket(2, 126_000)];
        let before: Totals =
            [(identity(&sockets[0]), (1_000, 0)), (identity(&sockets[1]), (1_000, 0))].into();
        let text = render(&sockets, &before, 1.0);
        let first = text.lines().nth(1).unwrap();
        assert!(first.contains("10.0.0.2:2 ") && first.contains("1.0Mbps"), "{text}");
    }
}
