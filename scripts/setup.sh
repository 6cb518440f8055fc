#!/bin/bash
# Installs the Debian packages that onwire needs, when they are missing. A Rust toolchain is not
# among them: that is the one prerequisite.
#   scripts/setup.sh build   what building needs
#   scripts/setup.sh test    and the programs and suites that the tests and the demo run
set -euo pipefail

build=(build-essential pkg-config clang libclang-dev libdpdk-dev)
test=(python3 iproute2 util-linux procps redis-server redis-tools nginx-light curl ca-certificates
    iperf3 socat memcached haproxy sockperf wrk tcpdump valgrind ethtool libpython3.11-testsuite
    qemu-system-x86 kmod iputils-ping python3-yaml)

case ${1:-test} in
build) wanted=("${build[@]}") ;;
test) wanted=("${build[@]}" "${test[@]}") ;;
*) echo "usage: scripts/setup.sh [build|test]" >&2; exit 2 ;;
esac

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in "${wanted[@]}"; do
    # Any nginx will do; a second flavour would replace the first.
    if [ "$package" = nginx-light ] && command -v nginx >/dev/null; then continue; fi
    installed "$package" || missing+=("$package")
done

# A toolchain may live beside a user's PATH, as rustup puts it.
if ! command -v cargo >/dev/null && ! [ -x "$HOME/.cargo/bin/cargo" ]; then
    echo "onwire: no Rust toolchain found; install Rust 1.95 or newer (https://rustup.rs)" >&2
    exit 2
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ]; then
    echo "onwire: these packages are missing; as root: apt-get install ${missing[*]}" >&2
    exit 2
fi

echo "onwire: installing ${missing[*]}"
# The servers among them must not start: the tests start their own.
policy=/usr/sbin/policy-rc.d made=
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    made=yes
fi
trap '[ -z "$made" ] || rm -f $policy' EXIT

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install_them() {
    apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" >"$log" 2>&1
}
# Lists may be old or absent: fetch them, and once more after a passing fault.
if ! { apt-get update >"$log" 2>&1 && install_them; }; then
    sleep 5
    if ! { apt-get update >"$log" 2>&1 && install_them; }; then
        tail -n 20 "$log" >&2
        echo "onwire: apt-get failed; all of it is in $log" >&2
        exit 1
    fi
fi
rm -f "$log"
