"""Waiting costs nothing and can be interrupted."""

import pathlib
import signal
import socket
import time

from apps import redis
from harness import HOST, PYTHON, STACK, check, cpu_seconds, scenario


@scenario(timeout=60)
def test_an_idle_redis_uses_less_than_two_percent_of_a_core(t):
    # Its own timer (hz) must not hide the stack's waiting, nor count as it: the least it takes.
    server = redis(t, STACK)
    check(t.run(["redis-cli", "-h", STACK, "ping"]).strip() == "PONG", "no PONG")
    time.sleep(1)
    engine = t.engine(server)
    pids = [server.pid, engine["keeper"]]
    before, begun = [cpu_seconds(pid) for pid in pids], time.monotonic()
    time.sleep(10)
    seconds = time.monotonic() - begun
    used = [cpu_seconds(pid) - start for pid, start in zip(pids, before)]
    percent = 100 * sum(used) / seconds
    t.note(f"redis {100 * used[0] / seconds:.2f} %, keeper {100 * used[1] / seconds:.2f} % of a core")
    check(percent < 2, f"{percent:.2f} % of a core while idle")
    check(t.run(["redis-cli", "-h", STACK, "ping"]).strip() == "PONG", "no PONG after idling")


BLOCKED = {
    "recv": "s = socket.create_connection((host, 7000)); s.recv(1)",
    "accept": "s = socket.create_server(('', 7001)); s.accept()",
    "connect": "s = socket.socket(); s.connect(('10.78.0.77', 9))",
    "poll": "s = socket.create_connection((host, 7000)); p = select.poll(); p.register(s, 1); p.poll()",
    "select": "s = socket.create_connection((host, 7000)); select.select([s], [], [])",
    "epoll": "s = socket.create_connection((host, 7000)); e = select.epoll(); e.register(s, 1); e.poll()",
}


def blocked_program(call):
    return f"""
import select, signal, socket, sys
host = "{HOST}"
print("blocking", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
print("returned", flush=True)
"""


def until_blocked(t, program):
    """Until the program has its engine and sleeps, at every one of twenty looks."""
    program.engine = program.pid
    t.until(lambda: t.engine(program) or t.gone(program), 20, f"{program.name}'s engine")
    asleep = 0
    for _ in range(1000):
        t.gone(program)
        text = pathlib.Path(f"/proc/{program.pid}/stat").read_text()
        asleep = asleep + 1 if text.rsplit(")", 1)[1].split()[0] == "S" else 0
        if asleep == 20:
            return
        time.sleep(0.02)
    check(False, f"{program.name} does not block: {program.output()}")


@scenario(timeout=90)
def test_ctrl_c_interrupts_every_blocked_call(t):
    listener = socket.create_server(("", 7000))
    for name, call in BLOCKED.items():
        program = t.start(t.onwire(PYTHON, "-c", blocked_program(call)), name=name)
        t.until(lambda: "blocking" in program.output(), 10, f"{name} to start")
        until_blocked(t, program)
        begun = time.monotonic()
        program.popen.send_signal(signal.SIGINT)
        t.until(lambda: "interrupted" in program.output(), 5, f"{name} to be interrupted")
        seconds = time.monotonic() - begun
        status = program.wait(10)
        check(status == 7, f"{name} ended with {status}: {program.output()}")
        check(seconds < 1, f"{name} took {seconds:.2f} s to be interrupted")
        t.note(f"{name}: interrupted after {seconds * 1000:.0f} ms")
        # The next starts at once if it need not wait for this one's keeper to finish.
        listener.settimeout(0.1)
        try:
            listener.accept()[0].close()
        except TimeoutError:
            pass
        t.nothing_left()


@scenario(timeout=60)
def test_a_timer_interrupts_a_server_and_it_goes_on(t):
    (t.tmp / "server.py").write_text("""
import signal, socket
ticks = 0
def tick(number, frame):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
listener = socket.create_server(("", 7000))
while True:
    client, _ = listener.accept()
    while data := client.recv(65536):
        client.sendall(b"%d " % ticks + data)
    client.close()
""")
    server = t.serve(PYTHON, t.tmp / "server.py", port=7000)
    last, end = -1, time.monotonic() + 20
    # Signals that come while the machine is busy are one signal: it may take longer than 0.5 s.
    while last <= 50 and time.monotonic() < end:
        time.sleep(0.2)
        with socket.create_connection((STACK, 7000), 5) as client:
            client.sendall(b"x")
            ticks = int(client.recv(100).split()[0])
        check(ticks > last, f"the timer stopped at {ticks}")
        last = ticks
    t.note(f"{last} timer signals while the server was blocked")
    check(last > 50, f"only {last} timer signals")
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_a_blocked_reader_burns_no_core(t):
    listener = socket.create_server(("", 7000))
    program = t.start(t.onwire(PYTHON, "-c", blocked_program(BLOCKED["recv"])), name="reader")
    client, _ = listener.accept()
    time.sleep(0.5)
    before = cpu_seconds(program.pid)
    time.sleep(4)
    used = 100 * (cpu_seconds(program.pid) - before) / 4
    t.note(f"blocked in recv: {used:.2f} % of a core")
    check(used < 2, f"{used:.2f} % of a core")
    status = pathlib.Path(f"/proc/{program.pid}/status").read_text()
    check("S (sleeping)" in status, "not asleep")
    client.sendall(b"x")
    program.finish(5)
