#!/bin/bash
# Makes include/onwire.h from the library's C interface: scripts/header.sh
# Fails if it is not what the source says:              scripts/header.sh --check
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.29.4
cbindgen=$(command -v cbindgen || echo target/tools/bin/cbindgen)
if ! "$cbindgen" --version 2>/dev/null | grep -qx "cbindgen $version"; then
    cbindgen=target/tools/bin/cbindgen
    if ! "$cbindgen" --version 2>/dev/null | grep -qx "cbindgen $version"; then
        # Built apart from the workspace, once: its dependencies are none of ours.
        CARGO_TARGET_DIR=target/tools/build cargo install cbindgen --version $version --locked \
            --quiet --root target/tools
    fi
fi
made=$(mktemp)
trap 'rm -f "$made"' EXIT
# The interface is one file; reading it alone needs no expansion of the crates below it.
"$cbindgen" --quiet --config preload/cbindgen.toml --output "$made" preload/src/api.rs
if [ "${1:-}" = --check ]; then
    diff -u include/onwire.h "$made" || { echo "include/onwire.h is stale: run scripts/header.sh"; exit 1; }
else
    mv "$made" include/onwire.h
    chmod 644 include/onwire.h
fi
