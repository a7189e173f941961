# `make run` and `make test` do all the set-up, system packages included.
SHELL := /bin/bash
export CCACHE_DIR ?= $(HOME)/.cache/ccache
# Another checkout finds what this one has compiled.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
JOBS ?= $(shell nproc)

.PHONY: run demo test test-peers check week build setup sanitize format clean

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

setup:
	@tools/setup

## Address and undefined-behaviour sanitizers on every layer, the thread sanitizer on all but the edge.
sanitize: setup
	@tests/sanitize

format:
	@git ls-files '*.h' '*.cc' | xargs clang-format-19 -i

clean:
	@rm -rf build
