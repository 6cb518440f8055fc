#!/bin/bash
# Feeds random, truncated and mutated frames to the stack: scripts/fuzz.sh [SECONDS]
# Each run starts elsewhere; a failure names the seed that repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${FUZZ_SEED:-$RANDOM$RANDOM}
echo "seed $seed"
FUZZ_SECONDS=${1:-60} FUZZ_SEED=$seed cargo test --locked -p onwire-stack --test fuzz_frames -- --nocapture
