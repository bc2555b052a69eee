# The one entrance: every target sets up what it needs, in .venv, and does it once.
#
#   PYTHON  the interpreter that .venv is made of (3.11 or newer)   make PYTHON=python3.12 install
#   ARGS    passed on to the command that the target runs           make test ARGS='-k batching'
#   JOBS    the processes that tests run in, 0 for one only       make test JOBS=0

PYTHON ?= python3
ARGS ?=
# A third of the time the tests wait for servers and clients of their own, so three processes are not too many for two CPUs.
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
HERE := $(shell pwd -P)
MADE := $(VENV)/.made-for
DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo

MAKEFLAGS += --no-print-directory
# Two installers in one environment would tread on each other.
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Whatever environment is active, only .venv counts.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT
# Without bytecode each of the many servers that tests start compiles all of Naiad: 0.7 s of a start's 2.3 s.
unexport PYTHONDONTWRITEBYTECODE
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Say what there is to make
	@echo "Naiad: make TARGET [ARGS='...'] [PYTHON=python3]"
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

.PHONY: install
install: $(DEV) ## Install Naiad and its development tools into .venv
	@echo "Naiad is installed in $(VENV): $(BIN)/naiad --help"

.PHONY: demo
demo: $(DEMO) ## Build the demo models, serve them, find faces in a photo; results in demo-output/
	@$(BIN)/naiad demo run --output demo-output $(ARGS)

.PHONY: test
test: $(DEV) ## Run the whole test suite
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: lint
lint: $(DEV) ## Check style, format, types and the layers; all four run, whatever fails
	@status=0; \
	$(BIN)/ruff check || status=1; \
	$(BIN)/ruff format --check || status=1; \
	$(BIN)/mypy || status=1; \
	$(BIN)/lint-imports --no-logo || status=1; \
	exit $$status

.PHONY: format
format: $(DEV) ## Format the code and make the safe fixes
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

.PHONY: protos
protos: $(DEV) ## Generate the Python messages from the .proto files again
	@PYTHON="$(HERE)/$(BIN)/python" protos/generate.sh

.PHONY: docs
docs: $(DEV) ## Write the tables of docs/ that are made from the code again
	@cd tests && ../$(BIN)/python -m support.compatibility

.PHONY: bench
bench: $(DEV) ## Run the benchmarks
	@$(BIN)/python bench/run.py $(ARGS)

.PHONY: bench-scheduling
bench-scheduling: $(DEV) ## Measure deadlines, refusals and callers that leave a busy server
	@$(BIN)/python bench/scheduling.py $(ARGS)

.PHONY: bench-video
bench-video: $(DEV) ## Measure StreamDetect beside the same work without a server: docs/benchmarks.md
	@$(BIN)/python bench/video.py $(ARGS)

.PHONY: bench-shadow
bench-shadow: $(DEV) ## Measure what a shadow costs the version that serves: docs/benchmarks.md
	@$(BIN)/python bench/shadow.py $(ARGS)

.PHONY: bench-soak
bench-soak: $(DEV) ## Watch memory for an hour of load and 200 reloads: docs/operations.md
	@$(BIN)/python bench/soak.py $(ARGS)

.PHONY: fuzz
fuzz: $(DEV) ## Send made-up requests to a server, and made-up bytes to its parsers: docs/hardening.md
	@cd tests && ../$(BIN)/python -m fuzz.run $(ARGS)

.PHONY: fuzz-streams
fuzz-streams: $(DEV) ## Send streams of frames from clients of every kind, and account for each frame: docs/hardening.md
	@cd tests && ../$(BIN)/python -m fuzz.streams $(ARGS)

.PHONY: constraints
constraints: ## Resolve pyproject.toml's ranges afresh into constraints.txt
	$(check-python)
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install --quiet hatchling; \
	"$$fresh/bin/python" -m pip install --quiet --no-build-isolation -e '.[dev]'; \
	{ sed -n '/^#/p' constraints.txt; \
	  "$$fresh/bin/python" -m pip freeze --all --exclude pip --exclude-editable; } >"$$fresh/constraints.txt"; \
	cat "$$fresh/constraints.txt" >constraints.txt

.PHONY: clean
clean: ## Remove what make made: .venv, caches, build and demo outputs
	@rm -rf $(VENV) build dist demo-output bench-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment --------------------------------------------------------------------------------------------------

define check-python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Naiad needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || :)." >&2; \
	  echo "       Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
endef

# The environment's scripts hold its path: where the checkout was moved or copied, it is made anew. One that was made by
# hand is taken over as it is.
ifneq "$(shell cat $(MADE) 2>/dev/null)" "$(HERE)"
.PHONY: $(MADE)
endif

$(MADE):
	@if [ -e $(MADE) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then $(MAKE) .new-venv; fi
	@pwd -P >$@

.PHONY: .new-venv
.new-venv:
	$(check-python)
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "error: '$(PYTHON) -m venv' failed: install your system's package of it (Debian, Ubuntu: python3-venv)." >&2; \
	  exit 1; }

# hatchling first and from the constraints: with it in the environment no build needs the network.
define install
	@echo "Installing $(1) into $(VENV), about a minute the first time ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt hatchling
	@$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[$(1)]'
endef

$(DEV): pyproject.toml constraints.txt $(MADE)
	$(call install,dev)
	@touch $(DEMO) $@

$(DEMO): pyproject.toml constraints.txt $(MADE)
	$(call install,cpu$(comma)demo$(comma)triton)
	@touch $@

comma := ,
