# Every target runs in .venv, which is built once by plain venv and pip and renewed when pyproject.toml changes.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench golden fuzz clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-dev: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet -e '.[test,lint,demo,link]'
	@touch $@

$(VENV)/.stamp-bench: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet -e '.[bench]'
	@touch $@

setup: $(VENV)/.stamp-dev  ## build .venv with everything but the benchmark peers

demo: $(VENV)/.stamp-dev  ## real NumPy functions compiled, checked and timed (under a minute)
	$(PY) examples/demo.py $(ARGS)

test: $(VENV)/.stamp-dev  ## the whole test suite (ARGS='tests/ir -k fold' for a part)
	$(PY) -m pytest -q -n auto --dist worksteal $(ARGS)

lint: $(VENV)/.stamp-dev  ## ruff
	$(PY) -m ruff check .

types: $(VENV)/.stamp-dev  ## strict mypy
	$(PY) -m mypy

bench: $(VENV)/.stamp-bench  ## the benchmark table against the peers (ARGS='--quick --only softmax')
	$(PY) -m bench $(ARGS)

golden: $(VENV)/.stamp-dev  ## rewrite the stored texts; read the diff before you commit it
	$(PY) -m pytest -q -m golden --update-golden $(ARGS)
	git diff --stat -- tests

fuzz: $(VENV)/.stamp-dev  ## 2,000 random programs
	$(PY) -m pytest -q -n auto -o faulthandler_timeout=0 tests/fuzz --hypothesis-profile=fuzz $(ARGS)

clean:  ## remove what builds and tests leave behind (not .venv)
	rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
