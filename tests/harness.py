"""What the end-to-end scenarios share.

A scenario is a function `test_*(t)` in a file of `tests/e2e/`. `tests/run.py` gives each one a
world of its own (network and process namespaces, an own run directory), so that scenarios cannot
disturb the machine or each other, and so that "nothing is left behind" can be looked up: whatever
process, interface or socket file exists at the end was made by the scenario.

`Test` starts programs (under onwire or plain), waits for readiness by looking rather than by
sleeping, and reads the stack's own counters, because an answer alone proves nothing: it may have
come through the kernel.
"""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("TESTS_TARGET", ROOT / "target" / "release"))
ONWIRE = TARGET / "onwire"
LIBRARY = TARGET / "libonwire.so"
BENCH = TARGET / "onwire-bench"
PYTHON = "/usr/bin/python3"  # Debian's, whose test suite is installed
HOST = "10.78.0.1"  # the kernel's end of the first default TAP
STACK = "10.78.0.2"  # the stack's end


# How much longer everything may take than a scenario says: more than 1 in an emulated computer.
PATIENCE = 1


class Failed(Exception):
    """The scenario did not hold."""


def check(holds, message):
    """Fails the scenario with `message` unless `holds`."""
    if not holds:
        raise Failed(message)


def scenario(timeout=60, skip_leftovers=False):
    """Sets how many seconds a scenario may take."""

    def mark(function):
        function.timeout = timeout
        function.skip_leftovers = skip_leftovers
        return function

    return mark


class Process:
    """A program that the scenario started, and what it printed."""

    def __init__(self, popen, name, log):
        self.popen, self.name, self.log = popen, name, log

    @property
    def pid(self):
        return self.popen.pid

    def output(self):
        return self.log.read_text(errors="replace")

    def wait(self, timeout=30):
        """The exit status; fails the scenario if the program does not end."""
        try:
            return self.popen.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {timeout} s") from None

    def finish(self, timeout=30):
        """As `wait`, and the status must be 0."""
        status = self.wait(timeout)
        check(status == 0, f"{self.name} ended with {status}: {self.output()[-600:]}")
        return self.output()

    def stop(self, number=signal.SIGTERM, timeout=15):
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait(timeout)


class Test:
    """One scenario's world."""

    def __init__(self, name):
        self.name = name
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix=f"onwire-{name}-"))
        self.processes = []
        self.begun = time.monotonic()
        # TIME-WAIT, and how often an orphan whose peer has gone is repeated (as on Linux that can
        # take minutes), are shortened so that keepers leave soon; one scenario tests Linux's length.
        self.run_dir = self.tmp / "run"
        self.env = {"ONWIRE_TCP_TIME_WAIT_MS": "100", "ONWIRE_TCP_ORPHAN_RETRIES": "3",
                    "ONWIRE_RUN_DIR": str(self.run_dir)}
        if "TESTS_QUEUES" in os.environ:  # every scenario with so many shards
            self.env["ONWIRE_QUEUES"] = os.environ["TESTS_QUEUES"]

    # -- progress -----------------------------------------------------------------------------

    def note(self, text):
        print(f"  {time.monotonic() - self.begun:6.2f} s  {text}", flush=True)

    # -- programs -----------------------------------------------------------------------------

    def environment(self, extra=None):
        return {**os.environ, **self.env, **(extra or {})}

    def start(self, argv, name=None, env=None, cwd=None, stdin=subprocess.DEVNULL, **options):
        """Starts a program; its output goes to a log that failures show."""
        argv = [str(word) for word in argv]
        name = pathlib.Path(name or argv[0]).name
        log = self.tmp / f"{len(self.processes)}-{name}.log"
        with open(log, "wb") as out:
            popen = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=options.pop("stdout", out),
                stderr=options.pop("stderr", subprocess.STDOUT),
                env=self.environment(env),
                cwd=cwd or self.tmp,
                **options,
            )
        process = Process(popen, name, log)
        self.processes.append(process)
        return process

    def run(self, argv, timeout=30, status=0, env=None, input=None, cwd=None):
        """Runs a program to its end; the text it printed. `status=None` takes any."""
        argv = [str(word) for word in argv]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL if input is None else None,
                input=input,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout * PATIENCE,
                env=self.environment(env),
                cwd=cwd or self.tmp,
            )
        except subprocess.TimeoutExpired as late:
            shown = (late.stdout or b"")[-400:] + (late.stderr or b"")[-400:]
            raise Failed(f"{' '.join(argv)} took over {timeout} s: {shown!r}") from None
        if status is not None and done.returncode != status:
            raise Failed(
                f"{' '.join(argv)} ended with {done.returncode}, not {status}: "
                f"{done.stdout[-600:]} {done.stderr[-600:]}"
            )
        self.last = done
        return done.stdout

    def onwire(self, *program, **settings):
        """The command line that runs a program under onwire."""
        flags = []
        for name, value in settings.items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                flag = f"--{name.replace('_', '-')}"
                flags += [flag] if one is True else [flag, str(one)]
        return [ONWIRE, "run", *flags, "--", *program]

    def serve(self, *program, name=None, env=None, port=None, host=STACK, timeout=20, **settings):
        """Starts a program under onwire and waits until its engine answers and `port` is open."""
        process = self.start(self.onwire(*program, **settings), name=name or program[0], env=env)
        process.engine = process.pid
        self.until(lambda: self.engine(process) or self.gone(process), timeout,
                   f"{process.name}'s engine to start")
        if port:
            self.wait_listening(process, port, timeout)
        return process

    def gone(self, process):
        if process.popen.poll() is not None:
            raise Failed(f"{process.name} ended with {process.popen.returncode}: "
                         f"{process.output()[-800:]}")
        return False

    def until(self, holds, timeout, what):
        """Waits until `holds()`; fails the scenario if it takes longer than `timeout` seconds."""
        end = time.monotonic() + timeout * PATIENCE
        while True:
            result = holds()
            if result:
                return result
            if time.monotonic() > end:
                raise Failed(f"waited {timeout} s for {what}")
            time.sleep(0.02)

    # -- what the stack says of itself -----------------------------------------------------------

    def engines(self):
        done = subprocess.run([ONWIRE, "list", "--json"], capture_output=True, text=True,
                              timeout=15 * PATIENCE, env=self.environment())
        try:
            return json.loads(done.stdout or "[]")
        except ValueError:
            raise Failed(f"onwire list --json is no JSON: {done.stdout[:300]}") from None

    def engine(self, process):
        for engine in self.engines():
            if engine["id"] == process.engine:
                return engine
        return None

    def ask(self, command, *flags, process=None):
        flags = list(flags) + (["--engine", str(process.engine)] if process else [])
        return json.loads(self.run([ONWIRE, command, "--json", *flags]))

    def stats(self, process=None):
        """Every counter as {"group.name": value}."""
        flat = {}
        for document in self.ask("stats", process=process):
            for group, counters in document["stats"].items():
                for name, value in counters.items():
                    flat[f"{group}.{name}"] = value
        return flat

    def sockets(self, process=None):
        return [one for part in self.ask("ss", "-a", process=process) for one in part["sockets"]]

    def wait_listening(self, process, port, timeout=20):
        """Until the stack itself (not only the kernel) has a listener on `port`."""

        def listens():
            self.gone(process)
            return any(
                one["state"] in ("LISTEN", "UNCONN")
                and one["local"].endswith(f":{port}")
                and one["path"] in ("stack", "both")
                for one in self.sockets(process)
            )

        self.until(listens, timeout, f"{process.name} to listen on port {port}")

    def moved(self, before, after, rx=1, tx=1, what=""):
        """Asserts that the stack carried at least so many frames, and shows them."""
        got_rx = after["interface.rx_frames"] - before["interface.rx_frames"]
        got_tx = after["interface.tx_frames"] - before["interface.tx_frames"]
        self.note(f"{what + ': ' if what else ''}the stack received {got_rx} and sent {got_tx} frames")
        self.sent = getattr(self, "sent", 0) + got_tx
        check(got_rx >= rx, f"the stack received only {got_rx} frames, not {rx}: kernel path?")
        check(got_tx >= tx, f"the stack sent only {got_tx} frames, not {tx}: kernel path?")

    def neighbor(self, address):
        """A host of the kernel's with this address on the veth pair `left`, whose other end is ours; the
        words that run a command there."""
        host = self.start(["unshare", "--net", "sleep", "60"], name="neighbor")
        own = os.readlink("/proc/self/ns/net")
        self.until(lambda: os.readlink(f"/proc/{host.pid}/ns/net") != own, 5, "the neighbor")
        inside = ["nsenter", f"--net=/proc/{host.pid}/ns/net"]
        self.run(["ip", "link", "add", "left", "type", "veth", "peer", "name", "right"])
        self.run(["ip", "link", "set", "right", "netns", host.pid])
        self.run([*inside, "ip", "address", "add", address, "dev", "right"])
        self.run([*inside, "ip", "link", "set", "right", "up"])
        self.run(["ip", "link", "set", "left", "up"])
        return inside

    def nothing_on_kernel(self, process, but=()):
        """Asserts that no socket of the program went to the kernel, save for the reasons `but`."""
        for one in self.sockets(process):
            allowed = any(word in one.get("reason", "") for word in but)
            check(one["path"] != "kernel" or allowed, f"a socket fell to the kernel: {one}")

    def occupancy(self, process):
        """The counters of tables and slabs: they return to where they were."""
        # Sleepers come and go by themselves; everything else belongs to sockets and processes.
        return {name: value for name, value in self.stats(process).items()
                if name.startswith("table.") and name != "table.sleepers"}

    # -- links ------------------------------------------------------------------------------------

    def link(self):
        """The two ends of a vhost/virtio-user link: settings for the first and second program."""
        path = self.tmp / "link.sock"
        return (
            {"device": f"vhost:{path}", "address": "10.9.0.1/24"},
            {"device": f"virtio-user:{path}", "address": "10.9.0.2/24"},
        )

    def serve_on_link(self, *program, name=None):
        """Starts a server on one end of a link; (process, settings of the other end).

        An engine waits for the other end before its program goes on, so the server listens once
        the scenario's client has come, and before the client's first frame is answered.
        """
        first, second = self.link()
        server = self.start(self.onwire(*program, **first), name=name or program[0])
        server.engine = server.pid
        self.until(lambda: (self.tmp / "link.sock").exists() or self.gone(server), 20, "the link")
        return server, second

    NOTHING_YET = {"interface.rx_frames": 0, "interface.tx_frames": 0}

    # -- the end ------------------------------------------------------------------------------------

    def end(self):
        """Stops what still runs."""
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.terminate()
        end = time.monotonic() + 5
        for process in self.processes:
            try:
                process.popen.wait(max(0.05, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait(5)

    def leftovers(self):
        """What exists now and should not: keepers, TAPs, control sockets."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                name = (entry / "comm").read_text().strip()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if name.startswith("onwire") and state != "Z":
                found.append(f"process {entry.name} ({name})")
        # Not /sys/class/net: sysfs may be that of another network namespace.
        found += [f"interface {name}" for _, name in socket.if_nameindex()
                  if name.startswith("onwire")]
        found += [f"file {path}" for path in self.run_dir.glob("*.sock")]
        return found

    def nothing_left(self, timeout=30):
        """Waits until no keeper, TAP or control socket is left."""
        try:
            self.until(lambda: not self.leftovers(), timeout, "nothing to be left behind")
        except Failed as failed:
            # What a keeper waits for is in its sockets, and why it goes on in its counters.
            for words in (["ss", "-a"], ["stats"]):
                done = subprocess.run([ONWIRE, *words], capture_output=True, text=True,
                                      timeout=15 * PATIENCE, env=self.environment())
                print(f"  -- onwire {' '.join(words)}: {done.stdout}{done.stderr}", flush=True)
            raise Failed(f"{failed}; there is {', '.join(self.leftovers())}") from None

    def show_logs(self):
        for process in self.processes:
            text = process.output()
            if text.strip():
                print(f"  -- {process.name} (status {process.popen.poll()}) printed:")
                for line in text[-3000:].splitlines()[-25:]:
                    print(f"  |  {line}")
        sys.stdout.flush()

    def clean(self):
        shutil.rmtree(self.tmp, ignore_errors=True)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def random_file(path, megabytes):
    """A file of bytes that do not repeat or compress."""
    with open(path, "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    return path


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
