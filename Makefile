# The verbs people type. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
RUN_STAMP := $(VENV)/.set-up-to-run

.DEFAULT_GOAL := help
.PHONY: help setup cluster test sim chaos abuse lint bench docs image docker-cluster docker-test compose-test clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the locked versions (skipped when nothing changed)

# A cluster needs ten packages, the tests and tools a hundred more: whoever only looks does not wait for those.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

$(RUN_STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || { echo "setting up $(VENV), once: this takes a moment"; $(PYTHON) -m venv $(VENV); }
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[server]'
	@touch $@

$(STAMP): $(RUN_STAMP)
	@echo "installing the tests' tools into $(VENV), once: a minute or so"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $@

cluster: $(RUN_STAMP) ## Run three nodes on loopback until Ctrl-C; their data stays in .raftlock/
	@exec $(BIN)/raftlock dev --nodes 3 --data .raftlock --base-port 7401

test: $(STAMP) ## Run the whole test suite
	@$(BIN)/pytest --quiet --numprocesses 3 --dist loadgroup

sim: $(STAMP) ## Run 200 seeds of the simulator
	@$(BIN)/python -m raftlock.testing.sim --seeds 0-199 --jobs 2

chaos: $(STAMP) ## Break a real cluster for three minutes and check it (SEED=… MINUTES=… repeat and lengthen)
	@exec $(BIN)/python jepsen-style $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

abuse: $(STAMP) ## Honest clients beside dishonest ones and a member that lies
	@exec $(BIN)/python jepsen-style abuse

lint: $(STAMP) ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP) ## Measure throughput of a cluster started for it
	@$(BIN)/python -m bench throughput

docs: $(STAMP) ## Build the documentation as a site, into .site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml
	@echo "built; read it with: python3 -m http.server --bind 127.0.0.1 --directory .site 8000"

# Where neither Docker nor podman works, a folder beside the repository may know how to make an engine.
FALLBACK_ENGINE := $(wildcard ../shared/container)
DEPLOY = $(PYTHON) -m deploy.$(1) $(if $(FALLBACK_ENGINE),--fallback $(FALLBACK_ENGINE))

image: ## Build the container image (CONTAINER_ENGINE=docker|podman|...)
	@exec $(call DEPLOY,image)

docker-cluster: ## Run three nodes in containers until Ctrl-C
	@exec $(call DEPLOY,docker_cluster)

docker-test: ## Test a cluster in containers: leader cut off, node killed, all restarted (77: no engine)
	@exec $(call DEPLOY,docker_test)

compose-test: ## Bring compose.yaml up, use it, take it down and up again (77: no engine or no compose)
	@exec $(call DEPLOY,compose_test)

clean: ## Remove .venv, caches and the cluster's data
	rm -rf $(VENV) .raftlock .raftlock-* .site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist
