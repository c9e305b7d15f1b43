# Two commands from a fresh clone: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup check test demo clean
help:
	@echo 'make demo    two real local hosts, a deploy to both, the answer over HTTPS'
	@echo 'make test    everything with pytest, real hosts included (as root, on Linux)'
	@echo 'make check   format, lint, types, shell scripts'
	@echo 'make setup   the virtual environment in .venv'
	@echo 'make clean   take away .venv and the local hosts'

setup: .venv/ready

.venv/ready: pyproject.toml
	@.ci/packages
	@echo 'making .venv'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1,<27'
	@$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	@touch $@

check: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	.ci/shellcheck

test: setup
	$(BIN)/pytest

demo: setup
	@.ci/demo

clean:
	@if [ -x $(BIN)/fab ] && [ -d .sandbox ]; then $(BIN)/fab sandbox.down; fi
	rm -rf .venv
