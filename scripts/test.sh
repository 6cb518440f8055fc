#!/bin/bash
# Everything that must hold: form, unit tests (the header's freshness and the layering are among
# them), a minute of fuzzing, C programs and published suites on the kernel and on the stack,
# unmodified programs end to end, real drivers on NICs that QEMU emulates. Prints a line for each step,
# keeps logs in target/test-logs, shows the tail of what failed, and closes with `N passed, N failed`.
# On a machine that others use a test may be late: what fails is said and run once more (at most
# two tests of a suite), and named at the end.
#   scripts/test.sh [STEP…]    only these steps (see the end of this file)
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD logs=$PWD/target/test-logs
mkdir -p "$logs"
# Built once and not again: neither increments nor debugging information pay.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
passed=0 failed=0 failures=() repeated=()
wanted=("$@")
begun=$SECONDS

selected() { [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]]; }

count() { # passed failed
    passed=$((passed + $1)) failed=$((failed + $2))
}

# step NAME SECONDS COMMAND…: one result, output in a log.
step() {
    local name=$1 limit=$2 log=$logs/$1.log start=$SECONDS
    shift 2
    selected "$name" || return 0
    if timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null; then
        echo "PASS $name ($((SECONDS - start)) s)"
        count 1 0
        return 0
    fi
    local status=$?
    [ $status = 124 ] && echo "took over $limit s" >>"$log"
    echo "FAIL $name ($((SECONDS - start)) s)"
    tail -n 60 "$log" | sed 's/^/     /'
    echo "     (all of it: $log)"
    failures+=("$name")
    count 0 1
    return 1
}

# suite NAME SECONDS: one of tests/run.py, which prints a line for every test.
suite() {
    local name=$1 limit=$2 start=$SECONDS
    selected "$name" || return 0
    rm -f "$logs/$name.count"
    echo "---- $name"
    timeout --kill-after=10 "$limit" /usr/bin/python3 tests/run.py "$name" </dev/null 2>&1 |
        tee "$logs/$name.log" | grep --line-buffered -vE '^[0-9]+ passed, [0-9]+ failed$|^(failed|run twice): '
    if [ -s "$logs/$name.count" ]; then
        read -r good bad <"$logs/$name.count"
    else
        good=0 bad=1
        echo "FAIL $name: it ended early or took over $limit s (log: $logs/$name.log)"
    fi
    echo "---- $name: $good passed, $bad failed, $((SECONDS - start)) s"
    while read -r one; do failures+=("$one"); done < <(sed -n 's/^failed: //p' "$logs/$name.log")
    while read -r one; do repeated+=("$one"); done < <(sed -n 's/^run twice: //p' "$logs/$name.log")
    count "$good" "$bad"
}

# What a log of cargo's tests says of its failures: which, the lines after each panic's place (its
# message), and what a failed scenario on a real device printed before its verdict.
causes() {
    awk '
        /^test .*FAILED$/ || /^error(\[|:)/ || /^---- .* stdout ----$/ { print; next }
        /^live .* \.\.\. / { if (/FAILED/) { print said $0; reason = 1 }; said = ""; next }
        reason { print; reason = 0; next }
        /panicked at/ { left = 6 }
        left > 0 { print; left--; next }
        { said = substr(said $0 "\n", length(said) > 4000 ? 2000 : 1) }
    ' "$1"
    echo "... the end:"
    tail -n 12 "$1"
}

# Cargo's own tests: each counts.
unit_tests() {
    selected unit || return 0
    local log=$logs/unit.log start=$SECONDS good bad
    if ! cargo_test "$log"; then
        echo "AGAIN unit ($((SECONDS - start)) s): it failed, saying"
        causes "$log" | head -n 150 | sed 's/^/     /'
        mv "$log" "$logs/unit.first.log"
        repeated+=("unit")
        start=$SECONDS
        cargo_test "$log"
    fi
    local status=$?
    good=$(awk '/^test result:/ {n += $4} END {print n + 0}' "$log")
    bad=$(awk '/^test result:/ {n += $6} END {print n + 0}' "$log")
    if [ $status != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    if [ "$bad" = 0 ]; then
        echo "PASS unit ($good tests, $((SECONDS - start)) s)"
    else
        echo "FAIL unit ($good passed, $bad failed, $((SECONDS - start)) s)"
        causes "$log" | head -n 150 | sed 's/^/     /'
        echo "     (all of it: $log)"
        failures+=("unit")
    fi
    count "$good" "$bad"
}

cargo_test() { # LOG
    timeout --kill-after=10 900 cargo test --workspace --locked --no-fail-fast >"$1" 2>&1 </dev/null
}

if [ "$(id -u)" != 0 ]; then
    echo "onwire: the tests make network namespaces and TAPs: run them as root" >&2
    exit 2
fi

steps() {
    step format 300 cargo fmt --all --check
    step clippy 600 cargo clippy --workspace --all-targets --locked -- -D warnings
    step build 900 make --no-print-directory build
    step profile 60 scripts/profile.sh --check
    unit_tests
    # The same seeds each time, so that only a change of ours turns this red: others by hand.
    step fuzz 300 env FUZZ_SEED="${FUZZ_SEED:-1}" scripts/fuzz.sh 60
    suite instructions 900
    suite c 600
    suite e2e 1200
    suite python 500
    suite crates 600
    suite nic 1800
}
steps

echo
echo "steps took $((SECONDS - begun)) s"
for one in "${repeated[@]:-}"; do [ -n "$one" ] && echo "run twice: $one"; done
for one in "${failures[@]:-}"; do [ -n "$one" ] && echo "failed: $one"; done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
