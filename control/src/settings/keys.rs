//! The table of settings: name, meaning, and how the text of a value is read and written.
//!
//! The file's keys, the environment's variables, the command's `--set`, the JSON handed to the
//! library and the documentation all come from here. A name with a dot is a key in a section;
//! section and key joined by `_` are the Linux sysctl of the same effect where one exists
//! (`tcp.rmem` is `net.ipv4.tcp_rmem`, `core.somaxconn` is `net.core.somaxconn`).

use super::Settings;
use stack::addr::{Cidr, MacAddr};
use stack::config::{
    BufferLimits, EcnPolicy, FastOpenKey, MtuProbing, Route, SynCookies, TimeWaitReuse,
};
use stack::options::CongestionAlgorithm;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One setting.
#[derive(Clone, Copy)]
pub struct Key {
    /// The name, as in the file; a dot separates section and key.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
    /// What a value looks like; what to do about a bad one.
    pub expected: &'static str,
    /// What separates the values of a list in a text; a space unless it is a list of phrases.
    pub(super) separator: &'static str,
    /// The current value as a text that `set` takes.
    pub(super) get: fn(&Settings) -> String,
    /// Takes a value, or says what is wrong with it.
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Key {
    /// The environment variable of this setting, such as `ONWIRE_TCP_RMEM`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("ONWIRE_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The value that `settings` has, written as users write it; empty for an empty list.
    #[must_use]
    pub fn value(&self, settings: &Settings) -> String {
        (self.get)(settings)
    }
}

macro_rules! key {
    ($name:literal, $meaning:literal, $expected:expr, $get:expr, $set:expr) => {
        key!($name, $meaning, $expected, " ", $get, $set)
    };
    ($name:literal, $meaning:literal, $expected:expr, $separator:literal, $get:expr, $set:expr) => {
        Key {
            name: $name,
            meaning: $meaning,
            expected: $expected,
            separator: $separator,
            get: $get,
            set: $set,
        }
    };
}

/// A value with `Display` and `FromStr`.
macro_rules! plain {
    ($name:literal, $($field:ident).+, $meaning:literal, $expected:literal) => {
        key!($name, $meaning, $expected, |s| s.$($field).+.to_string(), |s, text| {
            s.$($field).+ = parse(text)?;
            Ok(())
        })
    };
}

/// An optional value; `auto` stands for none.
macro_rules! optional {
    ($name:literal, $field:ident, $meaning:literal, $expected:literal, $parse:expr) => {
        key!(
            $name,
            $meaning,
            $expected,
            |s| s.$field.as_ref().map_or_else(|| AUTO.to_owned(), ToString::to_string),
            |s, text| {
                s.$field = if text == AUTO { None } else { Some($parse(text)?) };
                Ok(())
            }
        )
    };
}

/// A number within bounds.
macro_rules! number {
    ($name:literal, $($field:ident).+, $low:literal ..= $high:literal, $meaning:literal) => {
        key!(
            $name,
            $meaning,
            concat!("give a number from ", $low, " to ", $high),
            |s| s.$($field).+.to_string(),
            |s, text| {
                s.$($field).+ = bounded(text, $low, $high)?;
                Ok(())
            }
        )
    };
}

/// A time within bounds, written as a number of units.
macro_rules! time {
    ($name:literal, $($field:ident).+, $unit:ident, $low:literal ..= $high:literal, $meaning:literal) => {
        key!(
            $name,
            $meaning,
            concat!("give a number from ", $low, " to ", $high),
            |s| Unit::$unit.count(s.$($field).+).to_string(),
            |s, text| {
                s.$($field).+ = Unit::$unit.time(bounded(text, $low, $high)?);
                Ok(())
            }
        )
    };
}

/// A switch: `on` or `off`, and Linux's 1 and 0.
macro_rules! switch {
    ($name:literal, $($field:ident).+, $meaning:literal) => {
        key!(
            $name,
            $meaning,
            "give on or off",
            |s| if s.$($field).+ { "on" } else { "off" }.to_owned(),
            |s, text| {
                s.$($field).+ = on_or_off(text)?;
                Ok(())
            }
        )
    };
}

/// Least, initial and largest size of a buffer.
macro_rules! buffer {
    ($name:literal, $($field:ident).+, $meaning:literal) => {
        key!(
            $name,
            $meaning,
            "give three ascending numbers of octets: least, initial, largest",
            |s| {
                let BufferLimits { min, default, max } = s.$($field).+;
                format!("{min} {default} {max}")
            },
            |s, text| {
                s.$($field).+ = buffer_limits(text)?;
                Ok(())
            }
        )
    };
}

const AUTO: &str = "auto";
const NONE: &str = "none";

pub(super) const KEYS: &[Key] = &[
    plain!(
        "device",
        device,
        "The device that carries our frames.",
        "give tap, tap:NAME, af_packet:IFACE, af_xdp:IFACE, memif:PATH, vhost:PATH, \
         virtio-user:PATH, pci:ADDRESS or vdev:ARGUMENTS"
    ),
    key!(
        "address",
        "Our addresses on the link.",
        "give ADDRESS/PREFIX, such as 10.0.0.2/24",
        ",",
        |s| join(&s.addresses, ","),
        |s, text| {
            s.addresses = list(text, &[','], host_address)?;
            Ok(())
        }
    ),
    optional!(
        "gateway",
        gateway,
        "The router of the default route.",
        "give an address on the link, such as 10.0.0.1",
        router
    ),
    key!(
        "route",
        "Further routes: NETWORK via ROUTER, or NETWORK for one on the link.",
        "give NETWORK via ROUTER, such as 10.9.0.0/16 via 10.0.0.7",
        ",",
        |s| s.routes.iter().map(show_route).collect::<Vec<_>>().join(","),
        |s, text| {
            s.routes = list(text, &[','], route)?;
            Ok(())
        }
    ),
    optional!(
        "mtu",
        mtu,
        "The largest IP packet, in octets.",
        "give a number from 576 to 65535",
        |text| bounded(text, 576, 65_535)
    ),
    optional!(
        "mac",
        mac,
        "Our Ethernet address.",
        "give six octets that make a unicast address, such as 02:00:00:00:00:01",
        mac
    ),
    plain!(
        "offloads",
        offloads.all,
        "Whether work on packets is left to the device, or done for several at once.",
        "give auto or off"
    ),
    // DPDK 22.11 has no virtio-user with more.
    number!("queues", queues, 1..=8, "Queue pairs, each with a shard of the stack and a lock."),
    plain!("checksum", offloads.checksum, "Checksums by the device.", "give auto or off"),
    plain!(
        "tso",
        offloads.tso,
        "TCP segments sent in units, cut by the device or just before it.",
        "give auto or off"
    ),
    plain!(
        "gro",
        offloads.gro,
        "Received TCP segments joined, by the device or within a burst.",
        "give auto or off"
    ),
    plain!(
        "profile",
        profile,
        "How waiting is done: spin briefly, for ever, or hardly.",
        "give balanced, latency or throughput"
    ),
    key!(
        "spin_us",
        "How long a waiting thread spins before it sleeps, in microseconds.",
        "give a number from 0 to 60000000, or auto for what the profile says",
        |s| s.spin.map_or_else(|| AUTO.to_owned(), |spin| Unit::Micros.count(spin).to_string()),
        |s, text| {
            let micros = |text| bounded(text, 0, 60_000_000).map(|n| Unit::Micros.time(n));
            s.spin = if text == AUTO { None } else { Some(micros(text)?) };
            Ok(())
        }
    ),
    plain!("loopback", loopback, "Whose 127.0.0.0/8 is.", "give kernel or stack"),
    key!(
        "rule",
        "Which sockets the stack takes; the first rule that matches decides.",
        "",
        ";",
        |s| join(&s.rules.0, ";"),
        |s, text| {
            s.rules.0 = list(text, &[';', '\n'], parse)?;
            Ok(())
        }
    ),
    plain!("banner", banner, "Whether the start is announced in one line.", "give on or off"),
    number!("verbose", verbose, 0..=2, "How much is said on standard error."),
    key!(
        "run_dir",
        "Where control sockets and leases are.",
        "give a path that begins with /, or auto",
        |s| s.run_dir.as_ref().map_or_else(|| AUTO.to_owned(), |dir| dir.display().to_string()),
        |s, text| {
            s.run_dir = if text == AUTO { None } else { Some(absolute(text)?) };
            Ok(())
        }
    ),
    key!(
        "stats_file",
        "Where the counters are added as a line of JSON when the engine ends.",
        "give a path that begins with /, or none",
        |s| s
            .stats_file
            .as_ref()
            .map_or_else(|| NONE.to_owned(), |file| file.display().to_string()),
        |s, text| {
            s.stats_file = if text == NONE { None } else { Some(absolute(text)?) };
            Ok(())
        }
    ),
    buffer!("tcp.rmem", tcp.receive_buffer, "Receive buffer of a TCP socket, in octets."),
    buffer!("tcp.wmem", tcp.send_buffer, "Send buffer of a TCP socket, in octets."),
    key!(
        "tcp.congestion_control",
        "The congestion control of new sockets.",
        "give cubic, reno, bbr or dctcp",
        |s| s.tcp.congestion.name().to_owned(),
        |s, text| {
            s.tcp.congestion = congestion(text)?;
            Ok(())
        }
    ),
    key!(
        "tcp.ecn",
        "ECN (RFC 3168): 0 is never, 1 asks for it, 2 grants it when asked.",
        "give 0, 1 or 2",
        |s| (s.tcp.ecn as u8).to_string(),
        |s, text| {
            s.tcp.ecn = match bounded::<u8>(text, 0, 2)? {
                0 => EcnPolicy::Never,
                1 => EcnPolicy::Always,
                _ => EcnPolicy::WhenAsked,
            };
            Ok(())
        }
    ),
    switch!(
        "tcp.slow_start_after_idle",
        tcp.slow_start_after_idle,
        "Whether a window shrinks while it is not used (RFC 2861)."
    ),
    switch!("tcp.timestamps", tcp.timestamps, "Timestamps (RFC 7323)."),
    switch!("tcp.sack", tcp.sack, "Selective acknowledgements (RFC 2018)."),
    switch!("tcp.window_scaling", tcp.window_scaling, "Window scaling (RFC 7323)."),
    number!("tcp.syn_retries", tcp.syn_retries, 1..=127, "How often a SYN is sent again."),
    number!(
        "tcp.synack_retries",
        tcp.synack_retries,
        0..=127,
        "How often a SYN-ACK is sent again."
    ),
    number!(
        "tcp.retries1",
        tcp.retries_to_suspect,
        1..=127,
        "How often a segment is sent again before a black hole for large ones is suspected."
    ),
    number!(
        "tcp.retries2",
        tcp.retries,
        1..=127,
        "How often a segment is sent again before the connection is given up."
    ),
    number!(
        "tcp.orphan_retries",
        tcp.orphan_retries,
        1..=127,
        "The same for connections that no program holds any more."
    ),
    time!(
        "tcp.rto_min_us",
        tcp.rto_min,
        Micros,
        100..=120_000_000,
        "Least retransmission timeout, in microseconds."
    ),
    time!(
        "tcp.rto_max_ms",
        tcp.rto_max,
        Millis,
        1_000..=120_000,
        "Greatest retransmission timeout, in milliseconds."
    ),
    time!(
        "tcp.delack_min_us",
        tcp.delayed_ack_min,
        Micros,
        0..=500_000,
        "Least delay of an acknowledgement, in microseconds."
    ),
    time!(
        "tcp.delack_max_us",
        tcp.delayed_ack_max,
        Micros,
        0..=500_000,
        "Greatest delay of an acknowledgement, in microseconds."
    ),
    time!(
        "tcp.time_wait_ms",
        tcp.time_wait,
        Millis,
        0..=240_000,
        "How long TIME-WAIT lasts, in milliseconds."
    ),
    key!(
        "tcp.tw_reuse",
        "Whether connect may take the place of a connection in TIME-WAIT: 0 no, 1 yes, 2 on loopback.",
        "give 0, 1 or 2",
        |s| (s.tcp.time_wait_reuse as u8).to_string(),
        |s, text| {
            s.tcp.time_wait_reuse = match bounded::<u8>(text, 0, 2)? {
                0 => TimeWaitReuse::Off,
                1 => TimeWaitReuse::On,
                _ => TimeWaitReuse::Loopback,
            };
            Ok(())
        }
    ),
    number!(
        "tcp.max_orphans",
        tcp.max_orphans,
        0..=4_194_304,
        "Connections that no program holds any more; beyond, they are reset."
    ),
    time!(
        "tcp.fin_timeout",
        tcp.fin_timeout,
        Secs,
        0..=3_600,
        "How long an orphan stays in FIN-WAIT-2, in seconds."
    ),
    number!(
        "tcp.max_syn_backlog",
        tcp.max_syn_backlog,
        1..=1_048_576,
        "Connections being opened at one listener, where there are no SYN cookies."
    ),
    key!(
        "tcp.syncookies",
        "SYN cookies: 0 never, 1 when a listener's SYN queue is full, 2 always.",
        "give 0, 1 or 2",
        |s| (s.tcp.syn_cookies as u8).to_string(),
        |s, text| {
            s.tcp.syn_cookies = match bounded::<u8>(text, 0, 2)? {
                0 => SynCookies::Off,
                1 => SynCookies::UnderPressure,
                _ => SynCookies::Always,
            };
            Ok(())
        }
    ),
    switch!(
        "tcp.abort_on_overflow",
        tcp.abort_on_overflow,
        "Whether a full accept queue resets those who think they are connected."
    ),
    number!(
        "tcp.fastopen",
        tcp.fast_open,
        0..=4_095,
        "TCP Fast Open: the sum of 1 (connects), 2 (listeners), 4 (connects without a cookie), \
         512 (listeners without a cookie), 1024 (every listener)."
    ),
    key!(
        "tcp.fastopen_key",
        "The key of Fast Open's cookies, and the one before it.",
        "give 32 hexadecimal digits, or two such keys with a comma, or auto",
        |s| s.tcp.fast_open_key.map_or_else(|| AUTO.to_owned(), show_key),
        |s, text| {
            s.tcp.fast_open_key = if text == AUTO { None } else { Some(fast_open_key(text)?) };
            Ok(())
        }
    ),
    key!(
        "tcp.mtu_probing",
        "Search for the path's MTU (RFC 4821): 0 never, 1 behind a black hole, 2 always.",
        "give 0, 1 or 2",
        |s| (s.tcp.mtu_probing as u8).to_string(),
        |s, text| {
            s.tcp.mtu_probing = match bounded::<u8>(text, 0, 2)? {
                0 => MtuProbing::Off,
                1 => MtuProbing::BlackHole,
                _ => MtuProbing::Always,
            };
            Ok(())
        }
    ),
    number!("tcp.base_mss", tcp.base_mss, 48..=65_495, "Where that search starts, in octets."),
    number!(
        "tcp.mtu_probe_floor",
        tcp.mtu_probe_floor,
        48..=65_495,
        "The smallest segments that it comes down to, in octets."
    ),
    number!(
        "tcp.probe_threshold",
        tcp.probe_threshold,
        1..=65_495,
        "How near in octets it comes before it ends."
    ),
    time!(
        "tcp.probe_interval",
        tcp.probe_interval,
        Secs,
        1..=86_400,
        "How long what it found is believed, in seconds."
    ),
    number!(
        "tcp.challenge_ack_limit",
        tcp.challenge_acks_per_second,
        1..=4_294_967_295,
        "Challenge acknowledgements per second (RFC 5961)."
    ),
    number!(
        "core.somaxconn",
        tcp.max_backlog,
        1..=1_048_576,
        "Largest backlog that listen(2) can ask for."
    ),
    number!(
        "core.rmem_default",
        udp_receive_buffer,
        2_304..=1_073_741_824,
        "Receive buffer of a UDP socket, in octets."
    ),
    number!(
        "core.rmem_max",
        max_receive_buffer,
        2_304..=1_073_741_824,
        "Largest SO_RCVBUF, in octets."
    ),
    number!(
        "core.wmem_max",
        max_send_buffer,
        4_608..=1_073_741_824,
        "Largest SO_SNDBUF, in octets."
    ),
    key!(
        "ip.local_port_range",
        "First and last port given to sockets that choose none.",
        "give two ascending ports, such as 32768 60999",
        |s| format!("{} {}", s.ephemeral_ports.0, s.ephemeral_ports.1),
        |s, text| {
            s.ephemeral_ports = port_range(text)?;
            Ok(())
        }
    ),
    number!(
        "capacity.tcp_sockets",
        capacity.tcp_sockets,
        16..=4_194_304,
        "TCP sockets and connections being opened."
    ),
    number!("capacity.time_wait", capacity.time_wait, 0..=4_194_304, "Connections in TIME-WAIT."),
    number!("capacity.udp_sockets", capacity.udp_sockets, 16..=4_194_304, "UDP sockets."),
    number!(
        "capacity.segments",
        capacity.segments,
        256..=16_777_216,
        "Segments and datagrams queued in all sockets together."
    ),
    number!("capacity.neighbors", capacity.neighbors, 8..=65_536, "Neighbors on the link."),
    number!(
        "capacity.unresolved_packets",
        capacity.unresolved_packets,
        1..=65_536,
        "Packets that wait for neighbors to answer."
    ),
    number!(
        "capacity.loopback_frames",
        capacity.loopback_frames,
        16..=65_536,
        "Packets on the way from and to our own addresses."
    ),
    number!(
        "capacity.capture_octets",
        capacity.capture_octets,
        65_536..=1_073_741_824,
        "Octets that a capture holds before it drops."
    ),
    number!("memory.mbufs", memory.mbufs, 512..=8_388_607, "Packet buffers of each queue."),
    number!(
        "memory.mbuf_octets",
        memory.mbuf_octets,
        1_024..=9_728,
        "Largest packet data that one buffer holds, in octets."
    ),
    number!(
        "memory.region_octets",
        memory.region_octets,
        67_108_864..=1_099_511_627_776,
        "Address space of the shared region, in octets."
    ),
    number!(
        "memory.rx_descriptors",
        memory.rx_descriptors,
        32..=16_384,
        "Descriptors of a receive queue."
    ),
    number!(
        "memory.tx_descriptors",
        memory.tx_descriptors,
        32..=16_384,
        "Descriptors of a transmit queue."
    ),
    plain!(
        "memory.hugepages",
        memory.hugepages,
        "Whether hugepages are used: reserved ones for packets, transparent for full tables.",
        "give auto, never or require"
    ),
];

enum Unit {
    Micros,
    Millis,
    Secs,
}

impl Unit {
    fn time(&self, count: u64) -> Duration {
        match self {
            Self::Micros => Duration::from_micros(count),
            Self::Millis => Duration::from_millis(count),
            Self::Secs => Duration::from_secs(count),
        }
    }

    fn count(&self, time: Duration) -> u128 {
        match self {
            Self::Micros => time.as_micros(),
            Self::Millis => time.as_millis(),
            Self::Secs => u128::from(time.as_secs()),
        }
    }
}

fn join<T: Display>(values: &[T], separator: &str) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn bounded<T: TryFrom<u64>>(text: &str, low: u64, high: u64) -> Result<T, String> {
    let digits = text.replace('_', "");
    let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    if !is_number {
        return Err("is not a number".to_owned());
    }
    let number = digits.parse::<u64>().ok().filter(|number| (low..=high).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| "is out of range".to_owned())
}

fn list<T>(
    text: &str,
    separators: &[char],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let parts = text.split(separators).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| parse(part).map_err(|problem| in_list(text, part, problem))).collect()
}

/// Names the bad part when the list has others.
fn in_list(list: &str, part: &str, problem: String) -> String {
    if list.trim() == part { problem } else { format!("has {part:?}, which {problem}") }
}

fn host_address(text: &str) -> Result<Cidr, String> {
    let cidr: Cidr = text.parse().map_err(|_| "is no address with a prefix".to_owned())?;
    let address = cidr.address();
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if cidr.prefix_len() == 0 {
        return Err("has a prefix of no bits".to_owned());
    }
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err("is no address that a host on a link can have".to_owned());
    }
    let IpAddr::V4(v4) = address else { return Ok(cidr) };
    if v4.octets()[0] >= 240 || v4.octets()[0] == 0 {
        return Err("is no address that a host on a link can have".to_owned());
    }
    let mask = u32::MAX.checked_shr(u32::from(cidr.prefix_len())).unwrap_or(0);
    let is_network = v4.to_bits() & mask == 0;
    if cidr.prefix_len() < longest - 1 && (is_network || cidr.broadcast() == Some(v4)) {
        return Err("is the network's own or its broadcast address".to_owned());
    }
    Ok(cidr)
}

fn router(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "is no IP address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err("is no address that a router can have".to_owned());
    }
    Ok(address)
}

fn route(text: &str) -> Result<Route, String> {
    let (network, gateway) = match text.split_once(" via ") {
        Some((network, gateway)) => (network.trim(), Some(router(gateway.trim())?)),
        None => (text, None),
    };
    let destination = network.parse().map_err(|_| "is no route".to_owned())?;
    Ok(Route { destination, gateway })
}

fn show_route(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("{} via {gateway}", route.destination),
        None => route.destination.to_string(),
    }
}

/// Reads an Ethernet address as [`MacAddr`] writes it.
pub(crate) fn parse_mac(text: &str) -> Option<MacAddr> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2))
        .collect();
    <[u8; 6]>::try_from(octets?).ok().map(MacAddr)
}

fn mac(text: &str) -> Result<MacAddr, String> {
    let mac = parse_mac(text).ok_or("is no Ethernet address")?;
    if mac.is_unicast() { Ok(mac) } else { Err("is no station's address".to_owned()) }
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "1" | "true" => Ok(true),
        "off" | "0" | "false" => Ok(false),
        _ => Err("is neither on nor off".to_owned()),
    }
}

fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let parts = text.split([' ', ',', '\t']).filter(|part| !part.is_empty());
    let numbers: Option<Vec<u32>> = parts.map(|part| bounded(part, 0, 1 << 30).ok()).collect();
    <[u32; N]>::try_from(numbers?).ok()
}

fn buffer_limits(text: &str) -> Result<BufferLimits, String> {
    let [min, default, max] = numbers(text).ok_or("is not three numbers up to 1073741824")?;
    if min < 1_024 || min > default || default > max {
        return Err("does not ascend from at least 1024".to_owned());
    }
    Ok(BufferLimits { min, default, max })
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let ports = numbers::<2>(text)
        .and_then(|[first, last]| Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?)));
    match ports {
        Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
        _ => Err("is not two ascending ports".to_owned()),
    }
}

fn congestion(text: &str) -> Result<CongestionAlgorithm, String> {
    let known = CongestionAlgorithm::ALL.iter().copied();
    known.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(|| {
        let names: Vec<_> = CongestionAlgorithm::ALL.iter().map(|one| one.name()).collect();
        format!("is not known; use one of {}", names.join(", "))
    })
}

/// Keys as Linux's `tcp_fastopen_key` writes them: four words of 32 bits, each from its high octet.
fn fast_open_key(text: &str) -> Result<FastOpenKey, String> {
    let mut keys = text.split(',').map(|part| {
        let digits = part.replace('-', "");
        let words = (0..4).map(|i| u32::from_str_radix(digits.get(i * 8..i * 8 + 8)?, 16).ok());
        let words: Option<Vec<u32>> = words.collect();
        let octets = words?.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        <[u8; 16]>::try_from(octets).ok().filter(|_| digits.len() == 32)
    });
    let bad = || "is no key of 32 hexadecimal digits".to_owned();
    let primary = keys.next().flatten().ok_or_else(bad)?;
    let backup = match keys.next() {
        Some(key) => Some(key.ok_or_else(bad)?),
        None => None,
    };
    if keys.next().is_some() {
        return Err("has more than two keys".to_owned());
    }
    Ok(FastOpenKey { primary, backup })
}

fn show_key(key: FastOpenKey) -> String {
    let show = |octets: [u8; 16]| {
        let words = octets.chunks_exact(4).map(|word| {
            let word = word.try_into().map_or(0, u32::from_le_bytes);
            format!("{word:08x}")
        });
        words.collect::<Vec<_>>().join("-")
    };
    let backup = key.backup.map_or(String::new(), |backup| format!(",{}", show(backup)));
    show(key.primary) + &backup
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("is a relative path".to_owned()) }
}
