"""The NICs that the computer has, and what each must pass."""

# Functions of guest.py. Every NIC is handed over by `onwire bind` first and given back at the end.
EVERY = ["handed_over", "redis_and_ping", "forked_workers_drive", "killed_and_started_again",
         "cable_out_and_in", "given_back"]

# QEMU's models, and what they have to pass beside EVERY. A modern virtio NIC obeys the IOMMU only
# when told to.
NICS = {
    "e1000e": ["curl_fetches", "udp_and_iperf3", "loss_and_delay"],
    "e1000": ["udp_and_iperf3"],
    "virtio-net-pci,disable-legacy=on,iommu_platform=on": ["curl_fetches", "udp_and_iperf3"],
    "vmxnet3": ["loss_and_delay", "udp_and_iperf3"],
}
# The peer's NIC.
PEER_SLOT = 0x10


def plan(words):
    """[(model, its name, checks)], of those whose `name check` contains one of `words`."""
    planned = []
    for model, more in NICS.items():
        name = model.split(",")[0]
        middle = [*EVERY[1:-1], *more]
        chosen = [check for check in middle
                  if not words or any(word in f"nic {name} {check}" for word in words)]
        if chosen:
            planned.append((model, name, [EVERY[0], *chosen, EVERY[-1]]))
    return planned
