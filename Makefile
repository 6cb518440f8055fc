# make build   release binaries: target/release/{onwire,libonwire.so,onwire-bench}
# make profile measures the hot paths anew, by which `make build` lays the code out
# make demo    shows unmodified programs on the stack, with the stack's own counters
# make test    everything that CI runs
# make lint    formatting, clippy
# make doc     the crates' documentation
# Each installs what it lacks (Debian packages; a Rust toolchain must be there).

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo

.PHONY: all build profile demo test lint doc setup setup-build clean

all: build

setup:
	@scripts/setup.sh test

setup-build:
	@scripts/setup.sh build

# With what was measured of the hot paths (scripts/profile.sh). What has changed since does without.
build: export RUSTFLAGS += -Cprofile-use=$(CURDIR)/preload/onwire.profdata -Cllvm-args=-no-pgo-warn-mismatch
build: setup-build
	$(CARGO) build --release --locked -p onwire-cli -p onwire-preload -p onwire-bench
	@scripts/profile.sh --check || true

profile: setup
	@scripts/profile.sh

demo: setup
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh

test: setup
	@scripts/test.sh

lint: setup-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: setup-build
	$(CARGO) doc --workspace --no-deps --locked

clean:
	$(CARGO) clean
