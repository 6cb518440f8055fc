"""Several queues, each with a shard: who carried what is read from the shards' own counters."""

import os
import pathlib
import signal
import socket
import subprocess
import time

from harness import BENCH, STACK, check, scenario


def shards(stats, name):
    """A counter of every shard, in order."""
    found = []
    while f"shard{len(found)}.{name}" in stats:
        found.append(stats[f"shard{len(found)}.{name}"])
    return found


def all_carried(t, server, count, least, what):
    """Asserts that each of `count` shards carried connections; nothing was lost between them."""
    stats = t.stats(server)
    segments = shards(stats, "tcp_segments_in")
    t.note(f"{what}: segments in {segments}, frames {shards(stats, 'rx_frames')}, "
           f"given {shards(stats, 'frames_given')}, taken {shards(stats, 'frames_taken')}")
    check(len(segments) == count, f"{len(segments)} shards, not {count}")
    check(all(n >= least for n in segments), f"a shard carried less than {least}: {segments}")
    lost = shards(stats, "given_full") + shards(stats, "taken_no_buffer")
    check(sum(lost) == 0, f"frames were lost between shards: {lost}")
    return stats


def benchmark(t, *flags):
    out = t.run(["redis-benchmark", "-h", STACK, "-n", "20000", "-c", "24", "-t", "get,set", "-q",
                 *flags], timeout=60)
    check("requests per second" in out, out)


def redis(t, queues):
    server = t.serve("redis-server", "--save", "", "--protected-mode", "no", port=6379,
                     queues=queues)
    benchmark(t)
    benchmark(t, "-P", "16")
    all_carried(t, server, queues, 200, f"redis, {queues} queues of a TAP")
    t.nothing_on_kernel(server, but=("family",))


@scenario(timeout=90)
def test_redis_on_a_tap_of_two_queues(t):
    redis(t, 2)


@scenario(timeout=90)
def test_redis_on_a_tap_of_four_queues(t):
    redis(t, 4)


# Sends lines over many connections from several threads, and compares what comes back.
CLIENT = """
import socket, sys, threading
host, port, threads, each, rounds, kind = sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
failures = []
def read(one, want):
    got = b""
    while len(got) < len(want):
        some = one.recv(65536)
        assert some, f"closed after {got[:60]!r}"
        got += some
    assert got == want, f"{got[:60]!r} is not {want[:60]!r}"
def work(number):
    try:
        ones = [socket.create_connection((host, port), 10) for _ in range(each)]
        for turn in range(rounds):
            for at, one in enumerate(ones):
                value = b"%d-%d-%d" % (number, at, turn) * 20
                if kind == "memcached":
                    one.sendall(b"set k%d-%d 0 0 %d\\r\\n%s\\r\\n" % (number, at, len(value), value))
                    one.sendall(b"get k%d-%d\\r\\n" % (number, at))
                else:
                    one.sendall(value + b"\\n")
            for at, one in enumerate(ones):
                value = b"%d-%d-%d" % (number, at, turn) * 20
                if kind == "memcached":
                    read(one, b"STORED\\r\\nVALUE k%d-%d 0 %d\\r\\n%s\\r\\nEND\\r\\n"
                         % (number, at, len(value), value))
                else:
                    read(one, value + b"\\n")
    except Exception as error:
        failures.append(f"thread {number}: {error!r}")
# The first socket starts the engine: threads that are born meanwhile would be taken for the driver's.
socket.socket().close()
work_threads = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
[one.start() for one in work_threads]
[one.join() for one in work_threads]
print("failures:", failures)
sys.exit(bool(failures))
"""


def memcached_on_a_link(t, queues, kind="virtio"):
    first, second = t.link()
    if kind == "memif":
        path = t.tmp / "link.sock"
        first["device"], second["device"] = f"memif:{path},role=server", f"memif:{path}"
    server = t.start(t.onwire("memcached", "-u", "root", "-l", "10.9.0.1", "-t", "4",
                              queues=queues, **first), name="memcached")
    server.engine = server.pid
    t.until(lambda: (t.tmp / "link.sock").exists() or t.gone(server), 20, "the link")
    client = t.start(t.onwire("/usr/bin/python3", "-c", CLIENT, "10.9.0.1", "11211", "4", "12",
                              "40", "memcached", queues=queues, **second), name="client",
                     env={"ONWIRE_STATS_FILE": str(t.tmp / "client.json")})
    client.finish(60)
    all_carried(t, server, queues, 100, f"memcached, {queues} queues of a {kind} link")
    t.nothing_on_kernel(server)


@scenario(timeout=120)
def test_memcached_on_a_link_of_two_queues(t):
    memcached_on_a_link(t, 2)


@scenario(timeout=120)
def test_memcached_on_a_link_of_four_queues(t):
    memcached_on_a_link(t, 4)


def nginx_on_a_link(t, queues):
    from apps import nginx_configuration
    first, second = t.link()
    server = t.start(t.onwire("nginx", "-c", nginx_configuration(t, workers=queues),
                              queues=queues, **first), name="nginx")
    server.engine = server.pid
    t.until(lambda: (t.tmp / "link.sock").exists() or t.gone(server), 20, "the link")
    for keep in ([], ["-H", "Connection: close"]):
        # The port: without /etc/services wrk does not know what http is.
        out = t.run(t.onwire("wrk", "-t4", "-c32", "-d2", *keep, "http://10.9.0.1:80/",
                             queues=queues, **second), timeout=40)
        line = next((line for line in out.splitlines() if "Requests/sec" in line), out)
        t.note(f"{' '.join(keep) or 'keep-alive'}: {line}")
        check("Requests/sec" in out, out)
        check("Non-2xx" not in out and "Socket errors" not in out, out)
        if not keep:
            all_carried(t, server, queues, 300, f"nginx, {queues} workers and queues")
            break
    t.nothing_on_kernel(server)


@scenario(timeout=120)
def test_nginx_workers_on_a_link_of_two_queues(t):
    nginx_on_a_link(t, 2)


@scenario(timeout=120)
def test_nginx_workers_on_a_link_of_four_queues(t):
    nginx_on_a_link(t, 4)


FORKING = """
import os, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64
Server(("10.78.0.2", 7000), Handler).serve_forever()
"""


@scenario(timeout=90)
def test_a_child_for_each_connection(t):
    server = t.serve("/usr/bin/python3", "-c", FORKING, port=7000, queues=2)
    t.run(["/usr/bin/python3", "-c", CLIENT, STACK, "7000", "4", "6", "20", "echo"], timeout=60)
    all_carried(t, server, 2, 100, "forked children")


@scenario(timeout=90)
def test_ss_lists_the_sockets_of_all_shards_once(t):
    server = t.serve("redis-server", "--save", "", "--protected-mode", "no", port=6379, queues=4)
    ones = [socket.create_connection((STACK, 6379), 5) for _ in range(32)]
    for one in ones:
        one.sendall(b"PING\r\n")
        check(one.recv(100) == b"+PONG\r\n", "no answer")
    rows = [row for row in t.sockets(server) if row["local"].endswith(":6379")]
    listening = [row for row in rows if row["state"] == "LISTEN"]
    established = {row["remote"] for row in rows if row["state"] == "ESTAB"}
    check(len(listening) == 1, f"one listener is {len(listening)}: {listening}")
    names = {f"{STACK.rsplit('.', 1)[0]}.1:{one.getsockname()[1]}" for one in ones}
    check(established == names, f"{len(established)} of {len(names)} connections are listed")
    counts = shards(t.stats(server), "tcp_connections")
    check(sum(counts) >= 32 and min(counts) > 0, f"connections in the shards: {counts}")
    for one in ones:
        one.close()
    t.until(lambda: sum(shards(t.stats(server), "tcp_connections")) == 0, 10, "them to end")


@scenario(timeout=90)
def test_a_worker_that_is_killed_takes_only_its_own_with_it(t):
    from apps import nginx_configuration
    server = t.serve("nginx", "-c", nginx_configuration(t, workers=4), port=80, queues=4)

    def children():
        path = pathlib.Path(f"/proc/{server.pid}/task/{server.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    for turn in range(4):
        load = t.start(["wrk", "-t2", "-c32", "-d2", f"http://{STACK}:80/"])
        time.sleep(0.7)
        victim = t.until(children, 5, "workers")[0]
        os.kill(victim, signal.SIGKILL)
        load.finish(20)
        for _ in range(10):
            t.run(["curl", "-sSf", "-m", "5", "-o", "/dev/null", f"http://{STACK}/"])
        t.until(lambda: len(children()) == 4, 10, "the worker to be replaced")
    all_carried(t, server, 4, 300, "workers that were killed")
    t.nothing_on_kernel(server)


# Ports are the host's, whatever shard looks: bound ones are taken in all, and their connections go
# where their flows belong.
PORTS = """
import errno, socket
own, peer = "10.78.0.2", ("10.78.0.1", 9000)
def bound(port, *options):
    one = socket.socket()
    for option in options:
        one.setsockopt(socket.SOL_SOCKET, option, 1)
    one.bind((own, port))
    return one
def refused(port, *options):
    try:
        bound(port, *options)
    except OSError as error:
        assert error.errno == errno.EADDRINUSE, error
    else:
        raise AssertionError(f"port {port} was given twice")
def echo(one, text):
    one.sendall(text)
    got = one.recv(100)
    assert got == text, got
kept = []
for port in range(5000, 5016):
    one = bound(port)
    refused(port)
    one.connect(peer)
    assert one.getsockname() == (own, port), one.getsockname()
    echo(one, b"bound %d" % port)
    refused(port)
    kept.append(one)
for turn in range(64):
    one = socket.create_connection(peer)
    echo(one, b"free %d" % turn)
    refused(one.getsockname()[1])
    kept.append(one)
any_port = [bound(0) for _ in range(200)]
assert len({one.getsockname()[1] for one in any_port}) == 200
listener = bound(6000)
listener.listen(50)
refused(6000)
# To ourselves: both ends have one shard, and every shard has the listener.
for turn in range(32):
    one = socket.create_connection((own, 6000))
    two, name = listener.accept()
    assert name == one.getsockname() and two.getpeername() == name
    one.sendall(b"to ourselves")
    assert two.recv(100) == b"to ourselves"
    kept += [one, two]
listener.shutdown(socket.SHUT_RDWR)
listener.close()
print("all is well")
"""


@scenario(timeout=90)
def test_ports_are_the_hosts(t):
    t.start(["socat", "TCP-LISTEN:9000,fork,reuseaddr,backlog=64", "EXEC:cat"])
    t.until(lambda: subprocess.run(["socat", "-u", "/dev/null", "TCP:127.0.0.1:9000"],
                                   capture_output=True).returncode == 0, 10, "the kernel's server")
    out = t.run(t.onwire("/usr/bin/python3", "-c", PORTS, queues=4), timeout=60)
    check("all is well" in out, out)


@scenario(timeout=60)
def test_more_queues_than_the_device_has_are_refused(t):
    t.run(t.onwire("/bin/true", device="vdev:net_null0", address="10.9.0.1/24", queues=9), status=2)
    check("queues" in t.last.stderr and "1 to 8" in t.last.stderr, t.last.stderr)


@scenario(timeout=120)
def test_memcached_on_a_memif_link_of_two_queues(t):
    memcached_on_a_link(t, 2, "memif")
