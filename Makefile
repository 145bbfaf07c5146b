# make demo: the environment, then the whole DAG of the study in params.yaml. make test: the environment, then all tests.
# make bench: every benchmark, or make bench BENCH='crops workflow' SMALL=--small.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
LOCK := envs/requirements.lock
BENCH ?= $(basename $(notdir $(wildcard benchmarks/*.py)))
SMALL ?=

.PHONY: help env demo test bench lint lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

env: .venv/.ready  ## .venv from the lock

.venv/.ready: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and \
	  "python %d.%d: instar needs 3.11 or 3.12; name one with make PYTHON=python3.12" % v)'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet "$$(grep '^uv==' $(LOCK))"
	# bytecode at once, also where the environment forbids Python to write it: a start of torch takes a third of the time
	.venv/bin/uv pip sync --compile-bytecode --python .venv/bin/python $(LOCK)
	.venv/bin/uv pip install --python .venv/bin/python --quiet --no-deps --editable .
	touch $@

demo: env  ## the study in params.yaml from records to report
	snakemake --quiet rules -- all
	@echo "the report: $$(python -c 'from instar import dag; print(dag.read().targets("report")[0])')"

test: env  ## all tests
	pytest tests --numprocesses 4 --dist loadgroup  # four on two cores: the test of SLURM mostly waits

bench: env  ## all benchmarks, one after the other
	set -e; for name in $(BENCH); do echo "== $$name"; python benchmarks/$$name.py $(SMALL); done

lint: env  ## ruff, mypy, snakefmt and snakemake --lint
	ruff check . && ruff format --check . && mypy && snakefmt --check Snakefile workflow/rules
	snakemake --lint

lock: env  ## resolve pyproject.toml anew
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  --group dev --override envs/overrides.txt pyproject.toml --output-file $(LOCK)

clean:  ## what runs left and git does not hold, except the environment
	git clean -dfXq .instar .snakemake logs data
