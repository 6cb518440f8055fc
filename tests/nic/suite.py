"""The suite `nic`: real drivers on emulated NICs (`tests/run.py nic`).

One boot runs every check on every NIC. A result counts only if the guest printed it; what it did
not print has failed. That frames crossed the wire is looked up outside, in its recording.
"""

import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from nics import CHECKS, NICS, PEER_SLOT  # noqa: E402
import vm  # noqa: E402

SECONDS = 900


def run(report, words, _jobs, logs):
    out = vm.WORK / "out"
    log = logs / "nic.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    results, lines = {}, []

    def on_line(line):
        lines.append(line)
        at = line.find("@{")
        if at < 0:
            return
        try:
            said = json.loads(line[at + 1:])
        except ValueError:
            return
        if said["kind"] == "cable":
            computer.set_link(said["nic"], said["up"])
            (out / "cable").touch()
        elif said["kind"] == "result":
            name = f"{said['nic']} {said['check']}"
            results[name] = said
            problem = said["problem"]
            log.write_text("\n".join(lines[-60:]) + "\n")
            report.add(f"nic {name}", problem is None, said["seconds"], log, problem or "")
            lines.clear()

    nics = [model for model in NICS if not words or any(word in model for word in words)]
    try:
        computer = vm.Computer(nics, pathlib.Path(__file__).resolve().parent / "guest.py", out,
                               PEER_SLOT)
        (out / "nics").write_text("\n".join(model.split(",")[0] for model in nics))
        status = computer.boot(SECONDS, on_line)
    except vm.Unable as unable:
        log.write_text(str(unable) + "\n")
        report.add("nic (booting)", False, 0.0, log, str(unable))
        return
    log.write_text("\n".join(lines[-60:]) + "\n")
    models = [model.split(",")[0] for model in nics]
    for name in (f"{model} {check}" for model in models for check in CHECKS):
        if name not in results:
            report.add(f"nic {name}", False, 0.0, None, "the guest never came to it")
    if status != 0:
        report.add("nic (the guest's end)", False, 0.0, log, f"its status was {status}")
    sent = frames_by_source(out / "wire.pcap")
    for number, model in enumerate(models):
        count = sent.get(f"10.9.0.{number + 2}", 0)
        report.add(f"nic {model} on the wire", count > 1000, 0.0, log,
                   f"{count} packets of the stack recorded outside")


def frames_by_source(path):
    """{IPv4 source: packets} of a pcap file."""
    data, counts = path.read_bytes() if path.exists() else b"", {}
    at = 24
    while at + 16 <= len(data):
        size, = struct.unpack_from("<I", data, at + 8)
        frame = data[at + 16:at + 16 + size]
        at += 16 + size
        if len(frame) >= 34 and frame[12:14] == b"\x08\x00":
            source = ".".join(map(str, frame[26:30]))
            counts[source] = counts.get(source, 0) + 1
    return counts
