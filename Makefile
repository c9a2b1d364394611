# Each target makes what it needs. TORCH is what pip is asked for: a GPU machine may want another build of it.
SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= torch==2.13.*
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test faults check format bench docs reference clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[train,serve,sweep,dashboard,test,dev,docs]"
	touch $@

demo: $(VENV)/.ready  ## train, check and try a tiny model on this machine
	$(BIN)/muster run

test: $(VENV)/.ready  ## every test this machine can run
	$(BIN)/python -m pytest

faults: $(VENV)/.ready  ## every fault that a run survives, on this machine, with its table (hours)
	MUSTER_KEEP_FAULTS=all $(BIN)/python -m pytest tests/faults -m ""

check: $(VENV)/.ready docs  ## lint, format, types, import contracts, the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	if command -v shellcheck >/dev/null; then shellcheck slurm/*.sh .ci/run; fi

format: $(VENV)/.ready  ## rewrite the code in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready  ## every benchmark this machine can run
	$(BIN)/python -m benchmarks

docs: $(VENV)/.ready  ## the documentation as a site, build/site/index.html; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

reference: $(VENV)/.ready  ## the pages that are made from the code: keys, commands, classes of failures
	$(BIN)/python -m launcher.compose.reference > docs/reference.md
	$(BIN)/python -m launcher.commands > docs/commands.md
	$(BIN)/python -m launcher.why.page > docs/troubleshooting.md

clean:  ## remove the environment and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
