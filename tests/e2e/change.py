"""What an operator changes while a program runs: `onwire set`."""

import json
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
    own = t.engine(server)["mac"]
    kernels = json.loads(t.run(["ip", "-j", "link", "show", "onwire0"]))[0]["address"]
    for words, said in ((("mtu", "9000"), "does not fit its buffers"), (("mtu", "12"), "576"),
                        (("mtu", "1600"), "refused"), (("gro", "off"), "mtu, mac, promiscuous"),
                        (("mac", "01:00:5e:00:00:01"), "cannot be assigned"),
                        (("mac", "00:00:00:00:00:00"), "cannot be assigned"),
                        (("mac", kernels), "the kernel's end's own"),
                        (("multicast", "add", own), "a station, not a group"),
                        (("multicast", "add", "239.1.2.3"), "01:00:5e:01:02:03 on the link"),
                        (("multicast", "del", "01:00:5e:01:02:03"), "was not added")):
        t.run([ONWIRE, "set", *words], status=None)
        check(t.last.returncode in (1, 2), f"{words} was taken")
        check(said in t.last.stderr and t.last.stderr.count("\n") == 1, t.last.stderr)
        engine = t.engine(server)
        check((engine["mtu"], engine["promiscuous"]) == (1500, False), f"{engine}")
        check((engine["mac"], engine["multicast"]) == (own, []), f"{engine}")
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


def address_changes(t, queues):
    """The kernel's neighbor entry follows, connections of every shard go on, the old one is nobody's."""
    server = t.serve(PYTHON, "-c", ECHO, port=7000, queues=queues)
    clients = [socket.create_connection((STACK, 7000), 5) for _ in range(4 * queues)]
    for client in clients:
        client.settimeout(20)
        echo(client, 20_000)
    last = first = t.engine(server)["mac"]
    for mac in ("02:00:00:00:77:01", first):
        before = t.stats(server)
        t.run([ONWIRE, "set", "mac", mac])
        check(t.engine(server)["mac"] == mac, f"{t.engine(server)}")
        t.until(lambda: mac in t.run(["ip", "neigh", "show", STACK]), 10, "the kernel's entry")
        for client in clients:
            echo(client, 100_000)
        with socket.create_connection((STACK, 7000), 5) as new:
            new.settimeout(20)
            echo(new, 20_000)
        after = t.stats(server)
        t.moved(before, after, rx=50, tx=50, what=mac)
        said = after["neighbor.out_announcements"] - before["neighbor.out_announcements"]
        check(1 <= said <= 2, f"it was announced {said} times")
        t.run(["ip", "neigh", "replace", "10.78.0.77", "lladdr", last, "dev", "onwire0"])
        t.run(["ping", "-c", "1", "-W", "0.2", "10.78.0.77"], status=None)
        t.until(lambda: t.stats(server)["interface.rx_other_station"] >
                after["interface.rx_other_station"], 10, "the frame for the old address")
        last = mac
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_the_ethernet_address_changes_under_connections(t):
    address_changes(t, 1)


@scenario(timeout=60)
def test_the_ethernet_address_changes_on_every_queue(t):
    address_changes(t, 2)


@scenario(timeout=60)
def test_an_interface_of_the_kernels_lets_through_what_is_asked_and_no_longer(t):
    """A packet socket's interface keeps its address; what it takes for ours ends with the program."""
    inside = t.neighbor("10.44.0.1/24")
    server = redis(t, "10.44.0.2", device="af_packet:left", address="10.44.0.2/24")
    first = t.engine(server)["mac"]

    def takes():
        """What was asked of the interface: everything, every group."""
        link = json.loads(t.run(["ip", "-d", "-j", "link", "show", "left"]))[0]
        check(link["address"] == first, f"the interface's address is {link['address']}")
        return link["promiscuity"], link.get("allmulti", "unknown")

    def change(*words, said):
        t.run([ONWIRE, "set", *words])
        check((said in t.last.stderr) if said else not t.last.stderr, t.last.stderr)
        t.run([*inside, "ping", "-c", "1", "-W", "5", "10.44.0.2"])
        promiscuity, groups = takes()
        return promiscuity, groups if groups != "unknown" else None

    def holds(state, promiscuity, groups):
        check(state[0] == promiscuity and state[1] in (None, groups), f"it takes {state}")

    holds((takes()[0], None), 0, 0)
    holds(change("mac", "02:00:00:00:77:01", said="takes every frame instead"), 1, 0)
    check("02:00:00:00:77:01" in t.run([*inside, "ip", "neigh"]), "the neighbor does not follow")
    holds(change("mac", first, said=""), 0, 0)
    group = "01:00:5e:01:02:03"
    holds(change("multicast", "add", group, said="takes every group"), 0, 1)
    listed = t.run([ONWIRE, "list"])
    check("every group" in listed and t.engine(server)["multicast"] == [group], listed)
    holds(change("multicast", "del", group, said=""), 0, 0)
    holds(change("promiscuous", "on", said=""), 1, 0)
    holds(change("allmulticast", "on", said=""), 1, 1)
    server.stop()
    t.nothing_left()
    check(takes() in ((0, 0), (0, "unknown")), f"the interface still takes {takes()}")
