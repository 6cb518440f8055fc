//! What sysfs says of a card on the PCI bus, before DPDK looks at it.

use std::path::Path;

const INTEL: u16 = 0x8086;
/// 82574 and its LAN-on-motherboard form: they have MSI-X, but DPDK's driver for them (net_e1000_em)
/// never routes the receive interrupt to a vector.
const MSI_X_UNUSED: [u16; 2] = [0x10d3, 0x10f6];

/// Offset of the capabilities' list, its bit in the status register, the identity of MSI-X (PCI
/// Local Bus 3.0 §6.7, §6.8.2).
const STATUS: usize = 0x06;
const HAS_CAPABILITIES: u8 = 0x10;
const CAPABILITIES: usize = 0x34;
const MSI_X: u8 = 0x11;

/// Intel's first gigabit cards, of the same driver. None has MSI-X.
const BEFORE_MSI_X: core::ops::RangeInclusive<u16> = 0x1000..=0x109a;
/// How much of a card's configuration the kernel shows to those who are not root.
const PUBLIC: usize = 64;

/// Whether a card can announce received frames only by its interrupt line (INTx).
pub(crate) fn interrupts_by_line(address: &str) -> bool {
    let path = Path::new("/sys/bus/pci/devices").join(address).join("config");
    std::fs::read(path).is_ok_and(|config| needs_line(&config))
}

/// Whether a card of net_e1000_em has the two queue pairs that the driver says of every one: what
/// the older ones are given on the second goes nowhere, and of the newer only this has been tried.
pub(crate) fn has_second_queue(address: &str) -> bool {
    let path = Path::new("/sys/bus/pci/devices").join(address).join("config");
    std::fs::read(path).is_ok_and(|config| is_82574(&config))
}

fn is_82574(config: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = config.first_chunk() else { return false };
    u16::from_le_bytes([a, b]) == INTEL && MSI_X_UNUSED.contains(&u16::from_le_bytes([c, d]))
}

fn needs_line(config: &[u8]) -> bool {
    let word = |at: usize| Some(u16::from_le_bytes([*config.get(at)?, *config.get(at + 1)?]));
    let (Some(vendor), Some(device)) = (word(0), word(2)) else { return false };
    if vendor == INTEL && MSI_X_UNUSED.contains(&device) {
        return true;
    }
    if config.len() > PUBLIC {
        return !has_msi_x(config);
    }
    vendor == INTEL && BEFORE_MSI_X.contains(&device)
}

fn has_msi_x(config: &[u8]) -> bool {
    if config.get(STATUS).is_none_or(|status| status & HAS_CAPABILITIES == 0) {
        return false;
    }
    let mut at = config.get(CAPABILITIES).copied().unwrap_or(0);
    // The list has room for 48 entries: a longer one is a ring.
    for _ in 0..48 {
        let here = usize::from(at & !3);
        match config.get(here..here + 2) {
            Some(&[MSI_X, _]) => return true,
            Some(&[_, next]) if here != 0 && next != 0 => at = next,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vendor: u16, device: u16, capabilities: &[u8]) -> Vec<u8> {
        let mut config = vec![0; 256];
        config[..2].copy_from_slice(&vendor.to_le_bytes());
        config[2..4].copy_from_slice(&device.to_le_bytes());
        for (index, &capability) in capabilities.iter().enumerate() {
            let at = 0x40 + 0x10 * index;
            config[STATUS] |= HAS_CAPABILITIES;
            config[CAPABILITIES] = 0x40;
            config[at] = capability;
            let last = index + 1 == capabilities.len();
            config[at + 1] = if last { 0 } else { u8::try_from(at + 0x10).unwrap() };
        }
        config
    }

    #[test]
    fn cards_without_msi_x_and_the_82574_use_the_line() {
        const POWER: u8 = 0x01;
        assert!(needs_line(&config(0x8086, 0x100e, &[])));
        assert!(needs_line(&config(0x8086, 0x10d3, &[POWER, MSI_X])));
        assert!(!needs_line(&config(0x8086, 0x10c9, &[POWER, MSI_X])));
        assert!(!needs_line(&config(0x1af4, 0x1041, &[MSI_X])));
    }

    #[test]
    fn without_root_the_capabilities_are_hidden() {
        let public = |vendor, device| needs_line(&config(vendor, device, &[MSI_X])[..PUBLIC]);
        assert!(public(0x8086, 0x100e));
        assert!(public(0x8086, 0x10d3));
        assert!(!public(0x8086, 0x10c9));
        assert!(!public(0x1af4, 0x1041));
        assert!(!public(0x15ad, 0x07b0));
    }

    #[test]
    fn the_82574_has_a_second_queue_and_the_82540_has_not() {
        assert!(is_82574(&config(0x8086, 0x10d3, &[])));
        assert!(!is_82574(&config(0x8086, 0x100e, &[])));
        assert!(!is_82574(&config(0x1af4, 0x10d3, &[])));
        assert!(!is_82574(&[]));
    }

    #[test]
    fn a_ring_of_capabilities_ends() {
        let mut ring = config(0x8086, 0x10c9, &[0x01]);
        ring[0x41] = 0x40;
        assert!(needs_line(&ring));
        assert!(!needs_line(&[]));
    }
}
