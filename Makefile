# make demo   build and show the demo Dataset, offline, in a fresh .venv
# make test   the default tests          make test-all   all of them
# make check  ruff, mypy, architecture   make bench      the benchmarks
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := text,image,weights,dev
# Two workers share two cores: more threads in each only get into each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all check format bench install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: install
	env -u OMP_NUM_THREADS $(BIN)/fedprep build demo --out datasets/demo --force
	$(BIN)/fedprep inspect datasets/demo

test: install
	$(BIN)/python -m pytest -n 2

test-all: install
	$(BIN)/python -m pytest -n 2 -m 'not network'

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt flwr-datasets
	for script in $(filter-out benchmarks/tables.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
