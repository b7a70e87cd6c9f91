# `make demo` and `make test` work on a machine that has only make and Python: they build the virtual environment.

VENV ?= .venv
WORKERS ?= 2
ARGS ?=
# The first that starts, since a version manager can leave a python3.11 on the path that only prints an error.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)

BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# Each process one thread: the processes already fill the cores, and small tensors gain nothing from more.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

# One stamp for each kind of installation, so that the demo's does not pass for the developer's.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: demo test slow references calibration lint types clean help
.NOTPARALLEL: # two pips in one environment would trip over each other

demo: $(DEMO) ## run the example of the README; its results go to demo_output/
	$(BIN)/python examples/galaxies.py --out demo_output $(ARGS)

test: $(DEV) ## run the tests and the examples in the documentation (ARGS="-k plates" for some)
	$(PYTEST) $(ARGS)

slow: $(DEV) ## run the statistical checks, which take minutes
	$(PYTEST) -m slow $(ARGS)

references: $(DEV) ## sample the posteriors whose answers are known and compare
	OMP_NUM_THREADS=1 $(BIN)/python tests/run_references.py

calibration: $(DEV) ## check by simulation that inference gives back what models put in; pictures go to calibration_output/
	OMP_NUM_THREADS=1 $(BIN)/python examples/calibration.py --out calibration_output $(ARGS)

lint: $(DEV) ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## check the types
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The interpreter is an order-only prerequisite: it is a link to a file whose age says nothing.
$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[diagram]'
	@touch $@

# The developer's installation holds all that the demo's does.
$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	@touch $(DEMO) $@

clean: ## remove what the other commands made
	rm -rf .venv demo_output calibration_output dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
