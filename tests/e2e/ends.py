"""What happens to connections when programs end, and to the keeper after them."""

import os
import signal
import socket
import time

from apps import REDIS, redis
from harness import HOST, PYTHON, STACK, check, scenario


@scenario(timeout=60)
def test_clients_of_a_killed_server_see_a_reset_within_a_second(t):
    server = redis(t, STACK)
    clients = [socket.create_connection((STACK, 6379), 5) for _ in range(20)]
    for client in clients:
        client.sendall(b"PING\r\n")
        check(client.recv(100) == b"+PONG\r\n", "no PONG")
    server.popen.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    slowest = 0.0
    for number, client in enumerate(clients):
        client.settimeout(5)
        try:
            data = client.recv(100)
            check(False, f"client {number} read {data!r} instead of a reset")
        except ConnectionResetError:
            slowest = max(slowest, time.monotonic() - begun)
        except TimeoutError:
            check(False, f"client {number} heard nothing for 5 s")
    t.note(f"20 clients reset within {slowest * 1000:.0f} ms")
    check(slowest < 1.0, f"the slowest reset took {slowest:.2f} s")
    server.wait()


@scenario(timeout=60)
def test_a_killed_server_over_vhost_resets_its_client(t):
    server, second = t.serve_on_link(*REDIS, "--bind", "10.9.0.1")
    (t.tmp / "client.py").write_text("""
import socket, sys, time
client = socket.create_connection(("10.9.0.1", 6379), 5)
client.sendall(b"PING\\r\\n")
print(client.recv(100).decode().strip(), flush=True)
client.settimeout(8)
try:
    print("read", client.recv(100), flush=True)
except ConnectionResetError:
    print("reset %.3f" % time.time(), flush=True)
""")
    client = t.start(t.onwire(PYTHON, t.tmp / "client.py", **second), name="client")
    t.until(lambda: "PONG" in client.output(), 15, "the client's PONG")
    killed = time.time()
    server.popen.send_signal(signal.SIGKILL)
    text = client.finish(15)
    check("reset" in text, f"the client saw no reset: {text}")
    late = float(text.split()[-1]) - killed
    t.note(f"reset after {late * 1000:.0f} ms")
    check(late < 1.0, f"the reset took {late:.2f} s")


WRITER = """
import os, socket, sys
client = socket.create_connection((sys.argv[1], 7000), 5)
block = bytes(range(256)) * 4096
for _ in range(50):
    client.sendall(block)
os._exit(0)
"""


def receive_all(listener, seconds=40):
    """Accepts one connection and reads to its end; (bytes, whether the pattern held)."""
    listener.settimeout(seconds)
    client, _ = listener.accept()
    client.settimeout(seconds)
    # A slow reader: much is unsent when the writer has long gone.
    time.sleep(1)
    total, intact, block = 0, True, bytes(range(256)) * 4096
    while data := client.recv(1 << 20):
        at = total % len(block)
        expected = (block + block)[at:at + len(data)]
        intact = intact and data == expected
        total += len(data)
    client.close()
    return total, intact


@scenario(timeout=90)
def test_fifty_megabytes_written_before_exit_all_arrive(t):
    (t.tmp / "writer.py").write_text(WRITER)
    listener = socket.create_server(("", 7000))
    writer = t.start(t.onwire(PYTHON, t.tmp / "writer.py", HOST), name="writer")
    total, intact = receive_all(listener)
    check(writer.wait() == 0, f"the writer failed: {writer.output()}")
    check(total == 50 << 20, f"{total} of {50 << 20} bytes came")
    check(intact, "the bytes differ")
    t.note("52,428,800 bytes arrived intact after their writer was gone")


@scenario(timeout=90)
def test_the_keeper_finishes_what_is_unsent(t):
    """The program writes what fits the send buffer and leaves; the reader starts afterwards."""
    (t.tmp / "writer.py").write_text("""
import os, socket, sys
client = socket.create_connection((sys.argv[1], 7000), 5)
client.setblocking(False)
block = bytes(range(256)) * 4096
total = 0
try:
    while True:
        total += client.send(block[total % len(block):])
except BlockingIOError:
    pass
print(total, flush=True)
os._exit(0)
""")
    listener = socket.create_server(("", 7000))
    writer = t.start(t.onwire(PYTHON, t.tmp / "writer.py", HOST), name="writer")
    check(writer.wait() == 0, f"the writer failed: {writer.output()}")
    written = int(writer.output().split()[-1])
    time.sleep(1)
    total, intact = receive_all(listener)
    check(total == written, f"{total} of {written} bytes came")
    check(intact, "the bytes differ")
    t.note(f"{written} bytes: the keeper sent what was left")


@scenario(timeout=60)
def test_a_keeper_with_nothing_to_do_leaves_at_once(t):
    t.run(t.onwire(PYTHON, "-c", "import socket; socket.create_server(('', 7000))"))
    begun = time.monotonic()
    t.nothing_left(timeout=5)
    t.note(f"nothing left after {time.monotonic() - begun:.2f} s")


@scenario(timeout=120)
def test_time_wait_lasts_as_on_linux_and_then_nothing_is_left(t):
    del t.env["ONWIRE_TCP_TIME_WAIT_MS"]
    listener = socket.create_server(("", 7000))
    client = t.start(t.onwire(PYTHON, "-c", f"""
import socket
client = socket.create_connection(("{HOST}", 7000), 5)
client.close()
"""), name="client")
    one, _ = listener.accept()
    check(one.recv(1) == b"", "no end of file")
    one.close()
    check(client.wait() == 0, client.output())
    begun = time.monotonic()
    time.sleep(1)
    client.engine = client.pid
    check(t.engine(client), "the keeper did not stay for TIME-WAIT")
    states = [one["state"] for one in t.sockets(client)]
    check("TIME-WAIT" in states, f"no TIME-WAIT among {states}")
    t.nothing_left(timeout=75)
    seconds = time.monotonic() - begun
    t.note(f"the keeper left after {seconds:.0f} s of TIME-WAIT")
    check(55 < seconds < 70, f"TIME-WAIT lasted {seconds:.0f} s")


@scenario(timeout=60, skip_leftovers=True)
def test_a_killed_keeper_is_noticed(t):
    """The keeper is not needed for the data path: the program goes on without it."""
    server = redis(t, STACK)
    keeper = t.engine(server)["keeper"]
    os.kill(keeper, signal.SIGKILL)
    time.sleep(0.3)
    check(t.run(["redis-cli", "-h", STACK, "ping"], timeout=10).strip() == "PONG", "no PONG")
    server.stop()
