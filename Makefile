# `make` lists the verbs. Each verb does the set-up it needs.

PYTHON ?= python3
# Which lock file is installed: dev, or server-gpu for a machine with an NVIDIA GPU.
LOCK ?= dev
# Further arguments of `trainshed up`, pytest or a benchmark: make up ARGS="--port 8090", make test ARGS="-k cancel"
ARGS ?=
# Processes that run the tests: they wait for other programs much of their time. JOBS=0: none but this, for --pdb.
JOBS ?= 2
# Which benchmark of benchmarks/: make bench NAME=streams
NAME ?= start

VENV := .venv
BIN := $(VENV)/bin
CONTENDERS := .venv-bench
STAMP := $(VENV)/.installed-$(LOCK)

# Without .pyc files `import tensorflow` takes 21 s instead of 8 s, in every process that needs it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up test client bench bench-contenders bench-report sure format format-check lint types imports lock

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with everything, every package checked against its hash

demo: setup ## Train Fashion-MNIST on an embedded stack and show what came of it
	$(BIN)/trainshed demo

up: setup ## Start the embedded stack in the foreground; Ctrl-C stops it
	$(BIN)/trainshed up $(ARGS)

test: setup ## Run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

client: setup ## Make the synchronous client from the asynchronous one
	$(BIN)/python -m tools.sync_client

bench: setup ## Measure: how soon a small job starts; docs/benchmarks.md has the other NAMEs
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

bench-contenders: setup ## Install PyTorch and JAX, some GB, beside the project for NAME=engine
	test -x $(CONTENDERS)/bin/python || $(PYTHON) -m venv $(CONTENDERS)
	$(BIN)/uv pip sync --quiet --python $(CONTENDERS)/bin/python --require-hashes requirements/bench.txt

bench-report: setup ## Fill docs/benchmarks.md and its pictures from benchmarks/results/
	$(BIN)/python -m benchmarks.report

# One after the other and the tests last, with -j too, so that the output ends with pytest's closing line.
sure: setup ## Run all that CI runs: format, lint, types, imports, tests
	@$(MAKE) --no-print-directory format-check
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory imports
	@$(MAKE) --no-print-directory test

format: setup ## Rewrite the code in the house's format
	$(BIN)/ruff format
	$(BIN)/ruff check --select I --fix

format-check: setup ## Say which files are not in the house's format
	$(BIN)/ruff format --check

lint: setup ## Look for mistakes with ruff
	$(BIN)/ruff check

types: setup ## Check the types with mypy
	$(BIN)/mypy

imports: setup ## Check who imports whom
	$(BIN)/lint-imports

# dev.txt holds the most, so it is resolved first and the others take their versions from it.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
lock: setup ## Resolve requirements/*.in again; UPGRADE=--upgrade takes newer versions
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	@set -e; for name in uv api mlflow server-cpu server-gpu bench; do \
		echo "requirements/$$name.txt"; \
		$(COMPILE) -c requirements/dev.txt requirements/$$name.in -o requirements/$$name.txt; \
	done

# sync removes what the lock file no longer names.
$(STAMP): requirements/$(LOCK).txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Trainshed needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@rm -f $(VENV)/.installed-*
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment. On Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@echo "Installing what requirements/$(LOCK).txt names; the first time takes a minute or so."
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/uv.txt requirements/$(LOCK).txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
