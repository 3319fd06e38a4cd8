# `make demo` and `make test` work from a fresh clone on Debian 12, as root or with sudo, once Rust is there (rustup).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: help setup sample build demo test test-program test-full bench lint clean-cache fuzz

CACHE := $(or $(HULLWRIGHT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hullwright)
DEFINITION ?= image-defs/sample-container-host.toml
OUT ?= out

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
export HULLWRIGHT_SAMPLE_RPMS ?= $(CACHE)/sample-rpms
export HULLWRIGHT_TRIXIE_TOOLS ?= $(CACHE)/trixie-tools
export HULLWRIGHT_SELINUX_POLICY ?= $(CACHE)/selinux-policy
# Real RPMs of other distributions, where they lie beside the clone; tests that want them are skipped elsewhere.
export HULLWRIGHT_REAL_RPMS ?= $(wildcard $(abspath ../shared/real-rpms))
# Every test that is skipped says so in this file: a passing test's output is not shown.
export HULLWRIGHT_SKIPS ?= $(CURDIR)/target/skipped-tests.txt

help:
	@echo "make demo       set-up, sample RPMs, build an image, boot it until it is healthy"
	echo "make test       set-up, sample RPMs, all quick tests"
	echo "make test-full  the same, and the tests that boot many machines"
	echo "make bench      the benchmarks; BENCH_ARGS=\"--rounds 1 --without-mkosi\" for a quick one"
	echo "make lint       rustfmt and clippy"

setup:
	@tests/setup

sample: setup
	@tests/sample-set/make --out "$$HULLWRIGHT_SAMPLE_RPMS"

build:
	@cargo build --release

demo: sample build
	@PATH="$$HULLWRIGHT_TRIXIE_TOOLS/bin:$$PATH"
	tests/demo "$(DEFINITION)" "$(OUT)"

test: sample
	@mkdir -p target && : > "$$HULLWRIGHT_SKIPS"
	cargo test --no-fail-fast $(TEST_ARGS)
	tests/skipped "$$HULLWRIGHT_SKIPS"

# A test program that `cargo test --no-run` has left, without cargo, which waits where another cargo works.
test-program: sample
	@mkdir -p target && : > "$$HULLWRIGHT_SKIPS"
	"$(PROGRAM)" $(TEST_ARGS)

test-full: sample
	@mkdir -p target && : > "$$HULLWRIGHT_SKIPS"
	cargo test --no-fail-fast $(TEST_ARGS) -- --include-ignored
	tests/skipped "$$HULLWRIGHT_SKIPS"

bench: sample
	@cargo bench
	cargo build --release
	benches/image/run $(BENCH_ARGS)

lint:
	@cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# Searches for inputs that a parser cannot bear: make fuzz TARGET=rpm_header SECONDS=600
fuzz:
	@fuzz/run "$(or $(TARGET),rpm_header)" "$(or $(SECONDS),60)"
