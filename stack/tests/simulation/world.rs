//! Runs a scenario in virtual time: the clock jumps to whatever happens next. Everything that
//! happens is an entry of one agenda or a host's own timer, so a seed always runs the same way.

use crate::chance::Chance;
use crate::endpoint::{Endpoint, Phase};
use crate::host::Host;
use crate::link::{Frame, Link};
use crate::observer::Observer;
use crate::udp;
use crate::workload::{Acceptor, Opening, Scenario};
use stack::error::Error;
use stack::readiness::Readiness;
use stack::shard::{Event, SocketId, SocketKind};
use stack::socket::Family;
use stack::time::{Duration, Instant};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Owners of sockets: endpoints count from 1, listeners and datagram programs from here.
const LISTENERS: u64 = 1 << 32;
const DATAGRAMS: u64 = 2 << 32;
/// Nothing may take longer, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3_000);
/// How long after the last close the tables must be empty: an orphan's retries, then TIME-WAIT.
const FAREWELL: Duration = Duration::from_secs(400);
/// Turns that a host may take in that time.
const FAREWELL_TURNS: u64 = 10_000;
/// Happenings before it is called a storm.
const STORM: u64 = 3_000_000;

#[derive(Debug)]
enum What {
    Arrive(usize, Frame),
    Look(usize),
    CardFree(usize),
    Wire(usize, bool),
    Connect(usize),
    Wake(usize),
    Accept(usize),
    Datagram(usize),
}

struct Listener {
    socket: SocketId,
    rests_until: Instant,
}

/// What a run amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Differs when anything at all went differently on the wire.
    pub digest: u64,
    pub frames: u64,
    pub virtual_time: Duration,
    pub octets: u64,
}

/// The state of a run.
pub struct World {
    scenario: Scenario,
    pub now: Instant,
    hosts: [Host; 2],
    links: [Link; 2],
    observer: Observer,
    endpoints: Vec<Endpoint>,
    listeners: Vec<Listener>,
    programs: Vec<udp::Program>,
    agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: BTreeMap<u64, What>,
    happened: u64,
    /// Whose connection comes from there to that port.
    callers: HashMap<(SocketAddr, u16), usize>,
    chance: Chance,
    /// Errors that come with a dead wire are excused.
    unreliable: bool,
}

fn address(host: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host as u8 + 1).into()
}

impl World {
    pub fn new(seed: u64, scenario: Scenario, trace: bool) -> Self {
        let mut chance = Chance::new(seed, 2);
        let now = Instant::from_millis(1_000);
        let hosts = [0, 1].map(|n| Host::new(&scenario.configs[n], scenario.cards[n], &mut chance));
        let links = [0, 1].map(|n| Link::new(scenario.links[n], Chance::new(seed, 3 + n as u64)));
        let ill = scenario.links.iter().any(|quality| quality.loss + quality.corruption >= 300);
        let mut world = World {
            unreliable: ill || !scenario.outages.is_empty(),
            scenario,
            now,
            hosts,
            links,
            observer: Observer::new(trace),
            endpoints: Vec::new(),
            listeners: Vec::new(),
            programs: Vec::new(),
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            happened: 0,
            callers: HashMap::new(),
            chance,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        let scenario = self.scenario.clone();
        for (n, acceptor) in scenario.acceptors.iter().enumerate() {
            let shard = &mut self.hosts[acceptor.host].shard;
            let socket = shard.socket(SocketKind::Tcp, Family::V4).expect("room for a listener");
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), acceptor.port);
            shard.bind(self.now, socket, any).expect("the port is free");
            shard.listen(self.now, socket, acceptor.backlog).expect("it listens");
            shard.set_owner(socket, LISTENERS + n as u64);
            self.listeners.push(Listener { socket, rests_until: self.now });
        }
        for (n, flow) in scenario.flows.iter().enumerate() {
            for side in [0, 1] {
                let host = if side == 0 { flow.client } else { 1 - flow.client };
                let mut plan = flow.plans[side];
                plan.forgettable = side == 0 && self.unreliable;
                self.endpoints.push(Endpoint::new(host, n, side as u64, plan));
                if side == 0 || matches!(flow.opening, Opening::Simultaneous(_)) {
                    self.plan(flow.at, What::Connect(2 * n + side));
                }
            }
        }
        for host in [0, 1] {
            let shard = &mut self.hosts[host].shard;
            let own = SocketAddr::new(address(host), udp::PORT);
            let peer = SocketAddr::new(address(1 - host), udp::PORT);
            let plan = scenario.datagrams[host];
            let program = udp::Program::new(shard, self.now, own, peer, plan);
            shard.set_owner(program.socket(), DATAGRAMS + host as u64);
            self.programs.push(program);
            self.plan(self.now, What::Datagram(host));
            self.plan(self.now, What::Look(host));
        }
        for (direction, from, to) in scenario.outages {
            self.plan(from, What::Wire(direction, false));
            self.plan(to, What::Wire(direction, true));
        }
    }

    fn plan(&mut self, at: Instant, what: What) {
        self.happened += 1;
        self.agenda.push(Reverse((at, self.happened)));
        self.happenings.insert(self.happened, what);
    }

    /// Runs to the end.
    pub fn run(mut self) -> Outcome {
        let end = self.now + PATIENCE;
        while self.endpoints.iter().any(|e| e.phase != Phase::Done) {
            if !self.step() && !self.dismiss_unknown() {
                panic!(
                    "stalled at {:?}: nothing will ever happen again\n{}",
                    self.now,
                    self.tell()
                );
            }
            assert!(self.now < end, "no end in sight\n{}", self.tell());
            assert!(self.happened < STORM, "a storm at {:?}\n{}", self.now, self.tell());
        }
        let finished = self.now;
        self.say_farewell();
        if self.observer.is_tracing() {
            eprintln!("{}", self.tell());
        }
        Outcome {
            digest: self.observer.digest,
            frames: self.links.iter().map(|link| link.fate.carried + link.fate.lost).sum(),
            virtual_time: finished - Instant::from_millis(1_000),
            octets: self.endpoints.iter().map(|e| e.received).sum(),
        }
    }

    /// Those who wait for a caller that has been forgotten, and does not know, wait in vain.
    /// `false` if there are none.
    fn dismiss_unknown(&mut self) -> bool {
        let mut found = false;
        for n in 0..self.endpoints.len() {
            let caller = &self.endpoints[n ^ 1];
            let in_vain = caller.phase == Phase::Done && caller.plan.forgettable;
            if in_vain && self.endpoints[n].phase == Phase::Waiting {
                self.endpoints[n].phase = Phase::Done;
                found = true;
            }
        }
        found
    }

    /// All connections are closed by their programs: the stack must come to rest, and forget.
    fn say_farewell(&mut self) {
        let listeners = core::mem::take(&mut self.listeners);
        for (listener, acceptor) in listeners.iter().zip(&self.scenario.acceptors) {
            self.hosts[acceptor.host].shard.close(self.now, listener.socket);
        }
        for (host, program) in self.hosts.iter_mut().zip(&mut self.programs) {
            program.close(&mut host.shard, self.now);
        }
        self.pump(0);
        self.pump(1);
        let end = self.now + FAREWELL;
        let turns = self.hosts.iter().map(|host| host.turns).sum::<u64>();
        // What is on the wire still arrives, at hosts that have forgotten.
        while !self.agenda.is_empty() || !self.hosts.iter().all(Host::is_empty) {
            assert!(self.now < end, "never comes to rest\n{}", self.tell());
            if !self.step() {
                break;
            }
        }
        let turns = self.hosts.iter().map(|host| host.turns).sum::<u64>() - turns;
        assert!(turns < FAREWELL_TURNS, "{turns} turns to come to rest");
        self.check_retransmissions();
        for host in &mut self.hosts {
            host.check_empty();
        }
    }

    /// What is sent again stands in proportion to what went wrong.
    fn check_retransmissions(&self) {
        let wrong: u64 = self.links.iter().map(|link| link.fate.trouble()).sum();
        let short: u64 = self.hosts.iter().map(Host::drops).sum();
        let connections = self.endpoints.len() as u64;
        for host in &self.hosts {
            // A delayed acknowledgment of small segments provokes a probe, as with Linux.
            let counters = &host.shard.counters().tcp;
            let again = counters.retransmitted.saturating_sub(counters.tail_loss_probes);
            let allowed = 10 * connections + 4 * (wrong + short);
            assert!(again <= allowed, "{again} retransmissions, {wrong} mishaps\n{}", self.tell());
        }
    }

    /// Goes to the next moment at which something happens, and lets it; `false` if there is none.
    fn step(&mut self) -> bool {
        let planned = self.agenda.peek().map(|Reverse((at, _))| *at);
        let due = self.hosts.iter().filter_map(Host::due).min();
        let Some(next) = [planned, due].into_iter().flatten().min() else { return false };
        if next > self.now {
            if self.chance.one_in(32) {
                let between = self.now + (next - self.now) / 2;
                self.hosts.iter_mut().for_each(|host| host.check_idle(between));
            }
            self.now = next;
        }
        if planned.is_some_and(|at| at <= self.now) {
            if let Some(Reverse((_, key))) = self.agenda.pop()
                && let Some(what) = self.happenings.remove(&key)
            {
                self.let_happen(what);
            }
            return true;
        }
        for host in [0, 1] {
            if self.hosts[host].due().is_some_and(|at| at <= self.now) {
                self.happened += 1;
                self.turn(host);
            }
        }
        true
    }

    fn let_happen(&mut self, what: What) {
        match what {
            What::Arrive(host, frame) => {
                if self.hosts[host].shard.device_mut().receive(&frame.octets) && !frame.damaged {
                    self.observer.on_arrived(&frame.octets);
                }
                let lag = self.chance.duration(self.scenario.lag);
                if lag.is_zero() {
                    self.turn(host);
                } else {
                    self.plan(self.now + lag, What::Look(host));
                }
            }
            What::Look(host) => self.turn(host),
            What::CardFree(host) => {
                self.hosts[host].awaits_card = false;
                self.pump(host);
                self.turn(host);
            }
            What::Wire(direction, up) => self.links[direction].up = up,
            What::Connect(endpoint) => self.connect(endpoint),
            What::Wake(endpoint) => {
                self.endpoints[endpoint].alarm = None;
                self.drive(endpoint);
            }
            What::Accept(listener) => self.accept(listener),
            What::Datagram(_) if self.listeners.is_empty() => {}
            What::Datagram(host) => {
                let next = self.programs[host].send(&mut self.hosts[host].shard, self.now);
                self.pump(host);
                if let Some(at) = next {
                    self.plan(at, What::Datagram(host));
                }
            }
        }
    }

    /// A host looks at what there is, and its programs at what they are told.
    fn turn(&mut self, host: usize) {
        let events = self.hosts[host].poll(self.now);
        self.pump(host);
        for event in events {
            self.dispatch(host, event);
        }
        if self.hosts[host].shard.device().has_received() {
            self.plan(self.now, What::Look(host));
        }
    }

    /// What the socket calls of programs made ready (over no wire: at once).
    fn collect(&mut self, host: usize) {
        while let Some(event) = self.hosts[host].shard.poll_event() {
            self.dispatch(host, event);
        }
    }

    fn dispatch(&mut self, host: usize, event: Event) {
        match event.owner {
            0 => {}
            owner if owner >= DATAGRAMS => {
                let peer = self.scenario.datagrams[1 - host];
                self.programs[host].read(&mut self.hosts[host].shard, self.now, peer);
            }
            owner if owner >= LISTENERS => self.accept((owner - LISTENERS) as usize),
            owner => {
                let endpoint = (owner - 1) as usize;
                if self.endpoints[endpoint].socket != Some(event.socket) {
                    return;
                }
                match self.endpoints[endpoint].phase {
                    Phase::Connecting => self.on_connecting(endpoint, event.readiness),
                    Phase::Open => {
                        self.endpoints[endpoint].on_event(event.readiness);
                        self.drive(endpoint);
                    }
                    Phase::Waiting | Phase::Done => {}
                }
            }
        }
    }

    /// Frames go from the card to the wire.
    fn pump(&mut self, host: usize) {
        while self.hosts[host].wire_idle_at <= self.now {
            let Some(octets) = self.hosts[host].shard.device_mut().transmit() else { return };
            self.hosts[host].blocked = false;
            self.observer.on_sent(self.now, &octets);
            let bits = 8 * octets.len() as u64;
            let takes = (bits * 1_000_000_000).checked_div(self.scenario.card_rate);
            self.hosts[host].wire_idle_at = self.now + Duration::from_nanos(takes.unwrap_or(0));
            let mut arrivals = Vec::new();
            self.links[host].carry(self.now, octets, |at, frame| arrivals.push((at, frame)));
            for (at, frame) in arrivals {
                self.plan(at, What::Arrive(1 - host, frame));
            }
        }
        let busy = self.hosts[host].shard.device().has_frames();
        if busy && !core::mem::replace(&mut self.hosts[host].awaits_card, true) {
            let at = self.hosts[host].wire_idle_at;
            self.plan(at, What::CardFree(host));
        }
    }

    fn connect(&mut self, endpoint: usize) {
        let e = &mut self.endpoints[endpoint];
        if e.phase == Phase::Done {
            return;
        }
        let (host, plan, flow) = (e.host, e.plan, self.scenario.flows[e.flow]);
        let shard = &mut self.hosts[host].shard;
        let socket = shard.socket(SocketKind::Tcp, Family::V4).expect("room for a socket");
        shard.set_owner(socket, endpoint as u64 + 1);
        set_options(shard, self.now, socket, &plan);
        let port = match flow.opening {
            Opening::To(listener) => self.scenario.acceptors[listener].port,
            Opening::Simultaneous(port) => {
                let own = SocketAddr::new(address(host), port);
                shard.update_options(self.now, socket, |o| o.reuse_address = true).expect("there");
                shard.bind(self.now, socket, own).expect("the port is free");
                port
            }
        };
        match shard.connect(self.now, socket, SocketAddr::new(address(1 - host), port)) {
            Ok(()) => {
                let own = shard.local_address(socket).expect("it has an address");
                self.callers.insert((own, port), endpoint);
                e.socket = Some(socket);
                e.phase = Phase::Connecting;
                self.pump(host);
            }
            Err(Error::AddressNotAvailable) => {
                shard.close(self.now, socket);
                self.connect_later(endpoint);
            }
            Err(error) => panic!("connect failed at once: {error}"),
        }
    }

    /// Again at some full second, so that both ends of a simultaneous opening meet.
    fn connect_later(&mut self, endpoint: usize) {
        let second = self.now.as_millis() / 1_000 + u64::from(self.chance.between(1, 4));
        self.plan(Instant::from_millis(second * 1_000), What::Connect(endpoint));
    }

    fn on_connecting(&mut self, endpoint: usize, readiness: Readiness) {
        if !readiness.intersects(Readiness::WRITABLE | Readiness::ERROR | Readiness::HANGUP) {
            return;
        }
        let e = &mut self.endpoints[endpoint];
        let (host, Some(socket)) = (e.host, e.socket) else { return };
        let shard = &mut self.hosts[host].shard;
        let Some(error) = shard.take_error(socket) else {
            e.open(socket);
            return self.drive(endpoint);
        };
        let simultaneous = matches!(self.scenario.flows[e.flow].opening, Opening::Simultaneous(_));
        let excused = match error {
            Error::HostUnreachable | Error::TimedOut => self.unreliable,
            // The other end may not have begun, or has given up for a moment.
            Error::ConnectionRefused | Error::ConnectionReset => simultaneous,
            _ => false,
        };
        assert!(excused || e.plan.tolerant, "connect of flow {} failed: {error}", e.flow);
        shard.close(self.now, socket);
        e.socket = None;
        e.phase = Phase::Waiting;
        self.pump(host);
        if self.endpoints[endpoint ^ 1].phase == Phase::Done {
            self.endpoints[endpoint].phase = Phase::Done;
        } else {
            self.connect_later(endpoint);
        }
    }

    fn accept(&mut self, listener: usize) {
        let acceptor = self.scenario.acceptors[listener];
        if self.listeners.get(listener).is_none_or(|l| l.rests_until > self.now) {
            return;
        }
        loop {
            let shard = &mut self.hosts[acceptor.host].shard;
            let Some(l) = self.listeners.get_mut(listener) else { return };
            let socket = l.socket;
            let (connection, peer) = match shard.accept(self.now, socket) {
                Ok(accepted) => accepted,
                Err(Error::WouldBlock) => return,
                Err(error) => panic!("accept failed: {error}"),
            };
            let rests_until = self.now + acceptor.pause;
            l.rests_until = rests_until;
            self.welcome(acceptor, connection, peer);
            if !acceptor.pause.is_zero() {
                return self.plan(rests_until, What::Accept(listener));
            }
        }
    }

    fn welcome(&mut self, acceptor: Acceptor, socket: SocketId, peer: SocketAddr) {
        let Acceptor { host, port, .. } = acceptor;
        let caller = *self.callers.get(&(peer, port)).expect("somebody connects from there");
        let endpoint = caller + 1;
        let shard = &mut self.hosts[host].shard;
        let e = &mut self.endpoints[endpoint];
        if e.phase != Phase::Waiting {
            // Its caller had given up an earlier attempt, which reached us all the same.
            let fresh = e.phase == Phase::Open && e.received == 0;
            assert!(self.unreliable || e.plan.tolerant, "flow {} comes twice", e.flow);
            let old = if fresh { e.socket } else { Some(socket) };
            if let Some(old) = old {
                shard.abort(self.now, old);
            }
            if !fresh {
                return self.pump(host);
            }
            *e = Endpoint::new(host, e.flow, 1, e.plan);
        }
        shard.set_owner(socket, endpoint as u64 + 1);
        set_options(shard, self.now, socket, &e.plan);
        e.open(socket);
        self.drive(endpoint);
    }

    fn drive(&mut self, endpoint: usize) {
        let host = self.endpoints[endpoint].host;
        if endpoint.is_multiple_of(2) && self.forgot_a_cookie(endpoint) {
            self.endpoints[endpoint].plan.forgettable = true;
        }
        let e = &mut self.endpoints[endpoint];
        let wake = e.drive(&mut self.hosts[host].shard, self.now);
        if let Some(at) = wake
            && e.alarm.is_none_or(|alarm| at < alarm)
        {
            e.alarm = Some(at);
            self.plan(at, What::Wake(endpoint));
        }
        let e = &self.endpoints[endpoint];
        let (forgotten, done) = (e.is_forgotten(), e.phase == Phase::Done);
        let excused = forgotten || e.plan.tolerant;
        let partner = &mut self.endpoints[endpoint ^ 1];
        if done && excused && partner.phase == Phase::Waiting {
            // It may never hear of us.
            partner.phase = Phase::Done;
        }
        let unknown = partner.phase == Phase::Done || partner.plan.tolerant;
        assert!(!(done && forgotten) || unknown, "a connection that both know is reset");
        self.pump(host);
        self.collect(host);
    }

    /// A listener whose accept queue was full has dropped the ACK that brought a cookie back. What
    /// its caller sends next then depends on the wire: a repeated SYN-ACK makes it acknowledge from
    /// further on, which fits no cookie, and is answered by a reset: here as on Linux (seen with
    /// 6.18; `rfc_4987_an_acknowledgment_from_further_on` is the script).
    fn forgot_a_cookie(&self, endpoint: usize) -> bool {
        let slow = matches!(self.scenario.flows[endpoint / 2].opening, Opening::To(2..));
        let repeats = self.scenario.links.iter().any(|link| link.duplication > 0);
        let listening = &self.hosts[1 - self.endpoints[endpoint].host].shard.counters().tcp;
        slow && repeats && listening.syncookies_sent > 0 && listening.accept_queue_full > 0
    }

    /// What everybody is at, for a failure's message.
    fn tell(&self) -> String {
        let mut text = String::new();
        for (n, e) in self.endpoints.iter().enumerate().filter(|(_, e)| e.phase != Phase::Done) {
            let shard = &self.hosts[e.host].shard;
            let info = e.socket.and_then(|socket| shard.info(self.now, socket).ok());
            let state = e.socket.and_then(|socket| shard.state(socket));
            text += &format!("endpoint {n}: {e:?}\n    {state:?} {info:?}\n");
        }
        for (host, link) in self.hosts.iter().zip(&self.links) {
            let (shard, fate) = (&host.shard, link.fate);
            let in_use = shard.device().in_use();
            text += &format!("{:?} buffers {in_use}\n    {fate:?}\n    ", shard.occupancy());
            shard.counters().for_each(|_, name, value| {
                if value > 0 {
                    text += &format!("{name} {value} ");
                }
            });
            text += "\n";
            shard.sockets(|socket| text += &format!("    {socket:?}\n"));
        }
        text
    }
}

fn set_options(
    shard: &mut stack::shard::Shard<crate::device::SimDevice>,
    now: Instant,
    socket: SocketId,
    plan: &crate::endpoint::Plan,
) {
    let change = |options: &mut stack::options::Options| {
        options.no_delay = plan.no_delay;
        if plan.receive_buffer > 0 {
            options.receive_buffer = plan.receive_buffer;
            options.receive_buffer_locked = true;
        }
        if plan.send_buffer > 0 {
            options.send_buffer = plan.send_buffer;
            options.send_buffer_locked = true;
        }
        if plan.tolerant {
            // The reset may get lost: only this finds out.
            options.keepalive = true;
            options.keepalive_idle = Duration::from_secs(10).into();
            options.keepalive_interval = Duration::from_secs(2).into();
        }
    };
    shard.update_options(now, socket, change).expect("the socket is there");
}
