"""Who carried a suite's traffic: without this a suite whose sockets all went to the kernel would pass.

Each run has a network namespace of its own, whose counters (/proc/net/snmp) begin at zero and count
what the kernel carried, over loopback too. The stack's counters come from its engines: each adds a
line to a file when it ends, and those that still hold something are asked (tests/world.sh).

So the run on the kernel tells what a program needs: TCP, UDP or no inet traffic at all; and the run
under onwire must show it on the stack, and next to nothing of it in the kernel.
"""

import json
import os

# What a run under onwire may leave to the kernel of what it carried before: IPv6, which the stack
# does not have yet and which the kernel's TCP counters include.
KERNEL_SHARE = 0.5


class Carried:
    """One run's counters, read when it has ended."""

    def __init__(self, prefix, onwire):
        self.prefix, self.onwire = prefix, onwire
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        for path in self.files():
            path.unlink(missing_ok=True)

    def files(self):
        return [self.prefix.with_name(self.prefix.name + end)
                for end in (".kernel", ".ended", ".live")]

    def environment(self, more=None):
        return {**os.environ, **(more or {}), "WORLD_COUNTERS": str(self.prefix),
                "WORLD_ONWIRE": str(self.onwire)}

    def kernel(self):
        """{"tcp": segments, "udp": datagrams} that the namespace's kernel received."""
        lines = [line.split() for line in self.read(".kernel").splitlines()]
        found = {}
        for names, values in zip(lines[::2], lines[1::2]):
            found[names[0]] = dict(zip(names[1:], values[1:]))
        take = lambda group, name: int(found.get(group, {}).get(name, 0))  # noqa: E731
        return {"tcp": take("Tcp:", "InSegs"), "udp": take("Udp:", "InDatagrams")}

    def stack(self):
        """{"group.name": sum over the engines}, and "engines"."""
        documents = {}
        live = self.read(".live")
        for document in json.loads(live) if live.strip() else []:
            documents[document["engine"]] = document
        total, lines = {"engines": 0}, self.read(".ended").splitlines()
        ended = [json.loads(line) for line in lines]
        for document in ended:
            # Asked first, ended then: the line says more.
            documents.pop(document["engine"], None)
        for document in [*ended, *documents.values()]:
            total["engines"] += 1
            for group, counters in document["stats"].items():
                for name, value in counters.items():
                    key = f"{group}.{name}"
                    total[key] = total.get(key, 0) + value
        return total

    def read(self, end):
        path = self.prefix.with_name(self.prefix.name + end)
        return path.read_text() if path.exists() else ""


UNITS = {"tcp": ("segments_in", "segments"), "udp": ("in_datagrams", "datagrams")}


def judge(on_kernel, under_onwire):
    """(what is wrong, in lines; the figures, for the report) of a program's two runs."""
    needs, left = on_kernel.kernel(), under_onwire.kernel()
    stack = under_onwire.stack()
    problems, figures = [], []
    for protocol, (counter, unit) in UNITS.items():
        sockets = sum(stack.get(f"carried.{protocol}_{path}", 0) for path in ("stack", "both"))
        moved = stack.get(f"{protocol}.{counter}", 0)
        if needs[protocol] == 0 and sockets == 0 and left[protocol] == 0:
            continue
        figures.append(f"{protocol}: {sockets} sockets and {moved} {unit} on the stack "
                       f"(kernel {needs[protocol]}, left to it {left[protocol]})")
        if needs[protocol] > 0 and (sockets == 0 or moved == 0):
            problems.append(f"{protocol}: the kernel carried {needs[protocol]} {unit}, the stack "
                            f"has {sockets} sockets and {moved} {unit}: this proves nothing")
        if left[protocol] > KERNEL_SHARE * needs[protocol]:
            problems.append(f"{protocol}: under onwire the kernel still carried {left[protocol]} "
                            f"of {needs[protocol]} {unit}")
    return problems, "; ".join(figures) or "no inet traffic"
