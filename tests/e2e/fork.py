"""Processes that share one stack: workers, daemons, a child for every connection."""

import os
import pathlib
import signal
import socket
import subprocess
import time

from apps import nginx_configuration
from harness import PYTHON, STACK, check, random_file, scenario, sha256

SLABS_TOLERATED = 0


def page(t):
    return t.run(["curl", "-sSf", "-m", "5", f"http://{STACK}/"])


@scenario(timeout=90)
def test_nginx_with_two_workers(t):
    server = t.serve("nginx", "-c", nginx_configuration(t, workers=2), port=80)
    file = random_file(t.tmp / "www" / "data", 10)
    before = t.stats(server)
    for turn in range(20):
        check("hello" in page(t), f"no page in turn {turn}")
    clients = [t.start(["curl", "-sSf", "-o", t.tmp / f"got{n}", f"http://{STACK}/data"])
               for n in range(6)]
    for number, client in enumerate(clients):
        client.finish(30)
        check(sha256(file) == sha256(t.tmp / f"got{number}"), "the file differs")
    t.moved(before, t.stats(server), rx=1000, tx=4000)
    t.nothing_on_kernel(server)


@scenario(timeout=90)
def test_nginx_as_a_daemon(t):
    begin = t.start(t.onwire("nginx", "-c", nginx_configuration(t, workers=2, daemon=True)),
                    name="nginx")
    check(begin.wait(30) == 0, f"nginx did not go to the background: {begin.output()}")
    begin.engine = begin.pid
    t.until(lambda: t.engine(begin), 10, "the engine of the daemon")
    t.until(lambda: (t.tmp / "nginx.pid").exists(), 10, "nginx's pid file")
    before = t.stats(begin)
    for _ in range(20):
        check("hello" in page(t), "no page")
    t.moved(before, t.stats(begin), rx=60, tx=60)
    t.nothing_on_kernel(begin)
    os.kill(int((t.tmp / "nginx.pid").read_text()), signal.SIGTERM)
    t.until(lambda: not (t.tmp / "nginx.pid").exists(), 15, "nginx to end")


@scenario(timeout=90)
def test_nginx_reloads_on_hup(t):
    server = t.serve("nginx", "-c", nginx_configuration(t, workers=2), port=80)
    check("hello" in page(t), "no page")
    for turn in range(3):
        (t.tmp / "www" / "index.html").write_text(f"after reload {turn}\n")
        nginx_configuration_keeps_page = nginx_configuration(t, workers=2, extra=f"# {turn}\n")
        check(nginx_configuration_keeps_page.exists(), "configuration gone")
        (t.tmp / "www" / "index.html").write_text(f"after reload {turn}\n")
        server.popen.send_signal(signal.SIGHUP)
        # Every request during the reload is answered: old and new workers share the listener.
        end = time.monotonic() + 2
        answered = 0
        while time.monotonic() < end:
            check(f"after reload {turn}" in page(t), "no page during the reload")
            answered += 1
        t.note(f"reload {turn}: {answered} requests answered")
    t.nothing_on_kernel(server)


FORKING_SERVER = """
import socketserver, os
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"%d %s" % (os.getpid(), line))
class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64
Server(("", 7000), Handler).serve_forever()
"""


@scenario(timeout=90)
def test_pythons_forking_server(t):
    (t.tmp / "server.py").write_text(FORKING_SERVER)
    server = t.serve(PYTHON, t.tmp / "server.py", port=7000)
    before = t.stats(server)
    pids = set()
    open_ones = []
    for turn in range(60):
        client = socket.create_connection((STACK, 7000), 5)
        client.sendall(b"ping %d\n" % turn)
        answer = client.makefile().readline().split()
        check(answer[1:] == ["ping", str(turn)], f"answer {answer}")
        pids.add(answer[0])
        # Some stay open, so that parent and several children drive the stack together.
        if turn % 6 == 0:
            open_ones.append(client)
        else:
            client.close()
    check(len(pids) == 60 and str(server.pid) not in pids, "not a child for each connection")
    for number, client in enumerate(open_ones):
        client.sendall(b"again\n")
        check(b"again" in client.recv(100), f"connection {number} died")
        client.close()
    t.moved(before, t.stats(server), rx=180, tx=180)
    t.nothing_on_kernel(server)


SERVER_C = r"""
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
/* Accepts in the parent and serves in a child, a child for each connection. */
int main(void)
{
    signal(SIGCHLD, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 64))
        return 1;
    for (;;) {
        int client = accept(fd, NULL, NULL);
        if (client < 0)
            continue;
        if (fork() == 0) {
            char text[64];
            close(fd);
            ssize_t count = read(client, text, sizeof text);
            if (count > 0)
                (void)!write(client, text, count);
            _exit(0);
        }
        close(client);
    }
}
"""

CLIENT_C = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
int main(int count, char **arguments)
{
    int wanted = atoi(arguments[2]);
    for (int i = 0; i < wanted; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
        inet_pton(AF_INET, arguments[1], &address.sin_addr);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct timeval limit = {10, 0};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        char text[64] = {0}, got[64] = {0};
        snprintf(text, sizeof text, "connection %d", i);
        if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
            perror("connect");
            printf("failed at %d\n", i);
            return 1;
        }
        if (write(fd, text, 20) != 20 || read(fd, got, 20) != 20 || memcmp(text, got, 20) ||
            read(fd, got, 20) != 0) {
            perror("echo");
            printf("failed at %d\n", i);
            return 1;
        }
        close(fd);
    }
    printf("%d echoed\n", wanted + 0 * count);
    return 0;
}
"""


def compile_c(t, name, source):
    (t.tmp / f"{name}.c").write_text(source)
    t.run(["cc", "-O1", "-o", t.tmp / name, t.tmp / f"{name}.c"])
    return t.tmp / name


@scenario(timeout=150)
def test_ten_thousand_children_leave_no_trace(t):
    compile_c(t, "client", CLIENT_C)
    server = t.serve(compile_c(t, "server", SERVER_C), name="server", port=7000)
    # One round first: what is made on first use (a neighbor) is there in both readings.
    t.run([t.tmp / "client", STACK, "20"])
    time.sleep(0.5)
    occupancy, before = settled_occupancy(t, server), t.stats(server)
    begun = time.monotonic()
    text = t.run([t.tmp / "client", STACK, "10000"], timeout=120)
    check("10000 echoed" in text, text)
    seconds = time.monotonic() - begun
    t.note(f"10,000 connections, a forked child each, in {seconds:.1f} s ({10000 / seconds:.0f}/s)")
    t.moved(before, t.stats(server), rx=40000, tx=40000)
    t.nothing_on_kernel(server)
    check(occupancy, "onwire stats shows no occupancy")
    after = t.occupancy(server)
    end = time.monotonic() + 20
    while after != occupancy and time.monotonic() < end:  # the last children may still be ending
        time.sleep(0.2)
        after = t.occupancy(server)
    for name in occupancy:
        check(after[name] == occupancy[name], f"{name} was {occupancy[name]}, is {after[name]}")
    t.note(f"every table is as before: {len(occupancy)} counters")


def settled_occupancy(t, server):
    """Occupancy once two readings are equal and no connection is left."""
    last = None
    for _ in range(50):
        now = t.occupancy(server)
        if now == last and not any("time_wait" in name and value for name, value in now.items()):
            return now
        last = now
        time.sleep(0.2)
    return last


@scenario(timeout=60)
def test_children_drive_while_the_parent_sleeps(t):
    (t.tmp / "server.py").write_text("""
import os, socket, time
listener = socket.create_server(("", 7000), backlog=16)
for _ in range(4):
    if os.fork() == 0:
        while True:
            client, _ = listener.accept()
            while data := client.recv(65536):
                client.sendall(data)
            client.close()
while True:
    time.sleep(60)
""")
    server = t.serve(PYTHON, t.tmp / "server.py", port=7000)
    data = os.urandom(200000)
    for turn in range(10):
        client = socket.create_connection((STACK, 7000), 5)
        client.settimeout(10)
        got = b""
        view = memoryview(data)
        while view:
            sent = client.send(view[:20000])
            view = view[sent:]
            while len(got) < len(data) - len(view):
                got += client.recv(65536)
        check(got == data, f"turn {turn}: the echo differs")
        client.close()
    t.nothing_on_kernel(server)
    # The first process leaves, by force: the children go on with the stack that it started.
    children = pathlib.Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    server.popen.kill()
    server.popen.wait()
    client = socket.create_connection((STACK, 7000), 5)
    client.settimeout(5)
    client.sendall(b"orphans")
    check(client.recv(100) == b"orphans", "the children do not serve")
    t.note(f"{len(children)} children serve after the first process was killed")
    for pid in children:
        os.kill(int(pid), signal.SIGKILL)
    try:
        rest = client.recv(100)
        check(rest == b"", f"unexpected {rest!r}")
    except ConnectionResetError:
        pass
    subprocess.run(["true"], check=True)
