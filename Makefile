# Everything a person or CI runs. The environment is .venv; the rest of the tools are in it.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
LOCK := --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate

.PHONY: help demo test nightly check bench stack stack-down docs lock clean

help:
	@echo "make demo        the whole system on this machine, with real data (ARGS=\"--once --port 8000\")"
	@echo "make test        every test, on real services that it starts and stops itself"
	@echo "make nightly     the same tests with larger numbers"
	@echo "make check       format, lint, types, layers"
	@echo "make bench       figures, in bench/results"
	@echo "make stack       all real services as in production; addresses in .stack/env"
	@echo "make stack-down  stop them"
	@echo "make docs        generate the reference pages anew"
	@echo "make lock        resolve the dependencies anew"

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv || { echo "the module venv is missing: install it, for example: apt-get install python3-venv"; exit 1; }
	@touch $@

.venv/runtime: .venv/made requirements.lock pyproject.toml
	@echo "installing the packages of requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/development: .venv/runtime requirements-dev.lock
	@echo "installing the packages of requirements-dev.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/runtime
	@$(BIN)/flow-maps demo $(ARGS)

test: .venv/development
	@PYTHONPATH=dev $(BIN)/python -m flowstack install
	@$(BIN)/python -m pytest $(ARGS)

check: .venv/development
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy src dev tests bench
	@$(BIN)/lint-imports

nightly: .venv/development
	@PYTHONPATH=dev $(BIN)/python -m flowstack install
	@FLOWMAPS_TEST_NIGHTLY=1 $(BIN)/python -m pytest --timeout 3600 $(ARGS)

bench: .venv/development
	@PYTHONPATH=dev $(BIN)/python -m flowstack install
	@PYTHONPATH=dev $(BIN)/python -m bench $(ARGS)

stack: .venv/development
	@PYTHONPATH=dev $(BIN)/python -m flowstack up

stack-down:
	@PYTHONPATH=dev $(BIN)/python -m flowstack down

docs: .venv/development
	@PYTHONPATH=dev $(BIN)/python dev/reference_pages.py

lock: .venv/development
	@$(BIN)/uv pip compile --quiet $(LOCK) --group build --group test --group check pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile --quiet $(LOCK) --group build --constraints requirements-dev.lock pyproject.toml -o requirements.lock

clean:
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
