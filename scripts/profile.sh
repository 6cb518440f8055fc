#!/bin/bash
# Measures anew which paths through the library are hot: builds it with counters, runs programs on it,
# and writes what was counted to preload/onwire.profdata, by which `make build` lays the code out
# (profile-guided optimization; about a tenth of a round trip). Code that has changed since is compiled
# without, so this is worth doing before a release and after a change of the stack's paths. It must be done
# when a crate gets another version or dependency: all its functions have other names then.
# As root, on two cores; takes about five minutes.
#
# With --check: whether what was counted belongs to what `make build` has just built.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=preload/onwire.profdata.rustc
if [ "${1-}" = --check ]; then
    if [ "$(rustc --version)" != "$(cat "$compiler")" ]; then
        echo "onwire: $(rustc --version) cannot use preload/onwire.profdata, which is of $(cat "$compiler"): a tenth slower" >&2
        exit 0
    fi
    functions() { grep -aoE '_ZN(5stack|6engine|6onwire)[A-Za-z0-9_.$]*17h[0-9a-f]{16}E' | sort -u; }
    all=$(nm target/release/libonwire.so | functions | wc -l)
    known=$(comm -12 <(nm target/release/libonwire.so | functions) <(functions <preload/onwire.profdata) | wc -l)
    echo "the profile knows $known of the library's $all functions"
    # Half of them are never called while it is made.
    [ $((known * 4)) -gt "$all" ] && exit 0
    echo "onwire: preload/onwire.profdata is of another build (names follow versions and dependencies): make profile" >&2
    exit 1
fi
[ "$(id -u)" = 0 ] || { echo "onwire: the measured programs run in network namespaces: run it as root" >&2; exit 2; }
scripts/setup.sh test

# rustc's own LLVM writes a format that versions from 19 on read.
profdata=$(compgen -c llvm-profdata- | sort -V | tail -n 1)
if [ "${profdata#llvm-profdata-}" -lt 19 ] 2>/dev/null || [ -z "$profdata" ]; then
    apt-get install -y --no-install-recommends llvm-19
    profdata=llvm-profdata-19
fi

target=$PWD/target/profile raw=$(mktemp -d) run=$(mktemp -d)
trap 'rm -rf "$raw" "$run"' EXIT
make --no-print-directory build
# All three, as in `make build`: which features their libraries have, and so the names of functions, depends on it.
RUSTFLAGS="-Cprofile-generate=$raw" cargo build --release --locked --target-dir "$target" \
    -p onwire-cli -p onwire-preload -p onwire-bench
# But only the library's paths are counted; what builds has been, too.
rm -f "$raw"/*
cp target/release/onwire target/release/onwire-bench "$target/release/libonwire.so" "$run"
export LLVM_PROFILE_FILE="$raw/%p.profraw" PATH="$run:$PATH"

bench() { onwire bench "$@" --rounds 1 --repeats 0 >/dev/null; }
bench latency --only onwire --link vhost --link memif --link af_packet --size 64,1400
bench stream --only onwire --connections 1,4
bench connect --only onwire
bench request --only onwire
bench request --only onwire --work memcached --threads 4 --queues 2
bench scale --only onwire --connections 1000
onwire bench path --cell 1:20ms --cell 0:20ms:5 --time 2s --rounds 1 >/dev/null
# The default device, and waiting that sleeps.
unshare --net bash -c '
    ip link set lo up
    onwire run -q -- redis-server --save "" --protected-mode no >/dev/null &
    answers() { redis-cli -h 10.78.0.2 ping 2>/dev/null | grep -q PONG; }
    for _ in $(seq 100); do ! answers || break; sleep 0.1; done
    redis-benchmark -h 10.78.0.2 -t get,set -n 20000 -q >/dev/null
    redis-benchmark -h 10.78.0.2 -t get -n 2000 -c 1 -q >/dev/null
    kill %1; wait'

"$profdata" merge --sparse -o preload/onwire.profdata "$raw"/*.profraw
rustc --version >"$compiler"
ls -l preload/onwire.profdata
