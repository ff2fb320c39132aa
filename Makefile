# `make` says what it can do. Everything is installed into .venv from the pins in requirements*.txt and constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
KILLS ?= 8
SEED ?= 0
COUNT ?= 20
MEGABYTES ?= 300
LINES ?= 100000
JOBS ?= 100000
METRICS ?= 5000000
DATABASE ?= sqlite
PROGRAMS ?=
OLDEST ?= python3.10

.DEFAULT_GOAL := help
.PHONY: examples help run test locate lint lint-web format format-web prove exact oldest chaos weigh tamper certify load search schemathesis axe screenshots diagram client settings migrations constraints bench clean

help:  ## Say what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

run: $(VENV)/.run  ## Start Heimdall on http://127.0.0.1:8000 (Ctrl-C drains and stops)
	@exec $(MANAGE) start

test: $(VENV)/.dev  ## Run every test (DATABASE=postgres: on PostgreSQL; PROGRAMS=/usr/lib/postgresql/15/bin: on that one)
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory node_modules; fi
	HEIMDALL_TEST_DATABASE=$(DATABASE) HEIMDALL_TEST_POSTGRES=$(PROGRAMS) $(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev  ## ruff, ruff format, mypy; and prettier, where there is npm
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-web; else echo "No npm here: JavaScript and CSS were not looked at."; fi

lint-web: node_modules  ## Whether JavaScript and CSS are formatted (needs npm)
	npm run --silent check

format: $(VENV)/.dev  ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory format-web; fi

format-web: node_modules  ## Let prettier put JavaScript and CSS in order (needs npm)
	npm run --silent format

examples: $(VENV)/.run  ## Queue the example scripts and commands, each as a program with its code
	@$(MANAGE) job examples

prove: $(VENV)/.run  ## Prove on the running server that a paused and resumed job ends bit-identical
	@$(MANAGE) prove

exact: $(VENV)/.dev  ## COUNT random interruptions of the engine, each compared bit for bit (COUNT=20 SEED=0; RANKS=4: of so many ranks; PROGRAMS=all or gan,lightning: of these examples)
	$(BIN)/python -m $(if $(PROGRAMS),tests.attached.exact --programs $(PROGRAMS),$(if $(RANKS),tests.engine.exact_ranks --ranks $(RANKS),tests.engine.exact)) --count $(COUNT) --seed $(SEED)

chaos: $(VENV)/.dev  ## KILLS random kills of live processes, replayable by SEED (KILLS=8 SEED=0)
	$(BIN)/python -m tests.faults.chaos --kills $(KILLS) --seed $(SEED)

tamper: $(VENV)/.dev  ## Tamper COUNT times with a certificate; each must be noticed (COUNT=10000 SEED=0)
	$(BIN)/python -m tests.certificate.tamper --count $(COUNT) --seed $(SEED)

certify: $(VENV)/.dev  ## Disturb a training COUNT times on a live server, and have all of it replayed (COUNT=50 SEED=0)
	$(BIN)/python -m tests.certificate.certify --count $(COUNT) --seed $(SEED)

search: $(VENV)/.dev  ## Search millions of states of a job's life for one that breaks a rule (some minutes)
	$(BIN)/python -m tests.lifecycle.search
	$(BIN)/python -m tests.lifecycle.gang_search
	$(BIN)/python -m tests.lifecycle.host_search

weigh: $(VENV)/.dev  ## Send a file of MEGABYTES through an S3 server and print the memory it took (MEGABYTES=300)
	$(BIN)/python -m tests.storage.weigh --megabytes $(MEGABYTES)

locate: $(VENV)/.dev  ## Read and locate a file of LINES reports, and say how long it took (LINES=100000)
	$(BIN)/python -m tests.recipes.many_reports --lines $(LINES)

schemathesis: $(VENV)/.dev  ## Fuzz the API against its schema with 50 examples an operation
	HEIMDALL_FUZZ_EXAMPLES=50 $(PYTEST) tests/api -k schema -q

axe: $(VENV)/.dev  ## Ask axe-core about every page, in both themes, on a server with jobs in every state
	$(BIN)/python -m tests.gallery.axe

screenshots: $(VENV)/.dev  ## Take the pictures of docs/pages.md
	$(BIN)/python -m tests.gallery.screenshots

load: $(VENV)/.dev  ## Fill databases and measure pages and sockets; writes docs/scaling.md (JOBS=100000 METRICS=5000000)
	@$(BIN)/python -m bench.load --jobs $(JOBS) --metrics $(METRICS) --write

bench: $(VENV)/.dev  ## Measure what docs/performance.md claims (ONLY=loop,reads; RUNS=5: medians; WRITE=1 writes it there)
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(RUNS),--runs $(RUNS)) $(if $(WRITE),--write)

diagram: $(VENV)/.run  ## Make docs/lifecycle.md and docs/protocol.md again from the code
	$(BIN)/python -m training.management.diagram > docs/lifecycle.md
	$(BIN)/python -m heimdall.trainer.protocol_page > docs/protocol.md

oldest: $(VENV)/.dev  ## Check example programs on Python 3.10 and torch 2.4, downloaded for it (OLDEST=python3.10)
	test -x $(VENV)/oldest/bin/python || $(OLDEST) -m venv $(VENV)/oldest
	$(VENV)/oldest/bin/python -m pip install --quiet 'torch==2.4.0' 'numpy<2' pydantic
	set -e; for name in loop gan ppo diffusion; do echo "$$name:"; (cd examples/$$name && PYTHONPATH=$(CURDIR) \
		$(CURDIR)/$(VENV)/oldest/bin/python -m heimdall.check -- python train.py); done

client: $(VENV)/.dev  ## Make the synchronous client again from the asynchronous one
	$(BIN)/python -m heimdall.client.twin

settings: $(VENV)/.run  ## Write docs/settings.md and deploy/.env.example from heimdall/site/variables.py
	$(BIN)/python -m training.management.settings_page

migrations: $(VENV)/.run  ## Make the migrations that the models ask for
	$(MANAGE) makemigrations training

constraints: $(VENV)/.dev  ## Pin what the pinned packages pull in
	$(BIN)/pip freeze | grep -vE '^(torch|nvidia-|triton|cuda-)' > constraints.txt

clean:  ## Remove the virtual environment and the caches; your data in var/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

node_modules: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Heimdall needs Python 3.11 or newer; say which: make run PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.txt constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@
