# make demo   build the demo Dataset, train on it, report: offline, in a fresh .venv
# make test   the default tests          make test-all   all of them
# make check  ruff, mypy, architecture   make bench      the benchmarks
# make cards  the data cards, from real raw files
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := text,image,train,privacy,weights,dev
# Two workers share two cores: more threads in each only get into each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all check format bench install gate cards clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): a few minutes and about 2 GB, most of it torch"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: install
	env -u OMP_NUM_THREADS $(BIN)/fedprep build demo --out datasets/demo --force
	$(BIN)/fedprep inspect datasets/demo
	env -u OMP_NUM_THREADS $(BIN)/fedtrain run datasets/demo --out runs/demo --force
	$(BIN)/fedeval report runs/demo --data datasets/demo --out runs/demo/report

test: install
	$(BIN)/python -m pytest -n 2

test-all: install
	$(BIN)/python -m pytest -n 2 -m 'not network'

gate: install
	$(BIN)/fedprep build demo --out datasets/gate --force --set embed.text.encoder=hashing --set embed.image.size=32
	$(BIN)/fedprep validate datasets/gate --junit datasets/gate-junit.xml
	$(BIN)/fedprep demo-faults

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What others import, what is given a Dataset, and what writes benchmarks/RESULTS.md.
NO_BENCH := tables made_up flower_peer fedfnn heterogeneity accuracy results results_models results_ratings
bench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt flwr-datasets
	for script in $(filter-out $(NO_BENCH:%=benchmarks/%.py),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# The committed data cards, from real builds: FEDPREP_MIRROR has to hold the raw files.
CARDS := demo movielens-1m amazon-2018 yelp
cards: install
	$(BIN)/fedprep build demo --out datasets/cards/demo --force
	$(BIN)/fedprep build movielens-1m --out datasets/cards/movielens-1m --force
	$(BIN)/fedprep build amazon-2018 --set source.category=Gift_Cards --out datasets/cards/amazon-2018 --force
	$(BIN)/fedprep build yelp --from "$(FEDPREP_MIRROR)" --set name=yelp-subset \
	    --set 'description=A subset of the Yelp Open Dataset, clients by state' --set clean.k_core=0 \
	    --set partition.method=by_column --set partition.column=state --out datasets/cards/yelp --force
	for name in $(CARDS); do $(BIN)/fedprep card datasets/cards/$$name --out data_cards/$$name || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
