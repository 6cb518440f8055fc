"""What the checks inside the computer share: the NIC under test, its peer, and asking the outside."""

import json
import pathlib
import time

import harness
from apps import nginx_configuration
from harness import ONWIRE, check, sha256
from nics import NICS, SECOND_SLOT

# Every instruction is emulated, on a machine that others may use.
harness.PATIENCE = 4
PEER = "10.9.0.1"
PEER_SHELL = ["ip", "netns", "exec", "peer"]


def say(kind, **values):
    print("@" + json.dumps({"kind": kind, **values}), flush=True)


def ask(kind, **values):
    """Has something done outside, and waits until it is; what it answered."""
    answer = pathlib.Path("/run/out/answer")
    answer.unlink(missing_ok=True)
    say(kind, **values)
    end = time.monotonic() + 120
    while not answer.exists():
        check(time.monotonic() < end, f"nobody did it: {kind}")
        time.sleep(0.1)
    return json.loads(answer.read_text() or "null")


class Nic:
    """One NIC under test, or the first of two."""

    def __init__(self, number, name):
        self.number, self.model, self.kind = number, name, NICS[name]
        # A port for a card that can be taken out has a bus of its own.
        self.pci = "0000:01:00.0" if self.kind.hot else f"0000:00:{number + 2:02x}.0"
        self.second = f"0000:00:{SECOND_SLOT:02x}.0"
        self.address = f"10.9.0.{number + 2}"
        self.settings = {"device": f"pci:{self.pci}", "address": f"{self.address}/24"}

    def interface(self):
        """The kernel's name of it, while the kernel has it."""
        at = pathlib.Path("/sys/bus/pci/devices") / self.pci
        found = [*at.glob("net/*"), *at.glob("virtio*/net/*")]
        return found[0].name if found else None

    def row(self, t):
        """Its line of `onwire devices`."""
        cards = json.loads(t.run([ONWIRE, "devices", "--json"]))
        return next(card for card in cards if card["address"] == self.pci)

    def cable(self, up, which=""):
        """Asks the outside to pull the cable (`b`: the second's), and waits until it has."""
        ask("cable", nic=f"{self.number}{which}", up=up)

    def unplug(self):
        """Asks the outside to take the NIC out."""
        ask("unplug", nic=self.number)


def peer(t, *argv, **options):
    """Runs a program of the peer's kernel."""
    return t.run(PEER_SHELL + [str(word) for word in argv], **options)


def peer_of(t, nic, *argv, timeout=60):
    """The same, where the peer may be the kernel outside."""
    if nic.kind.queues == 1:
        return peer(t, *argv, timeout=timeout)
    answer = ask("run", argv=[str(word) for word in argv], timeout=timeout)
    check(answer["status"] == 0, f"{argv} outside: {answer}")
    return answer["output"]


def nginx(t, nic):
    configuration = nginx_configuration(t, workers=2, listen=f"{nic.address}:80")
    return t.serve("nginx", "-c", configuration, port=80, **nic.settings)


def fetch(t, nic, file, timeout=60):
    """The peer's curl fetches a file; it must be the same."""
    peer(t, "curl", "-sSf", "-m", str(timeout * harness.PATIENCE), "-o", t.tmp / "got",
         f"http://{nic.address}/{file.name}", timeout=timeout + 5)
    check(sha256(file) == sha256(t.tmp / "got"), "the file differs")
