//! Settings: addresses and MTU from `--so_flags`, TCP's from `/proc/sys/net/ipv4` of the network
//! namespace, where scripts set them.

use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;
use stack::addr::Cidr;
use stack::config::{BufferLimits, Capacity, Config, EcnPolicy, FastOpenKey, MtuProbing, Route};
use stack::config::{SynCookies, TcpConfig};
use stack::options::CongestionAlgorithm;
use std::{env, fs};

/// What `--so_flags` says: words like `local_ip=192.168.0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    pub local: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub prefix_len: u8,
    pub mtu: u16,
    /// Whether the namespace's settings are read; a test has its own.
    pub sysctl: bool,
}

impl Flags {
    /// packetdrill's defaults, changed by `text`. What it does not know it ignores.
    pub fn parse(text: &str) -> Self {
        let mut flags = Flags {
            local: Ipv4Addr::new(192, 168, 0, 1),
            gateway: Ipv4Addr::new(192, 168, 0, 2),
            prefix_len: 16,
            mtu: 1500,
            sysctl: true,
        };
        let words = text.split([' ', ',']).filter_map(|word| word.split_once('='));
        for (key, value) in words {
            let number = |old| value.parse().unwrap_or(old);
            match key {
                "local_ip" => flags.local = address(value, flags.local),
                "gateway_ip" => flags.gateway = address(value, flags.gateway),
                "netmask" => {
                    let mask = u32::from(address(value, Ipv4Addr::new(255, 255, 0, 0)));
                    flags.prefix_len = mask.leading_ones() as u8;
                }
                "mtu" => flags.mtu = number(flags.mtu),
                "sysctl" => flags.sysctl = value != "0",
                _ => {}
            }
        }
        flags
    }

    /// What the stack is built with.
    pub fn config(&self) -> Config {
        let local = IpAddr::V4(self.local);
        let everything = Cidr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let routes = everything
            .map(|destination| Route { destination, gateway: Some(IpAddr::V4(self.gateway)) });
        Config {
            addresses: Cidr::new(local, self.prefix_len).into_iter().collect(),
            routes: routes.into_iter().collect(),
            mtu: self.mtu,
            tcp: self.tcp(),
            // All of it is touched: packetdrill locks its memory.
            capacity: Capacity {
                tcp_sockets: 64,
                time_wait: 64,
                udp_sockets: 16,
                segments: 16_384,
                neighbors: 64,
                unresolved_packets: 64,
                loopback_frames: 64,
                capture_octets: 4_096,
            },
            ..Config::default()
        }
    }

    /// TCP's settings now.
    pub fn tcp(&self) -> TcpConfig {
        let mut tcp = TcpConfig::default();
        if self.sysctl {
            read_sysctls(&mut tcp);
        }
        tcp
    }
}

/// Whether the script has let what is known of servers be forgotten (`ip tcp_metrics flush`) since
/// it was last asked.
pub fn take_flush() -> bool {
    env::var_os("ONWIRE_PACKETDRILL_FLUSH").is_some_and(|mark| fs::remove_file(mark).is_ok())
}

/// Whether the script's link paces every socket (`tc qdisc … fq`). Here a socket is paced that asks
/// for it, so the adapter asks for every socket.
pub fn link_paces() -> bool {
    env::var_os("ONWIRE_PACKETDRILL_FQ").is_some_and(|mark| fs::exists(mark).unwrap_or(false))
}

fn address(text: &str, otherwise: Ipv4Addr) -> Ipv4Addr {
    text.parse().unwrap_or(otherwise)
}

fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    sysctl(name)?.trim().parse().ok()
}

/// Changes `field` to the setting `name`, if there is one.
fn take<T: FromStr>(field: &mut T, name: &str) {
    if let Some(value) = number(name) {
        *field = value;
    }
}

fn flag(field: &mut bool, name: &str) {
    if let Some(value) = number::<u32>(name) {
        *field = value != 0;
    }
}

fn limits(field: &mut BufferLimits, name: &str) {
    let Some(text) = sysctl(name) else { return };
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    if let (Some(min), Some(default), Some(max)) = (numbers.next(), numbers.next(), numbers.next())
    {
        *field = BufferLimits { min, default, max };
    }
}

fn read_sysctls(tcp: &mut TcpConfig) {
    limits(&mut tcp.receive_buffer, "tcp_rmem");
    limits(&mut tcp.send_buffer, "tcp_wmem");
    flag(&mut tcp.timestamps, "tcp_timestamps");
    flag(&mut tcp.sack, "tcp_sack");
    flag(&mut tcp.window_scaling, "tcp_window_scaling");
    take(&mut tcp.syn_retries, "tcp_syn_retries");
    take(&mut tcp.synack_retries, "tcp_synack_retries");
    take(&mut tcp.retries, "tcp_retries2");
    take(&mut tcp.retries_to_suspect, "tcp_retries1");
    take(&mut tcp.min_tso_segments, "tcp_min_tso_segs");
    take(&mut tcp.base_mss, "tcp_base_mss");
    take(&mut tcp.mtu_probe_floor, "tcp_mtu_probe_floor");
    take(&mut tcp.probe_threshold, "tcp_probe_threshold");
    tcp.mtu_probing = match number::<u32>("tcp_mtu_probing") {
        Some(1) => MtuProbing::BlackHole,
        Some(2) => MtuProbing::Always,
        _ => MtuProbing::Off,
    };
    flag(&mut tcp.slow_start_after_idle, "tcp_slow_start_after_idle");
    tcp.ecn = match number::<u32>("tcp_ecn") {
        Some(0) => EcnPolicy::Never,
        Some(1) => EcnPolicy::Always,
        _ => EcnPolicy::WhenAsked,
    };
    take(&mut tcp.not_sent_low_water, "tcp_notsent_lowat");
    take(&mut tcp.fast_open, "tcp_fastopen");
    tcp.fast_open_key = sysctl("tcp_fastopen_key").and_then(|text| fast_open_key(&text));
    tcp.syn_cookies = match number::<u32>("tcp_syncookies") {
        Some(0) => SynCookies::Off,
        Some(2) => SynCookies::Always,
        _ => SynCookies::UnderPressure,
    };
    flag(&mut tcp.abort_on_overflow, "tcp_abort_on_overflow");
    if let Some(name) = sysctl("tcp_congestion_control") {
        let known = CongestionAlgorithm::ALL.iter().find(|known| known.name() == name.trim());
        tcp.congestion = known.copied().unwrap_or_default();
    }
}

/// A key, or two behind each other: four words of 32 bits, each from its high octet.
fn fast_open_key(text: &str) -> Option<FastOpenKey> {
    let mut keys = text.trim().split(',').map(|part| {
        let words = part.split('-').map(|word| u32::from_str_radix(word, 16).ok());
        let words = words.collect::<Option<Vec<u32>>>()?;
        let octets: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        <[u8; 16]>::try_from(octets).ok()
    });
    let primary = keys.next().flatten()?;
    Some(FastOpenKey { primary, backup: keys.next().flatten() })
}
