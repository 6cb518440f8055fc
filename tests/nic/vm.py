"""A computer of our own with NICs on a PCI bus behind an IOMMU, all of it in software.

QEMU boots Debian's kernel on this machine's own files (read-only, below a layer of memory), so what
is installed and built here runs there. Nothing is installed: the kernel's package is only
unpacked, below target/nic.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORK = (ROOT / "target").resolve() / "nic"
KERNEL = WORK / "kernel"

# The guest's first program: our files as its root, then the tests.
INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc none /proc; $B mount -t sysfs none /sys; $B mount -t devtmpfs none /dev
for m in $($B cat /modules/order); do $B insmod /modules/$m || $B echo "insmod $m failed"; done
share=trans=virtio,version=9p2000.L,msize=512000
$B mount -t 9p -o $share,cache=loose,ro files /lower || $B poweroff -f
$B mount -t tmpfs -o size=50% none /upper; $B mkdir /upper/new /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/new,workdir=/upper/work overlay /root
for d in proc sys dev run tmp; do $B mkdir -p /root/$d; done
$B mount -t proc none /root/proc; $B mount -t sysfs none /root/sys
$B mount -t devtmpfs none /root/dev; $B mkdir -p /root/dev/pts /root/dev/shm /root/dev/hugepages
$B mount -t devpts none /root/dev/pts; $B mount -t tmpfs none /root/dev/shm
$B mount -t tmpfs none /root/run
$B mkdir -p /root/run/out
$B mount -t 9p -o $share,cache=none out /root/run/out
$B ln -s /lower$(for a in $($B cat /proc/cmdline); do case $a in kernel=*) $B echo ${a#kernel=};; esac; done) /kernel
$B mkdir -p /root/lib/modules; $B mount --bind /kernel/lib/modules /root/lib/modules
$B umount /proc /sys
exec $B chroot /root /bin/sh /run/out/start
"""

START = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TERM=dumb LC_ALL=C.UTF-8
: > /run/out/up
ip link set lo up
export TESTS_TARGET={binaries}
/usr/bin/python3 {guest} </dev/null
echo $? > /run/out/status
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


class Unable(Exception):
    """The computer cannot be made or did not come up."""


def run(*argv):
    done = subprocess.run(argv, cwd=WORK, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unable(f"{' '.join(map(str, argv))}: {done.stderr.strip()[-400:]}")
    return done.stdout


def version():
    return next(iter(sorted(os.listdir(KERNEL / "lib" / "modules"))))


def download(package, into):
    """Unpacks one of Debian's packages; nothing is installed."""
    try:
        run("apt-get", "download", "-q", package)
    except Unable:
        # The lists may be old or absent, or a mirror had its moment.
        run("apt-get", "update", "-q")
        run("apt-get", "download", "-q", package)
    archive = max(WORK.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    run("dpkg", "-x", archive, into)
    archive.unlink()


def kernel_package():
    """The newest kernel of this release."""
    for _ in range(2):
        try:
            words = run("apt-cache", "depends", "linux-image-amd64").split()
        except Unable:
            words = []
        found = [word for word in words if word.startswith("linux-image-6")]
        if found:
            return found[0]
        run("apt-get", "update", "-q")
    raise Unable("apt knows no linux-image-amd64")


def unpack_kernel():
    """A kernel with an index of its modules, and a busybox that needs no library."""
    if (KERNEL / "ready").exists() and (KERNEL / "bin" / "busybox").exists():
        return
    shutil.rmtree(KERNEL, ignore_errors=True)
    download(kernel_package(), KERNEL)
    download("busybox-static", KERNEL)
    run("depmod", "-b", KERNEL, version())
    (KERNEL / "ready").touch()


def make_initramfs(path):
    """Just enough to mount our files: busybox and the modules that this takes."""
    tree = WORK / "initramfs"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "root"):
        (tree / name).mkdir(parents=True)
    busybox = KERNEL / "bin" / "busybox"
    shutil.copy(busybox, tree / "bin" / "busybox")
    order = []
    for module in ("virtio_pci", "9pnet_virtio", "9p", "overlay"):
        for line in run("modprobe", "-d", KERNEL, "-S", version(), "-D", module).splitlines():
            source = pathlib.Path(line.split()[1]) if line.startswith("insmod") else None
            if source and source.name not in order:
                shutil.copy(source, tree / "modules" / source.name)
                order.append(source.name)
    (tree / "modules" / "order").write_text("\n".join(order) + "\n")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(entry.relative_to(tree)) for entry in sorted(tree.rglob("*")))
    packed = subprocess.run([busybox, "cpio", "-o", "-H", "newc"], cwd=tree, input=names.encode(),
                            capture_output=True, check=True)
    path.write_bytes(packed.stdout)


class Computer:
    """One boot. `nics` are entries of nics.py, in the order of their PCI slots from 2 on; they and the
    peer's are on one wire, which is recorded in `out`/wire.pcap. Those of several queues have a TAP
    each, in a network namespace of QEMU's own, whose kernel is their peer."""

    def __init__(self, nics, guest, binaries, out, slots):
        WORK.mkdir(parents=True, exist_ok=True)
        unpack_kernel()
        self.initramfs = WORK / "initramfs.cpio"
        make_initramfs(self.initramfs)
        self.nics, self.guest, self.out = nics, guest, out
        self.peer_slot, self.second_slot = slots
        self.process = None
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        # Copies: what is built meanwhile must not change below the guest.
        self.binaries = WORK / "binaries"
        self.binaries.mkdir(exist_ok=True)
        for binary in binaries:
            shutil.copy(binary, self.binaries)
        self.wire = out / "wire.pcap"
        self.console = out / "console.log"
        self.monitor = WORK / "monitor.sock"

    def arguments(self):
        words = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-machine",
            "q35", "-smp", "2", "-m", "2560M",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-serial", f"file:{self.console}", "-qmp", f"unix:{self.monitor},server=on,wait=off",
            "-kernel", str(KERNEL / "boot" / f"vmlinuz-{version()}"),
            "-initrd", str(self.initramfs),
            # no_timer_check: without it a boot in twenty fails behind the IOMMU.
            "-append", "console=ttyS0 quiet panic=-1 oops=panic mitigations=off no_timer_check "
                       f"intel_iommu=on kernel={KERNEL}",
            "-device", "intel-iommu,intremap=on,caching-mode=on",
            "-fsdev", "local,id=files,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=files,mount_tag=files,addr=0x1e",
            "-fsdev", f"local,id=out,path={self.out},security_model=none",
            "-device", "virtio-9p-pci,fsdev=out,mount_tag=out,addr=0x1d",
            "-device", "virtio-rng-pci,addr=0x1c",
            "-netdev", "hubport,id=peer,hubid=0",
            "-device", f"virtio-net-pci,netdev=peer,addr={self.peer_slot:#x}",
            "-object", f"filter-dump,id=record,netdev=peer,file={self.wire}",
        ]
        for number, kind in enumerate(self.nics):
            place = f"addr={number + 2:#x}"
            if kind.hot:
                words += ["-device", f"pcie-root-port,id=slot1,chassis=1,slot=1,{place}"]
                place = "bus=slot1"
            words += self.card(number, kind, place)
            if kind.second:
                second = kind._replace(model=kind.second)
                words += self.card(f"{number}b", second, f"addr={self.second_slot:#x}")
        return words

    @staticmethod
    def card(name, kind, place):
        """A card and its end of a wire."""
        wire = f"hubport,id=d{name},hubid=0"
        if kind.queues > 1:
            wire = f"tap,id=d{name},ifname=wire{name},script=no,downscript=no,queues={kind.queues}"
        return ["-netdev", wire, "-device", f"{kind.model},netdev=d{name},id=nic{name},{place}"]

    def command(self):
        """QEMU in a namespace of its own, with the TAPs that it attaches to."""
        steps = ["ip link set lo up"]
        for number, kind in enumerate(self.nics):
            if kind.queues > 1:
                tap = f"wire{number}"
                steps += [f"ip tuntap add dev {tap} mode tap multi_queue vnet_hdr",
                          f"ip address add 10.9.0.1/24 dev {tap}", f"ip link set {tap} up"]
        script = " && ".join([*steps, 'exec "$@"'])
        return ["unshare", "--net", "sh", "-c", script, "qemu", *self.arguments()]

    def outside(self, argv, timeout=60):
        """Runs a program beside QEMU; (status, output)."""
        inside = ["nsenter", "--net", "-t", str(self.process.pid), "--", *argv]
        try:
            done = subprocess.run(inside, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return None, f"it took over {timeout} s"
        return done.returncode, done.stdout

    def received_outside(self, number):
        """How many frames a NIC's TAP has taken from it."""
        _, text = self.outside(["ip", "-j", "-s", "link", "show", f"wire{number}"])
        return json.loads(text)[0]["stats64"]["rx"]["packets"]

    def boot(self, timeout, on_line):
        """Runs to power-off; the guest's status. Hands each line of its console to `on_line`."""
        (self.out / "start").write_text(START.format(guest=self.guest, binaries=self.binaries))
        for _ in range(3):
            self.monitor.unlink(missing_ok=True)
            self.console.write_text("")
            process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self.process = process
            try:
                if self._came_up(process):
                    return self._follow(process, time.monotonic() + timeout, on_line)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                process.wait()
        raise Unable(f"the guest did not come up in three boots; see {self.console}")

    def _came_up(self, process):
        end = time.monotonic() + 180
        while time.monotonic() < end:
            if (self.out / "up").exists():
                return True
            if process.poll() is not None:
                error = process.stderr.read().decode(errors="replace").strip()
                if error:
                    raise Unable(f"qemu: {error[-400:]}")
                return False
            time.sleep(0.2)
        return False

    def _follow(self, process, end, on_line):
        with open(self.console, errors="replace") as console:
            rest = ""
            while True:
                ended = process.poll() is not None
                rest += console.read()
                *lines, rest = rest.split("\n")
                for line in lines:
                    on_line(line.rstrip("\r"))
                if ended:
                    status = self.out / "status"
                    return int(status.read_text()) if status.exists() else None
                if time.monotonic() > end:
                    return None
                time.sleep(0.1)

    def set_link(self, name, up):
        """Pulls a NIC's cable out, or puts it back."""
        self._command("set_link", name=f"nic{name}", up=up)

    def unplug(self, number):
        """Asks for a NIC to be taken out; the guest does it."""
        self._command("device_del", id=f"nic{number}")

    def _command(self, execute, /, **arguments):
        """One command of QEMU's monitor."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(10)
            monitor.connect(str(self.monitor))
            stream = monitor.makefile("rw")
            stream.readline()
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": execute, "arguments": arguments}):
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
                if "error" in answer:
                    raise Unable(f"{command}: {answer['error']}")
