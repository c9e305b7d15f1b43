# Two commands from a fresh clone: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 4
SHARE ?= 1/1
# Compile a test once, not in each process of each run, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE =
# tests/conftest.py says how many processes. A module's tests share their hosts, so they stay together.
PYTEST := $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup lock check quick test promises bench demo clean
help:
	@echo 'make demo     boot two real local hosts, deploy to both, ask them over HTTPS'
	@echo 'make test     all tests, on real local hosts (as root, on Linux)'
	@echo 'make promises try every case of every promise, for hours; writes docs/PROMISES.md (SEED=4; SHARE=1/4: a quarter at a time)'
	@echo 'make bench    measure ours, the limit made by hand and the peers; writes docs/BENCHMARK.md (BENCH="--rounds 1 --series near")'
	@echo 'make quick    the tests that need no host and install no packages'
	@echo 'make check    format, lint, types, imports, shell scripts'
	@echo 'make setup    install the packages and make .venv'
	@echo 'make lock     lock what fab and the tests need, with hashes, in requirements-dev.lock (UPGRADE=--upgrade: the newest)'
	@echo 'make clean    remove .venv and the local hosts'

setup: .venv/ready

.venv/ready: requirements-dev.lock
	@.ci/packages
	@echo 'making .venv'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement $<
	@touch $@

# The versions that the lock has stay, if they fit: `make lock UPGRADE=--upgrade` takes the newest.
lock: setup
	$(BIN)/uv pip compile --quiet --group dev --universal --python-version 3.10 --generate-hashes $(UPGRADE) \
		--no-emit-index-url --no-emit-find-links --annotation-style line --custom-compile-command 'make lock' \
		--no-python-downloads --output-file requirements-dev.lock

check: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	.ci/shellcheck

# These have no hosts, so a process without tests takes over some of another's.
quick: setup
	@.ci/in_memory $(PYTEST) --dist worksteal -m 'not sandbox and not packages'

test: setup
	$(PYTEST)

# The traffic tests measure time, so they run alone. The page joins the logs of all shares that were run.
promises: ALL = -m 'promise or further' --promises=all --seed=$(SEED) --share=$(SHARE)
promises: LOG = build/$(1).$(subst /,-of-,$(SHARE)).jsonl
promises: setup
	@status=0; \
	$(BIN)/pytest $(ALL) --promises-log=$(call LOG,traffic) tests/traffic || status=$$?; \
	$(PYTEST) $(ALL) --promises-log=$(call LOG,promises) --ignore=tests/traffic || status=$$?; \
	$(BIN)/python -m tests.promises.table build/*-of-$(lastword $(subst /, ,$(SHARE))).jsonl && exit $$status

# Use an idle machine: other load changes the ratios.
bench: setup
	$(BIN)/python -m tests.bench $(BENCH)

demo: setup
	@.ci/demo

clean:
	@if [ -x $(BIN)/fab ] && [ -d .sandbox ]; then $(BIN)/fab sandbox.down; fi
	rm -rf .venv
