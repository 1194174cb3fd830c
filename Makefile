# The front door. Every target works from nothing: it needs make and a Python 3.11 or newer, makes
# .venv, installs what constraints/ pins (by hash), and does so again only when an input changed.
# Kept to what GNU make 3.81 (the one on macOS) and a POSIX shell understand.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help demo test chaos bench bench-full settings check check-format check-lint check-types check-imports check-docs docs docs-serve image compose-test format setup build lock clean

VENV ?= .venv
BIN := $(VENV)/bin
# What the interpreter may be called, best first. `make test PYTHON=/path/to/python` names one.
PYTHON ?=
CANDIDATES := python3.13 python3.12 python3.11 python3.14 python3 python
# Extra words for pytest or `barque demo`: `make test ARGS="tests/unit -k retry"`.
ARGS ?=
# As many processes as the machine has use for (tests/support/parallel.py); ARGS="-n 0" is one, for a debugger's sake.
# worksteal: whoever is done takes over from the slowest, so that the last file is not waited for.
PARALLEL := -n auto --dist worksteal
# V=1 shows what pip does.
V ?= 0
ifeq ($(V),0)
QUIET := --quiet
endif

# Each of these would install somewhere other than into the venv, or import from elsewhere.
unexport PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX

PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input $(QUIET)
DEPENDENCIES := $(VENV)/.barque-dependencies
READY := $(VENV)/.barque-ready

help: ## what there is (this text)
	@echo 'Barque: a distributed async task-worker system on Redis. New here? Try `make demo`.'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'The first run makes $(VENV) and installs into it; nothing else on the machine is touched.'
	@echo 'One test:        make test ARGS="tests/unit/test_retry.py -k backoff"'
	@echo 'Another Python:  make test PYTHON=python3.12'
	@echo 'By hand:         make setup && . $(BIN)/activate && barque --help'

demo: $(READY) ## start a server and workers on this machine, and watch jobs run
	@$(BIN)/barque demo $(ARGS)

test: $(READY) ## run all tests, on all cores (ARGS="..." goes to pytest; ARGS="-n 0": in one process)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

chaos: $(READY) ## kill, freeze and cut off workers and servers under load; see that no job is lost: ten minutes
	@$(BIN)/python -m tests.chaos.driver $(ARGS)

bench: $(READY) ## measure Barque beside other queues: the short set, under ten minutes; gates nothing
	@$(BIN)/python -m benchmarks --short --json benchmarks/results/short.json --plots docs/images $(ARGS)

bench-full: $(READY) ## the same with longer runs and more repetitions: about an hour
	@$(BIN)/python -m benchmarks --full --json benchmarks/results/full.json --plots docs/images $(ARGS)

# Where the code is from, for the labels of the image: the commit, with a word if there is more than that in it; and the
# repository, without the password that its address may hold.
REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)

image: ## build the image barque:local (ARGS="..." goes to docker build)
	@docker build --tag barque:local --build-arg REVISION=$(REVISION) \
	  --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	  --build-arg SOURCE="$$(git config --get remote.origin.url | sed -e 's,//[^/@]*@,//,' -e 's,^$$,unknown,' | grep . || echo unknown)" \
	  --build-arg CREATED="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" $(ARGS) .

compose-test: $(BIN)/python ## run the image and docker-compose.yml for real, under load (needs Docker): ten minutes
	@$(BIN)/python -m tests.compose $(ARGS)

check: check-format check-lint check-types check-imports check-docs ## formatting, lint, types, layers and docs, as CI does

check-format: $(READY)
	@echo '==> ruff format --check'
	@$(BIN)/ruff format --check --quiet . || { echo 'Run `make format` to put this right.' >&2; exit 1; }

check-lint: $(READY)
	@echo '==> ruff check'
	@$(BIN)/ruff check --quiet .

check-types: $(READY)
	@echo '==> mypy (strict)'
	@$(BIN)/mypy

check-imports: $(READY)
	@echo '==> import-linter'
	@$(BIN)/lint-imports --no-logo

# The variable: Material says at each build that its successor is another, and Material's is what is pinned.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

# To a folder of its own, so that a check leaves no site behind, nor takes away the one that is looked at. A link to what
# is there and left out of the site is only told of (`Doc file …`), and is one that leads nowhere all the same.
check-docs: $(READY)
	@echo '==> mkdocs (strict)'
	@built=$$(mktemp -d) && { $(MKDOCS) build --strict --site-dir "$$built/site" >"$$built/log" 2>&1 && \
	  ! grep -q ' Doc file ' "$$built/log" || { cat "$$built/log" >&2; false; }; }; \
	status=$$?; rm -rf "$$built"; exit $$status

docs: $(READY) ## build the documentation into site/
	@$(MKDOCS) build --strict
	@echo 'Built: site/index.html. To read it: make docs-serve'

docs-serve: $(READY) ## show the documentation on http://127.0.0.1:8000/, anew at each change
	@$(MKDOCS) serve --livereload $(ARGS)

settings: $(READY) ## write what a new setting belongs into: .env.example and docs/configuration.md
	@$(BIN)/python -m cli.setting_files

format: $(READY) ## put formatting and import order right
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format .

build: $(READY) ## the wheel and the source distribution of the last commit, into dist/, checked
	@$(BIN)/python deploy/build_package.py

setup: $(READY) ## only make .venv
	@echo 'Ready: . $(BIN)/activate'

# A missing interpreter, and one whose link no longer leads anywhere, both bring make here.
$(BIN)/python:
	@found=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',$(CANDIDATES)); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'Barque needs Python 3.11 or newer; $(if $(PYTHON),"$(PYTHON)" is none,none of these is one: $(CANDIDATES)).' >&2; \
	  echo 'Install one, or say where it is: make PYTHON=/path/to/python' >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$found has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "==> making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear '$(VENV)'

# ensurepip: an interrupted `python -m venv` leaves an interpreter without pip.
$(DEPENDENCIES): $(BIN)/python constraints/development.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@echo "==> installing $$(grep -c '^[a-z0-9].*==' constraints/development.txt) pinned packages (under a minute, the first time)"
	@$(PIP) install --require-hashes -r constraints/development.txt
	@touch $@

# --no-build-isolation: an isolated build would fetch a setuptools that nothing pins. The wildcard: an
# editable install names its top-level packages, so a new one asks for a new install.
$(READY): $(DEPENDENCIES) pyproject.toml $(wildcard */__init__.py)
	@echo '==> installing Barque itself (editable)'
	@$(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

# Pins stay as they are unless pyproject.toml asks for other ones; UPGRADE=1 moves all to the newest.
# --no-config keeps this machine's index and folders out of the files; uv writes neither unless asked.
UPGRADE ?= 0
COMPILE = $(VENV)/lock/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 \
  --generate-hashes --custom-compile-command 'make lock' $(if $(filter 1,$(UPGRADE)),--upgrade)

lock: $(BIN)/python ## pin again what pyproject.toml asks for (UPGRADE=1: the newest of all)
	@echo '==> installing the resolver'
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r constraints/lock.txt
	@echo '==> resolving'
	@$(COMPILE) pyproject.toml --all-extras --group build --group check --group docs --group test --output-file constraints/development.txt
	@$(COMPILE) pyproject.toml --extra postgres --extra dashboard --extra metrics --constraints constraints/development.txt --output-file constraints/runtime.txt
	@$(COMPILE) --group build --constraints constraints/development.txt --output-file constraints/build.txt
	@$(COMPILE) --group lock --output-file constraints/lock.txt
	@echo 'Look at the difference, run `make check test`, and commit constraints/ with pyproject.toml.'

clean: ## remove .venv, caches, the peers' environments and what the demo wrote (never barque-data/, where jobs live)
	@rm -rf '$(VENV)' build dist site demo-output htmlcov .coverage ./*.egg-info
	@rm -rf benchmarks/.envs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -type d -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@echo 'Clean.'
