# make help lists the targets. Python 3.11 to 3.13 and make are all that has to be there.

VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# Packages of the tested versions only, and files with the known hashes only.
LOCKED := $(PIP) install --progress-bar off --require-hashes
PYTEST := $(BIN)/python -m pytest
CODE   := $(wildcard src tests tools bench fuzz)

.PHONY: help setup setup-dev serve demo test check lint format types contracts docs-check docs videos bench lock fix clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.runtime  ## make .venv with what the server needs
setup-dev: $(VENV)/.dev  ## make .venv with what working on Torz needs

$(BIN)/python:
	@echo "making $(VENV)"
	@tools/make-venv $(VENV)

$(VENV)/.runtime: $(BIN)/python requirements/runtime.lock pyproject.toml
	@echo "installing requirements/runtime.lock"
	@$(LOCKED) -r requirements/runtime.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.runtime
	@echo "installing requirements/dev.lock"
	@$(LOCKED) -r requirements/dev.lock
	@touch $@

serve: setup  ## run the server; ARGS="--port 9000" passes flags
	@exec $(BIN)/torz serve $(ARGS)

demo: setup  ## download, play and compare a real file, on this machine alone
	$(BIN)/torz demo $(ARGS)

test: setup-dev  ## run the tests; ARGS="-k magnet" passes flags to pytest
	@tools/install-test-deps
	$(PYTEST) $(ARGS)

check: lint format types contracts docs-check test  ## all that a change must pass

lint: setup-dev
	$(BIN)/ruff check $(CODE)

format: setup-dev
	$(BIN)/ruff format --check $(CODE)

types: setup-dev
	$(BIN)/mypy

contracts: setup-dev
	$(BIN)/lint-imports

docs-check: setup-dev
	$(BIN)/python tools/make_docs.py --check

docs: setup-dev  ## write docs/reference anew from the tables
	$(BIN)/python tools/make_docs.py

fix: setup-dev  ## mend what can be mended: format and simple lint
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

videos: setup-dev  ## write the status videos anew
	$(BIN)/python tools/make_status_videos.py

bench: setup-dev  ## measure; the table is in docs/
	@tools/install-test-deps bench
	$(BIN)/python -m bench $(ARGS)

lock: $(BIN)/python  ## pin the newest versions that pyproject.toml allows
	$(BIN)/python -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	tools/lock build/uv/bin/uv --upgrade

clean:  ## remove everything that was made, but no data
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
