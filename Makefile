# Every target sets up what it needs; nothing has to be installed by hand but Python 3.11 and, for the browser
# tests, Debian's chromium (installed here where apt-get can be used as root).
PYTHON ?= python3
VENV   := .venv
SERVE  := .venv-serve
BIN    := $(VENV)/bin

.PHONY: help test test-slow test-serving test-containers lint demo figures main-job bench endurance mutation clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[service,cpu,client,training,aggregators,dev]'
	touch $@

$(SERVE)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/pip install --quiet --disable-pip-version-check --editable '.[service,cpu]'
	touch $@

lint: $(VENV)/.ready ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.ready lint ## everything, in an environment of its own (at most 20 minutes on two cores)
	tests/system/browser.sh
	$(BIN)/python -m pytest -m "not slow and not containers"

test-slow: $(VENV)/.ready ## what takes longer than a minute each
	$(BIN)/python -m pytest -m "slow and not containers"

test-serving: $(SERVE)/.ready ## the serving side's tests where torch is not installed
	$(SERVE)/bin/pip install --quiet --editable '.[service,cpu,client,dev]'
	$(SERVE)/bin/python -m pytest -m "not slow and not containers" tests/bundle tests/service

test-containers: $(VENV)/.ready ## docker-compose up, for real
	$(BIN)/python -m pytest -m containers tests/system

demo: $(SERVE)/.ready ## the demo gallery on http://127.0.0.1:8000
	$(SERVE)/bin/sfsc demo

figures: $(VENV)/.ready ## every measured figure, asked against obtained
	$(BIN)/python benchmarks/figures.py

main-job: $(VENV)/.ready ## train, export, serve and search the real image sets (SFSC_DATASETS)
	$(BIN)/python benchmarks/main_job.py omniglot28
	$(BIN)/python benchmarks/main_job.py grocery-store

BUNDLE ?= models/vehicles-resnet18

bench: $(VENV)/.ready ## overhead, isolation, peers and overload of the service, on a quiet machine (half an hour; needs wrk)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/isolation.py
	$(BIN)/python benchmarks/peers.py --variants
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/overload.py $(BUNDLE)

endurance: $(VENV)/.ready ## half an hour of mixed, poisonous and vanishing traffic
	$(BIN)/python benchmarks/endurance.py

mutation: $(VENV)/.ready ## which changes of the code no test notices (an hour or two of one core; run it again to go on)
	$(BIN)/python benchmarks/mutation.py

clean: ## remove environments and caches, keep runs, data and bundles
	rm -rf $(VENV) $(SERVE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .mutation
