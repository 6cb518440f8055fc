#!/usr/bin/python3
"""What runs inside the computer of vm.py, as root: NICS below by turns under every check.

Each NIC is handed to vfio-pci; onwire drives it. The peer is the guest's own kernel, in a
namespace, with a NIC of its own on the same wire. Results go to the console as lines that begin
with `@`, which tests/run.py reads; it also counts them.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "e2e"), str(HERE)]
sys.dont_write_bytecode = True

import harness  # noqa: E402
import operate  # noqa: E402
from apps import redis  # noqa: E402
from common import PEER, PEER_SHELL, Nic, fetch, nginx, peer, say  # noqa: E402
from harness import ONWIRE, PYTHON, check, cpu_seconds, random_file, sha256  # noqa: E402
from nics import PEER_SLOT  # noqa: E402


# -- the checks, by the names in nics.py ------------------------------------------------------------


def kernel_reaches_peer(t, interface):
    try:
        t.until(lambda: t.run(["ping", "-c", "1", "-W", "2", "-I", interface, PEER], status=None) and
                t.last.returncode == 0, 30, "the kernel to reach the peer")
    except harness.Failed:
        for words in (["ip", "-s", "link"], ["ip", "neigh"], ["dmesg"]):
            t.note("\n".join(t.run(words).splitlines()[-25:]))
        raise


def handed_over(t, nic):
    """`onwire bind` takes the NIC from the kernel and keeps what the kernel knew of it."""
    interface = t.until(nic.interface, 20, "the kernel's interface")
    nic.mac = pathlib.Path(f"/sys/class/net/{interface}/address").read_text().strip()
    t.run(["ip", "address", "add", f"{nic.address}/24", "dev", interface])
    t.run(["ip", "link", "set", interface, "mtu", "1480", "up"])
    kernel_reaches_peer(t, interface)
    row = nic.row(t)
    check(row["interfaces"] == [interface], f"{row} does not name {interface}")
    text = t.run([ONWIRE, "bind", interface])
    check("--inherit" in text and f"it was {interface}" in text, text)
    row = nic.row(t)
    check((row["driver"], row["interfaces"]) == ("vfio-pci", []), str(row))
    check(row["iommu_group"] is not None, "it has no IOMMU group")
    check("already" in t.run([ONWIRE, "bind", nic.pci]), "it is bound twice")
    text = t.run([ONWIRE, "doctor"], status=None)
    check(f"{nic.pci} is bound to vfio-pci" in text, text)


def given_back(t, nic):
    """`onwire unbind` makes it the kernel's again, with addresses and MTU."""
    t.run([ONWIRE, "unbind", nic.pci])
    interface = t.until(nic.interface, 20, "the kernel's interface")
    text = t.run(["ip", "address", "show", "dev", interface])
    check(f"{nic.address}/24" in text and "mtu 1480" in text, text)
    check(f"link/ether {nic.mac} " in text, f"not {nic.mac}: {text}")
    kernel_reaches_peer(t, interface)
    t.run(["ip", "link", "set", interface, "down"])
    t.run(["ip", "address", "flush", "dev", interface])


def redis_and_ping(t, nic):
    """redis answers redis-benchmark, and the stack answers ping."""
    server = redis(t, nic.address, device=nic.settings["device"], inherit=True)
    engine = t.engine(server)
    check((engine["addresses"], engine["mtu"]) == ([f"{nic.address}/24"], 1480),
          f"inherited otherwise: {engine}")
    holder = nic.row(t)["holder"]
    check(holder and "redis-server" in holder, f"onwire devices says of the holder: {holder}")
    check("in use by" in t.run([ONWIRE, "unbind", nic.pci], status=2) + t.last.stderr, "unbound")
    check((engine["link"], engine["wakes_by"]) == ("up", "interrupt"),
          f"link {engine['link']}, wakes by {engine['wakes_by']}")
    before = t.stats(server)
    text = peer(t, "ping", "-c", "5", "-i", "0.2", "-W", "5", nic.address)
    check(" 0% packet loss" in text, text)
    t.note(text.splitlines()[-1])
    text = peer(t, "redis-benchmark", "-h", nic.address, "-t", "get", "-n", "500", "-c", "5",
                "--csv", timeout=60)
    check('"GET"' in text, text)
    after = t.stats(server)
    t.moved(before, after, rx=505, tx=505)
    t.nothing_on_kernel(server)
    # The card's own counters: some are cleared when they are read, and some are late.
    check(after["port.card_received"] > 400 and after["port.card_sent"] > 400,
          f"the card counted {after['port.card_received']} and {after['port.card_sent']} frames")
    check(after["port.card_rx_errors"] == after["port.card_tx_errors"] == 0, "the card saw errors")
    idle_sleeps(t, nic, server)


def idle_sleeps(t, nic, server):
    """An idle server sleeps until an interrupt wakes it."""
    before, cpu, begun = t.stats(server), cpu_seconds(server.pid), time.monotonic()
    check(before["port.announced"] > 0, "no interrupt was seen")
    time.sleep(3)
    after, cpu, took = t.stats(server), cpu_seconds(server.pid) - cpu, time.monotonic() - begun
    sleeps = after["port.sleeps"] - before["port.sleeps"]
    t.note(f"idle for {took:.1f} s: {sleeps} sleeps, {cpu:.2f} s of the processor")
    # redis wakes ten times a second by itself; by the clock it would be a thousand times.
    check(sleeps < 60 * took, f"{sleeps} sleeps in {took:.1f} s: by the clock?")
    check(peer(t, "redis-cli", "-h", nic.address, "ping").strip() == "PONG", "no PONG")
    woken = t.stats(server)["port.announced"] - after["port.announced"]
    check(woken > 0, "redis answered without an interrupt")


def forked_workers_drive(t, nic):
    """nginx's two workers drive the port that their parent started."""
    server = nginx(t, nic)
    file = random_file(t.tmp / "www" / "data", 2)
    before = t.stats(server)
    for _ in range(2):
        fetch(t, nic, file)
    t.moved(before, t.stats(server), rx=20, tx=2 * 2 * 1048576 // 1500 // 45)
    t.nothing_on_kernel(server)


def curl_fetches(t, nic):
    """A client under onwire, and a server of the peer's kernel."""
    file = random_file(t.tmp / "data", 1)
    t.start(PEER_SHELL + [PYTHON, "-m", "http.server", "8000", "--bind", PEER], name="http.server",
            cwd=t.tmp)
    t.until(lambda: peer(t, "curl", "-s", "-o", "/dev/null", f"http://{PEER}:8000/",
                         status=None) is not None and t.last.returncode == 0, 30, "the server")
    t.run(t.onwire("curl", "-sS", "-m", "200", "-o", t.tmp / "got", f"http://{PEER}:8000/data",
                   **nic.settings), timeout=60)
    check(sha256(file) == sha256(t.tmp / "got"), "the file differs")


def udp_and_iperf3(t, nic):
    """iperf3 both ways, and UDP."""
    server = t.serve("iperf3", "-s", "-4", port=5201, **nic.settings)
    before = t.stats(server)
    for flags in ([], ["-R"], ["-u", "-b", "1M", "-l", "1000"]):
        text = peer(t, "iperf3", "-c", nic.address, "-t", "1", "-J", *flags, timeout=40)
        end = json.loads(text)["end"]
        rate = end["sum_received" if "sum_received" in end else "sum"]["bits_per_second"]
        t.note(f"{' '.join(flags) or 'forward'}: {rate / 1e6:.1f} Mbit/s")
        check(rate > 500e3, f"{flags}: {rate} bit/s")
    t.moved(before, t.stats(server), rx=200, tx=200)
    t.nothing_on_kernel(server)


CLIENT = """
import socket, sys
client = socket.create_connection((sys.argv[1], 6379), 60)
client.sendall(b"PING\\r\\n")
print(client.recv(100).decode().strip(), flush=True)
client.settimeout(60)
try:
    print("read", client.recv(100), flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""


def killed_and_started_again(t, nic):
    """kill -9 resets the client; the next program has the port at once."""
    first = redis(t, nic.address, **nic.settings)
    client = t.start(PEER_SHELL + [PYTHON, "-c", CLIENT, nic.address], name="client")
    t.until(lambda: "PONG" in client.output(), 20, "the client's PONG")
    first.popen.send_signal(signal.SIGKILL)
    check("reset" in client.finish(15), f"no reset: {client.output()}")
    first.wait()
    second = redis(t, nic.address, **nic.settings)
    before = t.stats(second)
    check(peer(t, "redis-cli", "-h", nic.address, "ping").strip() == "PONG", "no PONG")
    t.moved(before, t.stats(second), rx=3, tx=3)


def loss_and_delay(t, nic):
    """A file arrives intact through 3 % loss and 2 ms of delay in the peer's queue."""
    server = nginx(t, nic)
    file = random_file(t.tmp / "www" / "data", 1)
    interface = pathlib.Path("/run/peer-interface").read_text()
    peer(t, "tc", "qdisc", "add", "dev", interface, "root", "netem", "delay", "2ms", "loss", "3%")
    try:
        for _ in range(2):
            fetch(t, nic, file)
    finally:
        peer(t, "tc", "qdisc", "del", "dev", interface, "root")
    stats = t.stats(server)
    t.note(f"{stats['tcp.retransmitted']} segments retransmitted")
    t.moved(t.NOTHING_YET, stats, rx=50, tx=50)


def cable_out_and_in(t, nic):
    """A connection outlives a pulled cable."""
    server = redis(t, nic.address, **nic.settings)
    ping = ["redis-cli", "-h", nic.address]
    session = t.start(PEER_SHELL + ["sh", "-c", f"(echo PING; sleep 7; echo PING; sleep 3) | "
                                                f"{' '.join(ping)}"], name="session")
    t.until(lambda: session.output().count("PONG") == 1, 20, "the first PONG")
    nic.cable(False)
    check(peer(t, "ping", "-c", "2", "-W", "1", nic.address, status=None) and
          t.last.returncode != 0, "there was an answer without a cable")
    down = t.until(lambda: t.stats(server)["port.link_changes"] == 1, 20, "the stack to notice")
    check(down and t.engine(server)["link"] == "down", "onwire list does not say it")
    nic.cable(True)
    t.until(lambda: session.output().count("PONG") == 2, 40, "the second PONG")
    session.finish(30)
    t.until(lambda: t.engine(server)["link"] == "up", 20, "the link to be up")
    for words in ("the link is down", "the link is up"):
        t.until(lambda: f"{nic.settings['device']}: {words}" in server.output(), 20, words)
    check(server.output().count("the link is") == 2, "it was said more than once")


def another_mac(t, nic):
    """The card takes the address that it is told, and receives for it; and another as it runs."""
    t.env["ONWIRE_MAC"] = "02:00:00:00:77:01"
    server = redis(t, nic.address, **nic.settings)
    check(peer(t, "redis-cli", "-h", nic.address, "ping").strip() == "PONG", "no PONG")
    neighbors = peer(t, "ip", "neigh", "show", nic.address)
    check("02:00:00:00:77:01" in neighbors, neighbors)
    t.moved(t.NOTHING_YET, t.stats(server), rx=3, tx=3)
    operate.moves(t, nic, server)
    operate.groups(t, nic, server)


def unprivileged(t, nic):
    """A user with the group's node and a limit of locked memory, and nothing else."""
    user = 12345
    group = nic.row(t)["iommu_group"]
    node = pathlib.Path(f"/dev/vfio/{group}")
    os.chown(node, user, user)
    os.chown(t.tmp, user, user)
    prefix = ["prlimit", "--memlock=536870912", "setpriv", "--reuid", user, "--regid", user,
              "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    try:
        os.chown(node, 0, 0)
        text = t.run([*prefix, ONWIRE, "doctor"], status=None)
        check(f"{node} is not yours" in text, text)
        os.chown(node, user, user)
        text = t.run([*prefix, ONWIRE, "doctor"], status=None)
        check(f"{nic.pci} is bound to vfio-pci: --device" in text, text)
        server = t.start([*prefix, *t.onwire("redis-server", "--save", "", "--bind", nic.address,
                                             "--protected-mode", "no", "--dir", t.tmp,
                                             **nic.settings)], name="redis-server")
        server.engine = server.pid
        t.until(lambda: t.engine(server) or t.gone(server), 40, "the engine")
        t.wait_listening(server, 6379, 40)
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        check("Uid:\t12345\t12345" in status and "CapEff:\t0000000000000000" in status, status)
        before = t.stats(server)
        check(peer(t, "redis-cli", "-h", nic.address, "ping").strip() == "PONG", "no PONG")
        t.moved(before, t.stats(server), rx=3, tx=3)
        t.nothing_on_kernel(server)
    finally:
        os.chown(node, 0, 0)


HOLDER = """
import socket, sys
client = socket.create_connection((sys.argv[1], 7000), 20)
client.sendall(b"hello")
client.settimeout(60)
try:
    print("read", client.recv(100), flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""

VICTIM = """
import errno, pathlib, socket, sys
address = sys.argv[1]
listener = socket.create_server((address, 7000))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind((address, 7001))
connection, peer = listener.accept()
print("accepted", connection.recv(10).decode(), flush=True)
def failure(name, call):
    try:
        print(name, "returned", call(), flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)
failure("recv", lambda: connection.recv(10))
failure("send", lambda: connection.send(b"x"))
failure("sendto", lambda: datagrams.sendto(b"x", peer))
sys.stdin.readline()
print("over", flush=True)
"""


def taken_out(t, nic):
    """The NIC is unplugged while it is in use: sockets fail, nothing hangs, the slot is free."""
    server = t.start(t.onwire(PYTHON, "-c", VICTIM, nic.address, **nic.settings), name="victim",
                     stdin=subprocess.PIPE)
    server.engine = server.pid
    t.until(lambda: t.engine(server) or t.gone(server), 40, "the engine")
    t.wait_listening(server, 7000, 40)
    client = t.start(PEER_SHELL + [PYTHON, "-c", HOLDER, nic.address], name="client")
    t.until(lambda: "accepted hello" in server.output(), 30, "the connection")
    t.moved(t.NOTHING_YET, t.stats(server), rx=3, tx=3)
    nic.unplug()
    t.until(lambda: "sendto" in server.output(), 60, "the sockets to fail")
    for line in ("recv ENETDOWN", "send EPIPE", "sendto ENETUNREACH"):
        check(line in server.output(), f"not {line}: {server.output()}")
    t.until(lambda: not pathlib.Path("/sys/bus/pci/devices", nic.pci).exists(), 60,
            "the card to leave the bus")
    check(t.engine(server)["link"] == "removed", f"{t.engine(server)}")
    t.until(lambda: "the card was taken out" in server.output(), 30, "word of it")
    check("reset" in client.finish(30), f"the peer saw no end: {client.output()}")
    server.popen.stdin.write(b"\n")
    server.popen.stdin.close()
    check("over" in server.finish(30), "it did not end by itself")


# -- running them -------------------------------------------------------------------------------------


def prepare():
    for module in ("virtio_net", "e1000e", "e1000", "vmxnet3", "sch_netem"):
        subprocess.run(["modprobe", module], check=True)
    pathlib.Path("/proc/sys/vm/nr_hugepages").write_text("160")
    subprocess.run(["mount", "-t", "hugetlbfs", "none", "/dev/hugepages"], check=True)
    slot = pathlib.Path(f"/sys/bus/pci/devices/0000:00:{PEER_SLOT:02x}.0")
    interface = next(slot.glob("virtio*/net/*")).name
    pathlib.Path("/run/peer-interface").write_text(interface)
    for words in (["netns", "add", "peer"], ["link", "set", interface, "netns", "peer"],
                  ["-n", "peer", "link", "set", "lo", "up"],
                  ["-n", "peer", "addr", "add", f"{PEER}/24", "dev", interface],
                  ["-n", "peer", "link", "set", interface, "up"]):
        subprocess.run(["ip", *words], check=True)


def run_check(name, nic):
    t = harness.Test(name)
    begun = time.monotonic()
    problem = None
    try:
        (globals().get(name) or getattr(operate, name))(t, nic)
        t.end()
        t.nothing_left(30)
    except harness.Failed as failure:
        problem = str(failure)
    except Exception:
        problem = traceback.format_exc()
    if problem:
        t.show_logs()
        t.end()
        try:
            t.nothing_left(10)  # What comes next shall not fail for it.
        except harness.Failed as failure:
            problem += f"; and {failure}"
    t.clean()
    return {"nic": nic.model, "check": name, "problem": problem, "sent": getattr(t, "sent", 0),
            "seconds": round(time.monotonic() - begun, 1)}


# A machine that others use may make a test late; more of them are no accident (see run.py).
MAY_REPEAT = [1, 2]


def main():
    sys.stdout = sys.stderr = open("/dev/ttyS0", "w", buffering=1)
    prepare()
    plan = json.loads(pathlib.Path("/run/out/plan").read_text())
    for number, (model, checks) in enumerate(plan):
        nic = Nic(number, model)
        for name in checks:
            result = run_check(name, nic)
            if result["problem"] and MAY_REPEAT:
                MAY_REPEAT.pop()
                say("again", **result)
                result = run_check(name, nic)
            say("result", **result)
    say("end", iommu_groups=len(os.listdir("/sys/kernel/iommu_groups")))


if __name__ == "__main__":
    main()
