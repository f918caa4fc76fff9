# `make help` lists the targets; CONTRIBUTING.md tells how to work on the code.
VENV ?= .venv
PYTHON ?= python3
DEMO ?= demo
TEST_PROCESSES ?= 3
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-nfs check sweep report bench bench-gpu gpu-check reproduce chaos bench-commands bench-pruning screenshots metrics clean

help:  ## what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed  ## .venv with what running needs

demo: $(VENV)/.installed  ## a small real sweep end to end, offline: 18 runs, a CSV, charts and a page
	$(BIN)/python -m src.sweep generate --grid run_config/demo_grid.yaml --out $(DEMO)/sets
	$(BIN)/python -m src.sweep work 1 2 3 4 5 --sets $(DEMO)/sets --runs $(DEMO)/runs
	$(BIN)/python -m src.sweep work 6 --prune --first_rung 2 --reduction 3 --sets $(DEMO)/sets --runs $(DEMO)/runs
	$(BIN)/python -m src.report aggregate --runs $(DEMO)/runs --csv $(DEMO)/clean_runs.csv
	$(BIN)/python -m src.report --runs $(DEMO)/runs --csv $(DEMO)/clean_runs.csv --out $(DEMO)/report
	@echo "what it found:  $(BIN)/python -m src.report findings --csv $(DEMO)/clean_runs.csv"
	@echo "status:         $(BIN)/python -m src.sweep status --all --runs $(DEMO)/runs"
	@echo "report:         $(DEMO)/report/report.html"

test: $(VENV)/.installed-dev  ## every test, or TESTS=tests/...; those for Slurm, CIFAR-10, Chromium or a GPU say why they skip
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder -m "not nfs" $(TESTS)

test-nfs: $(VENV)/.installed-dev  ## a real NFS between virtual machines, in two minutes; needs QEMU and root
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m nfs tests/chaos/test_nfs.py

check: $(VENV)/.installed-dev  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sweep: $(VENV)/.installed  ## the set files of the reference grid, all trained here one after another
	$(BIN)/python -m src.sweep generate
	$(BIN)/python -m src.sweep work

report: $(VENV)/.installed  ## clean_runs.csv, the charts and the page, from saved_models
	$(BIN)/python -m src.report

bench: $(VENV)/.installed-dev  ## speed, start-up and memory on this CPU, in benchmarks/results; a quarter of an idle hour
	$(BIN)/python -m benchmarks.cpu

reproduce: $(VENV)/.installed-dev  ## train every recipe, write docs/reproduction.md; ONLY="NAME ..."; continues where it stopped
	$(BIN)/python -m benchmarks.reproduce $(if $(ONLY),--only $(ONLY))

bench-pruning: $(VENV)/.installed-dev  ## what --prune saves and how often it keeps the best run, written to docs/performance.md
	$(BIN)/python -m benchmarks.pruning

bench-commands: $(VENV)/.installed-dev  ## seconds of submit, status and aggregate over thousands of runs
	$(BIN)/python -m benchmarks.commands

screenshots: $(VENV)/.installed-dev  ## pictures of the page for the documents, from clean_runs.csv; RUNS=saved_models: and its curves and mistakes
	$(BIN)/python -m docs.take_screenshots $(if $(RUNS),--runs $(RUNS))

chaos: $(VENV)/.installed-dev  ## fault injection, written to docs/reliability.md; ONLY="NAME ..."; takes an hour and needs Slurm, QEMU and root
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(if $(ONLY),--only $(ONLY))

bench-gpu: $(VENV)/.installed-dev  ## training speed on a GPU: slots, processes and the conventional way
	$(BIN)/python -m benchmarks.gpu

gpu-check: $(VENV)/.installed-dev  ## the first ten minutes on a GPU: is everything right, and how fast is it?
	$(BIN)/python -m benchmarks.gpu_check

metrics: $(VENV)/.installed  ## the table of lines, functions and imports of src/, in docs/architecture.md
	$(BIN)/python -m docs.code_metrics

clean:  ## remove what make and the tests made; not the runs in saved_models
	rm -rf $(DEMO) report .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@
