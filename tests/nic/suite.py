"""The suite `nic`: real drivers on emulated NICs (`tests/run.py nic`).

One boot runs every check on every NIC. A result counts only if the guest printed it; what it did
not print has failed. That frames crossed the wire is looked up outside, in its recording.
"""

import json
import pathlib
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402
from nics import NICS, PEER_SLOT, SECOND_SLOT, plan  # noqa: E402
import vm  # noqa: E402

SECONDS = 1200


def run(report, words, _jobs, logs):
    out = vm.WORK / "out"
    log = logs / "nic.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    results, lines, outside = {}, [], {}

    def on_line(line):
        lines.append(line)
        at = line.find("@{")
        if at < 0:
            return
        try:
            said = json.loads(line[at + 1:])
        except ValueError:
            return
        if said["kind"] in ("cable", "unplug", "run"):
            # Whole when it is there.
            (out / "answering").write_text(json.dumps(answer(computer, said)))
            (out / "answering").rename(out / "answer")
        elif said["kind"] in ("result", "again"):
            name = f"{said['nic']} {said['check']}"
            problem = said["problem"]
            log.write_text("\n".join(lines[-60:]) + "\n")
            if said["kind"] == "again":
                lines.clear()
                report.repeated.append(f"nic {name}")
                print(f"AGAIN nic {name} ({said['seconds']:.1f} s): {problem}", flush=True)
                report.show(log)
                return
            results[name] = said
            number = names.index(said["nic"])
            if computer.nics[number].queues > 1:
                outside[number] = computer.received_outside(number)
            report.add(f"nic {name}", problem is None, said["seconds"], log, problem or "")
            lines.clear()

    planned = plan(words)
    if not planned:
        return
    names = [name for name, _ in planned]
    begun = time.monotonic()
    try:
        computer = vm.Computer([NICS[name] for name in names],
                               pathlib.Path(__file__).resolve().parent / "guest.py",
                               [harness.ONWIRE, harness.LIBRARY], out, (PEER_SLOT, SECOND_SLOT))
        (out / "plan").write_text(json.dumps(planned))
        status = computer.boot(SECONDS, on_line)
    except vm.Unable as unable:
        log.write_text(str(unable) + "\n")
        report.add("nic (booting)", False, 0.0, log, str(unable))
        return
    log.write_text("\n".join(lines[-60:]) + "\n")
    for name in (f"{model} {check}" for model, checks in planned for check in checks):
        if name not in results:
            report.add(f"nic {name}", False, 0.0, None, "the guest never came to it")
    if status != 0:
        report.add("nic (the guest's end)", False, 0.0, log, f"its status was {status}")
    sent = frames_by_source(out / "wire.pcap")
    for number, (model, checks) in enumerate(planned):
        count = outside.get(number, sent.get(f"10.9.0.{number + 2}", 0))
        claimed = sum(results.get(f"{model} {check}", {}).get("sent", 0) for check in checks)
        report.add(f"nic {model} on the wire", count > 0 and claimed <= count, 0.0, log,
                   f"{count} packets of the stack recorded outside, {claimed} counted inside")
    print(f"nic: {time.monotonic() - begun:.0f} s in all", flush=True)


def answer(computer, asked):
    """Does outside what the guest asks for."""
    match asked["kind"]:
        case "cable":
            computer.set_link(asked["nic"], asked["up"])
        case "unplug":
            computer.unplug(asked["nic"])
        case "run":
            status, output = computer.outside(asked["argv"], asked["timeout"])
            return {"status": status, "output": output[-4000:]}
    return None


def frames_by_source(path):
    """{IPv4 address: packets that it sent} of a pcap file."""
    data, counts = path.read_bytes() if path.exists() else b"", {}
    at = 24
    while at + 16 <= len(data):
        size, = struct.unpack_from("<I", data, at + 8)
        frame = data[at + 16:at + 16 + size]
        at += 16 + size
        # The sender of an IPv4 packet, or that of an ARP packet.
        where = {b"\x08\x00": 26, b"\x08\x06": 28}.get(frame[12:14])
        if where and len(frame) >= 34:
            source = ".".join(map(str, frame[where:where + 4]))
            counts[source] = counts.get(source, 0) + 1
    return counts
