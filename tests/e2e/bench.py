"""`onwire bench`: every measurement, for a moment. The harness itself refuses a figure that onwire's
own counters do not account for; what is checked here is that each measures, and what it writes."""

import json

from harness import BENCH, check, scenario


def bench(t, *words, descriptors=None):
    """What `onwire bench … --json` printed, in folders and namespaces of its own."""
    # Its namespaces are named by a process id, which is the same in another process namespace: it
    # gets an own /run, which its end cannot leave behind either.
    script = 'mount -t tmpfs tmpfs /run && exec "$0" "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, BENCH, *words, "--rounds", "1", "--repeats", "0",
            "--json"]
    if descriptors:
        argv = ["prlimit", f"--nofile={descriptors}", *argv]
    return json.loads(t.run(argv, timeout=90, env={"TMPDIR": str(t.tmp)}))


def on_onwire(t, document, results):
    """The onwire lines of a result; the harness has asked its counters if it names the driver."""
    check("net_v" in (document["on"] or ""), f"ran on {document['on']}")
    lines = [line for result in results for line in result["lines"] if line["way"] == "onwire"]
    check(lines and all(line["median"] > 0 for line in lines), f"{results}")
    for line in lines:
        t.note(f"{line['median']:.2f}, {line['of_kernel']} x kernel")
    return lines


@scenario(timeout=100)
def test_connect_counts_short_connections(t):
    found = bench(t, "connect", "--seconds", "0.5", "--html", t.tmp / "page.html")
    on_onwire(t, found, [found["rates"]])
    page = (t.tmp / "page.html").read_text()
    check("<svg" in page and "onwire bench connect" in page, "no plot in the page")
    check("http-equiv" not in page and " src=" not in page, "the page is not self-contained")


@scenario(timeout=100)
def test_stream_carries_several_streams_in_both_directions(t):
    found = bench(t, "stream", "--seconds", "1", "--connections", "1,3")
    check(len(found["results"]) == 4, f"{found['results']}")
    on_onwire(t, found, found["results"])


@scenario(timeout=100)
def test_stream_without_segmentation_sends_frames_of_the_mtu(t):
    found = bench(t, "stream", "--seconds", "1", "--no-segmentation", "--direction", "to-server")
    check("lro" not in found["on"] and "tso" not in found["on"], f"ran on {found['on']}")
    on_onwire(t, found, found["results"])


@scenario(timeout=100)
def test_request_drives_real_servers(t):
    found = bench(t, "request", "--seconds", "0.2", "--clients", "8", "--work",
                  "redis,nginx-close,memcached")
    check(len(found["results"]) == 3, f"{found['results']}")
    on_onwire(t, found, found["results"])


@scenario(timeout=100)
def test_scale_weighs_idle_connections(t):
    found = bench(t, "scale", "--seconds", "0.3", "--connections", "300", "--only",
                  "kernel-spinning,onwire")
    ours = [one["cost"] for one in found["results"]
            if one["way"] == "onwire" and one["connections"] == 300]
    check(len(ours) == 1 and ours[0]["octets_each"][0] > 100, f"{ours}")
    t.note(f"{ours[0]['octets_each'][0]:.0f} octets of the region for each idle connection")
    check("net_v" in found["on"], f"ran on {found['on']}")


@scenario(timeout=100)
def test_scale_divides_what_one_process_may_not_hold(t):
    found = bench(t, "scale", "--seconds", "0.3", "--connections", "700", "--only", "onwire",
                  descriptors=1_324)
    ours = [one["cost"] for one in found["results"] if one["connections"] == 700]
    # 300 for each process: children of the server and of the client hold 600 of them.
    check(len(ours) == 1 and 500 < ours[0]["octets_each"][0] < 2_000, f"{ours}")
    t.note(f"{ours[0]['octets_each'][0]:.0f} octets of the region for each idle connection")


@scenario(timeout=100)
def test_instructions_of_an_echo_beside_smoltcps(t):
    found = bench(t, "instructions", "--count", "300")
    ours, theirs = found["onwire"], found["smoltcp"]
    t.note(f"{ours} instructions, smoltcp {theirs}")
    check(1_000 < theirs < 20_000 and 1_000 < ours < 2 * theirs, f"{ours}, smoltcp {theirs}")


@scenario(timeout=100)
def test_latency_in_an_open_loop_and_with_sizes(t):
    found = bench(t, "latency", "--seconds", "0.3", "--rate", "500", "--html", t.tmp / "page.html")
    ours = [one for one in found["results"] if one["way"] == "onwire"]
    check({one["protocol"] for one in ours} == {"tcp", "udp"}, f"{ours}")
    check(all(one["all"]["count"] >= 100 for one in ours), f"{ours}")
    check("Latency against load" in (t.tmp / "page.html").read_text(), "no plot")
    closed = bench(t, "latency", "--seconds", "0.2", "--only", "onwire", "--size", "64,1024",
                   "--html", t.tmp / "page.html")
    check({one["size"] for one in closed["results"]} == {64, 1024}, f"{closed['results']}")
    check("Cumulative" in (t.tmp / "page.html").read_text(), "no plot")
