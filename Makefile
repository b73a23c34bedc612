# `make demo` and `make test` need Python >= 3.11, git and make; uv is used where it is there, and npm for some tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# As pip does: a company's own certificates are in the system's store, not in uv's.
export UV_SYSTEM_CERTS ?= 1
export NODE_EXTRA_CA_CERTS ?= $(wildcard /etc/ssl/certs/ca-certificates.crt)

.PHONY: help demo test lint format messages bench clean

help:
	@echo "make demo      run the main job on the embedded test service, in .demo/"
	@echo "make test      run all tests"
	@echo "make lint      ruff, format check, mypy strict"
	@echo "make format    format the code"
	@echo "make messages  collect the messages and compile the Chinese catalogue"
	@echo "make bench     the benchmarks: about 20 minutes on a quiet machine"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "batch_infer needs Python 3.11 or newer, found: $$($(PYTHON) --version); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
ifdef UV
	$(UV) venv -q --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif

$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
ifdef UV
	$(UV) pip install -q --python $(BIN)/python -e .
else
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
endif
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
ifdef UV
	$(UV) pip install -q --python $(BIN)/python -e '.[test,interop,lint,bench]'
else
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,interop,lint,bench]'
endif
	@touch $@ $(VENV)/.core $(VENV)/.bench

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
ifdef UV
	$(UV) pip install -q --python $(BIN)/python -e '.[bench]'
else
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
endif
	@touch $@ $(VENV)/.core

# aimock is a batch server that is not ours, from npm, for tests/interop. It needs Node 20.15; npm has that too.
AIMOCK := @copilotkit/aimock@^1.43.0
$(VENV)/.aimock: Makefile | $(VENV)/bin/python
	@if ! command -v npm >/dev/null; then echo "npm is not installed: the tests with aimock are left out"; \
	else node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 15) ? 0 : 1)' \
	    || newer=node@^22; \
	  npm install --silent --no-fund --no-audit --no-save --no-package-lock --prefix $(VENV)/node $(AIMOCK) $$newer \
	    && touch $@ || echo "npm could not install aimock: its tests will fail"; fi

demo: $(VENV)/.core
	@sh examples/demo.sh $(BIN)

# Two workers more than there are cores: many tests wait for other processes.
test: $(VENV)/.dev $(VENV)/.aimock
	$(BIN)/python -m pytest -q -n $$($(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 2)') --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

messages: $(VENV)/.dev
	$(BIN)/pybabel -q extract -k Text --no-location --sort-output --no-wrap -o $(VENV)/batch_infer.pot client daemon
	$(BIN)/pybabel -q update -D batch_infer -d client/batch_infer/locale -l zh_CN -i $(VENV)/batch_infer.pot \
	  --no-fuzzy-matching --ignore-obsolete --no-wrap --ignore-pot-creation-date
	$(BIN)/pybabel -q compile -D batch_infer -d client/batch_infer/locale

# nginx and wrk are installed where that may be done, and what people use today in environments of its own.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

clean:
	rm -rf $(VENV) .bench .demo .pytest_cache .mypy_cache .ruff_cache
