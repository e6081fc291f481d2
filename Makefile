# Everything a person or CI runs here, in one word each. `make help` lists them.
#
#   PYTHON   the Python to build the virtual environment with (3.11 or newer)
#   VENV     where that environment lives; one per Python version, e.g. VENV=.venv-3.13 PYTHON=python3.13
#   PEER_PYTHON  a Python 3.12 or newer, for the peers that need one; looked for when not given
#   WORKERS  how many test processes run at once
#   EXAMPLES how many plays `make properties` tries
#   SECONDS  how long `make fuzz` spends on each target
#   TESTS    what to test: a file, a folder, or file::name
#   ARGS     further arguments for pytest, or for the benchmark

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
EXAMPLES ?= 5000
SECONDS ?= 60
TESTS ?= tests
ARGS ?=
export PEER_PYTHON

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-lowest lint format bench bench-all bench-micro interop mutants properties fuzz soak docs peers wheel clean

help:
	@echo 'make demo         run a WebTransport server and a page that talks to it (real sockets)'
	@echo 'make test         all tests; one that needs a browser or a peer that is not here says what to install'
	@echo 'make test-fast    the tests that need neither a browser nor a peer nor patience'
	@echo 'make test-lowest  test-fast with the oldest cryptography and pylsqpack that we support'
	@echo 'make lint         ruff format --check, ruff check, mypy --strict'
	@echo 'make format       let ruff rewrite the files'
	@echo 'make bench        bulk transfer, requests and handshakes over loopback, against other stacks, in turn'
	@echo 'make bench-all    everything about speed, in half an hour or more; writes docs/performance/'
	@echo 'make bench-micro  the pieces alone: varints, frames, trains, ACKs, streams, handshakes, QPACK, the simulator'
	@echo 'make interop      the cases of the QUIC interop runner with every peer here; writes docs/interop.md'
	@echo 'make coverage     test-fast, and which lines and branches of quicstack it runs: 95 % at least'
	@echo 'make mutants      change the source in small ways and see whether the tests notice; two hours at most'
	@echo 'make properties   EXAMPLES plays of applications, networks and clocks over pairs of endpoints; 5000 take minutes'
	@echo 'make fuzz         SECONDS of coverage-guided fuzzing for each target; writes docs/fuzzing.md'
	@echo 'make soak         1,000 connections for a day of virtual time, most of an hour; writes docs/soak.md'
	@echo 'make docs         write docs/modules.md, rfc-map.md and conformance.md from source and tests'
	@echo 'make peers        environments for peers that cannot share ours, under .venv-peers/'
	@echo 'make wheel        build dist/quicstack-*-py3-none-any.whl'
	@echo 'make clean        remove everything that the targets above made'

# A stamp file says that an environment is complete, so a second run touches no network.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "quicstack needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing quicstack into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing quicstack and what its tests need into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/python -m webtransport demo $(ARGS)

test: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory peers || test -z "$(CI)"
	$(PYTEST) $(TESTS) $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m 'not slow and not peer and not browser' $(TESTS) $(ARGS)

# The lowest versions named in pyproject.toml, read from there. Skips are in order here: a newer library's gifts are missing.
test-lowest:
	@$(MAKE) --no-print-directory VENV=.venv-lowest .venv-lowest/.installed-lowest
	CI= .venv-lowest/bin/python -m pytest -n $(WORKERS) -m 'not slow and not peer and not browser' $(TESTS) $(ARGS)

.venv-lowest/.installed-lowest: pyproject.toml tests/lowest.py | $(BIN)/python
	@echo "Installing the oldest supported dependencies into $(VENV)"
	@$(PIP) --editable '.[test,uvloop]' $$($(BIN)/python tests/lowest.py)
	@touch $@

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/compare.py --loops asyncio $(ARGS)

# All of it, half an hour and more, into docs/performance/. What a peer needs that is not here is said first.
REPORT := docs/performance
bench-all: $(VENV)/.installed-plots
	@$(MAKE) --no-print-directory peers || true
	$(BIN)/python benchmarks/floor.py --report $(REPORT)
	$(BIN)/python benchmarks/engine.py --report $(REPORT)
	$(BIN)/python benchmarks/stages.py --report $(REPORT)
	$(BIN)/python benchmarks/instructions.py --report $(REPORT)
	$(BIN)/python benchmarks/ablation.py --report $(REPORT)
	$(BIN)/python benchmarks/compare.py --all --report $(REPORT) $(ARGS)
	$(BIN)/python benchmarks/growth.py --long --report $(REPORT)
	$(BIN)/python benchmarks/paths.py --report $(REPORT)

$(VENV)/.installed-plots: $(VENV)/.installed-dev
	@echo "Installing what draws plots into $(VENV)"
	@$(PIP) --editable '.[dev,plots]'
	@touch $@

bench-micro: $(VENV)/.installed-dev
	$(BIN)/python -m pytest benchmarks/micro -p no:xdist --benchmark-columns=min,median,ops --benchmark-sort=name --benchmark-max-time=0.3 $(ARGS)

coverage: $(VENV)/.installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal -m 'not slow and not peer and not browser' $(TESTS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutants: $(VENV)/.installed-dev
	$(BIN)/python tests/mutation/mutants.py $(ARGS)

properties: $(VENV)/.installed-dev
	EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --timeout=0 -k at_length tests/properties $(ARGS)

fuzz: $(VENV)/.installed-dev
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python tests/soak/soak.py $(ARGS)

# ARGS='--peers aioquic --cases retry,v2 --merge' plays a part again and keeps the rest.
interop: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory peers || true
	$(BIN)/python -m interop.run --report docs/interop.md $(ARGS)

docs: $(BIN)/python
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/conformance.py

peers: $(VENV)/.installed-dev
	@$(BIN)/python tests/peers/environments.py

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pip --disable-pip-version-check --quiet wheel --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .venv-* interop-logs .fuzz build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
