# The two commands of the README, `make demo` and `make test`, set themselves up in .venv.
# They need Python 3.11 (or newer) and make. After the first run they need no network.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo dev test test-fast check bench interop

# The checks run outside asyncio's debug mode, whatever the caller's shell says.
unexport PYTHONASYNCIODEBUG PYTHONDEVMODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# pyright brings its own node and its own checker; it has nothing to fetch and nothing to keep in HOME.
export PYRIGHT_PYTHON_CACHE_DIR := $(CURDIR)/.venv/pyright
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

BIN := .venv/bin
READY := .venv/.stamp
PEERS ?= all
PYTEST_FLAGS ?= -n 2 --dist worksteal
STORE_SUITE = $(wildcard tests/facts tests/declare tests/rules tests/flow tests/store tests/reporting tests/stages tests/app/test_counts.py)

# $(call interpreter,3.12): a Python of that version which really runs (a pyenv shim may not).
interpreter = $(shell PYENV_VERSION=$(1) python$(1) -c 'import sys; print(sys.executable)' 2>/dev/null)
newer = $(shell python3 -c 'import sys; sys.version_info < (3, 11) or print(sys.executable)' 2>/dev/null)
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

PYTHON ?= $(firstword $(call interpreter,3.11) $(newer))
OTHERS = $(filter-out $(call version_of,$(BIN)/python),3.12 3.13)
OTHERS_HERE = $(foreach v,$(OTHERS),$(if $(call interpreter,$(v)),$(v)))

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
	    printf '  make %-10s %s\n' "$$name" "$$what"; done

demo: $(READY) ## parse this machine's Python library as jobs
	$(BIN)/kiqpy demo

dev: $(READY) ## set up .venv with the project and all its tools
	@echo 'Ready: . .venv/bin/activate'

test: check ## check, then all tests (and the core ones on Python 3.12 and 3.13 if installed)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) || $(call failed_alone,.venv)
	@for v in $(OTHERS_HERE); do $(MAKE) --no-print-directory test-on-$$v || exit; done

test-fast: $(READY) ## the tests that take seconds
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m 'not slow'

# Nothing is skipped here: without a Sidekiq it says how to get one.
interop: $(READY) ## the tests that share a Redis with a real Sidekiq (Debian: ruby-sidekiq)
	@command -v sidekiq >/dev/null || { echo 'no Sidekiq here: apt-get install --no-install-recommends ruby-sidekiq ruby-activejob' >&2; exit 1; }
	$(BIN)/python -m pytest $(PYTEST_FLAGS) --durations=5 tests/interop

check: $(READY) ## ruff, format, mypy --strict, pyright strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(READY) .venv/.bench ## compare kiqpy with a bare loop and its peers (PEERS=saq,arq or PEERS=, ONLY=drain, ROUNDS=5, QUICK=1)
	$(BIN)/python -m benchmarks --peers '$(PEERS)' --only '$(ONLY)' $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick)

# matplotlib draws the picture; without it the numbers are still printed and saved.
.venv/.bench: $(READY)
	@$(BIN)/python -m pip install -qq --group bench && touch $@ || echo 'no matplotlib: there will be no picture'

# The pure core, the mechanisms, the store contract and what a job costs on another Python, in a venv of its own.
test-on-%: .venv-%/.stamp
	$(if $(STORE_SUITE),.venv-$*/bin/python -m pytest $(PYTEST_FLAGS) $(STORE_SUITE) || $(call failed_alone,.venv-$*))

.venv/.stamp: pyproject.toml
	$(call make_venv,.venv,$(PYTHON),dev)
	@$(BIN)/pyright --version >/dev/null
	@touch $@

.PRECIOUS: .venv-%/.stamp
.venv-%/.stamp: pyproject.toml
	$(call make_venv,.venv-$*,$(call interpreter,$*),test)
	@touch $@

# $(call failed_alone,venv): many tests watch real processes by real clocks. One that failed beside
# others on busy cores is run again without them, and must pass then.
failed_alone = { echo 'Running what failed once more, alone ...'; $(1)/bin/python -m pytest --last-failed --last-failed-no-failures none; }

# $(call make_venv,folder,interpreter,dependency group). Debian may lack ensurepip: then the
# system's pip, if there is one, puts a pip into the bare venv.
define make_venv
@test -n '$(2)' || { echo 'kiqpy needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python' >&2; exit 1; }
@echo 'Setting up $(1) with $(2) (once; about a minute) ...'
@$(2) -m venv $(1) >/dev/null 2>&1 \
    || { $(2) -m venv --clear --without-pip $(1) && $(2) -m pip --python $(1)/bin/python install -q pip; } >/dev/null 2>&1 \
    || $(2) -m virtualenv -q $(1) 2>/dev/null \
    || { echo 'This Python cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
@$(1)/bin/python -m pip install -qq --upgrade 'pip>=25.1'
@$(1)/bin/python -m pip install -qq --editable '.[embedded,fast,web,tui]' --group $(3)
endef
