"""Unmodified servers and clients over the default TAP and over vhost/virtio-user."""

import json
import re
import socket
import time

from harness import HOST, PYTHON, STACK, check, random_file, scenario, sha256

REDIS = ["redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no"]


def redis(t, bind, **settings):
    return t.serve(*REDIS, "--bind", bind, "--port", "6379", port=6379, **settings)


def benchmark_lines(text):
    """{"SET": requests per second, ...} of `redis-benchmark --csv`."""
    found = re.findall(r'^"([A-Z]+)[^"]*","([0-9.]+)"', text, re.M)
    return {name: float(value) for name, value in found}


@scenario(timeout=90)
def test_redis_answers_the_kernels_redis_benchmark(t):
    server = redis(t, STACK)
    before = t.stats(server)
    check(t.run(["redis-cli", "-h", STACK, "ping"]).strip() == "PONG", "no PONG")
    text = t.run(["redis-benchmark", "-h", STACK, "-t", "set,get", "-n", "20000", "-c", "20",
                  "--csv"], timeout=60)
    rates = benchmark_lines(text)
    t.note(f"requests per second: {rates}")
    check(set(rates) >= {"SET", "GET"} and min(rates.values()) > 1000, f"too slow: {rates}")
    t.run(["redis-cli", "-h", STACK, "set", "key", "x" * 100000])
    check(t.run(["redis-cli", "-h", STACK, "strlen", "key"]).strip() == "100000", "value cut")
    t.moved(before, t.stats(server), rx=20000, tx=20000)
    t.nothing_on_kernel(server)


@scenario(timeout=90)
def test_redis_with_both_ends_on_the_stack(t):
    server, second = t.serve_on_link(*REDIS, "--bind", "10.9.0.1")
    argv = t.onwire("redis-benchmark", "-h", "10.9.0.1", "-t", "set,get", "-n", "20000", "-c", "10",
                    "--csv", **second)
    rates = benchmark_lines(t.run(argv, timeout=60))
    t.note(f"requests per second: {rates}")
    check(set(rates) >= {"SET", "GET"}, f"no rates: {rates}")
    t.moved(t.NOTHING_YET, t.stats(server), rx=20000, tx=20000)
    t.nothing_on_kernel(server)


def nginx_configuration(t, workers=1, daemon=False, listen="80", extra=""):
    root = t.tmp / "www"
    root.mkdir(exist_ok=True)
    (root / "index.html").write_text("hello from nginx\n")
    path = t.tmp / "nginx.conf"
    path.write_text(f"""
        user root; worker_processes {workers}; daemon {'on' if daemon else 'off'};
        pid {t.tmp}/nginx.pid; error_log {t.tmp}/nginx-error.log notice;
        events {{ worker_connections 512; }}
        http {{
            access_log off; sendfile on; tcp_nopush on; keepalive_timeout 5;
            client_body_temp_path {t.tmp}/body; proxy_temp_path {t.tmp}/proxy;
            fastcgi_temp_path {t.tmp}/fastcgi; uwsgi_temp_path {t.tmp}/uwsgi;
            scgi_temp_path {t.tmp}/scgi;
            server {{ listen {listen}; root {root}; {extra} }}
        }}""")
    return path


def nginx(t, *, name="nginx", **options):
    return t.serve("nginx", "-c", nginx_configuration(t, **options), name=name, port=80)


@scenario(timeout=120)
def test_nginx_serves_100_megabytes_intact(t):
    server = nginx(t)
    file = random_file(t.tmp / "www" / "big", 100)
    before = t.stats(server)
    begun = time.monotonic()
    t.run(["curl", "-sS", "-m", "60", "-o", t.tmp / "got", f"http://{STACK}/big"], timeout=70)
    seconds = time.monotonic() - begun
    check(sha256(file) == sha256(t.tmp / "got"), "the file differs")
    t.note(f"100 MB in {seconds:.2f} s, {100 * 8.39 / seconds / 1000:.2f} Gbit/s, SHA-256 equal")
    t.moved(before, t.stats(server), rx=1000, tx=1600)
    t.nothing_on_kernel(server)


@scenario(timeout=90)
def test_curl_under_onwire_fetches_from_a_kernel_server(t):
    file = random_file(t.tmp / "big", 20)
    # The TAP exists once the client runs: the kernel's server listens on the wildcard address.
    t.start([PYTHON, "-m", "http.server", "8000"], name="http.server", cwd=t.tmp)
    t.until(lambda: can_connect("127.0.0.1", 8000), 10, "the kernel's server")
    t.run(t.onwire("curl", "-sS", "-m", "30", "-o", t.tmp / "got", f"http://{HOST}:8000/big"),
          timeout=40)
    check(sha256(file) == sha256(t.tmp / "got"), "the file differs")


def can_connect(host, port):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


@scenario(timeout=60)
def test_python_http_server(t):
    file = random_file(t.tmp / "data", 5)
    server = t.serve(PYTHON, "-m", "http.server", "8000", "--directory", t.tmp, port=8000)
    before = t.stats(server)
    t.run(["curl", "-sS", "-o", t.tmp / "got", f"http://{STACK}:8000/data"])
    check(sha256(file) == sha256(t.tmp / "got"), "the file differs")
    for _ in range(20):
        t.run(["curl", "-sSf", "-o", "/dev/null", f"http://{STACK}:8000/"])
    t.moved(before, t.stats(server), rx=200, tx=300)
    t.nothing_on_kernel(server)


def iperf3(t, server, *flags, rx=100, tx=100):
    """One run against `server`; the sums of its JSON report."""
    before = t.stats(server)
    text = t.run(["iperf3", "-c", STACK, "-t", "2", "-J", *flags], timeout=30)
    end = json.loads(text)["end"]
    t.moved(before, t.stats(server), rx=rx, tx=tx, what=" ".join(flags) or "to the stack")
    return end


@scenario(timeout=90)
def test_iperf3_tcp_both_directions_and_parallel(t):
    server = t.serve("iperf3", "-s", "-4", port=5201)
    for flags in ([], ["-R"], ["-P", "8"], ["-P", "8", "-R"]):
        end = iperf3(t, server, *flags)
        rate = end["sum_received"]["bits_per_second"]
        t.note(f"{' '.join(flags) or 'forward'}: {rate / 1e9:.2f} Gbit/s")
        check(rate > 50e6, f"{flags}: only {rate / 1e6:.1f} Mbit/s")
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_iperf3_udp_both_directions(t):
    server = t.serve("iperf3", "-s", "-4", port=5201)
    for flags in (["-u", "-b", "50M"], ["-u", "-b", "50M", "-R"], ["-u", "-b", "20M", "-P", "4"]):
        end = iperf3(t, server, *flags, rx=10, tx=10)
        lost = end["sum"]["lost_percent"]
        t.note(f"{' '.join(flags)}: {end['sum']['bits_per_second'] / 1e6:.1f} Mbit/s, {lost:.2f} % lost")
        check(end["sum"]["packets"] > 1000 and lost < 20, f"{flags}: {end['sum']}")
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_socat_echoes_tcp_and_udp(t):
    server = t.serve("socat", "TCP-LISTEN:7000,fork,reuseaddr", "EXEC:cat", port=7000)
    before = t.stats(server)
    data = "line of text\n" * 2000
    for _ in range(3):
        back = t.run(["socat", "-t5", "-", f"TCP:{STACK}:7000"], input=data)
        check(back == data, f"echo differs: {len(back)} of {len(data)} characters")
    t.moved(before, t.stats(server), rx=20, tx=20)
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_socat_over_udp(t):
    server = t.serve("socat", "UDP-RECVFROM:7001,fork", "EXEC:cat", port=7001)
    before = t.stats(server)
    for turn in range(5):
        back = t.run(["socat", "-t1", "-", f"UDP:{STACK}:7001"], input=f"datagram {turn}\n")
        check(back == f"datagram {turn}\n", f"echo differs: {back!r}")
    t.moved(before, t.stats(server), rx=5, tx=5)


@scenario(timeout=60)
def test_memcached_tcp_and_udp(t):
    server = t.serve("memcached", "-u", "root", "-l", STACK, "-p", "11211", "-U", "11211",
                     "-t", "4", port=11211)
    before = t.stats(server)
    connections = [socket.create_connection((STACK, 11211), 5) for _ in range(20)]
    for turn in range(50):
        for number, one in enumerate(connections):
            value = f"{number}-{turn}".encode() * 50
            one.sendall(b"set k%d 0 0 %d\r\n%s\r\nget k%d\r\n" % (number, len(value), value, number))
        for number, one in enumerate(connections):
            value = f"{number}-{turn}".encode() * 50
            want = b"STORED\r\nVALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (number, len(value), value)
            got = b""
            one.settimeout(5)
            while len(got) < len(want):
                some = one.recv(65536)
                check(some, f"closed after {len(got)} of {len(want)} bytes")
                got += some
            check(got == want, f"{got[:80]!r} is not {want[:80]!r}")
    for one in connections:
        one.close()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(5)
    udp.sendto(b"\0\1\0\0\0\1\0\0get k3\r\n", (STACK, 11211))
    check(b"3-49" in udp.recv(65536), "no answer over UDP")
    t.moved(before, t.stats(server), rx=1000, tx=1000)
    t.nothing_on_kernel(server)


@scenario(timeout=90)
def test_haproxy_in_front_of_nginx(t):
    """haproxy on the stack forwards to nginx on the kernel: it listens and connects."""
    t.start(["nginx", "-c", nginx_configuration(t, listen="8080")], name="nginx")
    t.until(lambda: can_connect("127.0.0.1", 8080), 10, "nginx")
    file = random_file(t.tmp / "www" / "data", 10)
    (t.tmp / "haproxy.cfg").write_text(f"""
        global
            maxconn 200
        defaults
            mode http
            timeout connect 5s
            timeout client 10s
            timeout server 10s
        frontend front
            bind {STACK}:80
            default_backend back
        backend back
            server one {HOST}:8080
""")
    server = t.serve("haproxy", "-db", "-f", t.tmp / "haproxy.cfg", port=80)
    before = t.stats(server)
    for turn in range(3):
        t.run(["curl", "-sSf", "-o", t.tmp / "got", f"http://{STACK}/data"])
        check(sha256(file) == sha256(t.tmp / "got"), f"the file differs in turn {turn}")
    check("hello from nginx" in t.run(["curl", "-sSf", f"http://{STACK}/"]), "no page")
    # Each byte crosses the stack twice: from nginx in, to curl out.
    t.moved(before, t.stats(server), rx=10000, tx=10000)
    t.nothing_on_kernel(server)


@scenario(timeout=60)
def test_curl_under_onwire_to_nginx_under_onwire(t):
    server, second = t.serve_on_link("nginx", "-c", nginx_configuration(t))
    file = random_file(t.tmp / "www" / "big", 50)
    t.run(t.onwire("curl", "-sS", "-o", t.tmp / "got", "http://10.9.0.1/big", **second), timeout=40)
    check(sha256(file) == sha256(t.tmp / "got"), "the file differs")
    t.moved(t.NOTHING_YET, t.stats(server), rx=20, tx=800)
