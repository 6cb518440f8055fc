//! The control socket's language: one JSON object per line, a [`Request`] answered by one or more
//! [`Response`]s.
//!
//! The keeper of an engine answers; `onwire` asks. A connection carries any number of requests one
//! after another; a list that is long comes in several responses, all but the last with `more`
//! set. After [`Response::Capturing`] the connection carries pcapng until either side closes it.
//! Nothing here is secret, and every line is bounded.

use crate::change::Change;
use crate::text;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stack::addr::{Cidr, MacAddr};
use std::io::{self, BufRead, Read};
use std::net::{IpAddr, SocketAddr};

/// The longest request, in octets with its newline.
pub const LONGEST_REQUEST: usize = 64 << 10;
/// The longest response, in octets with its newline; longer lists come in parts.
pub const LONGEST_RESPONSE: usize = 1 << 20;
/// How many sockets one response carries at most, so that it stays below [`LONGEST_RESPONSE`].
pub const SOCKETS_PER_RESPONSE: usize = 256;

/// What can be asked of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Who are you? → [`Response::Info`].
    Info,
    /// Every socket → [`Response::Sockets`], maybe several.
    Sockets,
    /// Every counter → [`Response::Stats`].
    Stats,
    /// The routes → [`Response::Routes`].
    Routes,
    /// The neighbor cache → [`Response::Neighbors`].
    Neighbors,
    /// Copy frames to me → [`Response::Capturing`], then pcapng.
    Tcpdump {
        /// Octets of each frame that are wanted; 0 means all.
        snaplen: u32,
        /// End after this many frames.
        count: Option<u64>,
        /// Those for other stations too, as long as somebody captures.
        #[serde(default)]
        promiscuous: bool,
    },
    /// Change something → [`Response::Done`] or [`Response::Noted`].
    Set {
        /// What.
        change: Change,
    },
    /// Somebody wants your device: leave if no program runs any more → [`Response::Leaving`] or
    /// [`Response::Staying`].
    Leave {
        /// Who asks.
        pid: u32,
        /// The program that he runs.
        program: String,
    },
}

/// What an engine answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", content = "body", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Info`].
    Info(Box<EngineInfo>),
    /// To [`Request::Sockets`]; others follow if `more`.
    Sockets {
        /// This part of the list.
        sockets: Vec<SocketInfo>,
        /// Whether another response continues it.
        more: bool,
    },
    /// To [`Request::Stats`].
    Stats(Stats),
    /// To [`Request::Routes`].
    Routes(Vec<RouteInfo>),
    /// To [`Request::Neighbors`].
    Neighbors(Vec<NeighborInfo>),
    /// To [`Request::Tcpdump`]: the next octet is pcapng's first.
    Capturing,
    /// To [`Request::Leave`]: the device is free when the connection closes.
    Leaving,
    /// To [`Request::Leave`]: programs still run.
    Staying {
        /// Which.
        programs: Vec<Program>,
    },
    /// To [`Request::Set`]: it is so.
    Done,
    /// To [`Request::Set`]: it is so, but otherwise than one would think.
    Noted {
        /// How, in one line.
        note: String,
    },
    /// The request was not understood or cannot be done.
    Error {
        /// Why, in one line.
        message: String,
    },
}

/// A process that uses an engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Program {
    /// Its process id.
    pub pid: u32,
    /// Its file name.
    pub name: String,
}

/// An engine: one stack on one device, and the processes that drive it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// The process id of the first process; what `--engine` takes.
    pub id: u32,
    /// The keeper's process id.
    pub keeper: u32,
    /// onwire's version.
    pub version: String,
    /// The processes that live; none while the keeper finishes alone.
    pub programs: Vec<Program>,
    /// The device, as [`DeviceSpec`](crate::DeviceSpec) writes it.
    pub device: String,
    /// The kernel interface of the device, if it has one, such as `onwire0`.
    #[serde(default)]
    pub interface: Option<String>,
    /// DPDK's name of the driver.
    pub driver: String,
    /// Our Ethernet address.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Our addresses.
    #[serde(with = "text::list")]
    pub addresses: Vec<Cidr>,
    /// The router of the default route.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The largest IP packet, in octets.
    pub mtu: u16,
    /// The profile's name.
    pub profile: String,
    /// Whose loopback addresses are: `kernel` or `stack`.
    pub loopback: String,
    /// What the device does for us, such as `tx-checksum`.
    #[serde(default)]
    pub offloads: Vec<String>,
    /// How those who wait hear of frames: `descriptor`, `interrupt` or `clock`.
    #[serde(default)]
    pub wakes_by: String,
    /// `up`, `down`, `removed` or `reset`.
    #[serde(default)]
    pub link: String,
    /// Whether the device takes frames for every address.
    #[serde(default)]
    pub promiscuous: bool,
    /// The groups of the link whose frames it takes.
    #[serde(default, with = "mac_text::list")]
    pub multicast: Vec<MacAddr>,
    /// Whether it takes those of every group.
    #[serde(default)]
    pub allmulticast: bool,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
}

/// The transport of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Whose network a socket uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketPath {
    /// Neither bound nor connected yet.
    Undecided,
    /// Ours.
    Stack,
    /// The kernel's.
    Kernel,
    /// A wildcard address: it accepts from both.
    Both,
}

impl SocketPath {
    /// The name as it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Stack => "stack",
            Self::Kernel => "kernel",
            Self::Both => "both",
        }
    }
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketHolder {
    /// The process.
    #[serde(flatten)]
    pub program: Program,
    /// Its descriptors, where they are known.
    #[serde(default)]
    pub descriptors: Vec<i32>,
}

/// One socket, as `ss` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SocketInfo {
    /// The transport.
    pub protocol: Protocol,
    /// The state as `ss` names it: `LISTEN`, `ESTAB`, `TIME-WAIT`, `UNCONN` …
    pub state: String,
    /// Our end; the wildcard address with port 0 if it is not bound.
    pub local: SocketAddr,
    /// The other end, if there is one.
    #[serde(default)]
    pub remote: Option<SocketAddr>,
    /// Octets received that the program has not read; a listener's waiting connections.
    pub receive_queue: u64,
    /// Octets sent that the peer has not acknowledged, and unsent ones; a listener's backlog.
    pub send_queue: u64,
    /// Whose network it uses.
    pub path: SocketPath,
    /// Why, in a few words, such as `rule 2`, `loopback address` or `route`.
    #[serde(default)]
    pub reason: String,
    /// Who holds it; nobody while the keeper finishes it.
    #[serde(default)]
    pub holders: Vec<SocketHolder>,
    /// What runs out next, as `ss -o` shows it, such as `keepalive,118min,0`.
    #[serde(default)]
    pub timer: Option<String>,
    /// TCP's inner state.
    #[serde(default)]
    pub tcp: Option<TcpInfo>,
}

/// What `TCP_INFO` says of a connection (tcp(7)); units are in the names, else counts or octets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // The names are those of Linux's struct tcp_info.
pub struct TcpInfo {
    pub congestion: String,
    pub congestion_state: String,
    pub timestamps: bool,
    pub sack: bool,
    pub window_scaling: bool,
    pub ecn: bool,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub rto_us: u64,
    pub ato_us: u64,
    pub rtt_us: u64,
    pub rttvar_us: u64,
    pub min_rtt_us: u64,
    pub rcv_rtt_us: u64,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub advmss: u32,
    pub pmtu: u32,
    /// In segments.
    pub snd_cwnd: u32,
    /// In segments; `None` until the first loss.
    pub snd_ssthresh: Option<u32>,
    /// In octets.
    pub snd_wnd: u32,
    /// In octets.
    pub rcv_wnd: u32,
    /// In octets.
    pub rcv_space: u32,
    /// In octets.
    pub rcv_ssthresh: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    /// Retransmitted segments that are in flight.
    pub retrans: u32,
    /// Retransmitted segments in all.
    pub total_retrans: u64,
    pub retransmits: u32,
    pub backoff: u32,
    pub probes: u32,
    pub reordering: u32,
    pub reord_seen: u32,
    pub dsack_dups: u32,
    pub bytes_sent: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub bytes_retrans: u64,
    pub notsent_bytes: u64,
    pub segs_out: u64,
    pub segs_in: u64,
    pub data_segs_out: u64,
    pub data_segs_in: u64,
    pub delivered: u64,
    pub delivered_ce: u64,
    /// Octets per second.
    pub delivery_rate: u64,
    /// Octets per second; 0 without pacing.
    pub pacing_rate: u64,
    pub busy_time_us: u64,
    pub rwnd_limited_us: u64,
    pub sndbuf_limited_us: u64,
    pub last_data_sent_ms: u64,
    pub last_data_recv_ms: u64,
    pub last_ack_recv_ms: u64,
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// What it counts.
    #[serde(default)]
    pub help: String,
}

/// Counters that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsGroup {
    /// What they are about, such as `tcp`.
    pub name: String,
    /// The counters, in the order of their table.
    pub counters: Vec<Counter>,
}

/// Every counter of an engine, in groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The groups, in the order of the layers.
    pub groups: Vec<StatsGroup>,
}

impl Stats {
    /// Adds a counter to a group, which is made when it is the first.
    pub fn add(&mut self, group: &str, name: &str, value: u64, help: &str) {
        let counter = Counter { name: name.into(), value, help: help.trim().into() };
        match self.groups.iter_mut().find(|other| other.name == group) {
            Some(group) => group.counters.push(counter),
            None => {
                self.groups.push(StatsGroup { name: group.to_owned(), counters: vec![counter] })
            }
        }
    }

    /// As programs read it: the engine's name and `{group: {counter: value}}`, without the zeroes
    /// if they are not wanted.
    #[must_use]
    pub fn document(&self, engine: u32, nonzero: bool) -> serde_json::Value {
        let groups: serde_json::Map<_, _> = self
            .groups
            .iter()
            .map(|group| {
                let counters = group.counters.iter().filter(|one| !nonzero || one.value != 0);
                let counters: serde_json::Map<String, serde_json::Value> =
                    counters.map(|one| (one.name.clone(), one.value.into())).collect();
                (group.name.clone(), counters.into())
            })
            .collect();
        serde_json::json!({ "engine": engine, "stats": groups })
    }

    /// The value of a counter.
    #[must_use]
    pub fn get(&self, group: &str, name: &str) -> Option<u64> {
        let group = self.groups.iter().find(|other| other.name == group)?;
        group.counters.iter().find(|counter| counter.name == name).map(|counter| counter.value)
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// Where it leads.
    #[serde(with = "text")]
    pub destination: Cidr,
    /// Through whom; `None`: on the link.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The address we use there.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// The largest packet, in octets.
    pub mtu: u16,
}

/// One neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborInfo {
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, once known.
    #[serde(default, with = "mac_text::option")]
    pub mac: Option<MacAddr>,
    /// The state of RFC 4861 §7.3.2 as `ip neigh` names it: `REACHABLE`, `STALE` …
    pub state: String,
    /// Milliseconds since it last answered.
    #[serde(default)]
    pub age_ms: Option<u64>,
}

/// Reads one line of at most `longest` octets and what it says; `None` at the end of the stream.
///
/// # Errors
/// The line is longer, is cut off, or says something else.
pub fn read_line<T: DeserializeOwned>(
    reader: &mut impl BufRead,
    longest: usize,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    reader.take(longest as u64).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) if line.len() == longest => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"))
        }
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Request {
    /// Reads a request from its line, for servers that do not block.
    ///
    /// # Errors
    /// The line is no request; the message is one line.
    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        if line.len() > LONGEST_REQUEST {
            return Err("the request is too long".to_owned());
        }
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
}

impl Response {
    /// The line that carries this response, newline included.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }

    /// A list of sockets as the responses that carry it: at least one.
    #[must_use]
    pub fn sockets(list: Vec<SocketInfo>) -> Vec<Response> {
        let mut responses = Vec::new();
        let mut rest = list.into_iter().peekable();
        loop {
            let sockets: Vec<_> = rest.by_ref().take(SOCKETS_PER_RESPONSE).collect();
            let more = rest.peek().is_some();
            responses.push(Response::Sockets { sockets, more });
            if !more {
                return responses;
            }
        }
    }
}

/// A message as its line, newline included.
#[must_use]
pub fn to_line<T: Serialize>(message: &T) -> Vec<u8> {
    // These types have texts for keys and no fallible parts: they can always be written.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Serde for Ethernet addresses, which have no `FromStr`.
pub(crate) mod mac_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use stack::addr::MacAddr;

    pub fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::settings::parse_mac(&text).ok_or_else(|| D::Error::custom("no Ethernet address"))
    }

    pub mod list {
        use super::{Deserialize, Deserializer, Error, MacAddr, Serializer};

        pub fn serialize<S: Serializer>(
            macs: &[MacAddr],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(macs.iter().map(ToString::to_string))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<MacAddr>, D::Error> {
            let texts = Vec::<String>::deserialize(deserializer)?;
            let macs: Option<Vec<MacAddr>> =
                texts.iter().map(|text| crate::settings::parse_mac(text)).collect();
            macs.ok_or_else(|| D::Error::custom("no Ethernet address"))
        }
    }

    pub mod option {
        use super::{Deserialize, Deserializer, Error, MacAddr, Serializer};

        pub fn serialize<S: Serializer>(
            mac: &Option<MacAddr>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match mac {
                Some(mac) => serializer.collect_str(mac),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<MacAddr>, D::Error> {
            let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
            let mac = crate::settings::parse_mac(&text);
            mac.map(Some).ok_or_else(|| D::Error::custom("no Ethernet address"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Membership;

    fn socket(port: u16) -> SocketInfo {
        SocketInfo {
            protocol: Protocol::Tcp,
            state: "ESTAB".into(),
            local: ([10, 0, 0, 2], port).into(),
            remote: Some(([10, 0, 0, 1], 80).into()),
            receive_queue: 1,
            send_queue: 2,
            path: SocketPath::Stack,
            reason: "route".into(),
            holders: vec![SocketHolder {
                program: Program { pid: 3, name: "redis-server".into() },
                descriptors: vec![7],
            }],
            timer: None,
            tcp: Some(TcpInfo { snd_cwnd: 10, ..TcpInfo::default() }),
        }
    }

    #[test]
    fn messages_are_one_line_and_read_back() {
        let responses = [
            Response::Info(Box::new(EngineInfo {
                id: 1,
                keeper: 2,
                version: "0.1.0".into(),
                programs: vec![],
                device: "tap".into(),
                interface: Some("onwire0".into()),
                driver: "net_tap".into(),
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                addresses: vec!["10.78.0.2/24".parse().unwrap()],
                gateway: None,
                mtu: 1500,
                profile: "balanced".into(),
                loopback: "kernel".into(),
                offloads: vec![],
                wakes_by: "interrupt".into(),
                link: "up".into(),
                promiscuous: false,
                multicast: vec![MacAddr([1, 0, 0x5e, 1, 2, 3])],
                allmulticast: true,
                uptime_ms: 5,
            })),
            Response::Sockets { sockets: vec![socket(1)], more: false },
            Response::Routes(vec![RouteInfo {
                destination: "0.0.0.0/0".parse().unwrap(),
                gateway: Some([10, 0, 0, 1].into()),
                source: None,
                mtu: 1500,
            }]),
            Response::Neighbors(vec![
                NeighborInfo {
                    address: [10, 0, 0, 1].into(),
                    mac: Some(MacAddr([2, 3, 4, 5, 6, 7])),
                    state: "STALE".into(),
                    age_ms: Some(3),
                },
                NeighborInfo {
                    address: [10, 0, 0, 9].into(),
                    mac: None,
                    state: "INCOMPLETE".into(),
                    age_ms: None,
                },
            ]),
            Response::Capturing,
            Response::Leaving,
            Response::Done,
            Response::Noted { note: "all".into() },
            Response::Staying { programs: vec![Program { pid: 1, name: "a\nb".into() }] },
            Response::Error { message: "no".into() },
        ];
        for response in responses {
            let line = response.to_line();
            assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1);
            let read = read_line::<Response>(&mut line.as_slice(), LONGEST_RESPONSE).unwrap();
            assert_eq!(read, Some(response));
        }
    }

    #[test]
    fn requests_are_strict() {
        let group = MacAddr([1, 0, 0x5e, 1, 2, 3]);
        for request in [
            Request::Info,
            Request::Tcpdump { snaplen: 0, count: Some(3), promiscuous: true },
            Request::Set { change: Change::Mtu(1_400) },
            Request::Set { change: Change::Promiscuous(false) },
            Request::Set { change: Change::Mac(MacAddr([2, 0, 0, 0, 0, 1])) },
            Request::Set { change: Change::Multicast { membership: Membership::Del, group } },
            Request::Set { change: Change::AllMulticast(true) },
            Request::Leave { pid: 1, program: "x".into() },
        ] {
            assert_eq!(Request::from_line(&to_line(&request)), Ok(request));
        }
        for line in ["", "{}", "{\"request\":\"reboot\"}", "[1]", "\u{0}"] {
            assert!(!Request::from_line(line.as_bytes()).expect_err(line).contains('\n'));
        }
        assert!(Request::from_line(&vec![b' '; LONGEST_REQUEST + 1]).is_err());
    }

    #[test]
    fn long_lists_come_in_parts_and_an_empty_one_in_one() {
        assert_eq!(Response::sockets(vec![]), [Response::Sockets { sockets: vec![], more: false }]);
        let parts = Response::sockets((0..600).map(socket).collect());
        let counts: Vec<(usize, bool)> = parts
            .iter()
            .map(|part| match part {
                Response::Sockets { sockets, more } => (sockets.len(), *more),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [(256, true), (256, true), (88, false)]);
        assert!(parts.iter().all(|part| part.to_line().len() < LONGEST_RESPONSE));
    }

    #[test]
    fn lines_that_are_long_or_cut_off_are_refused() {
        let mut long: &[u8] = &vec![b'x'; LONGEST_REQUEST + 10];
        assert!(read_line::<Request>(&mut long, LONGEST_REQUEST).is_err());
        let mut cut: &[u8] = b"{\"request\":";
        assert!(read_line::<Request>(&mut cut, LONGEST_REQUEST).is_err());
        assert_eq!(read_line::<Request>(&mut &b""[..], LONGEST_REQUEST).unwrap(), None);
    }

    #[test]
    fn counters_keep_their_order_within_groups() {
        let mut stats = Stats::default();
        stats.add("tcp", "b", 1, " help");
        stats.add("ip", "x", 2, "");
        stats.add("tcp", "a", 3, "");
        assert_eq!(stats.groups[0].counters[1].name, "a");
        assert_eq!(stats.get("tcp", "a"), Some(3));
        assert_eq!(stats.get("tcp", "x"), None);
    }
}
