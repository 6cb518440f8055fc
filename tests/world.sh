#!/bin/sh
# Runs a program in the namespaces that unshare just made: loopback up, a run directory of its own.
ip link set lo up
ONWIRE_RUN_DIR=$(mktemp -d /tmp/onwire-run-XXXXXX)
export ONWIRE_RUN_DIR
trap 'rm -rf "$ONWIRE_RUN_DIR"' EXIT
"$@"
