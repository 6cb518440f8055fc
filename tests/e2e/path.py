"""Bad paths: what loss, delay and reordering leave of a transfer, beside the kernel and with it."""

import json

from harness import BENCH, check, scenario

# LOSS:RTT:REORDER, in percent.
PATHS = ["0.1:1ms", "1:20ms", "3:1ms", "0:20ms:5"]
PAIRS = ["kernel to kernel", "onwire to onwire", "onwire to kernel", "kernel to onwire"]


@scenario(timeout=240)
def test_goodput_on_bad_paths_is_that_of_the_kernel(t):
    """The same losses (by a seed) for four pairs of TCPs: none stalls, is reset or is much slower.

    The bench compares every octet and asks onwire's own counters who carried them. The whole
    matrix, with bounds that a quiet machine keeps, is `onwire bench path --congestion cubic
    --congestion reno --check 0.95`; here, on shared cores, 0.8 guards against a step back. Five
    rounds, for with 3 % loss a kernel that sends stands still for half a second at times, and the
    median of three says little.
    """
    cells = [word for path in PATHS for word in ("--cell", path)]
    # Namespaces and folders are named by a process id, which is the same in another process
    # namespace: an own /run keeps them apart, and is gone afterwards.
    script = 'mount -t tmpfs tmpfs /run && exec "$0" path "$@"'
    text = t.run(["unshare", "--mount", "sh", "-c", script, BENCH, *cells, "--rounds", "5",
                  "--time", "2s", "--rate", "40", "--jobs", "2", "--realtime",
                  "--check", "0.8", "--json"],
                 timeout=210, status=None, env={"TMPDIR": str(t.tmp)})
    verdicts = [line for line in t.last.stderr.splitlines() if line.startswith("check:")]
    check(text.startswith("{"), f"no result: {t.last.stderr[-800:]}")
    for row in json.loads(text)["rows"]:
        for pair, transfers in zip(PAIRS, row["transfers"]):
            rates = sorted(one["megabits_per_second"] for one in transfers)
            waits = [one["longest_wait_ms"] for one in transfers]
            name = f"{row['loss']} % loss, {row['reorder']} % reordered, {pair}"
            check(len(rates) == 5, f"{name}: {row['failures']}")
            t.note(f"{name}: {rates[2]:.2f} Mbit/s, {max(waits):.0f} ms without data at most")
            check(max(waits) < 5_000, f"{name}: stood still for {max(waits):.0f} ms")
    check(not verdicts, "\n".join(verdicts))
    check(t.last.returncode == 0, t.last.stderr[-800:])
