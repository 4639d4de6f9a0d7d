# Two commands do the set-up: `make train` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests run on two processors, each with one thread of torch's. Threads that spin beside another
# busy process would make it ten times slower.
WORKERS ?= 2
test: export OMP_WAIT_POLICY := passive
test: export OMP_NUM_THREADS := 1

.PHONY: train test lint format clean

train: $(STAMP)
	@$(BIN)/milforge-train $(ARGS)

test: lint
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# uv installs in seconds what takes pip a minute, but does not read pip's settings; where uv
# cannot be had or fails, pip does the work.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "milforge needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@{ $(BIN)/python -m pip install --quiet uv && \
	   UV_FIND_LINKS="$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)" \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[dev]" -c constraints.txt; } || \
	 $(BIN)/python -m pip install --quiet -e ".[dev]" -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
