#!/bin/bash
# Shows unmodified programs on the stack. Everything happens in namespaces of its own: the machine's
# network is not touched, and everything that was started ends with this script.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
    echo "onwire: the demo makes a network namespace and a TAP: run it as root" >&2
    exit 2
fi
exec unshare --net --mount --propagation unchanged --pid --fork --mount-proc --kill-child \
    /usr/bin/python3 scripts/demo.py
