"""The NICs that the computer has, and what each must pass."""

# QEMU's models. A modern virtio NIC obeys the IOMMU only when told to.
NICS = [
    "e1000e",
    "e1000",
    "virtio-net-pci,disable-legacy=on,iommu_platform=on",
    "vmxnet3",
]
# The peer's NIC.
PEER_SLOT = 0x10
# Functions of guest.py.
CHECKS = [
    "redis_and_ping",
    "forked_workers_drive",
    "curl_fetches",
    "udp_and_iperf3",
    "killed_and_started_again",
    "loss_and_delay",
    "cable_out_and_in",
]
