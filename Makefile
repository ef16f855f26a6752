# The commands of the project. Each sets up what it needs, and does nothing twice.

PYTHON_VENV := .venv/bin/python
# Two processes, so that the others run while the tests of the real Label Studio wait.
PYTEST := $(PYTHON_VENV) -m pytest --numprocesses $(or $(JOBS),2) --no-loadscope-reorder
UV = $(shell command -v uv || echo .uv/bin/uv)
COMPILE = $(UV) pip compile --quiet --generate-hashes --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: help run setup test check lint docs chaos soak lock clean

help: ## show this
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | awk -F '\t' '{printf "make %-8s %s\n", $$1, $$2}'

run: ## set everything up and start Label Studio with a pre-labelled demo project (ARGS="--help")
	@scripts/setup product label-studio
	@exec $(PYTHON_VENV) -m backend up $(ARGS)

setup: ## make the virtual environments only
	@scripts/setup product label-studio

test: ## set everything up, lint, and run all tests (what CI does)
	@scripts/setup tools label-studio browser
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) --durations 15

check: ## lint and run the fast tests, in under two minutes
	@scripts/setup tools
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) -q -m "not slow and not e2e"

lint: ## ruff, mypy, and the walls between the packages
	@scripts/setup tools
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

docs: ## build the documentation's site into site/
	@scripts/setup tools
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "Built: site/index.html"

chaos: ## kill, empty, delete and reuse what there is under load: each task ends with one right prediction (ARGS="--help")
	@scripts/setup tools
	@$(PYTHON_VENV) -m tests.load.chaos $(ARGS)

soak: ## half an hour of load while Label Studio fails and tasks change now and then; memory must stay flat (ARGS="--help")
	@scripts/setup tools
	@$(PYTHON_VENV) -m tests.load.soak $(ARGS)

lock: ## compile the requirements*.txt from the *.in
	$(COMPILE) --override overrides.txt requirements.in -o requirements.txt
	$(COMPILE) --override overrides.txt -c requirements.txt requirements-web.in -o requirements-web.txt
	$(COMPILE) --override overrides.txt requirements.in requirements-dev.in -o requirements-dev.txt
	$(COMPILE) requirements-label-studio.in -o requirements-label-studio.txt

clean: ## remove caches and the data of `make run` (not the virtual environments)
	rm -rf .run site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find model backend tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
