# Two commands do everything: `make bench` and `make test`. Both make the environment if it is not there, and reuse it.
# `make gate` compares the counters of a small matrix with baselines/; `make accept WHY="..."` makes them the baseline.
# `make browser` looks at the page of results in a real browser, which it installs where it may.
# `make quantized` runs the tests of quantised backbones; their libraries make every import of PEFT slower, so it is last.
# `make mutants` makes 300 small faults, and fails if the unit tests do not see enough of them; it goes on where it was.
# `make check` runs what a change must pass besides the tests: lint, types and `make docs`, which builds site/ from docs/.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt

# The cases whose counters are gated, on every machine with the versions of constraints.txt.
GATED := --peftbench-workloads=train_step,inference --peftbench-methods=full,head,lora,ia3 \
         --peftbench-tasks=nli,ner,copa --peftbench-batch-sizes=2 --peftbench-rounds=10
RUN := .peftbench/gated.json

.PHONY: bench test test-plugin test-unit browser quantized mutants check docs gate accept clean

bench: $(VENV)/.installed
	$(BIN)/python -m pytest benches/ --benchmark-only $(ARGS)

# The tests run side by side, on a core each: those of real pytest runs with some rooms, and the other rooms, so that
# both take as long. ARGS are for both.
BESIDE := tests/unit/commands tests/unit/pages tests/unit/processes tests/unit/tools
test: $(VENV)/.installed-test
	$(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) test-plugin test-unit

test-plugin: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(BESIDE) tests/plugin tests/cuda $(ARGS)

test-unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/unit $(BESIDE:%=--ignore=%) $(ARGS)

# Without a browser or npm the tests are skipped, and say so; in CI (PEFTBENCH_BROWSER_REQUIRED=1) they fail.
browser: $(VENV)/.installed-browser
	@for package in chromium npm; do \
	    if ! command -v $$package >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && apt-get install -qq --yes --no-install-recommends $$package fonts-dejavu-core; fi; \
	    command -v $$package >/dev/null || { [ $$package = chromium ] && command -v google-chrome >/dev/null; } \
	        || echo "$$package is missing: install it, or run this as root on Debian"; done
	@if command -v npm >/dev/null; then npm ci --prefix tests/browser --no-audit --no-fund --silent; fi
	$(BIN)/python -m pytest tests/browser $(ARGS)

quantized: $(VENV)/.installed-test $(VENV)/.installed-quantized
	$(BIN)/python -m pytest tests/quantized $(ARGS)

mutants: $(VENV)/.installed-mutants
	$(BIN)/python -m tools.mutants $(ARGS)

check: $(VENV)/.installed-dev docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs site

$(RUN): FORCE $(VENV)/.installed
	$(BIN)/python -m pytest benches/ --benchmark-only $(GATED) --peftbench-json=$@

gate: $(RUN)
	$(BIN)/peftbench compare baselines $(RUN) --fail-on regressed,missing,not-comparable

accept: $(RUN)
	$(BIN)/peftbench accept $(RUN) --prune --why "$(WHY)"

FORCE:

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "peftbench needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.made $(INPUTS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) tests/browser/node_modules build site .peftbench .benchmarks
