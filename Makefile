# Needs make and Python 3.11 or newer; everything else goes into .venv.
#   make demo ARGS="--app flask"    see a sign-in through a stand-in for Whop, in your browser
#   make test                       format, lint, types, then every test with coverage
#   make check | bench | build | clean

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: demo test check bench build clean

demo: .venv/demo.stamp
	@$(BIN)/python -m whop_middleware demo $(ARGS)

test: check
	$(BIN)/pytest -n 2 --dist loadfile --cov $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks $(ARGS)

build: .venv/dev.stamp
	$(BIN)/python -m build

clean:
	rm -rf .venv build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

# pip learnt --group in 25.1; the pip that comes with Python 3.11 is older.
.venv/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/demo.stamp: pyproject.toml .venv/made.stamp
	$(BIN)/python -m pip install --quiet --editable '.[sandbox]' --group demo
	@touch $@

.venv/dev.stamp: pyproject.toml .venv/made.stamp
	$(BIN)/python -m pip install --quiet --editable '.[sandbox]' --group dev
	@touch $@ .venv/demo.stamp
