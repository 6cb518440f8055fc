"""What `make demo` shows, inside namespaces that scripts/demo.sh made. Process 1 there: it reaps."""

import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]
import harness  # noqa: E402
from apps import benchmark_lines, nginx_configuration  # noqa: E402
from harness import STACK, check  # noqa: E402

COLOUR = sys.stdout.isatty()


def bold(text):
    return f"\033[1m{text}\033[0m" if COLOUR else text


def say(text=""):
    print(text, flush=True)


def counters(before, after):
    rx = after["interface.rx_frames"] - before["interface.rx_frames"]
    tx = after["interface.tx_frames"] - before["interface.tx_frames"]
    check(rx > 0 and tx > 0, "the stack carried no frames: this was not its traffic")
    return f"the stack's own counters: {rx:,} frames received, {tx:,} sent"


def show(command):
    say(f"   $ {command}")


def redis_over_tap(t):
    say(bold("1. redis-server on the stack, redis-benchmark on the kernel, over a TAP"))
    show("onwire run -- redis-server --port 6379 …")
    server = t.serve("redis-server", "--save", "", "--protected-mode", "no", "--port", "6379", port=6379)
    info = t.engine(server)
    say(f"   the engine: {info['driver']} {info['interface']}, address {info['addresses'][0]}")
    before = t.stats(server)
    show(f"redis-cli -h {STACK} ping")
    say(f"   {t.run(['redis-cli', '-h', STACK, 'ping']).strip()}")
    show(f"redis-benchmark -h {STACK} -t set,get -n 50000 -c 20")
    rates = benchmark_lines(t.run(["redis-benchmark", "-h", STACK, "-t", "set,get", "-n", "50000",
                                   "-c", "20", "--csv"], timeout=90))
    for name, rate in rates.items():
        say(f"   {name:4} {rate:>10,.0f} requests per second")
    say(f"   {counters(before, t.stats(server))}")
    show("onwire ss -ta")
    for line in t.run([harness.ONWIRE, "ss", "-ta"]).splitlines()[:4]:
        say(f"   {line}")
    server.stop()


def redis_over_vhost(t):
    say(bold("2. both ends on the stack, over shared memory (vhost / virtio-user)"))
    show("onwire run --device vhost:link.sock --address 10.9.0.1/24 -- redis-server …")
    server, second = t.serve_on_link("redis-server", "--save", "", "--protected-mode", "no",
                                     "--port", "6379")
    show("onwire run --device virtio-user:link.sock --address 10.9.0.2/24 -- redis-benchmark …")
    argv = t.onwire("redis-benchmark", "-h", "10.9.0.1", "-t", "set,get", "-n", "50000", "-c", "10",
                    "--csv", **second)
    for name, rate in benchmark_lines(t.run(argv, timeout=90)).items():
        say(f"   {name:4} {rate:>10,.0f} requests per second")
    say(f"   {counters(t.NOTHING_YET, t.stats(server))}")
    server.stop()


def nginx_file(t):
    say(bold("3. nginx on the stack serves 100 MB to curl"))
    configuration = nginx_configuration(t)
    file = harness.random_file(t.tmp / "www" / "big", 100)
    show("onwire run -- nginx -c nginx.conf")
    server = t.serve("nginx", "-c", configuration, port=80)
    before = t.stats(server)
    show(f"curl -o got http://{STACK}/big")
    begun = time.monotonic()
    t.run(["curl", "-sS", "-o", t.tmp / "got", f"http://{STACK}/big"], timeout=90)
    seconds = time.monotonic() - begun
    sums = [harness.sha256(path) for path in (file, t.tmp / "got")]
    say(f"   100 MB in {seconds:.2f} s, {100 * 8 * 1.048576 / seconds / 1000:.2f} Gbit/s")
    say(f"   sent      SHA-256 {sums[0]}")
    say(f"   received  SHA-256 {sums[1]}  {'equal' if sums[0] == sums[1] else 'DIFFERENT'}")
    check(sums[0] == sums[1], "the file differs")
    say(f"   {counters(before, t.stats(server))}")
    server.stop()


def demo():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    t = harness.Test("demo")
    begun = time.monotonic()
    version = re.sub(r"^onwire ", "", t.run([harness.ONWIRE, "--version"]).strip())
    say(f"onwire {version}: unmodified programs on a user-space TCP/IP stack")
    say()
    try:
        for part in (redis_over_tap, redis_over_vhost, nginx_file):
            part(t)
            say()
        t.end()
        t.nothing_left()
        say(f"Done in {time.monotonic() - begun:.0f} s; no keeper, TAP or socket file is left.")
        return 0
    except harness.Failed as failure:
        say(f"The demo failed: {failure}")
        t.end()
        t.show_logs()
        return 1
    finally:
        t.end()
        t.clean()


child = os.fork()
if child == 0:
    status = 1
    try:
        status = demo()
    finally:
        sys.stdout.flush()
        os._exit(status)
while True:
    pid, status = os.wait()
    if pid == child:
        sys.exit(os.waitstatus_to_exitcode(status) != 0)
