"""Starting: what it costs, what is refused, who gets which device, process 1, exec."""

import os
import pathlib
import signal
import socket
import statistics
import subprocess
import time

from apps import redis
from harness import HOST, LIBRARY, PYTHON, STACK, check, scenario


def usual_start(argv, env, rounds):
    """Milliseconds that a start takes when nobody else is in the way: the shortest."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env)
        os.waitpid(pid, 0)
        times.append(time.perf_counter() - begun)
    return min(times) * 1000


@scenario(timeout=60)
def test_preloading_costs_bin_true_at_most_four_milliseconds(t):
    plain, loaded = dict(os.environ), {**os.environ, "LD_PRELOAD": str(LIBRARY)}
    usual_start(["/bin/true"], loaded, 20)  # the file cache
    costs = []
    for _ in range(5):  # in turns, so that a busy moment hits both
        without = usual_start(["/bin/true"], plain, 40)
        costs.append(usual_start(["/bin/true"], loaded, 40) - without)
    cost = statistics.median(costs)
    t.note(f"LD_PRELOAD costs /bin/true {cost:.2f} ms (shortest of 40 starts, median of 5 times)")
    check(cost <= 4.0, f"{cost:.2f} ms")
    check(not t.leftovers(), f"left behind: {t.leftovers()}")


@scenario(timeout=60)
def test_a_program_without_inet_sockets_makes_no_device(t):
    program = """
import os, socket, subprocess, time
a, b = socket.socketpair()
a.send(b"unix"); assert b.recv(4) == b"unix"
server = socket.socket(socket.AF_UNIX); server.bind("\\0onwire-test"); server.listen()
assert subprocess.run(["true"]).returncode == 0
print("ready", flush=True)
time.sleep(2)
"""
    running = t.start(t.onwire(PYTHON, "-c", program), name="unix only")
    t.until(lambda: "ready" in running.output(), 10, "the program")
    check(not t.leftovers(), f"it made {t.leftovers()}")
    check(t.engines() == [], "an engine runs")
    running.finish()
    plain = t.start(["env", f"LD_PRELOAD={LIBRARY}", "ls", "/"], name="ls")
    plain.finish()
    check(not t.leftovers(), f"left behind: {t.leftovers()}")


BAD = [
    # settings, what the line must name
    ({"device": "nosuch:thing"}, "device"),
    ({"device": "af_packet:nosuchif0"}, "nosuchif0"),
    ({"device": "af_packet:"}, "device"),
    ({"device": "vdev:net_nosuch0"}, "net_nosuch0"),
    ({"device": "pci:0000:ff:1f.7"}, "0000:ff:1f.7"),
    ({"device": "tap:averyveryverylongname"}, "device"),
    ({"device": "virtio-user:/nonexistent/dir/sock"}, "/nonexistent/dir"),
    ({"address": "10.0.0.300/24"}, "address"),
    ({"address": "10.0.0.1/64"}, "address"),
    ({"address": "127.0.0.1/8"}, "address"),
    ({"gateway": "not-an-address"}, "gateway"),
    ({"mtu": "0"}, "mtu"),
    ({"mtu": "70000"}, "mtu"),
    ({"mtu": "many"}, "mtu"),
    ({"profile": "fastest"}, "profile"),
    ({"loopback": "both"}, "loopback"),
    ({"rule": "use"}, "rule"),
    ({"rule": "use kernel port=99999"}, "rule"),
    ({"rule": "use nobody"}, "rule"),
    ({"rule": "use kernel address=10.0.0.0/99"}, "rule"),
    ({"set": "tcp.nosuch=1"}, "tcp.nosuch"),
    ({"set": "tcp.rto_min_us=-5"}, "tcp.rto_min_us"),
    ({"config": "/nonexistent.toml"}, "/nonexistent.toml"),
]

OPENS_A_SOCKET = [PYTHON, "-c", "import socket; socket.create_server(('', 7000)); print('opened')"]


@scenario(timeout=120)
def test_bad_input_gives_one_line_and_status_2(t):
    for settings, named in BAD:
        process = t.start(t.onwire(*OPENS_A_SOCKET, **settings), name="bad")
        status = process.wait(20)
        text = process.output()
        lines = [line for line in text.splitlines() if line.strip()]
        check(status == 2, f"{settings}: status {status}, said {text!r}")
        check(len(lines) == 1, f"{settings}: said {len(lines)} lines: {text!r}")
        check(named in lines[0], f"{settings}: {lines[0]!r} does not name {named}")
        check("opened" not in text, f"{settings}: the program ran")
        check(not t.leftovers(), f"{settings}: left {t.leftovers()}")
    t.note(f"{len(BAD)} bad settings refused")


@scenario(timeout=60)
def test_bad_input_through_the_environment_and_a_file(t):
    for env, named in [({"ONWIRE_MTU": "9"}, "ONWIRE_MTU"), ({"ONWIRE_DEVICE": "no"}, "ONWIRE_DEVICE")]:
        done = subprocess.run(t.onwire(*OPENS_A_SOCKET), env=t.environment(env), text=True,
                              capture_output=True, timeout=20)
        check(done.returncode == 2, f"{env}: status {done.returncode} {done.stderr!r}")
        check(named in done.stderr or named.removeprefix("ONWIRE_").lower() in done.stderr,
              f"{done.stderr!r} does not name {named}")
        check(done.stderr.count("\n") == 1, f"several lines: {done.stderr!r}")
    (t.tmp / "onwire.toml").write_text("mtu = 'x'\n")
    t.run(t.onwire(*OPENS_A_SOCKET, config=t.tmp / "onwire.toml"), status=2)
    check("mtu" in t.last.stderr, t.last.stderr)
    (t.tmp / "onwire.toml").write_text("mtu = [\n")
    t.run(t.onwire(*OPENS_A_SOCKET, config=t.tmp / "onwire.toml"), status=2)
    check(t.last.stderr.count("\n") == 1, t.last.stderr)
    check(not t.leftovers(), f"left {t.leftovers()}")


@scenario(timeout=60)
def test_an_address_in_use_is_refused(t):
    """Somebody on the link already has our address (RFC 5227)."""
    t.neighbor("10.44.0.2/24")
    t.run(t.onwire(*OPENS_A_SOCKET, device="af_packet:left", address="10.44.0.2/24"), status=2)
    lines = t.last.stderr.strip().splitlines()
    check(len(lines) == 1 and "10.44.0.2" in lines[0], f"said {lines}")
    check(not t.leftovers(), f"left {t.leftovers()}")
    t.run(t.onwire(*OPENS_A_SOCKET, device="af_packet:left", address="10.44.0.3/24"))


@scenario(timeout=60)
def test_without_the_capability_one_line_says_so(t):
    t.run(["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw",
           *t.onwire(*OPENS_A_SOCKET)], status=2)
    lines = t.last.stderr.strip().splitlines()
    check(len(lines) == 1, f"said {lines}")
    check("net_admin" in lines[0].lower() or "root" in lines[0], f"{lines[0]!r} names no remedy")
    check(not t.leftovers(), f"left {t.leftovers()}")


@scenario(timeout=60)
def test_programs_that_cannot_be_hooked_are_refused(t):
    (t.tmp / "static.c").write_text("int main(void) { return 0; }\n")
    t.run(["cc", "-static", "-o", t.tmp / "static", t.tmp / "static.c"])
    t.run(t.onwire(t.tmp / "static"), status=2)
    check("static" in t.last.stderr and t.last.stderr.count("\n") == 1, t.last.stderr)
    setuid = t.tmp / "setuid"
    setuid.write_bytes(pathlib.Path("/bin/true").read_bytes())
    setuid.chmod(0o4755)
    os.chown(setuid, 65534, 65534)
    setuid.chmod(0o4755)
    t.run(t.onwire(setuid), status=2)
    check("setuid" in t.last.stderr and t.last.stderr.count("\n") == 1, t.last.stderr)
    t.run(t.onwire("/nonexistent/program"), status=127)
    (t.tmp / "plain").write_text("no program")
    t.run(t.onwire(t.tmp / "plain"), status=126)
    check(not t.leftovers(), f"left {t.leftovers()}")


@scenario(timeout=60)
def test_the_banner_is_one_line_and_the_process_is_the_programs(t):
    process = t.start(t.onwire(PYTHON, "-c", "import os, socket; socket.create_server(('', 7000));"
                               " print(os.getpid())"), name="banner")
    process.finish()
    lines = process.output().splitlines()
    check(str(process.pid) in lines, f"another process id: {lines}, not {process.pid}")
    banners = [line for line in lines if "onwire" in line]
    check(len(banners) == 1 and STACK in banners[0] and "tap" in banners[0].lower(),
          f"banner: {banners}")


CHILD = """
import socket, sys, time
# On the wildcard address a port is taken for the kernel's side too, as on the kernel.
listener = socket.create_server(("", int(sys.argv[2]) if sys.argv[2:] else 7000))
print(sys.argv[1], flush=True)
client, _ = listener.accept()
client.sendall(sys.argv[1].encode())
"""


@scenario(timeout=60)
def test_a_successor_takes_over_from_the_lingering_keeper(t):
    """`sh -c 'A; B'`: each program has an engine, on one address, one after the other."""
    short = t.env.pop("ONWIRE_TCP_TIME_WAIT_MS")  # the first leaves a keeper with TIME-WAIT behind
    (t.tmp / "child.py").write_text(CHILD)
    shell = t.start(t.onwire("sh", "-c", f"{PYTHON} child.py A; {PYTHON} child.py B"), name="sh")
    for word in ("A", "B"):
        begun = time.monotonic()
        t.until(lambda: any(line == word for line in shell.output().splitlines()), 15, f"program {word}")
        got = None
        while got is None:
            try:
                with socket.create_connection((STACK, 7000), 5) as client:
                    got = client.recv(10).decode()
            except ConnectionRefusedError:
                check(time.monotonic() - begun < 10, "nobody listens")
                time.sleep(0.05)
        check(got == word, f"{got} answered, not {word}")
        t.note(f"program {word} answered on {STACK} after {time.monotonic() - begun:.2f} s")
    check(shell.wait(10) == 0, shell.output())
    # The last keeper, too, leaves for a successor, which has no connection to wait for.
    t.env["ONWIRE_TCP_TIME_WAIT_MS"] = short
    t.run(t.onwire(PYTHON, "-c", "import socket; socket.socket()"))


@scenario(timeout=60)
def test_two_default_taps_side_by_side(t):
    (t.tmp / "child.py").write_text(CHILD)
    ports = (7000, 7001)
    pair = [t.start(t.onwire(PYTHON, t.tmp / "child.py", word, port), name=word)
            for word, port in zip("AB", ports)]
    for process in pair:
        process.engine = process.pid
        t.until(lambda: t.engine(process) or t.gone(process), 15, "both engines")
    addresses = [t.engine(process)["addresses"][0].split("/")[0] for process in pair]
    interfaces = [t.engine(process)["interface"] for process in pair]
    t.note(f"addresses {addresses} on {interfaces}")
    check(len(set(addresses)) == 2 and len(set(interfaces)) == 2, "they share")
    for process, address, word, port in zip(pair, addresses, "AB", ports):
        t.wait_listening(process, port)
        with socket.create_connection((address, port), 5) as client:
            check(client.recv(10).decode() == word, "the wrong one answered")
        process.finish()


@scenario(timeout=60)
def test_an_exclusive_device_names_its_holder(t):
    t.run(["ip", "link", "add", "left", "type", "veth", "peer", "name", "right"])
    t.run(["ip", "link", "set", "left", "up"])
    t.run(["ip", "link", "set", "right", "up"])
    first = t.serve(PYTHON, "-m", "http.server", "8000", device="af_packet:left",
                    address="10.44.0.2/24", port=8000)
    t.run(t.onwire(*OPENS_A_SOCKET, device="af_packet:left", address="10.44.0.3/24"), status=2)
    lines = t.last.stderr.strip().splitlines()
    check(len(lines) == 1 and str(first.pid) in lines[0], f"said {lines}, holder {first.pid}")
    check("left" in lines[0], f"{lines[0]!r} does not name the device")
    t.note(lines[0])
    check(t.engine(first), "the first engine suffered")


@scenario(timeout=60)
def test_process_1_of_a_container_stays_as_init(t):
    """Forwards signals, reaps, lets the keeper finish, ends with the program's status."""
    (t.tmp / "server.py").write_text("""
import os, signal, socket, sys
print("pid", os.getpid(), "parent", os.getppid(), flush=True)
if os.fork() == 0:  # a grandchild that outlives its parent becomes process 1's to reap
    if os.fork() == 0:
        os._exit(0)
    os._exit(0)
os.wait()
def leave(number, frame):
    print("signal", number, flush=True)
    sys.exit(9)
signal.signal(signal.SIGTERM, leave)
listener = socket.create_server(("", 7000))
while True:
    client, _ = listener.accept()
    client.sendall(b"from the container")
    client.close()
""")
    process = t.start(["unshare", "--pid", "--fork", "--mount-proc",
                       *t.onwire(PYTHON, t.tmp / "server.py")], name="container")
    t.until(lambda: can_reach(7000) or t.gone(process), 20, "the container's server")
    with socket.create_connection((STACK, 7000), 5) as client:
        check(client.recv(100) == b"from the container", "wrong answer")
    text = process.output()
    check("parent 1" in text, f"onwire did not stay as init: {text}")
    zombies = [pid for pid in children_of(process.pid) for child in children_of(pid)
               if "Z (zombie)" in pathlib.Path(f"/proc/{child}/status").read_text()]
    check(not zombies, "process 1 does not reap")
    init = children_of(process.pid)[0]
    os.kill(init, signal.SIGTERM)
    status = process.wait(20)
    check("signal 15" in process.output(), f"the signal was not forwarded: {process.output()}")
    check(status == 9, f"ended with {status}, not the program's 9")


def can_reach(port):
    try:
        socket.create_connection((STACK, port), 0.5).close()
        return True
    except OSError:
        return False


def children_of(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@scenario(timeout=60)
def test_rules_send_sockets_to_the_kernel_visibly(t):
    server = t.serve(PYTHON, "-c", """
import socket, time
one = socket.create_server(("", 7000)); two = socket.create_server(("", 7001))
while True: time.sleep(1)
""", port=7000, rule=["use kernel direction=listen port=7001"])
    paths = {one["path"]: one for one in t.sockets(server)}
    check(paths["both"]["local"].endswith(":7000"), f"{paths}")
    check("rule" in paths["kernel"]["reason"], f"{paths}")
    socket.create_connection(("127.0.0.1", 7001), 5).close()
    try:
        socket.create_connection((STACK, 7001), 5).close()
        check(False, "the stack answers for the kernel's port")
    except ConnectionRefusedError:
        pass


@scenario(timeout=60)
def test_loopback_stays_with_the_kernel_by_default(t):
    near, far = socket.create_server(("127.0.0.1", 7000)), socket.create_server(("", 7001))
    program = t.start(t.onwire(PYTHON, "-c", f"""
import socket, time
near = socket.create_connection(("127.0.0.1", 7000)); near.sendall(b"near")
far = socket.create_connection(("{HOST}", 7001)); far.sendall(b"far")
time.sleep(30)
"""), name="both paths")
    program.engine = program.pid
    check(near.accept()[0].recv(10) == b"near", "loopback")
    client, address = far.accept()
    check(client.recv(10) == b"far" and address[0] == STACK, f"from {address}")
    paths = {one["path"]: one for one in t.sockets(program)}
    check("loopback" in paths["kernel"]["reason"], f"{paths}")
    check(paths["stack"]["remote"] == f"{HOST}:7001", f"{paths}")
    program.stop()


@scenario(timeout=60)
def test_a_wildcard_listener_accepts_from_both_worlds(t):
    server = t.serve(PYTHON, "-c", """
import socket
listener = socket.create_server(("", 7000))
while True:
    client, _ = listener.accept()
    client.sendall(client.getsockname()[0].encode())
    client.close()
""", port=7000)
    for address in ("127.0.0.1", STACK, "127.0.0.1", HOST, STACK):
        with socket.create_connection((address, 7000), 5) as client:
            check(client.recv(100).decode() == address, f"over {address}")
    check(server.popen.poll() is None, "it ended")
