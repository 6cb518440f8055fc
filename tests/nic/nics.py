"""The NICs that the computer has, and what each must pass."""

# Functions of guest.py. Every NIC is handed over by `onwire bind` first, and all but one are given
# back at the end.
EVERY = ["redis_and_ping", "forked_workers_drive", "killed_and_started_again"]

# The one that is taken out: an e1000e in a port that allows it.
HOT = "hotplug"

# What the results call them: QEMU's model, and what they have to pass beside EVERY.
NICS = {
    "e1000e": ("e1000e", ["cable_out_and_in", "curl_fetches", "udp_and_iperf3", "unprivileged"]),
    "e1000": ("e1000", ["udp_and_iperf3"]),
    # A modern virtio NIC obeys the IOMMU only when told to.
    "virtio-net-pci": ("virtio-net-pci,disable-legacy=on,iommu_platform=on",
                       ["cable_out_and_in", "curl_fetches", "udp_and_iperf3", "another_mac"]),
    "vmxnet3": ("vmxnet3", ["cable_out_and_in", "loss_and_delay", "udp_and_iperf3"]),
    HOT: ("e1000e", ["taken_out"]),
}
# The peer's NIC.
PEER_SLOT = 0x10


def plan(words):
    """[(name, model, checks)], of those whose `nic NAME CHECK` contains one of `words`."""
    planned = []
    for name, (model, more) in NICS.items():
        checks = [check for check in (more if name == HOT else EVERY + more)
                  if not words or any(word in f"nic {name} {check}" for word in words)]
        if checks:
            last = [] if name == HOT else ["given_back"]
            planned.append((name, model, ["handed_over", *checks, *last]))
    return planned
