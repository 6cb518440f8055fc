//! `onwire ss`: sockets as ss(8) shows them, with the path each took and why.

use crate::arguments::SsArguments;
use crate::engines::heading;
use crate::failure::Failure;
use crate::output::{Align, Table, print, print_json};
use control::message::{Protocol, SocketInfo, TcpInfo};
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Runs the subcommand.
pub fn ss(arguments: &SsArguments) -> Result<ExitCode, Failure> {
    let mut engines = arguments.selection.engines()?;
    let several = engines.len() > 1;
    let mut documents = Vec::new();
    let mut text = String::new();
    for engine in &mut engines {
        let mut sockets = engine.client.sockets()?;
        sockets.retain(|socket| wanted(arguments, socket));
        if several && !arguments.json {
            text.push_str(&heading(&engine.info));
        }
        if arguments.json {
            documents.push(json!({ "engine": engine.info.id, "sockets": sockets }));
        } else {
            text.push_str(&render(arguments, &sockets));
        }
    }
    if arguments.json {
        print_json(&documents)?
    } else {
        print(&text)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a socket is among those asked for, by ss(8)'s rules: without -t and -u both protocols,
/// without -a and -l what is connected.
fn wanted(arguments: &SsArguments, socket: &SocketInfo) -> bool {
    let both = arguments.tcp == arguments.udp;
    let protocol = match socket.protocol {
        Protocol::Tcp => both || arguments.tcp,
        Protocol::Udp => both || arguments.udp,
    };
    let listening = socket.state == "LISTEN" || socket.state == "UNCONN";
    let closed = socket.state == "CLOSED" || socket.state == "CLOSE";
    let phase =
        arguments.all || if arguments.listening { listening } else { !listening && !closed };
    protocol && phase
}

fn render(arguments: &SsArguments, sockets: &[SocketInfo]) -> String {
    let mut columns = vec![
        ("Netid", Align::Left),
        ("State", Align::Left),
        ("Recv-Q", Align::Right),
        ("Send-Q", Align::Right),
        ("Local", Align::Right),
        ("Peer", Align::Right),
        ("Path", Align::Left),
        ("Why", Align::Left),
    ];
    if arguments.processes {
        columns.push(("Process", Align::Left));
    }
    let mut table = Table::new(&columns);
    for socket in sockets {
        let mut cells = vec![
            match socket.protocol {
                Protocol::Tcp => "tcp".to_owned(),
                Protocol::Udp => "udp".to_owned(),
            },
            socket.state.clone(),
            socket.receive_queue.to_string(),
            socket.send_queue.to_string(),
            end(Some(socket.local)),
            end(socket.remote),
            socket.path.name().to_owned(),
            socket.reason.clone(),
        ];
        if arguments.processes {
            cells.push(holders(socket));
        }
        table.row(cells);
        let timer = socket.timer.as_ref().filter(|_| arguments.options);
        let mut notes = Vec::from_iter(timer.map(|timer| format!("timer:({timer})")));
        notes.extend(socket.tcp.as_ref().filter(|_| arguments.info).map(tcp_line));
        if !notes.is_empty() {
            table.note(notes.join(" "));
        }
    }
    table.render()
}

/// An address with `*` for the port 0, as ss(8) has it.
pub fn end(address: Option<SocketAddr>) -> String {
    match address {
        None => "*:*".to_owned(),
        Some(address) if address.port() != 0 => address.to_string(),
        Some(SocketAddr::V4(address)) => format!("{}:*", address.ip()),
        Some(SocketAddr::V6(address)) => format!("[{}]:*", address.ip()),
    }
}

fn holders(socket: &SocketInfo) -> String {
    let each = socket.holders.iter().map(|holder| {
        let descriptors: Vec<String> =
            holder.descriptors.iter().map(|fd| format!(",fd={fd}")).collect();
        format!("(\"{}\",pid={}{})", holder.program.name, holder.program.pid, descriptors.concat())
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "onwire-keeper".to_owned() } else { format!("users:({})", each.join(",")) }
}

/// What `ss -i` prints, in its order and with its names.
fn tcp_line(tcp: &TcpInfo) -> String {
    let mut words: Vec<String> = Vec::new();
    let flags = [(tcp.timestamps, "ts"), (tcp.sack, "sack"), (tcp.ecn, "ecn")].into_iter();
    words.extend(flags.filter(|(on, _)| *on).map(|(_, name)| name.to_owned()));
    words.push(tcp.congestion.clone());
    if tcp.window_scaling {
        words.push(format!("wscale:{},{}", tcp.snd_wscale, tcp.rcv_wscale));
    }
    words.push(format!("rto:{}", millis(tcp.rto_us)));
    words.push(format!("rtt:{}/{}", millis(tcp.rtt_us), millis(tcp.rttvar_us)));
    if tcp.ato_us > 0 {
        words.push(format!("ato:{}", millis(tcp.ato_us)));
    }
    words.push(format!("mss:{}", tcp.snd_mss));
    words.push(format!("pmtu:{}", tcp.pmtu));
    words.push(format!("rcvmss:{}", tcp.rcv_mss));
    words.push(format!("advmss:{}", tcp.advmss));
    words.push(format!("cwnd:{}", tcp.snd_cwnd));
    if let Some(ssthresh) = tcp.snd_ssthresh {
        words.push(format!("ssthresh:{ssthresh}"));
    }
    let counts: [(&str, u64); 15] = [
        ("backoff", tcp.backoff.into()),
        ("bytes_sent", tcp.bytes_sent),
        ("bytes_retrans", tcp.bytes_retrans),
        ("bytes_acked", tcp.bytes_acked),
        ("bytes_received", tcp.bytes_received),
        ("segs_out", tcp.segs_out),
        ("segs_in", tcp.segs_in),
        ("data_segs_out", tcp.data_segs_out),
        ("data_segs_in", tcp.data_segs_in),
        ("unacked", tcp.unacked.into()),
        ("sacked", tcp.sacked.into()),
        ("lost", tcp.lost.into()),
        ("dsack_dups", tcp.dsack_dups.into()),
        ("reord_seen", tcp.reord_seen.into()),
        ("notsent", tcp.notsent_bytes),
    ];
    words.extend(counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}:{n}")));
    if tcp.total_retrans > 0 {
        words.push(format!("retrans:{}/{}", tcp.retrans, tcp.total_retrans));
    }
    for (name, rate) in [("pacing_rate", tcp.pacing_rate), ("delivery_rate", tcp.delivery_rate)] {
        if rate > 0 && rate != u64::MAX {
            words.push(format!("{name} {}bps", scaled(rate.saturating_mul(8))));
        }
    }
    words.push(format!("snd_wnd:{}", tcp.snd_wnd));
    words.push(format!("rcv_space:{}", tcp.rcv_space));
    if tcp.min_rtt_us > 0 {
        words.push(format!("minrtt:{}", millis(tcp.min_rtt_us)));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// Microseconds as milliseconds, without trailing zeros.
pub fn millis(us: u64) -> String {
    let text = format!("{}.{:03}", us / 1_000, us % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number with a decimal prefix, as in `1.5M`.
pub fn scaled(bits: u64) -> String {
    match bits {
        0..1_000 => bits.to_string(),
        1_000..1_000_000 => format!("{}.{}K", bits / 1_000, bits / 100 % 10),
        1_000_000..1_000_000_000 => format!("{}.{}M", bits / 1_000_000, bits / 100_000 % 10),
        _ => format!("{}.{}G", bits / 1_000_000_000, bits / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::message::{Program, SocketHolder, SocketPath};

    fn socket(protocol: Protocol, state: &str) -> SocketInfo {
        SocketInfo {
            protocol,
            state: state.into(),
            local: ([10, 0, 0, 2], 80).into(),
            remote: None,
            receive_queue: 0,
            send_queue: 128,
            path: SocketPath::Both,
            reason: "wildcard address".into(),
            holders: vec![],
            timer: None,
            tcp: None,
        }
    }

    #[test]
    fn without_flags_only_connections_are_shown() {
        let shown = |arguments: &SsArguments| -> Vec<bool> {
            [
                socket(Protocol::Tcp, "ESTAB"),
                socket(Protocol::Tcp, "LISTEN"),
                socket(Protocol::Udp, "UNCONN"),
                socket(Protocol::Udp, "ESTAB"),
            ]
            .iter()
            .map(|socket| wanted(arguments, socket))
            .collect()
        };
        let default = SsArguments::default;
        assert_eq!(shown(&default()), [true, false, false, true]);
        assert_eq!(shown(&SsArguments { all: true, ..default() }), [true; 4]);
        let listeners = SsArguments { listening: true, tcp: true, ..default() };
        assert_eq!(shown(&listeners), [false, true, false, false]);
        let udp = SsArguments { all: true, udp: true, ..default() };
        assert_eq!(shown(&udp), [false, false, true, true]);
    }

    #[test]
    fn the_path_and_its_reason_have_columns() {
        let mut listener = socket(Protocol::Tcp, "LISTEN");
        listener.holders = vec![SocketHolder {
            program: Program { pid: 7, name: "nginx".into() },
            descriptors: vec![3],
        }];
        let arguments = SsArguments { processes: true, ..SsArguments::default() };
        let text = render(&arguments, &[listener]);
        let row = text.lines().nth(1).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "tcp",
                "LISTEN",
                "0",
                "128",
                "10.0.0.2:80",
                "*:*",
                "both",
                "wildcard",
                "address",
                "users:((\"nginx\",pid=7,fd=3))"
            ]
        );
    }

    #[test]
    fn timers_are_shown_when_asked_for() {
        let mut waiting = socket(Protocol::Tcp, "TIME-WAIT");
        waiting.timer = Some("timewait,59sec,0".into());
        let plain = render(&SsArguments::default(), std::slice::from_ref(&waiting));
        assert!(!plain.contains("timer"), "{plain}");
        let asked = SsArguments { options: true, ..SsArguments::default() };
        assert!(render(&asked, &[waiting]).contains("timer:(timewait,59sec,0)"));
        assert!(!render(&asked, &[socket(Protocol::Tcp, "ESTAB")]).contains("timer"));
    }

    #[test]
    fn inner_state_reads_as_in_ss() {
        let tcp = TcpInfo {
            congestion: "cubic".into(),
            timestamps: true,
            sack: true,
            window_scaling: true,
            snd_wscale: 7,
            rcv_wscale: 9,
            rto_us: 201_000,
            rtt_us: 1_250,
            rttvar_us: 500,
            snd_mss: 1448,
            snd_cwnd: 10,
            retrans: 1,
            total_retrans: 4,
            pacing_rate: 12_500_000,
            ..TcpInfo::default()
        };
        let line = tcp_line(&tcp);
        assert!(line.starts_with("ts sack cubic wscale:7,9 rto:201 rtt:1.25/0.5 mss:1448"));
        assert!(line.contains("cwnd:10") && line.contains("retrans:1/4"));
        assert!(line.contains("pacing_rate 100.0Mbps"));
    }

    #[test]
    fn unbound_ends_have_stars() {
        assert_eq!(end(None), "*:*");
        assert_eq!(end(Some(([0, 0, 0, 0], 0).into())), "0.0.0.0:*");
        assert_eq!(end(Some("[::1]:5".parse().unwrap())), "[::1]:5");
    }
}
