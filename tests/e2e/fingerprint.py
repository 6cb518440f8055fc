"""What a scanner that guesses systems sees: the same of onwire as of the kernel beside it.

The probes are those of `nmap -O` (T1 to T7, ECN, U1, IE) and some odd flags besides; what is
compared is what nmap compares, and the order of the TCP options.
"""

import os
import pathlib
import socket
import struct
import time

from harness import HOST, ONWIRE, PYTHON, STACK, check, scenario

KERNEL, NEAR_KERNEL = "10.44.0.2", "10.44.0.1"
OPEN, CLOSED = 7000, 7001
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << n for n in range(8))
SEQ, ACKED = 0x1234_5678, 0x0765_4321
SERVER = f"""
import socket, time
server = socket.create_server(("0.0.0.0", {OPEN}), backlog=64)
time.sleep(600)
"""
WSCALE, NOP, MSS, SACK = b"\x03\x03\x0a", b"\x01", b"\x02\x04\x05\xb4", b"\x04\x02"
STAMP = b"\x08\x0a\xff\xff\xff\xff\0\0\0\0"
ALL = WSCALE + NOP + MSS + STAMP + SACK

# Name, port, flags, window, options, DF: nmap's T1 to T7 and ECN, what was agreed upon in the
# first packets of nmap's SEQ, and flags that make no sense.
PROBES = [
    ("T1", OPEN, SYN, 1, ALL, False),
    ("T2", OPEN, 0, 128, ALL, True),
    ("T3", OPEN, SYN | FIN | URG | PSH, 256, ALL, False),
    ("T4", OPEN, ACK, 1024, ALL, True),
    ("T5", CLOSED, SYN, 31337, ALL, False),
    ("T6", CLOSED, ACK, 32768, ALL, True),
    ("T7", CLOSED, FIN | PSH | URG, 65535, ALL, False),
    ("ECN", OPEN, SYN | ECE | CWR, 3, WSCALE + NOP + MSS + SACK + NOP + NOP, False),
    ("SEQ: no window scale", OPEN, SYN, 63, MSS + SACK + STAMP, False),
    ("SEQ: mss 640, no SACK", OPEN, SYN, 4, STAMP + NOP + NOP + WSCALE + NOP + b"\x02\x04\x02\x80",
     False),
    ("SEQ: mss 265", OPEN, SYN, 512, SACK + STAMP + b"\x02\x04\x01\x09", False),
    ("SYN without options", OPEN, SYN, 1000, b"", True),
    ("SYN of a tiny mss", OPEN, SYN, 1000, b"\x02\x04\x00\x01", True),
    ("SYN with an absurd scale", OPEN, SYN, 1000, b"\x03\x03\xff\x01" + MSS, True),
    ("SYN of broken options", OPEN, SYN, 1000, MSS + b"\x08\x03\x01\x02", True),
    ("FIN", OPEN, FIN, 1000, b"", True),
    ("FIN, ACK", OPEN, FIN | ACK, 1000, b"", True),
    ("SYN, ACK", OPEN, SYN | ACK, 1000, b"", True),
    ("SYN, RST", OPEN, SYN | RST, 1000, b"", True),
    ("RST", OPEN, RST, 1000, b"", True),
    ("RST to a closed port", CLOSED, RST | ACK, 1000, b"", True),
    ("SYN, ACK to a closed port", CLOSED, SYN | ACK, 1000, b"", True),
    ("nothing to a closed port", CLOSED, 0, 1000, b"", True),
]


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip_packet(source, target, protocol, payload, dont_fragment, tos=0):
    flags = 0x4000 if dont_fragment else 0
    return struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), 0x1042, flags, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(target)) + payload


class Scanner:
    """Sends probes from one of our addresses and describes what comes back."""

    def __init__(self, source, target):
        self.source, self.target, self.port = source, target, 40_000
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    def answer(self, listener, wanted, seconds=0.6):
        """The first packet from the target that is `wanted`, as (IP header, payload)."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            listener.settimeout(left)
            try:
                data, (address, _) = listener.recvfrom(4096)
            except TimeoutError:
                break
            header = data[:(data[0] & 15) * 4]
            if address == self.target and wanted(data[len(header):]):
                return header, data[len(header):]
        return None

    def of_ip(self, header):
        ident, flags, ttl = struct.unpack("!HHB", header[4:9])
        return {"TTL": ttl, "DF": bool(flags & 0x4000), "TOS": header[1],
                "IP ID": "zero" if ident == 0 else "not zero"}

    def probe(self, port, flags, window, options, dont_fragment):
        self.port += 1
        options += b"\0" * (-len(options) % 4)
        tcp = struct.pack("!HHIIBBHHH", self.port, port, SEQ, ACKED, (5 + len(options) // 4) << 4,
                          flags, window, 0, 0) + options
        pseudo = socket.inet_aton(self.source) + socket.inet_aton(self.target)
        pseudo += struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        packet = ip_packet(self.source, self.target, socket.IPPROTO_TCP, tcp, dont_fragment)
        self.sender.sendto(packet, (self.target, 0))
        ports = struct.pack("!HH", port, self.port)
        got = self.answer(self.tcp, lambda payload: payload[:4] == ports)
        return self.of_tcp(*got) if got else "no answer"

    def of_tcp(self, header, tcp):
        seq, ack, offset, flags, window = struct.unpack("!IIBBH", tcp[4:16])
        length = (offset >> 4) * 4
        sequence = {0: "zero", ACKED: "as acknowledged"}.get(seq, "its own")
        acknowledgment = {0: "zero", SEQ: "as sent", SEQ + 1: "as sent + 1"}.get(ack, "its own")
        return {**self.of_ip(header), "flags": flags, "window": window, "sequence": sequence,
                "acknowledgment": acknowledgment, "options": describe(tcp[20:length]),
                "payload": len(tcp) - length}

    def unreachable(self):
        """nmap's U1: a datagram of 300 octets to a closed port."""
        udp = struct.pack("!HHHH", 40_999, CLOSED, 308, 0) + b"C" * 300
        packet = ip_packet(self.source, self.target, socket.IPPROTO_UDP, udp, False)
        self.sender.sendto(packet, (self.target, 0))
        got = self.answer(self.icmp, lambda icmp: icmp[0] == 3)
        if not got:
            return "no answer"
        header, icmp = got
        quoted = icmp[8:]
        return {**self.of_ip(header), "code": icmp[1], "length": len(icmp),
                "unused": icmp[4:8].hex(), "quoted ID": quoted[4:6].hex(),
                "quoted data": quoted[28:] == b"C" * (len(quoted) - 28)}

    def echo(self, code, tos, size, dont_fragment):
        """nmap's IE."""
        icmp = struct.pack("!BBHHH", 8, code, 0, 77, 295) + b"\0" * size
        icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
        packet = ip_packet(self.source, self.target, socket.IPPROTO_ICMP, icmp, dont_fragment, tos)
        self.sender.sendto(packet, (self.target, 0))
        got = self.answer(self.icmp, lambda reply: reply[0] == 0)
        if not got:
            return "no answer"
        described = self.of_ip(got[0])
        del described["IP ID"]  # Counted per destination by the kernel, hashed: not to be compared.
        return {**described, "code": got[1][1], "length": len(got[1])}


def describe(options):
    """nmap's letters: order and values of the options; of timestamps, whether the echo is right."""
    text, at = "", 0
    while at < len(options):
        kind = options[at]
        if kind in (0, 1):
            text += " EOL" if kind == 0 else " NOP"
            at += 1
            continue
        value = options[at + 2:at + options[at + 1]]
        names = {2: "MSS", 3: "WScale", 4: "SackOK", 8: "TS"}
        shown = value.hex() if kind != 8 else f"{value[:4] != bytes(4)},{value[4:].hex()}"
        text += f" {names.get(kind, kind)}({shown})"
        at += options[at + 1]
    return text.strip()


def kernel_beside(t):
    """A kernel with nothing but an address and a server, in a namespace of its own."""
    server = t.start(["unshare", "--net", PYTHON, "-c", SERVER], name="kernel")
    own = os.readlink("/proc/self/ns/net")
    t.until(lambda: os.readlink(f"/proc/{server.pid}/ns/net") != own, 5, "the namespace")
    inside = ["nsenter", f"--net=/proc/{server.pid}/ns/net", "ip"]
    t.run(["ip", "link", "add", "left", "type", "veth", "peer", "name", "right"])
    t.run(["ip", "link", "set", "right", "netns", server.pid])
    for ip, name, address in [(["ip"], "left", NEAR_KERNEL), (inside, "right", KERNEL)]:
        t.run([*ip, "address", "add", f"{address}/24", "dev", name])
        t.run([*ip, "link", "set", name, "up"])
    t.until(lambda: socket.create_connection((KERNEL, OPEN), 5), 10, "the kernel's server")


@scenario(timeout=120)
def test_a_scanner_cannot_tell_onwire_from_the_kernel(t):
    kernel_beside(t)
    # The window scale follows from the largest receive buffer, which kernels differ in.
    limits = pathlib.Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()
    (t.tmp / "onwire.toml").write_text(f"[tcp]\nrmem = [{', '.join(limits)}]\n")
    server = t.serve(PYTHON, "-c", SERVER, port=OPEN, config=t.tmp / "onwire.toml")
    socket.create_connection((STACK, OPEN), 5).close()
    before = t.stats(server)
    theirs, ours = Scanner(NEAR_KERNEL, KERNEL), Scanner(HOST, STACK)
    differences = []

    def compare(name, probe):
        kernel, onwire = probe(theirs), probe(ours)
        if kernel != onwire:
            differences.append(f"{name}:\n    kernel {kernel}\n    onwire {onwire}")

    ecn = "tcp.ecn" in t.run([ONWIRE, "settings"])
    for name, *probe in PROBES:
        if name != "ECN" or ecn:
            compare(name, lambda scanner, probe=probe: scanner.probe(*probe))
    compare("U1", lambda scanner: scanner.unreachable())
    compare("IE, first", lambda scanner: scanner.echo(9, 0, 120, True))
    compare("IE, second", lambda scanner: scanner.echo(0, 4, 150, False))
    t.moved(before, t.stats(server), rx=len(PROBES) - 1, tx=10, what=f"{len(PROBES) + 3} probes")
    check(not differences, "\n".join(differences))
