# Everything a fresh checkout needs, with Python 3.11+ and nothing else.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Prefect's database and profile stay in the checkout, and Prefect reports nothing to anybody.
export PREFECT_HOME := $(CURDIR)/.spatiobatch/prefect
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: run test lint bench serve live-check

run: $(READY)  ## provision a local Azure and harvest its collections
	$(BIN)/python flows/run.py --output .spatiobatch/output

test: $(READY)  ## all tests
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: $(READY)  ## Prefect's server, all deployments and a worker, until Ctrl-C: make serve ENVIRONMENT=deployments/azure.toml
	$(BIN)/python deployments/serve.py $(if $(ENVIRONMENT),--environment $(ENVIRONMENT))

bench: $(READY)  ## measure what the documentation claims
	$(BIN)/python -m benchmarks

live-check: $(READY)  ## one cheap pass on a real subscription: make live-check ENVIRONMENT=deployments/azure.toml YES=1
	$(BIN)/python -m benchmarks.live_check $(if $(ENVIRONMENT),--environment $(ENVIRONMENT)) $(if $(YES),--yes)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "spatiobatch needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
