# One command per chore; .ci/run calls the same ones. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3

# Most tests wait for other processes: four at once keep two cores busy.
TEST_PROCESSES ?= 4

# uv from the PATH, else one of our own.
UV := $(or $(shell command -v uv),.uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo up test test-fresh test-compose test-terraform fuzz check format bench drill reference pictures lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(READY) ## Classify photographs and handwritten digits on a system on this machine
	@$(BIN)/python examples/demo.py

up: $(READY) ## Run the whole system on this machine until Ctrl-C
	@$(BIN)/lowtide up

# What runs beside what: tests/conftest.py.
test: $(READY) ## Run every test (LOWTIDE_TEST_REQUIRE=redis,emulator: a missing service is an error)
	@$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-fresh: ## Try `make demo` on a bare Debian 13 (SUITE=forky: on the next; needs root and debootstrap)
	@tests/fresh/debian.sh

test-compose: $(READY) ## Build compose.yaml's images and try every door (needs a Docker engine; 8 GB)
	@LOWTIDE_TEST_REQUIRE=docker $(BIN)/pytest tests/e2e/test_compose.py

test-terraform: $(READY) ## Try deploy/terraform against the Google provider's schema (needs terraform, no account)
	@LOWTIDE_TEST_REQUIRE=terraform $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile tests/terraform tests/unit/cli/deploy tests/e2e/test_deployed.py

fuzz: $(READY) ## Search for input that breaks a promise: a few minutes, other input each time
	@$(BIN)/pytest -n $(TEST_PROCESSES) --timeout 900 --hypothesis-profile=fuzz tests/fuzz

check: $(READY) ## Format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python docs/reference.py --check

format: $(READY) ## Rewrite the code as `make check` wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## Measure throughput, as ratios within one run
	@$(BIN)/python -m benchmarks.bench

drill: $(READY) ## Try the fault matrix and write docs/reliability.md (ROW=worker-kill: one row; BROKEN=1: unprotected)
	@GRPC_VERBOSITY=ERROR $(BIN)/python -m tests.drills $(ROW) $(if $(BROKEN),--broken)

reference: $(READY) ## Write what docs/ says of the code: settings and JSON Schemas
	@$(BIN)/python docs/reference.py

pictures: $(READY) ## Take the pictures of README and docs/, of a running system (two minutes; needs Chromium)
	@$(BIN)/python -m docs.pictures
	@$(BIN)/python -m benchmarks.burst --preempt --plot docs/pictures/burst.png

# Images have the versions that are tested: what is in a file already, uv keeps.
lock: | $(UV) ## Pin the newest allowed dependencies, with hashes
	@$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --all-extras --group dev pyproject.toml -o requirements/dev.txt
	@for extra in autoscaling bridge flower worker; do \
	    cp requirements/dev.txt requirements/$$extra.txt; \
	    $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	        --extra $$extra pyproject.toml -o requirements/$$extra.txt || exit; done

clean: ## Remove what these commands made
	@rm -rf .venv .uv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

.uv/bin/uv:
	@$(PYTHON) requirements/machine.py
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet uv

# Compiled here, once, by all cores: else the first processes to start would each compile torch, which takes 20 s and more,
# and every process where Python may write no bytecode (PYTHONDONTWRITEBYTECODE).
$(READY): requirements/dev.txt pyproject.toml | $(UV)
	@$(PYTHON) requirements/machine.py
	@echo "Installing Python packages into .venv, once: 3.3 GB of downloads, most of it PyTorch with CUDA"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@[[ -t 2 ]] || quiet=--quiet; \
	$(UV) pip sync $${quiet-} --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)
