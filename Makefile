# make repro   makes .venv, installs the pinned dependencies, runs `dvc repro`
# make test    lint, types and the quick tests; what CI runs
# make test-all  the slow tests too
# make bench   what the default run costs: writes reports/benchmarks.json
# make docs    fills in the outputs of the README's queries

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export PATH := $(abspath $(BIN)):$(PATH)
export OMP_NUM_THREADS ?= 1

.PHONY: help install repro test test-all lint types docs bench clean

help:
	@sed -n 's/^# //p' Makefile

install: $(STAMP)

# The bytecode is compiled here, once; where it cannot be written later, every model stage would compile its imports anew.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11; set PYTHON=python3.11 or later" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true
	@touch $@

repro: install
	tsr plan --check
	dvc repro

lint: install
	ruff check .
	ruff format --check .

types: install
	mypy

test: lint types
	pytest -m "not slow"

test-all: lint types
	pytest

docs: install
	python tests/fill_readme.py

bench: install
	python tests/bench.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
