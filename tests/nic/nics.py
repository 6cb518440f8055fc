"""The NICs that the computer has, and what each must pass."""

import typing

# Functions of guest.py and operate.py. Every NIC is handed over by `onwire bind` first, and all but
# one are given back at the end.
EVERY = ["redis_and_ping", "forked_workers_drive"]


class Kind(typing.NamedTuple):
    """One entry of the table."""

    # QEMU's word for it.
    model: str
    checks: list
    # It can be taken out.
    hot: bool = False
    # More than one: its wire is a TAP outside, whose kernel is the peer.
    queues: int = 1
    # A second card on the same wire, in SECOND_SLOT.
    second: str = ""


# A modern virtio NIC obeys the IOMMU only when told to.
VIRTIO = "virtio-net-pci,disable-legacy=on,iommu_platform=on"

NICS = {
    "e1000e": Kind("e1000e", EVERY + ["killed_and_started_again", "cable_out_and_in",
                                      "curl_fetches", "udp_and_iperf3", "unprivileged",
                                      "changed_while_it_runs", "two_queues"]),
    "e1000": Kind("e1000", EVERY + ["udp_and_iperf3", "taken_over", "one_queue"]),
    "virtio-net-pci": Kind(VIRTIO, EVERY + ["killed_and_started_again", "cable_out_and_in",
                                            "curl_fetches", "udp_and_iperf3", "another_mac"]),
    "vmxnet3": Kind("vmxnet3", EVERY + ["killed_and_started_again", "cable_out_and_in",
                                        "loss_and_delay", "udp_and_iperf3", "two_queues",
                                        "changed_a_little"]),
    "virtio-mq": Kind(f"{VIRTIO},mq=on,vectors=6", ["two_queues", "offloads_carry"], queues=2),
    "bond": Kind("e1000e", ["one_member_fails"], second="e1000"),
    "hotplug": Kind("e1000e", ["taken_out"], hot=True),
}
# The peer's NIC, and the second of a bond.
PEER_SLOT = 0x10
SECOND_SLOT = 0x11


def plan(words):
    """[(name, checks)], of those whose `nic NAME CHECK` contains one of `words`."""
    planned = []
    for name, kind in NICS.items():
        checks = [check for check in kind.checks
                  if not words or any(word in f"nic {name} {check}" for word in words)]
        if checks:
            last = [] if kind.hot else ["given_back"]
            planned.append((name, ["handed_over", *checks, *last]))
    return planned
