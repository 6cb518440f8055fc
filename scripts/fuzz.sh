#!/bin/bash
# Half of the time random, truncated and mutated frames for the stack, half of the time programs that
# call anything in any order over a wire that lies: scripts/fuzz.sh [SECONDS]
# Each run starts elsewhere; a failure names the seed that repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${FUZZ_SEED:-$RANDOM$RANDOM}
echo "seed $seed"
for target in fuzz_frames fuzz_actions; do
    FUZZ_SECONDS=$((${1:-60} / 2)) FUZZ_SEED=$seed \
        cargo test --locked -p onwire-stack --test $target -- --nocapture
done
