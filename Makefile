# `make run` and `make test` do all the set-up, system packages included.
SHELL := /bin/bash
export CCACHE_DIR ?= $(HOME)/.cache/ccache
# Another checkout finds what this one has compiled.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
export CCACHE_SLOPPINESS := locale
JOBS ?= $(shell nproc)

.PHONY: run demo eval test test-peers check week bench bench-peers bench-stream test-crash bench-cache build setup sanitize format clean

## Builds and runs the service on 127.0.0.1:50051, with a simulated provider where no key is set.
run: build
	@tools/run

## Walks the whole ladder before your eyes.
demo: build
	@tools/demo

## Builds and passes every test.
test: build
	@cmake --build build/release --parallel $(JOBS)
	@ctest --test-dir build/release --output-on-failure --no-tests=error $(CTEST_FLAGS)

## Checks against servers and clients that nobody here wrote.
test-peers: build
	@tests/peers/run

## Format, layering and proto checks.
check: setup
	@tests/lint/run

## build/bin: holdfast, holdfastctl, simprovider.
build: setup
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build build/release --parallel $(JOBS) --target holdfast holdfastctl simprovider

## The mission's week and harder ones in virtual time; draws docs/week.svg.
week: setup
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build build/release --parallel $(JOBS) --target week
	@build/bin/week docs/week.svg

## The cache under kill -9, 200 rounds.
test-crash: setup
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build build/release --parallel $(JOBS) --target cache_test
	@cd build/release && HOLDFAST_CRASH_ROUNDS=200 tests/cache_test --gtest_filter='Crash.*' --gtest_brief=1

## A million entries in the cache: storing, starting, finding. SENTENCES: a file of STS-B's ("a" and
## "b", a JSON object a line); without it the vectors lie around random directions.
bench-cache: setup
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build build/release --parallel $(JOBS) --target cache_bench
	@$$(find build -name cache_bench -type f | head -1) \
	  $(if $(SENTENCES),--model build/models/minilm.hfm --sentences $(SENTENCES)) $(BENCH_FLAGS)

## Holdfast beside a direct call and nginx: speed, CPU time, memory. BENCH_FLAGS are tests/bench/run's.
bench: build
	@cmake --build build/release --parallel $(JOBS) --target bench_mock bench_load
	@tests/bench/run $(BENCH_FLAGS)

## The same exchange through other gateways, pinned and installed under build/bench.
bench-peers: build
	@cmake --build build/release --parallel $(JOBS) --target bench_mock bench_load
	@tests/bench/run --peers $(BENCH_FLAGS)

## What the cache would serve, and how often wrongly; draws docs/similarity.svg. Needs ../shared.
eval: build
	@tools/eval_similarity docs/similarity.svg

## The same for streams: a token's way, CPU time, 5,000 streams at once.
bench-stream: build
	@cmake --build build/release --parallel $(JOBS) --target bench_mock bench_load
	@tests/bench/streams $(BENCH_FLAGS)

setup:
	@tools/setup

## Address and undefined-behaviour sanitizers on every layer, the thread sanitizer on all but the edge.
sanitize: setup
	@tests/sanitize

format:
	@git ls-files '*.h' '*.cc' | xargs clang-format-19 -i

clean:
	@rm -rf build
