#!/bin/sh
# Runs a program in the namespaces that unshare just made: loopback up, a run directory of its own.
# With WORLD_COUNTERS=PREFIX it leaves behind who carried the program's traffic: PREFIX.kernel (the
# namespace's own counters), PREFIX.ended (a line of JSON for each engine that has ended) and
# PREFIX.live (those of engines whose keepers still hold something, asked with $WORLD_ONWIRE).
ip link set lo up
ONWIRE_RUN_DIR=$(mktemp -d /tmp/onwire-run-XXXXXX)
export ONWIRE_RUN_DIR
trap 'rm -rf "$ONWIRE_RUN_DIR"' EXIT
[ -z "$WORLD_COUNTERS" ] || export ONWIRE_STATS_FILE="$WORLD_COUNTERS.ended"
"$@"
status=$?
if [ -n "$WORLD_COUNTERS" ]; then
    cat /proc/net/snmp >"$WORLD_COUNTERS.kernel"
    # A keeper that ends while it is asked leaves its line instead: ask again.
    tries=0
    while ls "$ONWIRE_RUN_DIR"/*.sock >/dev/null 2>&1 && [ $tries -lt 50 ]; do
        "$WORLD_ONWIRE" stats --json >"$WORLD_COUNTERS.live" 2>/dev/null && break
        tries=$((tries + 1))
        sleep 0.1
    done
fi
exit $status
