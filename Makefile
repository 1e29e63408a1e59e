# Vertebra. `make demo` and `make test` do all their own set-up on a machine with Python 3.11 or later and make.
#
#   make demo      the whole job on synthetic patients, in a few minutes
#   make test      all checks and all tests, as continuous integration runs them
#   make check     style, types, import layers and docstrings only
#   make server    nightly screening on this machine: Prefect's server, prefect.yaml's deployments, a worker (docs/nightly.md)
#   make test-nightly                 the schedule, kills and hand-overs of real nights: about a quarter of an hour
#   make test-unit test-property test-oracle test-faults test-end-to-end test-docs
#   make fuzz      5,500 mutated series and volume files, and 300 studies through the whole product: about 20 minutes
#   make faults    disturb whole runs for real, compare, and write the table of docs/reliability.md; SCENARIOS="worker
#                  sandbox" plays those alone; as rootfor all of them; about half an hour
#   make bench-discovery [PLACE=FOLDER]   stock-taking of 100,000 small files, two nights (docs/storage.md)
#   make bench-engine [PLACE=FOLDER]  what the engine costs beside studies of 5 ms: 1,000 to 20,000 of them (docs/engine.md)
#   make bench     how long each stage takes here, beside the figures of the last release
#   make accuracy-phantoms            held-out phantoms, each setting alone, keypoints beside masks: about 100 minutes
#   make accuracy-real CT=FOLDER      annotated CT, each patient left out in training: a night (docs/accuracy.md)
#   make tables-scale                 main queries over a million made studies in DuckDB; publishing 200,000 studies
#   make prevalence-scale             time vertebra prevalence on a million made studies
#   make replicate-noise CT=FOLDER    the noise of the shipped networks from their own replicate reads: about ten minutes
#   make noise-study                  made cohorts with known truth, read with noise and corrected: about an hour
#   make wheel-check  build the wheel, install it elsewhere and screen with it: what the container file does, without one
#   make install   the environment in .venv, alone
#   make clean     remove what was built
#
# PYTHON       the interpreter to build .venv with; found by itself where a 3.11 or later is on the path
# TORCH_INDEX  where PyTorch comes from: its own index of CPU builds, and where that cannot be reached the configured
#              package index. For NVIDIA GPUs: TORCH_INDEX=https://download.pytorch.org/whl/cu130 (README)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTHON ?= $(shell for p in python3.11 python3 python python3.12 python3.13 python3.14; do \
  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
CODE := flows tasks vertebra_core
COVERAGE := 90
# Files of tests that run at a time: one more than two cores, for many wait for servers and workers of their own.
PROCESSES ?= 3

.PHONY: install demo test server test-nightly check fuzz faults bench bench-discovery bench-engine accuracy-phantoms accuracy-real prevalence-scale tables-scale replicate-noise noise-study wheel-check clean test-unit test-property test-oracle test-faults test-end-to-end test-docs
.DELETE_ON_ERROR:

install: $(STAMP)

# Every version is pinned. PyTorch first and alone, because it may come from an index of its own.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Vertebra needs Python 3.11 or later; name it: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps torch --index-url $(TORCH_INDEX) \
	  --retries 1 --timeout 20 || $(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/vertebra demo

server: $(STAMP)
	$(BIN)/vertebra serve

test: check
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --durations=30 --cov --cov-report=term:skip-covered \
	  --cov-fail-under=$(COVERAGE)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/numpydoc lint $$(find $(CODE) -name '*.py')

test-unit test-property test-oracle test-faults: test-%: $(STAMP)
	$(BIN)/python -m pytest tests/$*

test-end-to-end: $(STAMP)
	$(BIN)/python -m pytest tests/end_to_end

test-nightly: $(STAMP)
	$(BIN)/python -m pytest -s --timeout 3600 -p no:doctest tests/nights_check.py

test-docs: $(STAMP)
	$(BIN)/python -m pytest tests/test_docs.py $(CODE)

fuzz: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m fuzz_run --series 5000 --volumes 500 --studies 300

faults: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m reliability $(SCENARIOS)

bench-discovery: $(STAMP)
	$(BIN)/python -m benchmarks.discovery $(or $(PLACE),build/discovery) --files 100000

bench-engine: $(STAMP)
	$(BIN)/python -m benchmarks.engine $(or $(PLACE),build/engine) --studies 1000 3000 10000 20000

bench: $(STAMP)
	$(BIN)/python -m benchmarks

accuracy-phantoms: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy.phantoms
	$(BIN)/python -m benchmarks.accuracy.robustness
	$(BIN)/python -m benchmarks.accuracy.mask_way

accuracy-real: $(STAMP)
	@test -n "$(CT)" || { echo "name the folder of annotated CT: make accuracy-real CT=FOLDER"; exit 1; }
	$(BIN)/python -m benchmarks.accuracy.leave_out --images $(CT) --annotations $(CT)/annotations --work build/leave-out
	$(BIN)/python -m benchmarks.accuracy.consistency --images $(CT) --annotations $(CT)/annotations --work build/leave-out
	$(BIN)/python -m benchmarks.levels --images $(CT) --annotations $(CT)/annotations --work build/levels

prevalence-scale: $(STAMP)
	$(BIN)/python -m benchmarks.prevalence_scale --folder build/prevalence-scale

tables-scale: $(STAMP)
	$(BIN)/python -m benchmarks.tables_scale --folder build/prevalence-scale --publish build/tables-scale

replicate-noise: $(STAMP)
	@test -n "$(CT)" || { echo "name the folder of annotated CT: make replicate-noise CT=FOLDER"; exit 1; }
	$(BIN)/python -m benchmarks.replicate_noise --images $(CT) --annotations $(CT)/annotations

noise-study: $(STAMP)
	$(BIN)/python -m benchmarks.noise --out build/noise-study.jsonl

wheel-check:
	deployments/container/wheel-check $(PYTHON) build/wheel-check $(TORCH_INDEX)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage .import_linter_cache
