# make demo | test | check | bench | regress | soak | pairs | docs: each makes the environment first if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers-installed

.PHONY: demo test check bench regress soak pairs docs clean

demo: $(STAMP)
	@$(BIN)/python -m rsq.examples.demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(PEERS)
	$(BIN)/python -m rsq.bench all; $(BIN)/python -m rsq.bench page

regress: $(STAMP)
	$(BIN)/python -m rsq.bench run regress

SECONDS ?= 600
soak: $(STAMP)
	$(BIN)/python tests/soak.py --seconds $(SECONDS) $(ARGS)

pairs: $(STAMP)
	$(BIN)/python tests/pairs.py --seconds $(SECONDS) $(ARGS)

$(STAMP): pyproject.toml
	@echo "making the environment in $(VENV), once"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

$(PEERS): $(STAMP)
	@echo "adding the peers that the bench compares with, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $(PEERS)

clean:
	rm -rf $(VENV) build/peers .mypy_cache .ruff_cache .pytest_cache

docs: $(STAMP)
	$(BIN)/python -m rsq.supervisor.reference > docs/configuration.md
