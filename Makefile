# Every target sets up what it needs. Install by hand: Python 3.11; Chromium for the browser tests and nginx for the
# proxy's, unless apt-get can be run as root, which installs them; wrk for the benchmarks that say so.
PYTHON ?= python3
VENV   := .venv
SERVE  := .venv-serve
TRAIN  := .venv-train
LOWEST := .venv-lowest
MILVUS := .venv-milvus
LOCK   := .venv-lock
BIN    := $(VENV)/bin

.PHONY: help test test-slow test-serving test-lowest test-milvus test-containers lint lock pin-images demo figures house main-job \
	bench front-door overhead-against endurance attack fuzz mutation crash milvus-crash clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[service,cpu,client,otel,milvus,training,tensorboard,weights,aggregators,dev]'
	touch $@

$(SERVE)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/pip install --quiet --disable-pip-version-check --no-compile --editable '.[service,cpu,heif]'
	touch $@

lint: $(VENV)/.ready ## run ruff, mypy --strict and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tests in two processes. The browser leaves an event loop in its own, where tests that start one would fail.
# Two processes, or the browser and its service, take time from each other; what fails beside another is run once more
# by itself, and that counts. Training in as many threads as there are cores, in each of the two, would take half as
# long again.
IN_TWO = export OMP_NUM_THREADS=1; $(1) -m pytest $(CHOSEN) --numprocesses 2 --dist loadfile $(2) || \
	{ test $$? -eq 1 && $(1) -m pytest $(CHOSEN) --last-failed --last-failed-no-failures none $(2); }
CHOSEN := -m "not slow and not containers and not browser"
SHOWN := -m "browser and not slow"

test: $(VENV)/.ready lint ## install everything into .venv, lint, run the tests (half an hour on two cores)
	tests/system/browser.sh
	tests/system/nginx.sh
	$(call IN_TWO,$(BIN)/python)
	$(BIN)/python -m pytest $(SHOWN) || { test $$? -eq 1 && $(BIN)/python -m pytest $(SHOWN) --last-failed --last-failed-no-failures none; }

test-slow: $(VENV)/.ready ## run the tests that take longer than a minute each
	$(BIN)/python -m pytest -m "slow and not containers"

test-serving: $(SERVE)/.ready ## run the tests of bundle and service in .venv-serve, where torch is not installed
	$(SERVE)/bin/pip install --quiet --editable '.[service,cpu,client,otel,dev]'
	$(call IN_TWO,$(SERVE)/bin/python,tests/bundle tests/service)

$(LOWEST)/.ready: pyproject.toml $(VENV)/.ready
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/python tests/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/constraints.txt \
		--editable '.[service,cpu,client,otel,dev]'
	touch $@

test-lowest: $(LOWEST)/.ready ## run the same tests with the oldest dependencies that pyproject.toml allows
	$(call IN_TWO,$(LOWEST)/bin/python,tests/bundle tests/service)

# An old server, which needs old packages: an environment of its own.
$(MILVUS)/.ready:
	$(PYTHON) -m venv $(MILVUS)
	$(MILVUS)/bin/pip install --quiet --disable-pip-version-check 'milvus==2.3.5' 'setuptools<80'
	touch $@

test-milvus: $(VENV)/.ready $(MILVUS)/.ready ## run the contract of the stores over a real Milvus (SFSC_MILVUS_URI: over yours)
	SFSC_MILVUS_PYTHON=$(CURDIR)/$(MILVUS)/bin/python $(BIN)/python -m pytest tests/service/store -k '$(ON_MILVUS)'

# What is refused before Milvus is asked is tested over milvus-lite alone.
ON_MILVUS := [milvus and not lite and not bad_item and not bad_call

test-containers: $(VENV)/.ready ## build the images and run docker-compose.yml on a Docker engine
	$(BIN)/python -m pytest -m containers tests/system

COMPILE = $(LOCK)/bin/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --custom-compile-command 'make lock'

$(LOCK)/.ready:
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/pip install --quiet --disable-pip-version-check uv
	touch $@

lock: $(LOCK)/.ready ## write docker/lock/: the newest allowed packages that the images install, with their hashes
	$(COMPILE) --extra service --extra cpu pyproject.toml --output-file docker/lock/service-cpu.txt
	$(COMPILE) --extra service --extra cpu --extra milvus --extra s3 pyproject.toml \
		--output-file docker/lock/service-milvus.txt
	$(COMPILE) --extra service --extra gpu pyproject.toml --output-file docker/lock/service-gpu.txt
	$(COMPILE) --extra training pyproject.toml --output-file docker/lock/training.txt
	$(COMPILE) --group image-build --output-file docker/lock/build.txt

pin-images: ## write the digests of the images that are built upon and run, where their registry answers
	$(PYTHON) docker/pin.py

# Photographs of one's own need models/general, which `sfsc demo` makes where it finds an environment for training.
# Both environments are installed at once, and without compiling modules of which few are imported.
ifdef IMAGES
MAKEFLAGS += --jobs=2
ifeq ($(shell test -d '$(IMAGES)' && echo there),)
$(error IMAGES must be a folder of images; there is no folder '$(IMAGES)')
endif
endif
GENERAL := $(if $(wildcard models/general/manifest.json),,$(TRAIN)/.ready)

demo: $(SERVE)/.ready $(if $(IMAGES),$(GENERAL)) ## serve the demo gallery on http://127.0.0.1:8000 (IMAGES=FOLDER: your own images)
	PATH="$(CURDIR)/$(TRAIN)/bin:$$PATH" $(SERVE)/bin/sfsc demo $(if $(IMAGES),--images '$(IMAGES)')

$(TRAIN)/.ready: pyproject.toml
	@echo 'installing PyTorch and what else training needs into $(TRAIN), which takes minutes'
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/pip install --quiet --disable-pip-version-check --no-compile --editable '.[training,weights]'
	touch $@

figures: $(VENV)/.ready ## print every measured figure: obtained, asked, met
	$(BIN)/python benchmarks/figures.py

house: $(VENV)/.ready ## count statements, long files and functions, packages, contracts (AGAINST=CHECKOUT compares)
	$(BIN)/python benchmarks/house.py $(if $(AGAINST),--against $(AGAINST))

main-job: $(VENV)/.ready ## train, export, serve and search two real data sets (found through SFSC_DATASETS)
	$(BIN)/python benchmarks/main_job.py omniglot28
	$(BIN)/python benchmarks/main_job.py grocery-store

BUNDLE ?= models/vehicles-resnet18

bench: $(VENV)/.ready ## measure overhead, isolation, peers and overload (half an hour on a quiet machine; needs wrk)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/isolation.py
	$(BIN)/python benchmarks/peers.py --variants
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/peers_sizes.py
	$(BIN)/python benchmarks/overload.py $(BUNDLE)

front-door: $(VENV)/.ready ## measure what each shortcut of the front door saves (ten minutes on a quiet machine; needs wrk)
	$(BIN)/python benchmarks/front_door.py

overhead-against: $(VENV)/.ready ## CPU per request beside another checkout's: AGAINST=CHECKOUT (ten minutes; needs wrk)
	@test -n "$(AGAINST)" || { echo "AGAINST must be another checkout of this repository: make $@ AGAINST=../before" >&2; exit 2; }
	$(BIN)/python benchmarks/overhead.py --against $(AGAINST)

endurance: $(VENV)/.ready ## send half an hour of mixed traffic with malformed requests and clients that disconnect
	$(BIN)/python benchmarks/endurance.py

attack: $(VENV)/.ready ## measure what hostile requests do to a service of 512 MB (ten minutes; as root, for the limit)
	$(BIN)/python benchmarks/attack.py

fuzz: $(VENV)/.ready ## send 100,000 damaged requests, then fuzz the parsers (ten minutes; Linux; run again, it goes on)
	$(BIN)/python benchmarks/fuzz.py
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	for target in json form head arrow; do \
		$(BIN)/python benchmarks/fuzz_parsers.py $$target -runs=100000 -timeout=5 -max_len=20000 || exit 1; \
	done

mutation: $(VENV)/.ready ## which changes of the code no test notices (an hour or two of one core; run it again to go on)
	$(BIN)/python benchmarks/mutation.py

crash: $(VENV)/.ready ## kill the store, let its disk fail, flip bits: 2,000 rounds (an hour; run it again to go on)
	$(BIN)/python benchmarks/crash.py

milvus-crash: $(VENV)/.ready $(MILVUS)/.ready ## kill a real Milvus under writes: 50 rounds (an hour; run it again to go on)
	$(BIN)/python benchmarks/milvus_crash.py --python $(MILVUS)/bin/python

clean: ## remove environments and caches; keep runs, data and bundles
	rm -rf $(VENV) $(SERVE) $(TRAIN) $(LOWEST) $(LOCK) $(MILVUS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .mutation .crash
