# Two commands do the set-up: `make train` and `make test`. While you write code, `make quick`;
# before a release, `make nightly`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Targets side by side, which install nothing again: a fork is tried in the environment of another.
PARALLEL = $(MAKE) --no-print-directory -o $(STAMP) -j $(WORKERS)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.installed

# Tests run on two processors, each with one thread of torch's. Threads that spin beside another
# busy process would make it ten times slower. Bytecode is kept, whatever the environment says: each
# of many processes would compile torch and Lightning anew.
WORKERS ?= 2
test quick release nightly numeric: export OMP_WAIT_POLICY := passive
test quick release nightly numeric: export OMP_NUM_THREADS := 1
test quick release nightly numeric: export PYTHONDONTWRITEBYTECODE :=

# Torch, MKL and oneDNN choose their kernels by the processor, and each kernel adds in an order of
# its own. The whole suite runs with those of this machine; `numeric` runs what compares numbers
# once more with those of older ones. AVX2 is an older one only where there is AVX-512.
KERNELS := default $(shell grep -qsw avx512f /proc/cpuinfo && echo avx2)
NUMERIC := tests/functional tests/graph tests/metrics tests/models tests/nn tests/sampling \
    tests/tasks tests/test_devices.py tests/training/test_module.py tests/training/test_ensemble.py
OLDER := $(addprefix numeric-,$(KERNELS))

# Where there are several, each has one processor; else they share it among workers.
ONE_EACH := $(if $(word 2,$(KERNELS)),0,$(WORKERS))

.PHONY: train test quick release nightly numeric $(OLDER) lint format docs wheel try-wheel versions audit clean

# The first run of many a user shares its machine with a browser, beside which threads that spin make
# it many times slower.
train: export OMP_WAIT_POLICY ?= passive
train: $(STAMP)
	@$(BIN)/milforge-train $(ARGS)

test: $(STAMP)
	@$(PARALLEL) lint $(if $(ARGS),,numeric)
	@$(PYTEST) -m "not nightly" $(if $(BOTH),,--ignore tests/release) $(ARGS)

# Neither what takes more than five seconds nor what starts several processes, nor the commands as a
# user types them, which are half of the time; few examples.
quick: export HYPOTHESIS_EXAMPLES := 5
quick: lint
	@$(PYTEST) -m "not slow and not ddp and not nightly" --ignore tests/release --ignore tests/cli $(ARGS)

# What is true of MilForge alone, and not of a fork: the names it offers, its README and guides, its
# wheel, its rename. `make test release`, as CI has it, is one run of pytest, not two.
BOTH := $(and $(filter test,$(MAKECMDGOALS)),$(filter release,$(MAKECMDGOALS)))
release: $(STAMP)
	@$(if $(BOTH),:,$(PYTEST) -m "not nightly" tests/release $(ARGS))

# All there is, many examples, spoilt files and values, and the whole suite once more in a fork that has followed the guides.
nightly: export HYPOTHESIS_EXAMPLES := 200
nightly: lint
	@$(PYTEST) $(ARGS)
	@$(PARALLEL) numeric
	@$(MAKE) --no-print-directory docs
	@$(BIN)/python scripts/fuzz.py
	@fork=$$(mktemp -d) && $(BIN)/python scripts/try_fork.py $$fork/fork && rm -rf $$fork

# Fewer examples, and not what takes long and says little of the kernels: differences in float64
# against gradients, and compiling.
numeric: $(OLDER)
numeric-default: export MKL_ENABLE_INSTRUCTIONS := SSE4_2
numeric-default: export ONEDNN_MAX_CPU_ISA := SSE41
numeric-avx2: export MKL_ENABLE_INSTRUCTIONS := AVX2
numeric-avx2: export ONEDNN_MAX_CPU_ISA := AVX2
$(OLDER): numeric-%: $(STAMP)
	@ATEN_CPU_CAPABILITY=$* HYPOTHESIS_EXAMPLES=5 $(BIN)/python -m pytest -q -n $(ONE_EACH) \
	    -m "not slow and not ddp and not nightly" -k "not refused and not without_breaks and not test_gradients" $(NUMERIC)

lint: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# The site, in docs/_build/html, without warnings. Its tools are an extra of their own.
docs: WITH_TOOLS := -e ".[dev,docs]" -c constraints.txt
docs: $(STAMP)
	@$(call INSTALL,$(WITH_TOOLS))
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

wheel: $(STAMP)
	@rm -rf dist && $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# The commands of the wheel, in an environment that holds nothing of this checkout.
try-wheel:
	@rm -rf dist/try && $(PYTHON) -m venv dist/try
	@dist/try/bin/python -m pip install --quiet dist/*.whl -c constraints.txt
	@cd dist && try/bin/milforge-train logger=csv data.train=16 data.val=8 data.test=8 trainer.max_epochs=1

# The tests with other versions than the pinned ones, in an environment of their own: oldest and
# newest are what pyproject.toml allows, hydra14 is Hydra 1.4 with the Optuna sweeper of its own.
VERSIONS ?= newest
RESOLUTION_oldest := --resolution lowest-direct
RESOLUTION_newest := --upgrade
RESOLUTION_hydra14 := --upgrade --prerelease allow "hydra-core>=1.4.0.dev1,<1.5" "optuna>=5.0.0.dev0"
versions: $(STAMP)
	@rm -rf .venv-$(VERSIONS) && $(PYTHON) -m venv .venv-$(VERSIONS)
	@$(BIN)/uv pip install --quiet --python .venv-$(VERSIONS)/bin/python -e ".[dev]" $(RESOLUTION_$(VERSIONS))
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive .venv-$(VERSIONS)/bin/python -m pytest -n $(WORKERS) \
	    --dist loadfile -m "not nightly" --ignore tests/release

# Asks the public database of vulnerabilities about every pin; for a person on a machine with the
# internet, so no test runs it.
audit: $(STAMP)
	@UV_FIND_LINKS="$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)" \
	   $(BIN)/uv tool run --quiet pip-audit@2.10.1 --no-deps --disable-pip -r constraints.txt

# uv installs in seconds what takes pip a minute, but does not read pip's settings; where uv
# cannot be had or fails, pip does the work.
INSTALL = { UV_FIND_LINKS="$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)" \
    $(BIN)/uv pip install --quiet --python $(BIN)/python $(1); } || $(BIN)/python -m pip install --quiet $(1)
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	    { echo "milforge needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt uv || true
	@$(call INSTALL,-e ".[dev]" -c constraints.txt)
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
