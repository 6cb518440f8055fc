//! What is left to the device.

use super::Port;
use crate::device::{DeviceKind, OffloadPolicy, PortConfig};
use dpdk_sys as sys;
use stack::device::Offloads;

/// The shortest packet whose checksum is left to a driver in software: telling it costs as much
/// as summing that many octets.
const SOFTWARE_CHECKSUM_FROM: u16 = 512;
/// Buffers of one frame, unless the driver takes fewer: 64 KiB in segments of an Ethernet.
const MAX_PARTS: u16 = 48;

/// Drivers that hand over what their peer has joined; none of them waits for more to join.
const PROMPT_LRO: &[&str] = &["net_vhost", "net_virtio", "net_virtio_user", "net_vmxnet3"];

/// Features of virtio, by the number of their bit.
mod virtio {
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const MRG_RXBUF: u64 = 1 << 15;
}

/// What the driver says that it can do.
pub(super) fn capabilities(info: &sys::rte_eth_dev_info, driver: &str) -> Offloads {
    let rx = |flag: u64| info.rx_offload_capa & flag == flag;
    let tx = |flag: u64| info.tx_offload_capa & flag == flag;
    let software = driver == "net_vhost" || driver.starts_with("net_virtio");
    let most = match info.tx_desc_lim.nb_seg_max {
        0 => MAX_PARTS,
        most => most.min(MAX_PARTS),
    };
    // A vhost backend does not count joined segments among its offloads: whether they come is up
    // to the peer, and to a word among its arguments.
    let lro = rx(sys::ONWIRE_RX_OFFLOAD_TCP_LRO) || driver == "net_vhost";
    Offloads {
        rx_checksum: rx(sys::ONWIRE_RX_OFFLOAD_TCP_CKSUM | sys::ONWIRE_RX_OFFLOAD_UDP_CKSUM),
        lro: lro && PROMPT_LRO.contains(&driver),
        tx_ipv4_checksum: tx(sys::ONWIRE_TX_OFFLOAD_IPV4_CKSUM),
        tx_tcp_checksum: tx(sys::ONWIRE_TX_OFFLOAD_TCP_CKSUM),
        tx_udp_checksum: tx(sys::ONWIRE_TX_OFFLOAD_UDP_CKSUM),
        checksum_from: if software { SOFTWARE_CHECKSUM_FROM } else { 0 },
        tso: tx(sys::ONWIRE_TX_OFFLOAD_TCP_TSO | sys::ONWIRE_TX_OFFLOAD_MULTI_SEGS),
        max_parts: if tx(sys::ONWIRE_TX_OFFLOAD_MULTI_SEGS) { most } else { 1 },
    }
}

/// What we ask of the device.
pub(super) fn negotiate(
    kind: DeviceKind,
    policy: OffloadPolicy,
    capabilities: Offloads,
) -> Offloads {
    if !matches!(kind, DeviceKind::Pci | DeviceKind::Vhost | DeviceKind::VirtioUser) {
        return Offloads::default();
    }
    let mut wanted = capabilities;
    if !policy.checksum {
        wanted.rx_checksum = false;
        wanted.tx_ipv4_checksum = false;
        wanted.tx_tcp_checksum = false;
        wanted.tx_udp_checksum = false;
    }
    // Who cuts segments also sums them; who joins them vouches for their sums.
    wanted.tso &= policy.segmentation && wanted.tx_tcp_checksum;
    wanted.lro &= policy.coalescing && wanted.rx_checksum;
    if !wanted.tso {
        wanted.max_parts = 1;
    }
    wanted
}

/// The driver's words for `offloads` that it has, for receiving and for sending.
pub(super) fn flags(
    config: &PortConfig,
    info: &sys::rte_eth_dev_info,
    offloads: &Offloads,
) -> (u64, u64) {
    let fold = |table: &[(bool, u64)]| {
        table.iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag)
    };
    let long = config.data_room() < config.mtu.saturating_add(14 + 8 + 4);
    let rx = fold(&[
        (offloads.rx_checksum, sys::ONWIRE_RX_OFFLOAD_IPV4_CKSUM),
        (offloads.rx_checksum, sys::ONWIRE_RX_OFFLOAD_TCP_CKSUM),
        (offloads.rx_checksum, sys::ONWIRE_RX_OFFLOAD_UDP_CKSUM),
        (offloads.lro, sys::ONWIRE_RX_OFFLOAD_TCP_LRO),
        (offloads.lro || long, sys::ONWIRE_RX_OFFLOAD_SCATTER),
    ]);
    let tx = fold(&[
        (offloads.tx_ipv4_checksum, sys::ONWIRE_TX_OFFLOAD_IPV4_CKSUM),
        (offloads.tx_tcp_checksum, sys::ONWIRE_TX_OFFLOAD_TCP_CKSUM),
        (offloads.tx_udp_checksum, sys::ONWIRE_TX_OFFLOAD_UDP_CKSUM),
        (offloads.tso, sys::ONWIRE_TX_OFFLOAD_TCP_TSO),
        (offloads.max_parts > 1, sys::ONWIRE_TX_OFFLOAD_MULTI_SEGS),
    ]);
    (rx & info.rx_offload_capa, tx & info.tx_offload_capa)
}

impl Port {
    /// What is left to the device. For vhost it depends on the peer, so ask when it is connected.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        let mut offloads = self.offloads;
        if self.config.kind == DeviceKind::Vhost {
            // SAFETY: a plain number; the driver knows whether it is a port of its own.
            let peer = unsafe { sys::onwire_dpdk_vhost_features(self.id) };
            let has = |feature: u64| peer & feature == feature;
            offloads.tx_tcp_checksum &= has(virtio::GUEST_CSUM);
            offloads.tx_udp_checksum &= has(virtio::GUEST_CSUM);
            // The driver does not claim it, but passes on what a frame asks for.
            offloads.tso = self.config.offloads.segmentation
                && offloads.tx_tcp_checksum
                && has(virtio::GUEST_TSO4 | virtio::MRG_RXBUF);
            offloads.max_parts = if offloads.tso { MAX_PARTS } else { 1 };
        }
        offloads
    }

    /// What the device could do.
    #[must_use]
    pub fn capabilities(&self) -> Offloads {
        self.capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Offloads {
        Offloads {
            rx_checksum: true,
            lro: true,
            tx_tcp_checksum: true,
            tso: true,
            max_parts: 40,
            ..Offloads::default()
        }
    }

    #[test]
    fn software_devices_without_a_peer_that_trusts_us_are_left_alone() {
        for kind in [DeviceKind::Tap, DeviceKind::AfPacket, DeviceKind::Memif] {
            let none = negotiate(kind, OffloadPolicy::AUTO, everything());
            assert_eq!(none, Offloads::default());
        }
        for kind in [DeviceKind::Pci, DeviceKind::VirtioUser] {
            assert_eq!(negotiate(kind, OffloadPolicy::AUTO, everything()), everything());
        }
    }

    #[test]
    fn what_depends_on_checksums_goes_with_them() {
        let policy = OffloadPolicy { checksum: false, ..OffloadPolicy::AUTO };
        let got = negotiate(DeviceKind::Pci, policy, everything());
        assert!(!got.rx_checksum && !got.tx_tcp_checksum && !got.tso && !got.lro);
        assert_eq!(got.max_parts, 1);
        let policy = OffloadPolicy { segmentation: false, ..OffloadPolicy::AUTO };
        let got = negotiate(DeviceKind::Pci, policy, everything());
        assert!(got.rx_checksum && got.tx_tcp_checksum && got.lro && !got.tso);
    }
}
