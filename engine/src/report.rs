//! What the keeper answers on the control socket: the engine's state as messages.

use crate::change::Changes;
use crate::control_server::Backend;
use crate::file::{File, FileId, Kind, Path};
use crate::link::Gone;
use crate::process::Stage;
use crate::rx_watch::RxWatch;
use crate::shared::{Held, Shared};
use crate::{alloc, clock, sys};
use control::message::{
    EngineInfo, NeighborInfo, Program, Protocol, RouteInfo, SocketHolder, SocketInfo, SocketPath,
    Stats, TcpInfo,
};
use control::pcapng::{Frame, FrameDirection};
use control::{Request, Response};
use core::sync::atomic::{AtomicU64, Ordering};
use dpdk::{Port, QueueCounters};
use stack::capture::Direction;
use stack::neighbor;
use stack::shard::{Counters, SocketId, SocketSummary};
use stack::socket::Family;
use stack::tcp::State;

/// The answering side's view of the engine.
pub(crate) struct Report {
    shared: &'static Shared,
    info: EngineInfo,
    rx: RxWatch,
    changes: Changes,
    /// Huge pages of the region.
    pub(crate) huge_pages: u64,
    /// Captured octets on their way, reused.
    frames: Vec<Captured>,
}

struct Captured {
    time_ns: u64,
    direction: FrameDirection,
    length: u32,
    octets: Vec<u8>,
}

impl Report {
    pub(crate) fn new(shared: &'static Shared, info: EngineInfo, rx: RxWatch) -> Self {
        Report { shared, info, rx, changes: Changes::default(), huge_pages: 0, frames: Vec::new() }
    }

    fn locked<R>(&self, f: impl FnOnce(&mut Held<'static>) -> R) -> Option<R> {
        let mut held = self.shared.enter().ok()?;
        Some(alloc::allow(|| f(&mut held)))
    }

    fn info(&self) -> Response {
        let now = clock::now();
        let uptime = now.saturating_since(self.shared.started).as_millis();
        let now_is = self.locked(|held| {
            let shard = held.shards.first();
            (shard.mac(), shard.mtu(), held.world.groups.iter().collect())
        });
        let (mac, mtu, multicast) = now_is.unwrap_or((self.info.mac, self.info.mtu, Vec::new()));
        Response::Info(Box::new(EngineInfo {
            keeper: sys::getpid(),
            programs: self.programs(),
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            wakes_by: self.rx.way().to_owned(),
            link: self.link_state().to_owned(),
            mac,
            mtu,
            multicast,
            promiscuous: self.rx.port().is_some_and(Port::is_promiscuous),
            allmulticast: self.rx.port().is_some_and(Port::takes_every_group),
            ..self.info.clone()
        }))
    }

    fn link_state(&self) -> &'static str {
        let link = self.shared.link;
        match link.gone() {
            Some(Gone::Removed) => "removed",
            Some(Gone::Reset) => "reset",
            None if link.carrier.is_up() => "up",
            None => "down",
        }
    }

    /// The processes that live.
    fn programs(&self) -> Vec<Program> {
        let pids = self.locked(|held| {
            let processes = held.world.processes.iter();
            let live = processes.filter(|(_, p)| p.pid != 0 && p.stage != Stage::Expected);
            live.map(|(_, process)| process.pid).collect::<Vec<u32>>()
        });
        pids.unwrap_or_default().into_iter().map(program).collect()
    }

    fn sockets(&self) -> Vec<SocketInfo> {
        let listed = self.locked(|held| {
            let mut found: Vec<(SocketInfo, Vec<u32>)> = Vec::new();
            let mut seen = vec![false; held.world.files.watermark() as usize];
            for (lane, summary) in summaries(held) {
                let file = FileId::from_bits(summary.owner)
                    .filter(|id| held.world.files.get(id.handle()).is_some());
                if let Some(file) = file {
                    seen[file.index() as usize] = true;
                }
                found.push(describe(held, lane, &summary, file));
            }
            for index in 0..held.world.files.watermark() {
                // Sockets that the kernel carries have no summary.
                if !seen[index as usize]
                    && let Some(file) = held.world.file_id(index)
                {
                    found.push(describe_kernel(held, file));
                }
            }
            found
        });
        let mut names: Vec<Program> = Vec::new();
        let mut holder = |pid: u32| {
            let known = names.iter().find(|known| known.pid == pid).cloned();
            let program = known.unwrap_or_else(|| {
                let program = program(pid);
                names.push(program.clone());
                program
            });
            SocketHolder { program, descriptors: Vec::new() }
        };
        let with_holders = |(mut info, pids): (SocketInfo, Vec<u32>)| {
            info.holders = pids.into_iter().map(&mut holder).collect();
            info
        };
        listed.unwrap_or_default().into_iter().map(with_holders).collect()
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.locked(|held| {
            let mut values = Vec::new();
            held.counters().for_each(|_, _, value| values.push(value));
            for ((group, name, help), value) in Counters::table().zip(values) {
                stats.add(group, name, value, help);
            }
            add_queues(&mut stats, held);
            add_carried(&mut stats, held);
            let lost = held.shared.link.dropped();
            stats.add("port", "link_lost", lost, "frames of processes that lost the link");
            add_tables(&mut stats, held);
        });
        stats.add("memory", "huge_pages", self.huge_pages, "huge pages under tables that are full");
        self.add_port(&mut stats);
        stats
    }

    /// What the card counted, what became of its cable, and what woke those who wait.
    fn add_port(&self, stats: &mut Stats) {
        if let Some(card) = self.rx.card_stats() {
            for (name, value, help) in [
                ("card_received", card.rx_frames, "frames the card received"),
                ("card_sent", card.tx_frames, "frames the card sent"),
                ("card_missed", card.rx_missed, "frames lost: the receive queue was full"),
                ("card_rx_errors", card.rx_errors, "frames received with errors"),
                ("card_tx_errors", card.tx_errors, "frames that could not be sent"),
                ("card_no_buffer", card.rx_no_buffer, "frames for which the pool had no buffer"),
            ] {
                stats.add("port", name, value, help);
            }
        }
        let link = self.shared.link;
        let wakings = &link.wakings;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, value, help) in [
            ("link_changes", link.carrier.changes().into(), "times the link went down or came up"),
            ("resets", link.resets().into(), "times the card's host has reset it"),
            ("sleeps", load(&wakings.sleeps), "sleeps on the port"),
            ("announced", load(&wakings.announced), "sleeps that the port ended with frames"),
            ("unannounced", load(&wakings.unannounced), "sleeps after which frames were found"),
        ] {
            stats.add("port", name, value, help);
        }
    }

    /// Adds the counters to `path`, as the line that `onwire stats --json` would print: one write,
    /// since several engines may end at once.
    pub(crate) fn append_stats(&self, path: &std::path::Path) -> std::io::Result<()> {
        let mut line = self.stats().document(self.info.id, false).to_string();
        line.push('\n');
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        std::io::Write::write_all(&mut file, line.as_bytes())
    }

    fn routes(&self) -> Vec<RouteInfo> {
        let routes = self.locked(|held| {
            let shard = held.shards.first();
            let mut routes = Vec::new();
            for route in shard.routes().iter() {
                let source = shard.route_to(route.destination.address()).map(|info| info.source);
                routes.push(RouteInfo {
                    destination: route.destination,
                    gateway: route.gateway,
                    source,
                    mtu: shard.mtu(),
                });
            }
            routes
        });
        routes.unwrap_or_default()
    }

    fn neighbors(&self) -> Vec<NeighborInfo> {
        let neighbors = self.locked(|held| {
            let now = held.now;
            let mut found: Vec<NeighborInfo> = Vec::new();
            for lane in held.shards.range() {
                for neighbor in held.shards.at(lane).neighbors(now) {
                    let known = found.iter().any(|other| other.address == neighbor.address);
                    // Each shard has a cache of its own, fed by the same answers.
                    if known && neighbor.state != neighbor::State::Reachable {
                        continue;
                    }
                    found.retain(|other| other.address != neighbor.address);
                    found.push(NeighborInfo {
                        address: neighbor.address,
                        mac: neighbor.mac,
                        state: neighbor_state(neighbor.state).to_owned(),
                        age_ms: neighbor
                            .mac
                            .map(|_| now.saturating_since(neighbor.confirmed).as_millis() as u64),
                    });
                }
            }
            found
        });
        neighbors.unwrap_or_default()
    }
}

/// Every socket with its shard. What stands in other shards for a socket is not listed, but what
/// waits there to be accepted is added to it.
fn summaries(held: &mut Held<'_>) -> Vec<(usize, SocketSummary)> {
    let mut found: Vec<(usize, SocketSummary)> = Vec::new();
    let mut waiting: Vec<(u64, u32)> = Vec::new();
    for lane in held.shards.range() {
        let mut summaries = Vec::new();
        held.shards.at(lane).sockets(|summary| summaries.push(summary));
        for summary in summaries {
            let file = FileId::from_bits(summary.owner).and_then(|id| held.shared.file(id));
            let place = file.and_then(File::place);
            let own = summary.id.is_none_or(|id| place.is_none_or(|place| place == (lane, id)));
            let keeps_a_port = held.shared.is_several()
                && summary.id.is_some()
                && summary.owner == 0
                && summary.state == Some(State::Closed);
            if own && !keeps_a_port {
                found.push((lane, summary));
            } else if !own {
                waiting.push((summary.owner, summary.receive_queue));
            }
        }
    }
    for (owner, queued) in waiting {
        let listener =
            found.iter_mut().find(|(_, other)| other.owner == owner && other.id.is_some());
        if let Some((_, listener)) = listener {
            listener.receive_queue += queued;
        }
    }
    found
}

/// What the queues count, together, and of each where there are several.
fn add_queues(stats: &mut Stats, held: &mut Held<'_>) {
    let mut sum = QueueCounters::default();
    for lane in held.shards.range() {
        let queue = held.shards.at(lane).device().queue().counters();
        sum.rx_frames += queue.rx_frames;
        sum.tx_frames += queue.tx_frames;
        sum.tx_refused += queue.tx_refused;
        sum.allocations_refused += queue.allocations_refused;
    }
    for (name, value, help) in [
        ("rx_frames", sum.rx_frames, "frames taken from the driver"),
        ("tx_frames", sum.tx_frames, "frames given to the driver"),
        ("tx_refused", sum.tx_refused, "frames the driver had no room for at first"),
        ("allocations_refused", sum.allocations_refused, "the pool was at its reserve"),
    ] {
        stats.add("port", name, value, help);
    }
    let Some(handover) = held.shared.handover else { return };
    for lane in held.shards.range() {
        let shard = held.shards.at(lane);
        let (queue, handed) = (shard.device().queue().counters(), shard.device().handed());
        let (counters, occupancy) = (shard.counters(), shard.occupancy());
        for (name, value, help) in [
            ("rx_frames", queue.rx_frames, "frames that came to its queue"),
            ("tx_frames", queue.tx_frames, "frames sent on its queue"),
            ("frames_given", handed.given, "frames that came to its queue and were another's"),
            ("frames_taken", handed.taken, "frames of its own that came to other queues"),
            ("given_full", handover.dropped_from(lane), "dropped: the way to another was full"),
            ("taken_no_buffer", handed.no_buffer, "dropped: no buffer for what others gave"),
            ("tcp_segments_in", counters.tcp.segments_in, "TCP segments received"),
            ("tcp_segments_out", counters.tcp.segments_out, "TCP segments sent"),
            ("tcp_connections", occupancy.tcp.connections as u64, "TCP connections"),
        ] {
            stats.add(&format!("shard{lane}"), name, value, help);
        }
    }
}

/// Who carried the sockets so far, those that live included.
fn add_carried(stats: &mut Stats, held: &Held<'_>) {
    let mut carried = held.world.ended;
    let live = (0..held.world.files.watermark()).filter_map(|index| held.world.file_id(index));
    live.filter_map(|id| held.shared.file(id)).for_each(|file| carried.count(file));
    for (name, kind, path, help) in [
        ("tcp_stack", Kind::Tcp, Path::Stack, "TCP sockets that the stack carried"),
        ("tcp_both", Kind::Tcp, Path::Both, "TCP sockets that listened in both worlds"),
        ("tcp_kernel", Kind::Tcp, Path::Kernel, "TCP sockets that went to the kernel"),
        ("tcp_undecided", Kind::Tcp, Path::Undecided, "TCP sockets that were never used"),
        ("udp_stack", Kind::Udp, Path::Stack, "UDP sockets that the stack carried"),
        ("udp_both", Kind::Udp, Path::Both, "UDP sockets that received from both worlds"),
        ("udp_kernel", Kind::Udp, Path::Kernel, "UDP sockets that went to the kernel"),
        ("udp_undecided", Kind::Udp, Path::Undecided, "UDP sockets that were never used"),
    ] {
        stats.add("carried", name, carried.get(kind, path), help);
    }
}

/// How full the tables are, and what the engine counts.
fn add_tables(stats: &mut Stats, held: &mut Held<'_>) {
    let occupancy = held.occupancy();
    let (tcp, udp) = (occupancy.tcp, occupancy.udp);
    for (name, value, help) in [
        ("tcp_sockets", tcp.sockets, "TCP sockets"),
        ("tcp_openings", tcp.openings, "embryonic connections"),
        ("tcp_connections", tcp.connections, "TCP connections"),
        ("tcp_time_wait", tcp.time_wait, "connections in TIME-WAIT"),
        ("tcp_segments", tcp.segments, "segments queued"),
        ("tcp_timers", tcp.timers, "timers armed"),
        ("udp_sockets", udp.sockets, "UDP sockets"),
        ("udp_datagrams", udp.datagrams, "datagrams queued"),
        ("neighbors", occupancy.neighbors, "neighbors known"),
        ("fragments", occupancy.fragments, "fragments waiting for others"),
        ("backlog", occupancy.backlog, "frames the device has not taken"),
        ("files", held.world.files.len(), "open file descriptions"),
        ("processes", held.world.processes.len(), "processes"),
        ("references", held.world.references.len(), "processes' references to descriptions"),
        ("epoll_sets", held.world.sets.len(), "epoll sets"),
        ("epoll_entries", held.world.entries.len(), "sockets in epoll sets"),
        ("sleepers", held.world.waiters.len(), "threads that sleep"),
    ] {
        stats.add("table", name, value as u64, help);
    }
    let recoveries = held.shared.recoveries.load(Ordering::Relaxed);
    stats.add("engine", "recoveries", recoveries, "resets after the death of a driving process");
}

/// As `ip neigh` writes it.
fn neighbor_state(state: neighbor::State) -> &'static str {
    match state {
        neighbor::State::Incomplete => "INCOMPLETE",
        neighbor::State::Reachable => "REACHABLE",
        neighbor::State::Stale => "STALE",
        neighbor::State::Delay => "DELAY",
        neighbor::State::Probe => "PROBE",
        neighbor::State::Failed => "FAILED",
    }
}

fn path_of(file: &File) -> SocketPath {
    match file.path() {
        Path::Undecided => SocketPath::Undecided,
        Path::Stack => SocketPath::Stack,
        Path::Kernel => SocketPath::Kernel,
        Path::Both => SocketPath::Both,
    }
}

/// The pids of those who hold a description.
fn holders_of(held: &Held<'_>, file: FileId) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut at = held.world.files.at(file.index()).and_then(|links| links.references.first());
    while let Some(reference) = at.and_then(|index| held.world.references.at(index)) {
        at = reference.in_target.next();
        pids.extend(held.world.processes.at(reference.process).map(|process| process.pid));
    }
    pids
}

fn describe(
    held: &mut Held<'_>,
    lane: usize,
    summary: &SocketSummary,
    file: Option<FileId>,
) -> (SocketInfo, Vec<u32>) {
    let state = file.and_then(|file| held.shared.file(file));
    let tcp = match summary.id {
        Some(id @ SocketId::Tcp(_)) => held.shards.at(lane).info(held.now, id).ok().map(|info| {
            let options = held.shards.at(lane).options(id);
            let congestion = options.map(|options| options.congestion.name());
            tcp_info(&info, congestion.unwrap_or_default())
        }),
        _ => None,
    };
    let protocol = match (summary.state, summary.id) {
        (None, _) | (_, Some(SocketId::Udp(_))) => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    let udp_state = if summary.remote.is_some() { "ESTAB" } else { "UNCONN" };
    let info = SocketInfo {
        protocol,
        state: summary.state.map_or(udp_state, |state| state.ss_name()).to_owned(),
        local: summary.local,
        remote: summary.remote,
        receive_queue: u64::from(summary.receive_queue),
        send_queue: u64::from(summary.send_queue),
        path: state.map_or(SocketPath::Stack, path_of),
        reason: state.map_or("", |state| state.reason().text()).to_owned(),
        holders: Vec::new(),
        timer: summary.timer.map(|timer| crate::timer_text::timer_text(&timer, held.now)),
        tcp,
    };
    (info, file.map(|file| holders_of(held, file)).unwrap_or_default())
}

fn describe_kernel(held: &Held<'_>, file: FileId) -> (SocketInfo, Vec<u32>) {
    let state = held.shared.file(file);
    let family = state.map_or(Family::V4, File::family);
    let udp = state.is_some_and(|state| state.kind() == crate::Kind::Udp);
    let info = SocketInfo {
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        state: "KERNEL".to_owned(),
        local: family.unspecified_socket(),
        remote: None,
        receive_queue: 0,
        send_queue: 0,
        path: state.map_or(SocketPath::Kernel, path_of),
        reason: state.map_or("", |state| state.reason().text()).to_owned(),
        holders: Vec::new(),
        timer: None,
        tcp: None,
    };
    (info, holders_of(held, file))
}

fn tcp_info(info: &stack::tcp::TcpInfo, congestion: &str) -> TcpInfo {
    // The bits of tcpi_options (linux/tcp.h).
    const TIMESTAMPS: u8 = 1;
    const SACK: u8 = 2;
    const WINDOW_SCALING: u8 = 4;
    const ECN: u8 = 8;
    let states = ["Open", "Disorder", "CWR", "Recovery", "Loss"];
    TcpInfo {
        congestion: congestion.to_owned(),
        congestion_state: states.get(usize::from(info.ca_state)).unwrap_or(&"").to_string(),
        timestamps: info.options & TIMESTAMPS != 0,
        sack: info.options & SACK != 0,
        window_scaling: info.options & WINDOW_SCALING != 0,
        ecn: info.options & ECN != 0,
        snd_wscale: info.snd_wscale,
        rcv_wscale: info.rcv_wscale,
        rto_us: u64::from(info.rto),
        ato_us: u64::from(info.ato),
        rtt_us: u64::from(info.rtt),
        rttvar_us: u64::from(info.rttvar),
        min_rtt_us: u64::from(info.min_rtt),
        rcv_rtt_us: u64::from(info.rcv_rtt),
        snd_mss: info.snd_mss,
        rcv_mss: info.rcv_mss,
        advmss: info.advmss,
        pmtu: info.pmtu,
        snd_cwnd: info.snd_cwnd,
        snd_ssthresh: (info.snd_ssthresh < 0x7fff_ffff).then_some(info.snd_ssthresh),
        snd_wnd: info.snd_wnd,
        rcv_wnd: info.rcv_wnd,
        rcv_space: info.rcv_space,
        rcv_ssthresh: info.rcv_ssthresh,
        unacked: info.unacked,
        sacked: info.sacked,
        lost: info.lost,
        retrans: info.retrans,
        total_retrans: u64::from(info.total_retrans),
        retransmits: u32::from(info.retransmits),
        backoff: u32::from(info.backoff),
        probes: u32::from(info.probes),
        reordering: info.reordering,
        reord_seen: info.reord_seen,
        dsack_dups: info.dsack_dups,
        bytes_sent: info.bytes_sent,
        bytes_acked: info.bytes_acked,
        bytes_received: info.bytes_received,
        bytes_retrans: info.bytes_retrans,
        notsent_bytes: u64::from(info.notsent_bytes),
        segs_out: u64::from(info.segs_out),
        segs_in: u64::from(info.segs_in),
        data_segs_out: u64::from(info.data_segs_out),
        data_segs_in: u64::from(info.data_segs_in),
        delivered: u64::from(info.delivered),
        delivered_ce: u64::from(info.delivered_ce),
        delivery_rate: info.delivery_rate,
        pacing_rate: if info.pacing_rate == u64::MAX { 0 } else { info.pacing_rate },
        busy_time_us: info.busy_time,
        rwnd_limited_us: info.rwnd_limited,
        sndbuf_limited_us: info.sndbuf_limited,
        last_data_sent_ms: u64::from(info.last_data_sent_ms),
        last_data_recv_ms: u64::from(info.last_data_recv_ms),
        last_ack_recv_ms: u64::from(info.last_ack_recv_ms),
    }
}

/// A process and its name, by /proc.
fn program(pid: u32) -> Program {
    let name = std::ffi::CString::new(format!("/proc/{pid}/comm"))
        .ok()
        .and_then(|path| sys::open(&path, libc::O_RDONLY).ok())
        .map(|fd| {
            let mut name = [0_u8; 64];
            let len = sys::read(fd, &mut name).unwrap_or(0);
            sys::close(fd);
            String::from_utf8_lossy(&name[..len]).trim().to_owned()
        });
    Program { pid, name: name.unwrap_or_default() }
}

impl Backend for Report {
    fn respond(&mut self, request: &Request) -> Vec<Response> {
        match request {
            Request::Info => vec![self.info()],
            Request::Sockets => Response::sockets(self.sockets()),
            Request::Stats => vec![Response::Stats(self.stats())],
            Request::Routes => vec![Response::Routes(self.routes())],
            Request::Neighbors => vec![Response::Neighbors(self.neighbors())],
            Request::Leave { .. } => {
                let programs = self.programs();
                if programs.is_empty() {
                    vec![Response::Leaving]
                } else {
                    vec![Response::Staying { programs }]
                }
            }
            Request::Set { change } => {
                vec![match self.changes.make(self.shared, &self.rx, *change) {
                    Ok(None) => Response::Done,
                    Ok(Some(note)) => Response::Noted { note },
                    Err(message) => Response::Error { message },
                }]
            }
            Request::Tcpdump { .. } => {
                vec![Response::Error { message: "a capture has its own answer".into() }]
            }
        }
    }

    fn capture_start(&mut self, snaplen: u32, promiscuous: bool) -> Result<String, String> {
        if promiscuous {
            self.changes.capture(self.shared, &self.rx, true)?;
        }
        self.locked(|held| {
            for lane in held.shards.range() {
                held.shards.at(lane).capture_start(snaplen as usize);
            }
        });
        Ok(self.info.interface.clone().unwrap_or_else(|| self.info.device.clone()))
    }

    fn capture_read(&mut self, each: &mut dyn FnMut(&Frame<'_>) -> bool) {
        let wall = clock::wall_nanos();
        let mut frames = core::mem::take(&mut self.frames);
        self.locked(|held| {
            let now = clock::now();
            let first = frames.len();
            for lane in held.shards.range() {
                held.shards.at(lane).capture_read(|frame| {
                    let age = now.saturating_since(frame.at).as_nanos() as u64;
                    let (first, second) = frame.octets;
                    frames.push(Captured {
                        time_ns: wall.saturating_sub(age),
                        direction: match frame.direction {
                            Direction::Received => FrameDirection::Inbound,
                            Direction::Sent => FrameDirection::Outbound,
                        },
                        length: u32::try_from(frame.wire_len).unwrap_or(u32::MAX),
                        octets: [first, second].concat(),
                    });
                });
            }
            if held.shared.is_several() {
                frames[first..].sort_by_key(|frame| frame.time_ns);
            }
        });
        let mut taken = 0;
        for frame in &frames {
            let &Captured { time_ns, direction, length, ref octets } = frame;
            taken += 1;
            if !each(&Frame { time_ns, direction, octets, length }) {
                break;
            }
        }
        frames.drain(..taken);
        self.frames = frames;
    }

    fn capture_stop(&mut self) {
        let _ = self.changes.capture(self.shared, &self.rx, false); // Else the operator can.
        self.locked(|held| {
            for lane in held.shards.range() {
                held.shards.at(lane).capture_stop();
            }
        });
        self.frames = Vec::new();
    }
}
