//! What a port is made of: a kind of device, the words DPDK takes for it, sizes.

use core::fmt;

/// Kinds of devices, as far as they differ for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A TAP that the driver makes.
    Tap,
    /// An `AF_PACKET` socket on an interface of the kernel.
    AfPacket,
    /// An `AF_XDP` socket on an interface of the kernel.
    AfXdp,
    /// A shared-memory link to another process.
    Memif,
    /// The backend of a virtio link; a virtual machine or virtio-user connects.
    Vhost,
    /// The frontend of a virtio link to a vhost-user backend.
    VirtioUser,
    /// A card on the PCI bus, bound to vfio-pci.
    Pci,
    /// Whatever else DPDK makes of a string.
    Other,
}

/// Which end of a memif link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemifRole {
    /// Makes the socket and waits.
    Server,
    /// Connects, and brings the memory.
    Client,
}

/// What may be left to the device, where that pays.
///
/// It pays with hardware, and with links in memory whose other end takes our word (virtio): there
/// a unit of 64 KiB crosses whole, and its checksum is never computed. Other devices in software
/// (TAP, packet sockets) would only do in their driver what the stack does as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffloadPolicy {
    /// Checksums, both ways.
    pub checksum: bool,
    /// Cutting TCP segments (TSO).
    pub segmentation: bool,
    /// Joining received TCP segments (LRO).
    pub coalescing: bool,
}

impl OffloadPolicy {
    /// All that pays.
    pub const AUTO: Self = OffloadPolicy { checksum: true, segmentation: true, coalescing: true };
    /// Nothing.
    pub const NOTHING: Self =
        OffloadPolicy { checksum: false, segmentation: false, coalescing: false };
}

/// A port to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// What the user wrote, for messages (`tap:foo`).
    pub setting: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// DPDK's words: `net_tap0,iface=foo`, or a PCI address with options.
    pub devargs: String,
    /// Queue pairs.
    pub queues: u16,
    /// Frames that each receive queue holds; the driver's limits apply.
    pub rx_descriptors: u16,
    /// Frames that each transmit queue holds; the driver's limits apply.
    pub tx_descriptors: u16,
    /// The largest IP packet, in octets.
    pub mtu: u16,
    /// Buffers in each queue pair's pool.
    pub mbufs: u32,
    /// Buffers of the pool that [`stack::packet::Allocator::allocate`] leaves for receiving.
    pub reserve: u32,
    /// Receive frames for every address.
    pub promiscuous: bool,
    /// What the device computes.
    pub offloads: OffloadPolicy,
    /// Our Ethernet address when it is not the device's. A TAP's own address is the host side's.
    pub mac: Option<[u8; 6]>,
}

/// No buffer is longer: what a card of 9,000 octets of MTU needs.
const MAX_ROOM: u16 = 9_216;

impl PortConfig {
    /// A port with usual sizes.
    #[must_use]
    pub fn new(setting: impl Into<String>, kind: DeviceKind, devargs: impl Into<String>) -> Self {
        PortConfig {
            setting: setting.into(),
            kind,
            devargs: devargs.into(),
            queues: 1,
            rx_descriptors: 512,
            tx_descriptors: 512,
            mtu: 1500,
            mbufs: 8192,
            reserve: 1024,
            promiscuous: false,
            offloads: OffloadPolicy::AUTO,
            mac: None,
        }
    }

    /// A TAP; without a name the driver picks one (`dtap0`).
    #[must_use]
    pub fn tap(name: Option<&str>) -> Self {
        let (setting, devargs) = match name {
            Some(name) => (format!("tap:{name}"), format!("net_tap0,iface={name}")),
            None => ("tap".into(), "net_tap0".into()),
        };
        Self::new(setting, DeviceKind::Tap, devargs)
    }

    /// A packet socket on `interface`.
    #[must_use]
    pub fn af_packet(interface: &str) -> Self {
        let devargs = format!(
            "net_af_packet0,iface={interface},blocksz=65536,framesz=2048,framecnt=512,\
             qdisc_bypass=1"
        );
        Self::new(format!("af_packet:{interface}"), DeviceKind::AfPacket, devargs)
    }

    /// An XDP socket on `interface`.
    #[must_use]
    pub fn af_xdp(interface: &str) -> Self {
        let devargs = format!("net_af_xdp0,iface={interface}");
        Self::new(format!("af_xdp:{interface}"), DeviceKind::AfXdp, devargs)
    }

    /// A memif link over the socket at `path`.
    #[must_use]
    pub fn memif(path: &str, role: MemifRole) -> Self {
        let role = match role {
            MemifRole::Server => "server",
            MemifRole::Client => "client",
        };
        let devargs = format!("net_memif0,role={role},socket={path},socket-abstract=no");
        Self::new(format!("memif:{path},role={role}"), DeviceKind::Memif, devargs)
    }

    /// A vhost-user backend whose socket is made at `path`.
    #[must_use]
    pub fn vhost(path: &str) -> Self {
        let devargs = format!("net_vhost0,iface={path},queues=1");
        Self::new(format!("vhost:{path}"), DeviceKind::Vhost, devargs)
    }

    /// A virtio frontend that connects to the vhost-user backend at `path`, which must be there.
    #[must_use]
    pub fn virtio_user(path: &str) -> Self {
        let devargs = format!("net_virtio_user0,path={path},queues=1,queue_size=1024");
        Self::new(format!("virtio-user:{path}"), DeviceKind::VirtioUser, devargs)
    }

    /// A card at a PCI address, with the driver's options after a comma.
    #[must_use]
    pub fn pci(address: &str) -> Self {
        Self::new(format!("pci:{address}"), DeviceKind::Pci, address)
    }

    /// Any virtual device in DPDK's own words, such as `net_null0` or `net_ring0`.
    #[must_use]
    pub fn vdev(devargs: &str) -> Self {
        Self::new(format!("vdev:{devargs}"), DeviceKind::of_vdev(devargs), devargs)
    }

    /// The same with so many queue pairs, where the driver has to be told.
    #[must_use]
    pub fn with_queues(mut self, queues: u16) -> Self {
        self.queues = queues;
        if queues > 1 {
            let many =
                |one: &str| self.devargs.replace(",queues=1", &format!(",queues={queues}{one}"));
            match self.kind {
                DeviceKind::Vhost => self.devargs = many(""),
                // The driver changes the number of queues through the control queue.
                DeviceKind::VirtioUser => self.devargs = many(",cq=1"),
                DeviceKind::AfPacket => self.devargs += &format!(",qpairs={queues}"),
                DeviceKind::AfXdp => self.devargs += &format!(",queue_count={queues}"),
                DeviceKind::Tap | DeviceKind::Memif | DeviceKind::Pci | DeviceKind::Other => {}
            }
        }
        self
    }

    /// The cards that it is made of, in DPDK's words: itself, or the members of a bond.
    #[must_use]
    pub fn cards(&self) -> Vec<String> {
        if self.kind == DeviceKind::Pci {
            return vec![self.devargs.clone()];
        }
        let member = |argument: &str| {
            let (name, value) = argument.split_once('=')?;
            let card = matches!(name, "slave" | "member") && is_pci_address(value);
            card.then(|| value.to_owned())
        };
        self.devargs.split(',').filter_map(member).collect()
    }

    /// Whether it has a cable, that may not be in.
    #[must_use]
    pub fn has_cable(&self) -> bool {
        !self.cards().is_empty()
    }

    /// The device's name for DPDK: what stands before the first comma.
    #[must_use]
    pub fn name(&self) -> &str {
        self.devargs.split(',').next().unwrap_or(&self.devargs)
    }

    /// Octets of DPDK's memory that this port needs.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let pools = crate::pool::memory_bytes(self.mbufs, self.data_room());
        let descriptors = usize::from(self.rx_descriptors) + usize::from(self.tx_descriptors);
        // A driver's ring entries, software ring and queue structures; vhost's are the largest.
        let queue = descriptors * 256 + (1 << 20);
        usize::from(self.queues) * (pools + queue)
    }

    /// Octets of frame that one buffer takes behind the headroom. Longer frames are received in
    /// several buffers, where the driver can do that.
    #[must_use]
    pub fn data_room(&self) -> u16 {
        // Ethernet header, two VLAN tags, frame check sequence; in whole cache lines.
        let frame = self.mtu.saturating_add(14 + 8 + 4).clamp(2048, MAX_ROOM);
        frame.div_ceil(64).saturating_mul(64)
    }
}

/// Such as 0000:00:03.0, with or without the domain.
fn is_pci_address(text: &str) -> bool {
    let hexadecimal = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_hexdigit());
    text.rsplit_once('.').is_some_and(|(slot, function)| {
        slot.contains(':') && slot.split(':').all(hexadecimal) && hexadecimal(function)
    })
}

impl DeviceKind {
    /// The kind of a virtual device that is given in DPDK's own words.
    #[must_use]
    pub fn of_vdev(devargs: &str) -> Self {
        let kinds = [
            ("net_tap", DeviceKind::Tap),
            ("net_af_packet", DeviceKind::AfPacket),
            ("eth_af_packet", DeviceKind::AfPacket),
            ("net_af_xdp", DeviceKind::AfXdp),
            ("net_memif", DeviceKind::Memif),
            ("net_vhost", DeviceKind::Vhost),
            ("eth_vhost", DeviceKind::Vhost),
            ("net_virtio_user", DeviceKind::VirtioUser),
            ("virtio_user", DeviceKind::VirtioUser),
        ];
        let found = kinds.iter().find(|(prefix, _)| devargs.starts_with(prefix));
        found.map_or(DeviceKind::Other, |(_, kind)| *kind)
    }

    /// The library of the driver, as [`crate::drivers`] lists it; `None` where any may do.
    pub(crate) fn driver(self) -> Option<&'static str> {
        match self {
            DeviceKind::Tap => Some("net_tap"),
            DeviceKind::AfPacket => Some("net_af_packet"),
            DeviceKind::AfXdp => Some("net_af_xdp"),
            DeviceKind::Memif => Some("net_memif"),
            DeviceKind::Vhost => Some("net_vhost"),
            DeviceKind::VirtioUser => Some("net_virtio"),
            DeviceKind::Pci | DeviceKind::Other => None,
        }
    }

    /// Whether a peer process must connect before frames pass.
    #[must_use]
    pub fn waits_for_peer(self) -> bool {
        matches!(self, DeviceKind::Memif | DeviceKind::Vhost | DeviceKind::VirtioUser)
    }

    /// Whether its libraries may make descriptors without our glue seeing it.
    pub(crate) fn has_foreign_libraries(self) -> bool {
        matches!(self, DeviceKind::AfXdp | DeviceKind::Pci | DeviceKind::Other)
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Tap => "tap",
            DeviceKind::AfPacket => "af_packet",
            DeviceKind::AfXdp => "af_xdp",
            DeviceKind::Memif => "memif",
            DeviceKind::Vhost => "vhost",
            DeviceKind::VirtioUser => "virtio-user",
            DeviceKind::Pci => "pci",
            DeviceKind::Other => "vdev",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devargs_name_the_driver_first() {
        assert_eq!(PortConfig::tap(Some("x")).name(), "net_tap0");
        assert_eq!(PortConfig::tap(None).devargs, "net_tap0");
        assert_eq!(PortConfig::vdev("net_null0,size=64").kind, DeviceKind::Other);
        assert_eq!(PortConfig::vdev("net_tap7,iface=q").kind, DeviceKind::Tap);
        let memif = PortConfig::memif("/run/m.sock", MemifRole::Server);
        assert_eq!(memif.setting, "memif:/run/m.sock,role=server");
        assert!(memif.kind.waits_for_peer());
    }

    #[test]
    fn drivers_are_told_of_several_queues() {
        let one = PortConfig::vhost("/v").with_queues(1);
        assert_eq!(one.devargs, PortConfig::vhost("/v").devargs);
        let four = PortConfig::vhost("/v").with_queues(4);
        assert!(four.queues == 4 && four.devargs.ends_with(",queues=4"));
        let two = PortConfig::virtio_user("/v").with_queues(2);
        assert!(two.devargs.contains(",queues=2,cq=1,"));
        assert_eq!(PortConfig::tap(None).with_queues(2).devargs, "net_tap0");
    }

    #[test]
    fn a_bond_is_made_of_its_members() {
        let bond = "net_bonding0,mode=1,slave=0000:00:03.0,slave=0000:00:04.0,primary=0000:00:03.0";
        let bond = PortConfig::vdev(bond);
        assert_eq!(bond.cards(), ["0000:00:03.0", "0000:00:04.0"]);
        assert!(bond.has_cable());
        assert_eq!(PortConfig::pci("0000:00:03.0,x=1").cards(), ["0000:00:03.0,x=1"]);
        assert!(!PortConfig::vdev("net_bonding0,slave=net_tap0,member=1:x.0").has_cable());
        assert!(!PortConfig::tap(None).has_cable());
    }

    #[test]
    fn a_buffer_takes_a_whole_frame() {
        let mut config = PortConfig::pci("0000:00:03.0");
        assert_eq!(config.data_room(), 2048);
        config.mtu = 9000;
        assert!(config.data_room() >= 9000 + 26);
        assert_eq!(config.data_room() % 64, 0);
    }
}
