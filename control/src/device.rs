//! The string that names a device: `KIND[:WHAT[,OPTION=VALUE]…]`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Which end of a memif link we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemifRole {
    /// Connects to a socket that the other side made.
    #[default]
    Client,
    /// Makes the socket and waits.
    Server,
}

impl MemifRole {
    /// The name DPDK's `role=` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A device that carries frames, as its user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// `tap` or `tap:NAME`: a TAP made by the engine. Without a name it is `onwireN`, where N is
    /// the index that the engine leases, and both ends are addressed by us.
    Tap {
        /// The interface's name, if the user chose one.
        name: Option<String>,
    },
    /// `af_packet:IFACE`: packet sockets on a kernel interface.
    AfPacket {
        /// The kernel interface.
        interface: String,
    },
    /// `af_xdp:IFACE`: AF_XDP on a kernel interface.
    AfXdp {
        /// The kernel interface.
        interface: String,
    },
    /// `memif:PATH[,role=client|server][,id=N]`: a shared-memory link.
    Memif {
        /// The control socket.
        path: PathBuf,
        /// Which end we are.
        role: MemifRole,
        /// The interface's number on that socket.
        id: u32,
    },
    /// `vhost:PATH`: the device side of a virtio link; makes the socket.
    Vhost {
        /// The socket.
        path: PathBuf,
    },
    /// `virtio-user:PATH`: the driver side of a virtio link; connects to the socket.
    VirtioUser {
        /// The socket.
        path: PathBuf,
    },
    /// `pci:0000:00:03.0`: a NIC bound to vfio-pci (or to a driver DPDK shares, as mlx5's).
    Pci {
        /// Domain, bus, device and function.
        address: String,
    },
    /// `vdev:ANYTHING,DPDK,TAKES`: a virtual device by DPDK's own string.
    Vdev {
        /// What follows `--vdev`.
        arguments: String,
    },
}

impl Default for DeviceSpec {
    fn default() -> Self {
        DeviceSpec::Tap { name: None }
    }
}

/// Why a text names no device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDevice(String);

impl fmt::Display for InvalidDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidDevice {}

impl DeviceSpec {
    /// Every form, as written.
    pub const FORMS: &'static [&'static str] = &[
        "tap",
        "tap:NAME",
        "af_packet:IFACE",
        "af_xdp:IFACE",
        "memif:PATH[,role=client|server]",
        "vhost:PATH",
        "virtio-user:PATH",
        "pci:0000:00:03.0",
        "vdev:DPDK_ARGUMENTS",
    ];

    /// The kind, as written before the colon.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tap { .. } => "tap",
            Self::AfPacket { .. } => "af_packet",
            Self::AfXdp { .. } => "af_xdp",
            Self::Memif { .. } => "memif",
            Self::Vhost { .. } => "vhost",
            Self::VirtioUser { .. } => "virtio-user",
            Self::Pci { .. } => "pci",
            Self::Vdev { .. } => "vdev",
        }
    }

    /// The kernel interface that must exist before the device can start.
    #[must_use]
    pub fn kernel_interface(&self) -> Option<&str> {
        match self {
            Self::AfPacket { interface } | Self::AfXdp { interface } => Some(interface),
            _ => None,
        }
    }

    /// The Unix socket over which the device finds its other side.
    #[must_use]
    pub fn socket_path(&self) -> Option<&Path> {
        match self {
            Self::Memif { path, .. } | Self::Vhost { path } | Self::VirtioUser { path } => {
                Some(path)
            }
            _ => None,
        }
    }

    /// A file name that is the same for every spelling of a device that only one engine can own,
    /// or `None` for the default TAP, whose index has a lease of its own. The two ends of a link
    /// differ.
    #[must_use]
    pub fn lease_name(&self) -> Option<String> {
        if matches!(self, Self::Tap { name: None }) {
            return None;
        }
        let name = match self {
            // af_packet and af_xdp on one interface would both answer its peers.
            Self::AfPacket { interface } | Self::AfXdp { interface } => {
                format!("interface:{interface}")
            }
            other => other.to_string(),
        };
        Some(escape(&name))
    }
}

/// Keeps letters, digits, '-', '_' and '.', and writes the rest as %XX; long names end in a hash,
/// for a file name has at most 255 octets.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_.".contains(&octet) {
            escaped.push(octet as char);
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    if escaped.len() > 150 {
        // FNV-1a: the same in every version of this program, unlike the standard hasher.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        escaped.truncate(130);
        escaped.push_str(&format!("-{hash:016x}"));
    }
    escaped
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap { name: None } => f.write_str("tap"),
            Self::Tap { name: Some(name) } => write!(f, "tap:{name}"),
            Self::AfPacket { interface } => write!(f, "af_packet:{interface}"),
            Self::AfXdp { interface } => write!(f, "af_xdp:{interface}"),
            Self::Memif { path, role, id } => {
                write!(f, "memif:{},role={}", path.display(), role.name())?;
                if *id == 0 { Ok(()) } else { write!(f, ",id={id}") }
            }
            Self::Vhost { path } => write!(f, "vhost:{}", path.display()),
            Self::VirtioUser { path } => write!(f, "virtio-user:{}", path.display()),
            Self::Pci { address } => write!(f, "pci:{address}"),
            Self::Vdev { arguments } => write!(f, "vdev:{arguments}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        let what = |form: &str| match rest {
            Some(rest) if !rest.is_empty() => Ok(rest),
            _ => Err(InvalidDevice(format!("lacks what follows the colon; write {form}"))),
        };
        match kind {
            "tap" => Ok(Self::Tap { name: rest.map(interface_name).transpose()? }),
            "af_packet" => {
                Ok(Self::AfPacket { interface: interface_name(what("af_packet:IFACE")?)? })
            }
            "af_xdp" => Ok(Self::AfXdp { interface: interface_name(what("af_xdp:IFACE")?)? }),
            "memif" => parse_memif(what("memif:PATH")?),
            "vhost" => Ok(Self::Vhost { path: socket_path(what("vhost:PATH")?)? }),
            "virtio-user" => Ok(Self::VirtioUser { path: socket_path(what("virtio-user:PATH")?)? }),
            "pci" => Ok(Self::Pci { address: pci_address(what("pci:0000:00:03.0")?)? }),
            "vdev" => parse_vdev(what("vdev:DPDK_ARGUMENTS")?),
            _ => Err(InvalidDevice(format!(
                "is no device that onwire knows; use one of {}",
                Self::FORMS.join(", ")
            ))),
        }
    }
}

fn interface_name(name: &str) -> Result<String, InvalidDevice> {
    // IFNAMSIZ, and what dev_valid_name() of Linux forbids.
    let valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c == ':' || c == ',' || c == '%')
        && name.chars().all(|c| c.is_ascii_graphic());
    if valid {
        return Ok(name.to_owned());
    }
    Err(InvalidDevice(format!(
        "has the interface name {name:?}; an interface name is 1 to 15 letters, digits, '-', '_' \
         or '.'"
    )))
}

fn socket_path(path: &str) -> Result<PathBuf, InvalidDevice> {
    // sun_path has 108 octets with its terminator; a comma would end DPDK's argument.
    if path.len() > 107 {
        return Err(InvalidDevice("has a socket path longer than 107 octets; shorten it".into()));
    }
    if path.contains(',') || path.contains(char::is_control) {
        return Err(InvalidDevice(
            "has a comma or control character in its path; rename it".into(),
        ));
    }
    if !path.starts_with('/') {
        return Err(InvalidDevice(
            "has a relative socket path; give one that begins with /".into(),
        ));
    }
    Ok(PathBuf::from(path))
}

fn parse_memif(text: &str) -> Result<DeviceSpec, InvalidDevice> {
    let mut parts = text.split(',');
    let path = socket_path(parts.next().unwrap_or_default())?;
    let mut role = MemifRole::default();
    let mut id = 0;
    for part in parts {
        match part.split_once('=') {
            Some(("role", "client" | "slave")) => role = MemifRole::Client,
            Some(("role", "server" | "master")) => role = MemifRole::Server,
            Some(("id", number)) => {
                id = number.parse().map_err(|_| {
                    InvalidDevice(format!("has the id {number:?}; give a number from 0"))
                })?;
            }
            _ => {
                return Err(InvalidDevice(format!(
                    "has the option {part:?}; memif takes role=client, role=server and id=NUMBER"
                )));
            }
        }
    }
    Ok(DeviceSpec::Memif { path, role, id })
}

fn pci_address(text: &str) -> Result<String, InvalidDevice> {
    let invalid = || {
        InvalidDevice("has no PCI address; write pci:DOMAIN:BUS:DEVICE.FUNCTION as lspci -D".into())
    };
    let (rest, function) = text.rsplit_once('.').ok_or_else(invalid)?;
    let mut parts: Vec<&str> = rest.split(':').collect();
    if parts.len() == 2 {
        parts.insert(0, "0000");
    }
    let &[domain, bus, device] = parts.as_slice() else { return Err(invalid()) };
    let hex = |text: &str, digits: std::ops::RangeInclusive<usize>, max: u32| {
        let sized = digits.contains(&text.len());
        let valid = sized && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|n| valid && *n <= max).ok_or_else(invalid)
    };
    Ok(format!(
        "{:04x}:{:02x}:{:02x}.{:x}",
        hex(domain, 4..=8, u32::MAX)?,
        hex(bus, 2..=2, 0xff)?,
        hex(device, 2..=2, 0x1f)?,
        hex(function, 1..=1, 7)?
    ))
}

fn parse_vdev(text: &str) -> Result<DeviceSpec, InvalidDevice> {
    let valid = !text.contains(char::is_control) && !text.starts_with([',', '=', '-']);
    if valid {
        return Ok(DeviceSpec::Vdev { arguments: text.to_owned() });
    }
    Err(InvalidDevice("is no DPDK device; write vdev:net_DRIVER0,option=value".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_it_was_written() {
        for text in [
            "tap",
            "tap:red0",
            "af_packet:eth0",
            "af_xdp:eth0.5",
            "memif:/run/m.sock,role=server",
            "memif:/run/m.sock,role=client,id=3",
            "vhost:/tmp/v.sock",
            "virtio-user:/tmp/v.sock",
            "pci:0000:00:03.0",
            "vdev:net_ring0,nodeaction=x:0:CREATE",
        ] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn short_spellings_become_full() {
        assert_eq!("pci:3B:00.1".parse::<DeviceSpec>().unwrap().to_string(), "pci:0000:3b:00.1");
        let memif = "memif:/run/m".parse::<DeviceSpec>().unwrap();
        assert_eq!(memif.to_string(), "memif:/run/m,role=client");
    }

    #[test]
    fn what_is_no_device_is_refused_in_one_line() {
        let long_path = format!("vhost:/{}", "x".repeat(120));
        for text in [
            "",
            "eth0",
            "tap:",
            "tap:a b",
            "tap:sixteen-letters-x",
            "af_packet",
            "af_packet:",
            "af_xdp:a/b",
            "memif:/x,role=both",
            "memif:/x,id=-1",
            "vhost:relative",
            "vhost:/a,b",
            "pci:",
            "pci:zz:00.0",
            "pci:0000:00:20.0",
            "pci:0000:00:03.8",
            "vdev:",
            "vdev:-x",
            "TAP",
            &long_path,
        ] {
            let error = text.parse::<DeviceSpec>().expect_err(text).to_string();
            assert!(!error.contains('\n') && !error.is_empty(), "{text}: {error}");
        }
    }

    #[test]
    fn lease_names_are_file_names_and_differ_by_device() {
        let name = |text: &str| text.parse::<DeviceSpec>().unwrap().lease_name();
        assert_eq!(name("tap"), None);
        assert_eq!(name("af_packet:eth0"), name("af_xdp:eth0"));
        assert_eq!(name("vhost:/a/b").unwrap(), "vhost%3A%2Fa%2Fb");
        assert_ne!(name("vhost:/a/b"), name("virtio-user:/a/b"));
        let long = format!("vdev:{}", "/".repeat(500));
        assert!(name(&long).unwrap().len() < 200);
    }
}
