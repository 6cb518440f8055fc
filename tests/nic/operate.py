"""What operators do to a NIC, and what they build of several: checks by the names in nics.py."""

import subprocess
import time

import harness
from apps import redis
from common import PEER, PEER_SHELL, peer, peer_of
from harness import ONWIRE, PYTHON, check
from queues import all_carried, shards

# -- a successor ---------------------------------------------------------------------------------

# Says when the connection that it does not read has ended.
LISTENER = """
import select, socket, sys
listener = socket.create_server((sys.argv[1], 7000))
closed, _ = listener.accept()
while closed.recv(65536):
    pass
closed.close()
unread, _ = listener.accept()
print("both", flush=True)
poll = select.poll()
poll.register(unread, select.POLLERR | select.POLLHUP)
print("ended", bool(poll.poll(120000)), flush=True)
"""

# Ends with one connection in TIME-WAIT, and one whose peer takes nothing more.
LEAVER = """
import socket, sys
first = socket.create_connection((sys.argv[1], 7000), 60)
first.sendall(b"hello")
first.shutdown(socket.SHUT_WR)
assert first.recv(10) == b""
first.close()
second = socket.create_connection((sys.argv[1], 7000), 60)
second.settimeout(1)
try:
    while True:
        second.send(b"x" * 65536)
except TimeoutError:
    print("full", flush=True)
"""


def taken_over(t, nic):
    """A second program has the port at once though the first one's keeper is not done."""
    listener = t.start(PEER_SHELL + [PYTHON, "-c", LISTENER, PEER], name="listener")
    t.until(lambda: "7000" in peer(t, "ss", "-ltn"), 20, "the listener")
    first = t.start(t.onwire(PYTHON, "-c", LEAVER, PEER, **nic.settings), name="leaver",
                    env={"ONWIRE_TCP_TIME_WAIT_MS": "60000", "ONWIRE_TCP_ORPHAN_RETRIES": "15"})
    first.engine = first.pid
    first.finish(60)
    check("both" in listener.output(), "the listener has not both connections")
    lingers = t.until(lambda: (engine := t.engine(first)) and not engine["programs"] and engine,
                      20, "the program's end")
    check(lingers["link"] == "up", f"{lingers}")
    states = sorted(one["state"] for one in t.sockets(first))
    check(states == ["FIN-WAIT-1", "TIME-WAIT"], f"what lingers is in {states}")
    sent = t.stats(first)
    t.moved(t.NOTHING_YET, sent, rx=10, tx=10, what="the first")
    begun = time.monotonic()
    second = redis(t, nic.address, **nic.settings)
    took = time.monotonic() - begun
    t.note(f"the second listened {took:.1f} s after it was started")
    # A start takes seconds here; the keeper may take 1.5 s for what is unsent.
    check(took < 2 + 4 * harness.PATIENCE, f"the successor took {took:.1f} s")
    check(t.engine(first) is None, "the first engine is still there")
    said = [line for line in second.output().splitlines() if line.startswith("onwire:")]
    check(len(said) == 1 and nic.pci in said[0], f"more than the banner: {said}")
    t.until(lambda: "ended True" in listener.output(), 20, "the orphan's reset")
    before = t.stats(second)
    check(peer(t, "redis-cli", "-h", nic.address, "ping").strip() == "PONG", "no PONG")
    t.moved(before, t.stats(second), rx=3, tx=3, what="the second")
    t.nothing_on_kernel(second)


# -- changes while it runs ---------------------------------------------------------------------------

# Keeps one connection, and asks for a large value whenever a line comes.
ASKER = """
import socket, sys
client = socket.create_connection((sys.argv[1], 6379), 120)
for _ in sys.stdin:
    client.sendall(b"GET large\\r\\n")
    got = b""
    while len(got) < 60000 + 10:
        got += client.recv(65536)
    print("got", got.count(b"v"), flush=True)
"""


def asking(t, nic):
    """A connection of the peer's; what asks on it for large values, doing something meanwhile."""
    peer(t, "redis-cli", "-h", nic.address, "set", "large", "v" * 60000)
    asker = t.start(PEER_SHELL + [PYTHON, "-c", ASKER, nic.address], name="asker",
                    stdin=subprocess.PIPE)

    def ask_again(count=1, meanwhile=lambda: None):
        answered = asker.output().count("got 60000")
        asker.popen.stdin.write(b"\n" * count)
        asker.popen.stdin.flush()
        meanwhile()
        t.note(f"{asker.output().count('got 60000') - answered} of {count} answers had come")
        t.until(lambda: asker.output().count("got 60000") == answered + count or t.gone(asker),
                30, "the old connection")

    return asker, ask_again


def changed_while_it_runs(t, nic):
    """The MTU follows `onwire set`, up to more than Ethernet's; filters and address change."""
    server = mtu_follows(t, nic)
    larger(t, nic)
    t.run([ONWIRE, "set", "mtu", "9000"], status=1)
    check("does not fit its buffers" in t.last.stderr, t.last.stderr)
    filters(t, nic, server)
    moves(t, nic, server)
    groups(t, nic, server)


def changed_a_little(t, nic):
    """The same as far as this driver can."""
    server = mtu_follows(t, nic)
    moves(t, nic, server)
    groups(t, nic, server)


def mtu_follows(t, nic):
    """Old and new connections send what `onwire set mtu` says; the server that they have."""
    server = redis(t, nic.address, **nic.settings)
    asker, ask_again = asking(t, nic)
    ask_again()
    before = t.stats(server)
    for mtu in (1000, 1500):
        t.run([ONWIRE, "set", "mtu", mtu])
        ask_again()
        one = next(one for one in t.sockets(server) if one["state"] == "ESTAB")
        check(one["tcp"]["snd_mss"] == mtu - 52, f"mtu {mtu}: {one['tcp']}")
    check(len(peer(t, "redis-cli", "-h", nic.address, "get", "large")) >= 60000, "cut short")
    # Where the card cuts segments a frame is many, and the peer acknowledges as it likes.
    t.moved(before, t.stats(server), rx=10, tx=10)
    asker.popen.stdin.close()
    return server


def larger(t, nic):
    """Packets beyond Ethernet's 1,500 octets pass once both ends are told."""
    peers = open("/run/peer-interface").read()
    large = ("ping", "-c", "2", "-W", "4", "-s", "1900", "-M", "do", nic.address)
    peer(t, "ip", "link", "set", peers, "mtu", "1980")
    try:
        t.run([ONWIRE, "set", "mtu", "1980"])
        text = peer(t, *large)
        check(" 0% packet loss" in text, text)
    finally:
        peer(t, "ip", "link", "set", peers, "mtu", "1500")
    t.run([ONWIRE, "set", "mtu", "1500"])


def filters(t, nic, server):
    """Frames for another station arrive only while somebody wants them."""
    peers = open("/run/peer-interface").read()
    peer(t, "ip", "neigh", "replace", "10.9.0.99", "lladdr", "02:00:00:00:00:99", "dev", peers)

    def counted():
        return t.stats(server)["interface.rx_other_station"]

    seen = counted()

    def strangers():
        """How many of five frames for another arrive."""
        nonlocal seen
        peer(t, "ping", "-c", "5", "-i", "0.1", "-W", "0.1", "10.9.0.99", status=None)
        before, seen = seen, counted()
        return seen - before

    check(strangers() == 0, "the card does not filter by itself")
    t.run([ONWIRE, "set", "promiscuous", "on"])
    check(strangers() == 5, "they do not arrive")
    t.run([ONWIRE, "set", "promiscuous", "off"])
    check(strangers() == 0, "they still arrive")
    capture = t.start([ONWIRE, "tcpdump", "--promiscuous", "-w", t.tmp / "all.pcapng"],
                      name="tcpdump")
    t.until(lambda: t.engine(server)["promiscuous"], 20, "the capture")
    check(strangers() == 5, "a capture does not see them")
    capture.stop(2)
    t.until(lambda: not t.engine(server)["promiscuous"], 20, "the capture's end")
    text = t.run(["tcpdump", "-nr", t.tmp / "all.pcapng", "icmp and host 10.9.0.99"])
    check(text.count("echo request") == 5, text)


def moves(t, nic, server):
    """The card takes another address under a connection that is busy; the peer's entry follows."""
    peers = open("/run/peer-interface").read()
    asker, ask_again = asking(t, nic)
    ask_again()
    old, new = t.engine(server)["mac"], "02:00:00:00:77:02"
    ask_again(60, lambda: t.run([ONWIRE, "set", "mac", new]))
    check(not t.last.stderr, f"the driver cannot: {t.last.stderr}")
    neighbors = peer(t, "ip", "neigh", "show", nic.address)
    check(new in neighbors, neighbors)
    engine = t.engine(server)
    check((engine["mac"], engine["promiscuous"]) == (new, False), f"{engine}")
    # What is for the address that it had is dropped by the card itself.
    before = t.stats(server)
    peer(t, "ip", "neigh", "replace", "10.9.0.98", "lladdr", old, "dev", peers)
    peer(t, "ping", "-c", "3", "-i", "0.1", "-W", "0.1", "10.9.0.98", status=None)
    ask_again()
    after = t.stats(server)
    t.moved(before, after, rx=3, tx=3, what=f"at {new}")
    strangers = "interface.rx_other_station"
    check(after[strangers] == before[strangers], "frames for the old address arrive")
    asker.popen.stdin.close()


# Sends five datagrams to each of two groups, to the port that is asked for. What redis answers then
# was sent after them: they have come, or never will.
GROUPS = ("239.1.2.3", "239.77.66.55")
SENDER = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
redis = socket.create_connection((sys.argv[2], 6379), 60)
for line in sys.stdin:
    for group in sys.argv[3:]:
        for _ in range(5):
            sender.sendto(b"hello", (group, int(line)))
    redis.sendall(b"PING\\r\\n")
    print("sent", int(line), redis.recv(100), flush=True)
"""


def groups(t, nic, server):
    """A group's frames arrive while it is added, and no others where the driver knows groups.

    All three of these cards filter groups in QEMU as real ones do. Of their drivers that of e1000e
    can be told of one; those of virtio and vmxnet3 take all or none.
    """
    named = nic.kind.model == "e1000e"
    sender = t.start(PEER_SHELL + [PYTHON, "-c", SENDER, PEER, nic.address, *GROUPS],
                     name="sender", stdin=subprocess.PIPE)
    trace = t.tmp / "groups.pcapng"
    capture = t.start([ONWIRE, "tcpdump", "-w", trace], name="tcpdump")
    t.until(lambda: trace.exists() and trace.stat().st_size > 0, 20, "the capture to begin")
    before = t.stats(server)
    link = "01:00:5e:01:02:03"
    changes = [(), ("multicast", "add", link), ("multicast", "del", link)]
    if named:
        changes.append(("allmulticast", "on"))
    for port, words in enumerate(changes, 5000):
        if words:
            t.run([ONWIRE, "set", *words])
        if port == 5001:
            check(("takes every group" in t.last.stderr) != named, t.last.stderr)
            engine = t.engine(server)
            check((engine["multicast"], engine["allmulticast"], engine["promiscuous"]) ==
                  ([link], not named, False), f"{engine}")
        sender.popen.stdin.write(b"%d\n" % port)
        sender.popen.stdin.flush()
        t.until(lambda: f"sent {port} b'+PONG" in sender.output(), 20, "the sender")
    after = t.stats(server)
    wanted = dict.fromkeys([(GROUPS[0], 5001), (GROUPS[0], 5003), (GROUPS[1], 5003)] if named else
                           [(GROUPS[0], 5001), (GROUPS[1], 5001)], 5)
    # No socket wants them: they are counted where they end.
    for name in ("interface.rx_multicast", "ip.in_not_member"):
        check(after[name] - before[name] >= sum(wanted.values()), f"{name}: {after[name]}")

    def captured():
        text = t.run(["tcpdump", "-nr", trace, "udp and dst net 239.0.0.0/8"], status=None)
        counts = {(group, port): text.count(f"> {group}.{port}:")
                  for group in GROUPS for port in range(5000, 5004)}
        return {key: count for key, count in counts.items() if count}

    t.until(lambda: captured() == wanted or len(captured()) > len(wanted), 10, "the capture")
    capture.stop(2)
    check(captured() == wanted, f"captured {captured()}, not {wanted}")
    t.moved(before, after, rx=13, tx=3)
    sender.popen.stdin.close()


# -- several queues, several cards --------------------------------------------------------------------


def one_queue(t, nic):
    """More queues than the driver has are refused with their number."""
    t.run(t.onwire(PYTHON, "-c", "import socket; socket.socket()", queues=2, **nic.settings),
          status=None)
    check("2 queue pairs were asked for, it has 1" in t.last.stderr, t.last.stderr)


def two_queues(t, nic):
    """Two shards on two queue pairs: each carries connections, whatever the card can steer."""
    server = redis(t, nic.address, queues=2, **nic.settings)
    text = peer_of(t, nic, "redis-benchmark", "-h", nic.address, "-t", "get,set", "-n", "600",
                   "-c", "12", "--csv")
    check('"GET"' in text and '"SET"' in text, text)
    stats = all_carried(t, server, 2, 100, f"{nic.model}, {t.engine(server)['wakes_by']}")
    check(all(n > 100 for n in shards(stats, "tx_frames")), "one queue sends nothing")
    if nic.kind.queues > 1:
        check(all(n > 100 for n in shards(stats, "rx_frames")), "one queue receives nothing")
    t.moved(t.NOTHING_YET, stats, rx=1000, tx=1000)
    t.nothing_on_kernel(server, but=("family",))


def offloads_carry(t, nic):
    """The host of a virtio card computes sums, cuts segments and joins them."""
    server = redis(t, nic.address, **nic.settings)
    offloads = t.engine(server)["offloads"]
    wanted = {"rx-checksum", "lro", "tx-tcp-checksum", "tso"}
    check(wanted <= set(offloads), f"offloads are {offloads}")
    for _ in range(3):
        text = peer_of(t, nic, "redis-benchmark", "-h", nic.address, "-t", "get,set", "-d",
                       "200000", "-n", "20", "-c", "2", "--csv")
        check('"GET"' in text and '"SET"' in text, text)
    stats = t.stats(server)
    t.note(f"{stats['interface.tx_tso_packets']} units of {stats['interface.tx_tso_segments']} "
           "segments were left to the host")
    check(stats["interface.tx_tso_packets"] > 20, "no unit was left to the host")
    t.moved(t.NOTHING_YET, stats, rx=100, tx=100)


def one_member_fails(t, nic):
    """A bond of two cards goes on with one when the other's cable is pulled, and back."""
    t.run([ONWIRE, "bind", nic.second])
    try:
        bond = f"vdev:net_bonding0,mode=1,slave={nic.pci},slave={nic.second},primary={nic.pci}"
        server = redis(t, nic.address, device=bond, address=nic.settings["address"])
        engine = t.engine(server)
        check((engine["driver"], engine["link"]) == ("net_bonding", "up"), f"{engine}")
        for which, up in (("", False), ("", True), ("b", False), ("b", True)):
            nic.cable(up, which)
            begun = time.monotonic()
            t.until(lambda: peer(t, "timeout", "2", "redis-cli", "-h", nic.address, "ping",
                                 status=None).strip() == "PONG", 10, "an answer")
            t.note(f"answered {time.monotonic() - begun:.1f} s after the cable of "
                   f"{'the second' if which else 'the first'} was {'put in' if up else 'pulled'}")
            text = peer(t, "ping", "-c", "3", "-i", "0.2", "-W", "4", nic.address)
            check(" 0% packet loss" in text, text)
        check(t.engine(server)["link"] == "up", "the bond's link is down")
        t.moved(t.NOTHING_YET, t.stats(server), rx=20, tx=20)
        t.nothing_on_kernel(server)
        server.stop()
        t.nothing_left(30)
    finally:
        t.end()
        t.run([ONWIRE, "unbind", nic.second])
