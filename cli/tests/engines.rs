//! The asking subcommands, against engines that are only played.

mod support;

use control::Change;
use control::message::{
    EngineInfo, NeighborInfo, Program, Protocol, Request, Response, RouteInfo, SocketInfo,
    SocketPath, Stats, TcpInfo,
};
use control::pcapng::{Frame, FrameDirection, Writer};
use std::os::unix::net::UnixStream;
use std::path::Path;
use support::{fake_engine, onwire, output, send, stderr, stdout};

fn info(id: u32) -> EngineInfo {
    EngineInfo {
        id,
        keeper: id + 1,
        version: "0.1.0".into(),
        programs: vec![Program { pid: id, name: "redis-server".into() }],
        device: "tap".into(),
        interface: Some(format!("onwire{id}")),
        driver: "net_tap".into(),
        mac: "02:00:00:00:00:01".parse_mac(),
        addresses: vec![format!("10.78.{id}.2/24").parse().unwrap()],
        gateway: None,
        mtu: 1500,
        profile: "balanced".into(),
        loopback: "kernel".into(),
        offloads: vec![],
        wakes_by: "interrupt".into(),
        link: "up".into(),
        promiscuous: id == 9,
        multicast: ["01:00:5e:01:02:03", "33:33:00:00:00:fb", "01:80:c2:00:00:0e"]
            .iter()
            .take(if id == 7 { 3 } else { 0 })
            .map(|group| group.parse_mac())
            .collect(),
        allmulticast: id == 10,
        uptime_ms: 61_000,
    }
}

trait ParseMac {
    fn parse_mac(&self) -> stack::addr::MacAddr;
}

impl ParseMac for str {
    fn parse_mac(&self) -> stack::addr::MacAddr {
        let octets: Vec<u8> =
            self.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        stack::addr::MacAddr(octets.try_into().unwrap())
    }
}

fn socket(state: &str, path: SocketPath, reason: &str) -> SocketInfo {
    let connected = state == "ESTAB";
    SocketInfo {
        protocol: Protocol::Tcp,
        state: state.into(),
        local: ([10, 78, 0, 2], 6379).into(),
        remote: connected.then(|| ([10, 78, 0, 1], 40000).into()),
        receive_queue: 0,
        send_queue: 5,
        path,
        reason: reason.into(),
        holders: vec![],
        timer: None,
        tcp: connected.then(|| TcpInfo {
            congestion: "cubic".into(),
            snd_cwnd: 10,
            rtt_us: 120,
            ..TcpInfo::default()
        }),
    }
}

fn answer(id: u32) -> impl Fn(&Request, &mut UnixStream) + Send + Sync + Clone + 'static {
    move |request, stream| match request {
        Request::Info => send(stream, &Response::Info(Box::new(info(id)))),
        Request::Sockets => {
            let all = vec![
                socket("LISTEN", SocketPath::Both, "wildcard address"),
                socket("ESTAB", SocketPath::Stack, "route"),
            ];
            for response in Response::sockets(all) {
                send(stream, &response);
            }
        }
        Request::Stats => {
            let mut stats = Stats::default();
            stats.add("device", "rx_frames", 12, "Frames received.");
            stats.add("tcp", "retransmits", 0, "Segments sent again.");
            send(stream, &Response::Stats(stats));
        }
        Request::Routes => {
            let destination = "10.78.0.0/24".parse().unwrap();
            let route = RouteInfo { destination, gateway: None, source: None, mtu: 1500 };
            send(stream, &Response::Routes(vec![route]));
        }
        Request::Neighbors => {
            let neighbor = NeighborInfo {
                address: [10, 78, 0, 1].into(),
                mac: None,
                state: "INCOMPLETE".into(),
                age_ms: None,
            };
            send(stream, &Response::Neighbors(vec![neighbor]));
        }
        Request::Tcpdump { count, .. } => {
            send(stream, &Response::Capturing);
            let mut writer = Writer::new(stream, "onwire0", 0).unwrap();
            for _ in 0..count.unwrap_or(2) {
                writer.frame(&arp()).unwrap();
            }
        }
        Request::Set { change: Change::Mtu(1_400) } => send(stream, &Response::Done),
        Request::Set { change: Change::Multicast { .. } } => {
            send(stream, &Response::Noted { note: "it takes every group".into() });
        }
        Request::Set { .. } => send(stream, &Response::Error { message: "it cannot".into() }),
        Request::Leave { .. } => send(stream, &Response::Leaving),
    }
}

/// An ARP request for 10.78.0.2 from 10.78.0.1.
fn arp() -> Frame<'static> {
    const OCTETS: &[u8] = &[
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0,
        0, 0, 0, 9, 10, 78, 0, 1, 0, 0, 0, 0, 0, 0, 10, 78, 0, 2,
    ];
    let length = OCTETS.len() as u32;
    let direction = FrameDirection::Inbound;
    Frame { time_ns: 1_700_000_000_000_000_000, direction, octets: OCTETS, length }
}

fn run(dir: &Path, arguments: &[&str]) -> String {
    let output = output(dir, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn one_engine_answers_every_question() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, answer(7));
    let dir = dir.path();
    let all = run(dir, &["ss", "-ai"]);
    assert!(all.contains("wildcard address") && all.contains("cwnd:10"), "{all}");
    assert!(!all.contains("engine 7"), "one engine needs no heading");
    assert_eq!(run(dir, &["ss"]).lines().count(), 2);
    assert!(run(dir, &["stats"]).contains("device.rx_frames"));
    assert!(!run(dir, &["stats", "-z"]).contains("retransmits"));
    assert!(run(dir, &["top", "-n", "1"]).contains("2 sockets, 0 frames/s in"));
    assert!(run(dir, &["route"]).contains("10.78.0.0/24"));
    assert!(run(dir, &["neigh"]).contains("INCOMPLETE"));
    let list = run(dir, &["list"]);
    assert!(list.contains("redis-server (7)") && list.contains("1m1s"), "{list}");
}

#[test]
fn a_change_is_made_in_silence_or_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, answer(7));
    assert_eq!(run(dir.path(), &["set", "mtu", "1400"]), "");
    for (words, status, said) in [
        (["mtu", "9000"], 1, "refuses: it cannot"),
        (["promiscuous", "on"], 1, "refuses: it cannot"),
        (["mac", "02:00:00:00:00:09"], 1, "refuses: it cannot"),
        (["mac", "01:00:5e:00:00:01"], 2, "cannot be assigned"),
        (["multicast", "add"], 2, "give add or del and a group"),
        (["mtu", "many"], 2, "576 to 65535"),
        (["gro", "off"], 2, "mtu, mac, promiscuous, multicast, allmulticast"),
    ] {
        let output = output(dir.path(), &["set", words[0], words[1]]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.contains(said) && text.lines().count() == 1, "{text}");
    }
    let noted = output(dir.path(), &["set", "multicast", "add", "01:00:5e:01:02:03"]);
    assert_eq!((noted.status.code(), stdout(&noted)), (Some(0), String::new()));
    assert_eq!(stderr(&noted), "onwire: it takes every group\n");
    fake_engine(dir.path(), 8, answer(8));
    let output = output(dir.path(), &["set", "mtu", "1400"]);
    assert!(stderr(&output).contains("say which"), "a change is for one engine");
}

#[test]
fn the_list_says_what_a_device_takes() {
    let dir = tempfile::tempdir().unwrap();
    for id in [7, 8, 9, 10] {
        fake_engine(dir.path(), id, answer(id));
    }
    let list = run(dir.path(), &["list"]);
    let of = |engine: &str| list.lines().find(|line| line.contains(engine)).unwrap().to_owned();
    assert!(of("10.78.7.2").contains("01:00:5e:01:02:03, 33:33:00:00:00:fb, 1 more"), "{list}");
    assert!(of("10.78.9.2").contains(" everything "), "{list}");
    assert!(of("10.78.10.2").contains(" every group "), "{list}");
    let json: serde_json::Value =
        serde_json::from_str(&run(dir.path(), &["list", "--json"])).unwrap();
    assert_eq!(json[0]["multicast"][2], "01:80:c2:00:00:0e");
    assert_eq!(json[3]["allmulticast"], true);
}

#[test]
fn json_is_json() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, answer(7));
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&run(dir.path(), arguments)).unwrap()
    };
    let stats = json(&["stats", "--json"]);
    assert_eq!(stats[0]["stats"]["device"]["rx_frames"], 12);
    let sockets = json(&["ss", "-a", "--json"]);
    assert_eq!(sockets[0]["sockets"][0]["path"], "both");
    assert_eq!(sockets[0]["sockets"][1]["tcp"]["snd_cwnd"], 10);
    assert_eq!(json(&["list", "--json"])[0]["driver"], "net_tap");
    assert_eq!(json(&["route", "--json"])[0]["routes"][0]["destination"], "10.78.0.0/24");
}

#[test]
fn several_engines_have_headings_and_can_be_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, answer(7));
    fake_engine(dir.path(), 8, answer(8));
    // A stale socket is no engine.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("run/9.sock")).unwrap());
    let text = run(dir.path(), &["ss"]);
    assert!(text.contains("engine 7: redis-server (7)") && text.contains("engine 8:"), "{text}");
    assert!(run(dir.path(), &["stats", "--pid", "8"]).contains("rx_frames"));
    let one = run(dir.path(), &["ss", "--engine", "8"]);
    assert!(!one.contains("engine"));
    let which = output(dir.path(), &["tcpdump", "-w", "x"]);
    assert_eq!(which.status.code(), Some(2));
    assert!(stderr(&which).contains("--engine 7 or 8"));
    assert_eq!(output(dir.path(), &["ss", "--engine", "9"]).status.code(), Some(1));
    assert_eq!(output(dir.path(), &["ss", "--pid", "9"]).status.code(), Some(1));
}

#[test]
fn a_capture_goes_to_a_file_a_pipe_or_the_eye() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, answer(7));
    assert_eq!(run(dir.path(), &["tcpdump", "-w", "x.pcapng", "-c", "3"]), "");
    let file = std::fs::read(dir.path().join("x.pcapng")).unwrap();
    let piped = onwire(dir.path()).args(["tcpdump", "-w", "-", "-c", "3"]).output().unwrap();
    assert_eq!(piped.stdout, file);
    assert_eq!(&file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    // Through tcpdump(1) or, without it, by ourselves: both name who is asked for.
    let shown = run(dir.path(), &["tcpdump", "-c", "1"]);
    assert!(shown.contains("10.78.0.2") && shown.to_lowercase().contains("arp"), "{shown}");
}

#[test]
fn without_an_engine_the_way_to_start_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for subcommand in ["ss", "stats", "route", "neigh", "tcpdump"] {
        let output = output(dir.path(), &[subcommand]);
        assert_eq!(output.status.code(), Some(1));
        let line = stderr(&output);
        assert!(line.lines().count() == 1 && line.contains("onwire run -- PROGRAM"), "{line}");
    }
    assert_eq!(run(dir.path(), &["list", "--json"]).trim(), "[]");
}

#[test]
fn an_engine_of_another_version_is_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, |request, stream| match request {
        Request::Info => send(stream, &Response::Info(Box::new(info(7)))),
        _ => send(stream, &Response::Error { message: "unknown variant".into() }),
    });
    let output = output(dir.path(), &["stats"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("refuses: unknown variant"));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    fake_engine(dir.path(), 7, answer(7));
    let command = onwire(dir.path());
    let line = format!("'{}' stats --watch 1 | head -1", command.get_program().to_str().unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(line).env("ONWIRE_RUN_DIR", dir.path().join("run"));
    let output = shell.output().unwrap();
    assert_eq!(stderr(&output), "");
}
