# Everything runs in .venv, which is made on first use and reused until the pins or pyproject change.

PYTHONS := python3.11 python3
PIP := .venv/bin/python -m pip
SECONDS ?= 600
BENCH ?= benchmarks/mask_cost.py

.PHONY: demo test test-all test-clients test-engines fuzz lint docs bench

demo: .venv/.installed
	.venv/bin/gramma extract --grounded --show --schema examples/invoice.schema.json examples/invoice.txt

test: .venv/.installed  # one thread for each of two workers
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 -m "not slow"

test-all: .venv/.installed  # with those that take seconds and are seldom touched: installs, processes, training
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2

test-clients: .venv/.installed .venv-clients/.installed  # other clients against gramma serve
	OMP_NUM_THREADS=1 .venv-clients/bin/python -m pytest -q -c tests/clients/pytest.ini tests/clients/clients.py

test-engines: .venv-engines/.installed  # adapters for vLLM and SGLang, in an environment of their own
	OMP_NUM_THREADS=1 NUMBA_CACHE_DIR=.venv-engines/numba .venv-engines/bin/python -m pytest -q tests/engines

fuzz: .venv/.installed  # SECONDS in all: half on hostile input, half on comparisons with other programs
	OMP_NUM_THREADS=1 .venv/bin/python tests/fuzz.py --seconds $$(($(SECONDS) / 16)) --seed $$$$
	OMP_NUM_THREADS=1 .venv/bin/python tests/fuzz_comparisons.py --seconds $$(($(SECONDS) / 2))

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict  # into site/

bench: .venv/.installed-bench
	.venv/bin/python $(BENCH)

.venv/.installed: constraints.txt pyproject.toml
	@$(PIP) --version >/dev/null 2>&1 || { \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      echo "Making .venv with $$python"; exec $$python -m venv --clear .venv; \
	    fi; \
	  done; \
	  echo "Python 3.11 or newer is needed (looked for: $(PYTHONS))" >&2; exit 1; }
	@echo "Installing the pinned versions (a few minutes the first time)"
	@$(PIP) install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

.venv/.installed-bench: .venv/.installed
	@$(PIP) install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"
	@touch $@

.venv-clients/.installed: tests/clients/requirements.txt
	@.venv/bin/python -m venv --clear .venv-clients
	@.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	@touch $@

.venv-engines/.installed: tests/engines/requirements.txt pyproject.toml | .venv/.installed
	.venv/bin/python -m venv --clear .venv-engines
	.venv-engines/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/engines/requirements.txt
	.venv-engines/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
