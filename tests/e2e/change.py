"""What an operator changes while a program runs: `onwire set`."""

import socket
import threading

from apps import redis
from harness import HOST, ONWIRE, PYTHON, STACK, check, scenario

ECHO = """
import socket, threading
listener = socket.create_server(("", 7000))
def serve(client):
    while data := client.recv(65536):
        client.sendall(data)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1]).start()
"""


def echo(client, octets):
    """Sends a pattern and compares what comes back."""
    data = bytes(n * 7 % 251 for n in range(octets))
    writer = threading.Thread(target=client.sendall, args=(data,))
    writer.start()
    got = b""
    while len(got) < len(data):
        some = client.recv(65536)
        check(some, f"closed after {len(got)} octets")
        got += some
    writer.join()
    check(got == data, "other octets came back")


@scenario(timeout=60)
def test_the_mtu_changes_under_connections(t):
    """Both ends of the wire, the routes, and what old and new connections send follow."""
    server = t.serve(PYTHON, "-c", ECHO, port=7000)
    client = socket.create_connection((STACK, 7000), 5)
    client.settimeout(20)
    echo(client, 200_000)

    def longest():
        """The largest segment that the server's connection may send, and the path's MTU."""
        port = client.getsockname()[1]
        one = next(one for one in t.sockets(server) if one["remote"] == f"{HOST}:{port}")
        return one["tcp"]["snd_mss"], one["tcp"]["pmtu"]

    for mtu in (1000, 1480, 576, 1500):
        t.run([ONWIRE, "set", "mtu", str(mtu)])
        check(t.engine(server)["mtu"] == mtu, f"{t.engine(server)}")
        routes = t.ask("route", process=server)[0]["routes"]
        check(all(route["mtu"] == mtu for route in routes), f"{routes}")
        check(f"mtu {mtu} " in t.run(["ip", "link", "show", "onwire0"]), "the kernel's end differs")
        mss, path = longest()
        # Twelve octets are the timestamps'; the peer's MSS is of its own MTU, when it connected.
        check((mss, path) == (mtu - 52, mtu), f"mtu {mtu}: segments of {mss}, path {path}")
        before = t.stats(server)
        echo(client, 200_000)
        t.moved(before, t.stats(server), rx=50, tx=200_000 // mtu, what=f"mtu {mtu}")
        with socket.create_connection((STACK, 7000), 5) as new:
            new.settimeout(20)
            echo(new, 20_000)
            port = new.getsockname()[1]
            told = next(one["tcp"]["advmss"] for one in t.sockets(server)
                        if one["remote"] == f"{HOST}:{port}")
            check(told == mtu - 40, f"mtu {mtu}: a new connection was told {told}")
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_what_cannot_be_changed_is_refused_in_one_line_and_stays(t):
    server = redis(t, STACK)
    for words, said in ((("mtu", "9000"), "does not fit its buffers"), (("mtu", "12"), "576"),
                        (("mtu", "1600"), "refused"), (("gro", "off"), "mtu and promiscuous")):
        t.run([ONWIRE, "set", *words], status=None)
        check(t.last.returncode in (1, 2), f"{words} was taken")
        check(said in t.last.stderr and t.last.stderr.count("\n") == 1, t.last.stderr)
        engine = t.engine(server)
        check((engine["mtu"], engine["promiscuous"]) == (1500, False), f"{engine}")
    check(t.run(["redis-cli", "-h", STACK, "ping"]).strip() == "PONG", "no PONG")


@scenario(timeout=60)
def test_promiscuous_is_the_operators_or_a_captures(t):
    """A capture that wants every frame gives the mode back, unless the operator wants it too."""
    server = redis(t, STACK)

    def promiscuous():
        return t.engine(server)["promiscuous"]

    def capture():
        process = t.start([ONWIRE, "tcpdump", "--promiscuous", "-w", t.tmp / "all.pcapng"])
        t.until(promiscuous, 10, "the mode")
        process.stop(2)
        t.run([ONWIRE, "stats"])  # The engine has seen its end when it answers again.

    check(not promiscuous(), "it is promiscuous from the start")
    capture()
    t.until(lambda: not promiscuous(), 10, "the mode to be given back")
    t.run([ONWIRE, "set", "promiscuous", "on"])
    capture()
    check(promiscuous(), "the capture's end took the operator's mode away")
    t.run([ONWIRE, "set", "promiscuous", "off"])
    check(not promiscuous(), "it stays")
    # A frame for another station is seen, counted, and not taken for ours.
    before = t.stats(server)["interface.rx_other_station"]
    t.run(["ip", "neigh", "add", "10.78.0.77", "lladdr", "02:00:00:00:00:77", "dev", "onwire0"])
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((HOST, 0))
    sender.sendto(b"not for you", ("10.78.0.77", 6379))
    t.until(lambda: t.stats(server)["interface.rx_other_station"] > before, 10, "the frame")
