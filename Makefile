# The verbs people type. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
RUN_STAMP := $(VENV)/.set-up-to-run
SHIP_STAMP := $(VENV)/.set-up-to-ship

.DEFAULT_GOAL := help
.PHONY: help setup compiled compiled-test cluster test sim chaos abuse lint bench docs image docker-cluster docker-test compose-test clean

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

$(SHIP_STAMP): $(RUN_STAMP)
	@$(PIP) --no-build-isolation --editable '.[audit]'
	@touch $@

# The compiled build has a venv of its own: nothing else here ever sees it (docs/compiled.md).
COMPILED := .venv-compiled
COMPILED_STAMP := $(COMPILED)/.set-up
COMPILED_PIP = $(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
# Tests and benches come from here, raftlock from the venv: the folder must not be searched first.
COMPILED_RUN = PYTHONSAFEPATH=1 $(COMPILED)/bin/python
COMPILED_SUITES := tests/unit/server tests/unit/wire tests/unit/locks tests/unit/raft tests/paper \
	tests/model tests/contract tests/unit/deploy/test_compiled_hook.py

$(COMPILED_STAMP): pyproject.toml requirements.lock deploy/compiled_hook.py $(shell find raftlock wire -name '*.py')
	@test -x $(COMPILED)/bin/python || { echo "setting up $(COMPILED), once: some minutes"; $(PYTHON) -m venv $(COMPILED); }
	@$(COMPILED_PIP) hatchling mypy setuptools
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(COMPILED_PIP) --no-build-isolation --force-reinstall --no-deps .
	@$(COMPILED_PIP) --requirement requirements.lock
	@pwd > "$$($(COMPILED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tests-of-raftlock.pth"
	@touch $@

compiled: $(COMPILED_STAMP) ## Make .venv-compiled, with some of the server compiled by mypyc (needs a C compiler)
	@$(COMPILED_RUN) -c 'from raftlock.server import driver; print("compiled:", driver.__file__)'

compiled-test: $(COMPILED_STAMP) ## Run the tests of what is compiled against the compiled build
	@$(COMPILED_RUN) -m pytest --import-mode=append --quiet $(COMPILED_SUITES)

cluster: $(if $(AUDIT_S3),$(SHIP_STAMP),$(RUN_STAMP)) ## Run three nodes on loopback until Ctrl-C; data in .raftlock/ (AUDIT_S3=s3://BUCKET/PREFIX ships the audit)
	@exec $(BIN)/raftlock dev --nodes 3 --data .raftlock --base-port 7401 $(if $(AUDIT_S3),--audit-s3 '$(AUDIT_S3)')

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
	rm -rf $(VENV) $(COMPILED) .raftlock .raftlock-* .site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist
