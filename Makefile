# Two commands for a new user: `make demo` and `make test`. Both set up what is missing first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CALLAMA := $(BIN)/callama

.PHONY: setup demo test test-peer lint

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: Python 3.11 or newer is needed; name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The whole path on the embedded model: pull, synthesise, build, train, merge, prove.
demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

test: setup
	$(BIN)/python -m pytest -m "not peer"

# What needs a peer project that is too heavy for every run; npm must reach its registry.
test-peer: setup
	$(BIN)/python -m pytest -m peer

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
