//! The PCI bus as sysfs shows it: which network cards there are, and whose they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The drivers through which DPDK can drive a card.
pub const DPDK_DRIVERS: &[&str] =
    &["vfio-pci", "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core", "gve"];

/// Drivers of a card's group that leave the group to the user (kernel, driver-api/vfio.rst).
const HARMLESS_IN_GROUP: &[&str] = &["vfio-pci", "pcieport", "pci-stub"];

/// The bus.
#[derive(Debug)]
pub struct Bus {
    sys: PathBuf,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Card {
    /// Domain, bus, device and function, such as `0000:00:03.0`.
    pub address: String,
    /// Vendor and device, four hexadecimal digits each.
    pub id: String,
    /// The kernel's name of the driver that has it.
    pub driver: Option<String>,
    /// The kernel's interfaces on it.
    pub interfaces: Vec<String>,
    /// The NUMA node it is nearest to, if the machine has several.
    pub numa_node: Option<u32>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
}

impl Card {
    /// Whether DPDK can drive it as it is.
    pub fn is_ready(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| DPDK_DRIVERS.contains(&driver))
    }
}

impl Card {
    /// The node that whoever drives the card has to open, if we may not.
    pub fn refused_node(&self) -> Option<String> {
        let node = format!("/dev/vfio/{}", self.iommu_group?);
        let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
        let refused = rustix::fs::access(&node, access) == Err(rustix::io::Errno::ACCESS);
        (self.driver.as_deref() == Some("vfio-pci") && refused).then_some(node)
    }
}

impl Bus {
    /// This machine's.
    pub fn here() -> Self {
        Bus { sys: "/sys".into() }
    }

    /// One below another directory than /sys.
    #[cfg(test)]
    pub fn at(sys: &Path) -> Self {
        Bus { sys: sys.into() }
    }

    /// Every network card, by address.
    pub fn cards(&self) -> Vec<Card> {
        let mut cards: Vec<Card> = names(&self.sys.join("bus/pci/devices"))
            .iter()
            .filter_map(|address| self.at_address(address))
            .collect();
        cards.sort_by(|a, b| a.address.cmp(&b.address));
        cards
    }

    /// The card of an address or of an interface.
    pub fn card(&self, name: &str) -> Option<Card> {
        // Only what can be a name: never a path.
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return None;
        }
        self.cards().into_iter().find(|card| {
            let short = card.address.strip_prefix("0000:");
            card.address == name
                || short == Some(name)
                || card.interfaces.iter().any(|interface| interface == name)
        })
    }

    fn at_address(&self, address: &str) -> Option<Card> {
        let at = self.device(address);
        let text = |file: &str| fs::read_to_string(at.join(file)).ok();
        // Network controllers: base class 2 (PCI Code and ID Assignment Specification).
        if !text("class")?.starts_with("0x02") {
            return None;
        }
        let digits = |file: &str| Some(text(file)?.trim().trim_start_matches("0x").to_owned());
        Some(Card {
            address: address.to_owned(),
            id: format!("{}:{}", digits("vendor")?, digits("device")?),
            driver: linked_name(&at.join("driver")),
            interfaces: interfaces(&at),
            // −1: the machine has one node only.
            numa_node: text("numa_node").and_then(|node| node.trim().parse().ok()),
            iommu_group: linked_name(&at.join("iommu_group")).and_then(|n| n.parse().ok()),
        })
    }

    fn device(&self, address: &str) -> PathBuf {
        self.sys.join("bus/pci/devices").join(address)
    }

    /// The other members of a card's IOMMU group that keep it from being handed over, with the
    /// drivers that have them.
    pub fn group_mates(&self, card: &Card) -> Vec<(String, String)> {
        let Some(group) = card.iommu_group else { return Vec::new() };
        let members = names(&self.sys.join(format!("kernel/iommu_groups/{group}/devices")));
        let others = members.into_iter().filter(|member| *member != card.address);
        others
            .filter_map(|member| {
                let driver = linked_name(&self.device(&member).join("driver"))?;
                (!HARMLESS_IN_GROUP.contains(&driver.as_str())).then_some((member, driver))
            })
            .collect()
    }

    /// Whether vfio may be used without an IOMMU, which the administrator must have allowed.
    pub fn allows_no_iommu(&self) -> bool {
        let path = self.sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode");
        fs::read_to_string(path).is_ok_and(|text| text.starts_with('Y'))
    }

    /// Whether the kernel has a driver of this name for PCI.
    pub fn has_driver(&self, driver: &str) -> bool {
        self.sys.join("bus/pci/drivers").join(driver).exists()
    }

    /// Gives a card to a driver, or (`None`) to the one that the kernel chooses for it.
    ///
    /// # Errors
    /// When sysfs refuses a step.
    pub fn give(&self, card: &Card, driver: Option<&str>) -> io::Result<()> {
        let at = self.device(&card.address);
        // A line of its own clears the override.
        write(&at.join("driver_override"), driver.unwrap_or("\n"))?;
        if at.join("driver").exists() {
            write(&at.join("driver/unbind"), &card.address)?;
        }
        write(&self.sys.join("bus/pci/drivers_probe"), &card.address)
    }

    /// The driver that has the card now.
    pub fn driver_of(&self, card: &Card) -> Option<String> {
        linked_name(&self.device(&card.address).join("driver"))
    }

    /// An attribute of an interface, such as `mtu`.
    pub fn interface_attribute(&self, interface: &str, name: &str) -> Option<String> {
        let path = self.sys.join("class/net").join(interface).join(name);
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The last part of what a link points to.
fn linked_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// The interfaces of a card; virtio's are one level further down.
fn interfaces(device: &Path) -> Vec<String> {
    let mut found = names(&device.join("net"));
    for name in names(device) {
        if name.starts_with("virtio") {
            found.extend(names(&device.join(name).join("net")));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
pub mod testing {
    //! A /sys made of plain files. Nothing answers what is written there.

    use super::*;
    use std::os::unix::fs::symlink;

    /// Adds a card with an interface `eth0`, in IOMMU group 7.
    pub fn add_card(sys: &Path, address: &str, class: &str, driver: Option<&str>) {
        let at = sys.join("bus/pci/devices").join(address);
        fs::create_dir_all(at.join("net/eth0")).unwrap();
        for (file, text) in [("class", class), ("vendor", "0x8086\n"), ("device", "0x10d3\n")] {
            fs::write(at.join(file), text).unwrap();
        }
        fs::write(at.join("numa_node"), "-1\n").unwrap();
        let group = sys.join("kernel/iommu_groups/7");
        fs::create_dir_all(group.join("devices").join(address)).unwrap();
        symlink(&group, at.join("iommu_group")).unwrap();
        if let Some(driver) = driver {
            let driver = sys.join("bus/pci/drivers").join(driver);
            fs::create_dir_all(&driver).unwrap();
            symlink(&driver, at.join("driver")).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::add_card;
    use super::*;

    #[test]
    fn cards_are_found_by_address_and_by_interface() {
        let sys = tempfile::tempdir().unwrap();
        add_card(sys.path(), "0000:00:02.0", "0x020000\n", Some("e1000e"));
        add_card(sys.path(), "0000:00:1f.2", "0x010601\n", Some("ahci"));
        let bus = Bus::at(sys.path());
        let cards = bus.cards();
        assert_eq!(cards.len(), 1);
        assert_eq!(cards[0].id, "8086:10d3");
        assert_eq!((cards[0].numa_node, cards[0].iommu_group), (None, Some(7)));
        for name in ["0000:00:02.0", "00:02.0", "eth0"] {
            assert_eq!(bus.card(name), Some(cards[0].clone()), "{name}");
        }
        for name in ["0000:00:1f.2", "eth1", "", "../0000:00:02.0"] {
            assert_eq!(bus.card(name), None, "{name}");
        }
    }

    #[test]
    fn a_group_is_handed_over_whole() {
        let sys = tempfile::tempdir().unwrap();
        add_card(sys.path(), "0000:00:02.0", "0x020000\n", Some("e1000e"));
        add_card(sys.path(), "0000:00:02.1", "0x020000\n", Some("e1000e"));
        add_card(sys.path(), "0000:00:02.2", "0x060400\n", Some("pcieport"));
        let bus = Bus::at(sys.path());
        let card = bus.card("0000:00:02.0").unwrap();
        assert_eq!(bus.group_mates(&card), [("0000:00:02.1".into(), "e1000e".into())]);
    }
}
